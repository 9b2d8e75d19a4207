//! Whether the runtime that serves requests still turns: a task on it beats, and others look how long ago.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, interval};

/// How often it beats.
const PERIOD: Duration = Duration::from_millis(250);
/// Without a beat for so long, new connections are better off elsewhere. A burst keeps it up for less.
const UNREADY: Duration = Duration::from_secs(3);
/// Without one for so long it does not come back.
const DEAD: Duration = Duration::from_secs(20);

/// When a runtime has turned last.
#[derive(Debug)]
pub struct Heartbeat {
    began: Instant,
    /// In milliseconds since it began.
    last: AtomicU64,
}

/// How a runtime is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// It turns.
    Steady,
    /// It has not for so long that it answers nobody.
    Missed(Duration),
    /// It has not for so long that nothing but another start helps.
    Gone(Duration),
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { began: Instant::now(), last: AtomicU64::default() }
    }
}

impl Heartbeat {
    /// Beats for ever, on the runtime that is looked at.
    pub async fn beat(&self) {
        let mut beats = interval(PERIOD);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            self.last.store(self.now(), Ordering::Relaxed);
        }
    }

    /// How the runtime is.
    #[must_use]
    pub fn look(&self) -> Beat {
        Beat::after(Duration::from_millis(self.now().saturating_sub(self.last.load(Ordering::Relaxed))))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Beat {
    /// How a runtime is whose last beat was so long ago.
    fn after(silence: Duration) -> Self {
        match silence {
            gone if gone >= DEAD => Self::Gone(gone),
            missed if missed >= UNREADY => Self::Missed(missed),
            _ => Self::Steady,
        }
    }

    /// What keeps it from being ready.
    #[must_use]
    pub fn unready(self) -> Option<String> {
        match self {
            Self::Steady => None,
            Self::Missed(silence) | Self::Gone(silence) => {
                Some(format!("nothing that serves requests has turned for {silence:.1?}"))
            }
        }
    }

    /// What keeps it from being alive.
    #[must_use]
    pub fn dead(self) -> Option<String> {
        self.unready().filter(|_| matches!(self, Self::Gone(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_busy_for_a_while_then_not_ready_and_then_not_alive() {
        let at = |milliseconds| {
            let beat = Beat::after(Duration::from_millis(milliseconds));
            (beat.unready().is_none(), beat.dead().is_none())
        };
        assert_eq!([0, 2_500, 2_999].map(at), [(true, true); 3]);
        assert_eq!([3_000, 19_999].map(at), [(false, true); 2]);
        assert_eq!([20_000, 60_000].map(at), [(false, false); 2]);
        let why = Beat::after(Duration::from_millis(4_200)).unready().unwrap();
        assert!(why.ends_with("has turned for 4.2s"), "{why}");
    }
}
