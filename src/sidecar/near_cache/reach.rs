//! Whether it is tried to reach Redis at all: the breaker before all connections.

use std::{
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::connect::{NAME, Opened, Place, Refused, Upstream};
use crate::sidecar::breaker::{Breaker, Limits, Outcome, Pass, State};

/// Open for a short time, so that a Redis that is back is used again within a second.
const BREAKER: Limits = Limits {
    consecutive: 3,
    percent: 50,
    least: 20,
    window: Duration::from_secs(5),
    open: Duration::from_millis(100),
    longest: Duration::from_millis(800),
    patience: Duration::from_secs(3),
};
/// A trial takes no longer: others are told meanwhile that Redis is not reached.
const TRIAL: Duration = Duration::from_millis(900);

/// The way to Redis, and whether it is worth to try it.
#[derive(Debug)]
pub struct Reach {
    upstream: Arc<Upstream>,
    started: Instant,
    breaker: Mutex<Breaker>,
    /// As the breaker is, for those who ask at each command.
    is_off: AtomicBool,
}

impl Reach {
    /// By this way.
    #[must_use]
    pub fn by(upstream: Arc<Upstream>) -> Self {
        Self {
            upstream,
            started: Instant::now(),
            breaker: Mutex::new(Breaker::new(BREAKER)),
            is_off: AtomicBool::new(false),
        }
    }

    /// The way itself.
    #[must_use]
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// Whether nothing is to be asked now.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.is_off.load(Ordering::Relaxed)
    }

    /// The state of the breaker.
    #[must_use]
    pub fn state(&self) -> State {
        self.breaker.lock().state(self.started.elapsed())
    }

    /// A connection, if one is to be tried.
    ///
    /// # Errors
    /// When there is none.
    pub async fn open(&self, place: &Place) -> Result<Opened, Refused> {
        self.open_as(place, NAME).await
    }

    /// The same under a name of its own; empty: none.
    ///
    /// # Errors
    /// The same.
    pub async fn open_as(&self, place: &Place, name: &[u8]) -> Result<Opened, Refused> {
        let (pass, limit) = {
            let (mut breaker, now) = (self.breaker.lock(), self.started.elapsed());
            let is_trial = breaker.state(now) != State::Closed;
            let Some(pass) = breaker.pass(now) else { return Err(Self::off()) };
            (pass, if is_trial { TRIAL } else { Duration::MAX })
        };
        // Given back also where whoever has asked is gone.
        let mut given = Given { reach: self, pass: Some(pass) };
        let opened =
            self.upstream.open_within(limit, &place.identity, place.database, place.protocol, name).await;
        given.back(if matches!(opened, Err(Refused::Unreachable(_))) {
            Outcome::Failure
        } else {
            Outcome::Success
        });
        opened
    }

    /// A connection was lost, or nothing comes on it.
    pub fn failed(&self) {
        let pass = self.breaker.lock().pass_if_closed();
        if let Some(pass) = pass {
            self.note(pass, Outcome::Failure);
        }
    }

    /// Why nothing is asked.
    #[must_use]
    pub fn off() -> Refused {
        Refused::Unreachable("it has failed, and is tried again in a moment".into())
    }

    fn note(&self, pass: Pass, outcome: Outcome) {
        let now = self.started.elapsed();
        let mut breaker = self.breaker.lock();
        let before = breaker.state(now);
        breaker.note(pass, outcome, now);
        let is_off = breaker.state(now) != State::Closed;
        self.is_off.store(is_off, Ordering::Relaxed);
        drop(breaker);
        match (before, is_off) {
            (State::Closed, true) => tracing::warn!("Redis is not reached; what asks for it is told so"),
            (State::Open | State::HalfOpen, false) => tracing::info!("Redis is reached"),
            _ => {}
        }
    }
}

struct Given<'a> {
    reach: &'a Reach,
    pass: Option<Pass>,
}

impl Given<'_> {
    fn back(&mut self, outcome: Outcome) {
        if let Some(pass) = self.pass.take() {
            self.reach.note(pass, outcome);
        }
    }
}

impl Drop for Given<'_> {
    fn drop(&mut self) {
        self.back(Outcome::Unknown);
    }
}
