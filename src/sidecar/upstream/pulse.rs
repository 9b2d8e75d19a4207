//! Whether a replica gives signs of life. PURE.
//!
//! One that hangs fails nothing for as long as its requests wait, while more and more are sent to it. So
//! who has been sent some requests and has answered none since is asked after the others; that costs
//! nothing where all are slow, as then nobody comes first.

use std::time::Duration;

/// A silence that a busy application does not have between two of several answers.
const SILENT: Duration = Duration::from_millis(50);

/// What was sent since the last sign of life.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pulse {
    unanswered: u32,
    since: Duration,
    /// Counts the signs of life.
    beat: u64,
}

/// How far it is to be preferred; less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Silence {
    /// It answers, or has nothing to answer.
    None,
    /// Several requests wait, since a moment.
    Short,
    /// They wait for longer.
    Long,
}

impl Pulse {
    /// A request is sent; what comes back is for [`Pulse::given_up`].
    pub fn sent(&mut self, now: Duration) -> u64 {
        if self.unanswered == 0 {
            self.since = now;
        }
        self.unanswered = self.unanswered.saturating_add(1);
        self.beat
    }

    /// Something came back.
    pub fn answered(&mut self, now: Duration) {
        *self = Self { unanswered: 0, since: now, beat: self.beat.wrapping_add(1) };
    }

    /// Nobody waits for that request any more.
    pub fn given_up(&mut self, sent: u64) {
        if sent == self.beat {
            self.unanswered = self.unanswered.saturating_sub(1);
        }
    }

    /// Whether something has come back since.
    #[must_use]
    pub fn has_beaten_since(&self, sent: u64) -> bool {
        sent != self.beat
    }

    /// How long so many requests have waited.
    #[must_use]
    pub fn silence(&self, most: u32, now: Duration) -> Silence {
        if self.unanswered < most.max(1) {
            Silence::None
        } else if now.saturating_sub(self.since) < SILENT {
            Silence::Short
        } else {
            Silence::Long
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn it_is_silent_when_several_wait_and_nothing_comes() {
        let mut pulse = Pulse::default();
        for _ in 0..2 {
            pulse.sent(at(0));
        }
        assert_eq!(pulse.silence(3, at(1000)), Silence::None, "two are not several");
        pulse.sent(at(40));
        assert_eq!(pulse.silence(3, at(40)), Silence::Short);
        assert_eq!(pulse.silence(3, at(60)), Silence::Long);
        pulse.answered(at(70));
        assert_eq!(pulse.silence(3, at(1000)), Silence::None, "there are two left, from before");
    }

    #[test]
    fn what_nobody_waits_for_is_not_counted() {
        let mut pulse = Pulse::default();
        let sent = [0, 1, 2].map(|_| pulse.sent(at(0)));
        pulse.given_up(sent[0]);
        assert_eq!(pulse.silence(3, at(1000)), Silence::None);
        pulse.answered(at(1000));
        for _ in 0..3 {
            pulse.sent(at(1000));
        }
        pulse.given_up(sent[1]);
        assert_eq!(pulse.silence(3, at(2000)), Silence::Long, "it was sent before the last sign of life");
    }
}
