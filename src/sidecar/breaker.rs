//! Whether something that fails is to be asked at all: a circuit breaker. PURE.
//!
//! ```text
//!          too many failures               its time is over
//!  closed ──────────────────▶ open ───────────────────────────▶ half-open
//!    ▲                         ▲                                   │
//!    │                         └───────── the trial failed ────────┤
//!    └──────────────────────────────── the trial succeeded ────────┘
//! ```
//!
//! It knows nothing of what is asked. Times are durations since any fixed point, on a clock that never
//! goes back. Whoever asks holds a [`Pass`] and hands it back with the outcome; an outcome of before
//! the last change of state tells nothing of the present and is not counted.

use std::time::Duration;

/// The window of the failure ratio moves on in so many steps.
const STEPS: usize = 10;

/// When it opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// It opens after so many failures one after the other. 0: never for these.
    pub consecutive: u32,
    /// It opens when so many of a hundred in the window have failed. 0: never for these.
    pub percent: u32,
    /// The percentage tells nothing of fewer outcomes than these.
    pub least: u32,
    /// What the percentage is of: the outcomes of the last so long.
    pub window: Duration,
    /// How long it is open the first time; twice as long each time that a trial has failed.
    pub open: Duration,
    /// How long it is open at most.
    pub longest: Duration,
    /// A trial without an outcome for so long is taken for lost, and another may be made.
    pub patience: Duration,
}

/// Who may go on, as it is told to people and in figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// All.
    Closed,
    /// Nobody.
    Open,
    /// One, for a trial.
    HalfOpen,
}

/// The leave to ask once.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a trial without an outcome holds up all others"]
pub struct Pass {
    round: u64,
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It works.
    Success,
    /// It does not.
    Failure,
    /// Nothing is known: it was given up for another reason, such as a client that went away.
    Unknown,
}

/// The breaker of one thing that is asked.
#[derive(Clone, Debug)]
pub struct Breaker {
    limits: Limits,
    phase: Phase,
    /// Counts the changes of state.
    round: u64,
    consecutive: u32,
    window: Window,
    /// How long it is open the next time.
    next_open: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed {
        since: Duration,
    },
    Open {
        until: Duration,
    },
    /// With the trial's beginning, while there is one.
    HalfOpen {
        trial: Option<Duration>,
    },
}

impl Breaker {
    /// Closed.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            phase: Phase::Closed { since: Duration::ZERO },
            round: 0,
            consecutive: 0,
            window: Window::of(limits.window),
            next_open: limits.open,
        }
    }

    /// The state at a time.
    #[must_use]
    pub fn state(&self, now: Duration) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { until } if now < until => State::Open,
            Phase::Open { .. } | Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// How long it is until a trial may be made; nothing where one may ask already.
    #[must_use]
    pub fn wait(&self, now: Duration) -> Duration {
        match self.phase {
            Phase::Open { until } => until.saturating_sub(now),
            Phase::HalfOpen { trial: Some(began) } => {
                began.saturating_add(self.limits.patience).saturating_sub(now)
            }
            Phase::Closed { .. } | Phase::HalfOpen { trial: None } => Duration::ZERO,
        }
    }

    /// Leave to ask, which after an open time is a trial; None: do without.
    pub fn pass(&mut self, now: Duration) -> Option<Pass> {
        if self.wait(now) > Duration::ZERO {
            return None;
        }
        if !matches!(self.phase, Phase::Closed { .. }) {
            // Of its own round, so that a lost trial that comes back late is none any more.
            self.enter(Phase::HalfOpen { trial: Some(now) });
        }
        Some(Pass { round: self.round })
    }

    /// Leave to ask only while it is closed: for those who are not to be held up by a trial.
    #[must_use]
    pub fn pass_if_closed(&self) -> Option<Pass> {
        matches!(self.phase, Phase::Closed { .. }).then_some(Pass { round: self.round })
    }

    /// Takes a pass back.
    // By value: it is good for once.
    #[allow(clippy::needless_pass_by_value)]
    pub fn note(&mut self, pass: Pass, outcome: Outcome, now: Duration) {
        let Pass { round } = pass;
        if round != self.round {
            return;
        }
        match (self.phase, outcome) {
            (Phase::Closed { .. }, Outcome::Unknown) | (Phase::Open { .. }, _) => {}
            (Phase::Closed { since }, Outcome::Success) => {
                self.consecutive = 0;
                self.window.add(false, now);
                // One success is no proof: what fails again at once stays away for longer.
                if now.saturating_sub(since) >= self.next_open {
                    self.next_open = self.limits.open;
                }
            }
            (Phase::Closed { .. }, Outcome::Failure) => {
                self.consecutive = self.consecutive.saturating_add(1);
                self.window.add(true, now);
                if self.is_too_much(now) {
                    self.open(now);
                }
            }
            (Phase::HalfOpen { .. }, Outcome::Success) => self.enter(Phase::Closed { since: now }),
            (Phase::HalfOpen { .. }, Outcome::Failure) => self.open(now),
            (Phase::HalfOpen { .. }, Outcome::Unknown) => self.enter(Phase::HalfOpen { trial: None }),
        }
    }

    fn is_too_much(&mut self, now: Duration) -> bool {
        let Limits { consecutive, percent, least, .. } = self.limits;
        if consecutive > 0 && self.consecutive >= consecutive {
            return true;
        }
        let (all, failed) = self.window.sums(now);
        percent > 0 && all >= u64::from(least.max(1)) && failed * 100 >= all * u64::from(percent)
    }

    fn open(&mut self, now: Duration) {
        self.enter(Phase::Open { until: now.saturating_add(self.next_open) });
        self.next_open = self.next_open.saturating_mul(2).min(self.limits.longest.max(self.limits.open));
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.round += 1;
        self.consecutive = 0;
        self.window = Window::of(self.limits.window);
    }
}

/// The outcomes of the last so long.
#[derive(Clone, Debug)]
struct Window {
    step: Duration,
    /// The number of the present step.
    present: u128,
    /// Of each step, all outcomes and the failures among them.
    steps: [(u32, u32); STEPS],
}

impl Window {
    fn of(length: Duration) -> Self {
        #[allow(clippy::cast_possible_truncation)]
        let step = (length / STEPS as u32).max(Duration::from_nanos(1));
        Self { step, present: 0, steps: [(0, 0); STEPS] }
    }

    fn move_on(&mut self, now: Duration) {
        let present = now.as_nanos() / self.step.as_nanos();
        let passed = present.saturating_sub(self.present).min(STEPS as u128);
        for ahead in 1..=passed {
            *self.at(self.present.max(present - passed) + ahead) = (0, 0);
        }
        self.present = self.present.max(present);
    }

    fn at(&mut self, step: u128) -> &mut (u32, u32) {
        #[allow(clippy::cast_possible_truncation)]
        let index = (step % STEPS as u128) as usize;
        &mut self.steps[index]
    }

    fn add(&mut self, has_failed: bool, now: Duration) {
        self.move_on(now);
        let (all, failed) = self.at(self.present);
        *all = all.saturating_add(1);
        *failed = failed.saturating_add(u32::from(has_failed));
    }

    fn sums(&mut self, now: Duration) -> (u64, u64) {
        self.move_on(now);
        let add = |(all, failed), step: &(u32, u32)| (all + u64::from(step.0), failed + u64::from(step.1));
        self.steps.iter().fold((0, 0), add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        consecutive: 3,
        percent: 50,
        least: 10,
        window: seconds(10),
        open: seconds(1),
        longest: seconds(5),
        patience: seconds(2),
    };

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn note(breaker: &mut Breaker, outcome: Outcome, now: Duration) {
        let pass = breaker.pass(now).expect("leave to ask");
        breaker.note(pass, outcome, now);
    }

    /// Open since 0, for a second.
    fn open() -> Breaker {
        let mut breaker = Breaker::new(LIMITS);
        for _ in 0..3 {
            note(&mut breaker, Outcome::Failure, Duration::ZERO);
        }
        breaker
    }

    #[test]
    fn failures_one_after_the_other_open_it() {
        let mut breaker = Breaker::new(LIMITS);
        for outcome in [Outcome::Failure, Outcome::Failure, Outcome::Success, Outcome::Failure] {
            note(&mut breaker, outcome, Duration::ZERO);
        }
        note(&mut breaker, Outcome::Unknown, Duration::ZERO);
        note(&mut breaker, Outcome::Failure, Duration::ZERO);
        assert_eq!(breaker.state(Duration::ZERO), State::Closed);
        note(&mut breaker, Outcome::Failure, Duration::ZERO);
        assert_eq!(breaker.state(Duration::ZERO), State::Open);
        assert_eq!((breaker.pass(Duration::ZERO), breaker.pass_if_closed()), (None, None));
    }

    #[test]
    fn a_ratio_of_failures_opens_it_and_what_is_past_the_window_does_not_count() {
        let alternating = |times: [Duration; 10]| {
            let mut breaker = Breaker::new(LIMITS);
            for (number, now) in times.into_iter().enumerate() {
                let outcome = if number % 2 == 0 { Outcome::Success } else { Outcome::Failure };
                note(&mut breaker, outcome, now);
            }
            breaker.state(times[9])
        };
        assert_eq!(alternating([seconds(7); 10]), State::Open);
        assert_eq!(alternating([3, 4, 4, 5, 6, 7, 8, 9, 10, 11].map(seconds)), State::Open);
        assert_eq!(alternating([3, 4, 4, 5, 6, 7, 8, 9, 10, 13].map(seconds)), State::Closed);
        assert_eq!(alternating([3, 4, 4, 5, 6, 7, 8, 9, 10, 1000].map(seconds)), State::Closed);
    }

    #[test]
    fn after_its_time_one_trial_is_made_and_nobody_else_asks() {
        let mut breaker = open();
        assert_eq!(breaker.wait(Duration::from_millis(400)), Duration::from_millis(600));
        assert_eq!(breaker.state(seconds(1)), State::HalfOpen);
        assert_eq!(breaker.pass_if_closed(), None);
        let trial = breaker.pass(seconds(1)).expect("a trial");
        assert_eq!(breaker.pass(seconds(1)), None, "one at a time");
        breaker.note(trial, Outcome::Success, seconds(1));
        assert_eq!(breaker.state(seconds(1)), State::Closed);
        assert!(breaker.pass_if_closed().is_some());
    }

    #[test]
    fn each_failed_trial_doubles_its_time_up_to_the_longest() {
        let mut breaker = open();
        let mut now = Duration::ZERO;
        for expected in [1, 2, 4, 5, 5] {
            assert_eq!(breaker.wait(now), seconds(expected));
            now += seconds(expected);
            note(&mut breaker, Outcome::Failure, now);
        }
    }

    #[test]
    fn what_fails_again_soon_stays_away_for_longer_and_what_has_worked_a_while_does_not() {
        let fail_again = |breaker: &mut Breaker, now| {
            for _ in 0..3 {
                note(breaker, Outcome::Failure, now);
            }
            breaker.wait(now)
        };
        let mut breaker = open();
        note(&mut breaker, Outcome::Success, seconds(1));
        note(&mut breaker, Outcome::Success, seconds(2));
        assert_eq!(fail_again(&mut breaker, seconds(2)), seconds(2));
        note(&mut breaker, Outcome::Success, seconds(4));
        note(&mut breaker, Outcome::Success, seconds(8));
        assert_eq!(fail_again(&mut breaker, seconds(8)), seconds(1));
    }

    #[test]
    fn a_trial_that_is_lost_or_given_up_holds_up_no_other() {
        let mut breaker = open();
        let lost = breaker.pass(seconds(1)).expect("a trial");
        assert_eq!(breaker.pass(seconds(2)), None);
        let given_up = breaker.pass(seconds(3)).expect("the first is lost");
        breaker.note(lost, Outcome::Success, seconds(3));
        assert_eq!(breaker.state(seconds(3)), State::HalfOpen, "it comes too late to count");
        breaker.note(given_up, Outcome::Unknown, seconds(3));
        assert!(breaker.pass(seconds(3)).is_some());
    }

    #[test]
    fn what_was_asked_before_it_opened_says_nothing_of_now() {
        let mut breaker = Breaker::new(LIMITS);
        let [early, late] = [(); 2].map(|()| breaker.pass(Duration::ZERO).expect("leave to ask"));
        for _ in 0..3 {
            note(&mut breaker, Outcome::Failure, Duration::ZERO);
        }
        breaker.note(early, Outcome::Success, Duration::ZERO);
        assert_eq!(breaker.state(Duration::ZERO), State::Open);
        note(&mut breaker, Outcome::Success, seconds(1));
        for _ in 0..2 {
            note(&mut breaker, Outcome::Failure, seconds(1));
        }
        breaker.note(late, Outcome::Failure, seconds(1));
        assert_eq!(breaker.state(seconds(1)), State::Closed);
    }
}
