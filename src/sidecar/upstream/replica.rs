//! One replica of the application: its connections, and what is known of it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    choice::{Candidate, Gate},
    connections::Connections,
    fault::Fault,
    health::{Health, Patience},
    pulse::{Pulse, Silence},
    waiting::Waiting,
};
use crate::{
    settings::balancing::BreakerLimits,
    sidecar::breaker::{Breaker, Limits, Outcome, Pass, State},
};

/// A trial without an outcome for so long is taken for lost.
const PATIENCE: Duration = Duration::from_secs(30);
/// The window of the failure ratio.
const WINDOW: Duration = Duration::from_secs(10);

/// One replica of the application.
pub struct Replica {
    address: SocketAddr,
    is_own: bool,
    began: Instant,
    connections: Arc<Connections>,
    breaker: Mutex<Breaker>,
    /// So many requests without a sign of life, and others come first: as many as open the breaker.
    most_silent: AtomicU32,
    pulse: Mutex<Pulse>,
    health: Mutex<Health>,
    in_flight: AtomicU32,
    /// Who waits for a place.
    waiting: Arc<Waiting>,
    is_refusing: AtomicBool,
    requests: AtomicU64,
    failures: AtomicU64,
    retries: AtomicU64,
}

/// The figures of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Where it is asked.
    pub address: SocketAddr,
    /// Whether it is on this pod.
    pub is_own: bool,
    /// So many requests were sent to it, repetitions among them.
    pub requests: u64,
    /// So many of them failed: no connection, no answer, or 502, 503 or 504.
    pub failures: u64,
    /// So many of them had been sent to another before.
    pub retries: u64,
    /// So many are with it now.
    pub in_flight: u32,
    /// What its breaker says.
    pub breaker: State,
    /// What the checks say.
    pub is_healthy: bool,
}

impl Replica {
    /// At an address, of which nothing is known yet.
    #[must_use]
    pub fn new(
        address: SocketAddr,
        is_own: bool,
        limits: &BreakerLimits,
        connect: Duration,
        waiting: Arc<Waiting>,
    ) -> Arc<Self> {
        Arc::new(Self {
            address,
            is_own,
            began: Instant::now(),
            connections: Connections::to(address, connect),
            breaker: Mutex::new(Breaker::new(limits_of(limits))),
            most_silent: AtomicU32::new(most_silent(limits)),
            pulse: Mutex::default(),
            health: Mutex::default(),
            in_flight: AtomicU32::new(0),
            waiting,
            is_refusing: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            retries: AtomicU64::new(0),
        })
    }

    /// Other limits: what its breaker knew is forgotten, and so is what was not answered before.
    pub fn limit(&self, limits: &BreakerLimits) {
        *self.breaker.lock() = Breaker::new(limits_of(limits));
        self.most_silent.store(most_silent(limits), Ordering::Relaxed);
        self.pulse.lock().answered(self.began.elapsed());
    }

    /// Where it is asked.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it is on this pod.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.is_own
    }

    /// Its connections.
    #[must_use]
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Whether nobody listened when it was last asked for a connection.
    #[must_use]
    pub fn is_refusing(&self) -> bool {
        self.is_refusing.load(Ordering::Relaxed)
    }

    /// What a choice goes by.
    #[must_use]
    pub fn candidate(&self, most: u32, was_tried: bool, now: Instant) -> Candidate {
        let now = now.saturating_duration_since(self.began);
        let health = *self.health.lock();
        let breaker = self.breaker.lock();
        let gate = match breaker.state(now) {
            State::Closed => Gate::Open,
            _ if breaker.wait(now) == Duration::ZERO => Gate::Trial,
            _ => Gate::Shut,
        };
        drop(breaker);
        let silence = match gate {
            // There is one trial at a time, whatever it has not answered before.
            Gate::Trial => Silence::None,
            _ => self.pulse.lock().silence(self.most_silent.load(Ordering::Relaxed), now),
        };
        Candidate {
            is_own: self.is_own,
            is_full: self.in_flight.load(Ordering::Acquire) >= most,
            was_tried,
            is_healthy: health.is_healthy(),
            passed_last_check: health.passed_last(),
            gate,
            silence,
        }
    }

    /// Takes a place for a request; None if all `most` are taken, or another is being tried meanwhile.
    pub fn begin(self: &Arc<Self>, most: u32, needs_pass: bool, now: Instant) -> Option<Try> {
        let taken = self.in_flight.fetch_update(Ordering::AcqRel, Ordering::Acquire, |in_flight| {
            (in_flight < most).then_some(in_flight.saturating_add(1))
        });
        let slot = taken.ok().map(|_| Slot(self.clone()))?;
        let pass = self.breaker.lock().pass(now.saturating_duration_since(self.began));
        if needs_pass && pass.is_none() {
            return None;
        }
        Some(Try { slot: Some(slot), pass, sent: None })
    }

    /// A check has passed or not.
    pub fn checked(&self, outcome: Result<(), &Fault>, patience: Patience) {
        self.note_connection(outcome);
        let mut health = self.health.lock();
        let before = health.is_healthy();
        health.note(outcome.is_ok(), patience);
        let is_healthy = health.is_healthy();
        drop(health);
        if outcome.is_ok() && self.in_flight.load(Ordering::Acquire) == 0 {
            // Nobody waits for it: what it did not answer once says nothing of now.
            self.pulse.lock().answered(self.began.elapsed());
        }
        if before != is_healthy {
            tracing::info!(address = %self.address, is_healthy, "a replica has changed");
            self.waiting.all_may_go_on();
        }
    }

    /// An answer that had begun did not come to its end.
    pub fn broke_off(&self) {
        let now = self.began.elapsed();
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut breaker = self.breaker.lock();
        if let Some(pass) = breaker.pass_if_closed() {
            breaker.note(pass, Outcome::Failure, now);
        }
    }

    fn note_connection(&self, outcome: Result<(), &Fault>) {
        match outcome {
            Err(Fault::Refused) => self.is_refusing.store(true, Ordering::Relaxed),
            Err(fault) if !fault.was_sent() => {}
            _ => self.is_refusing.store(false, Ordering::Relaxed),
        }
    }

    /// The figures at present.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures {
            address: self.address,
            is_own: self.is_own,
            requests: self.requests.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            breaker: self.breaker.lock().state(self.began.elapsed()),
            is_healthy: self.health.lock().is_healthy(),
        }
    }
}

fn most_silent(limits: &BreakerLimits) -> u32 {
    match limits.consecutive_failures {
        // Nothing would end the silence.
        0 => u32::MAX,
        most => most,
    }
}

fn limits_of(limits: &BreakerLimits) -> Limits {
    Limits {
        consecutive: limits.consecutive_failures,
        percent: limits.failure_percent,
        least: limits.least_requests,
        window: WINDOW,
        open: Duration::from_millis(limits.open_ms),
        longest: Duration::from_millis(limits.longest_open_ms),
        patience: PATIENCE,
    }
}

/// A place among the requests that a replica has at once.
pub struct Slot(Arc<Replica>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
        self.0.waiting.one_is_free();
    }
}

/// A request that is for a replica. One that is dropped says nothing of it.
pub struct Try {
    slot: Option<Slot>,
    pass: Option<Pass>,
    sent: Option<u64>,
}

impl Try {
    /// It is sent, to whom is returned.
    pub fn send(&mut self, is_retry: bool) -> Option<Arc<Replica>> {
        let replica = &self.slot.as_ref()?.0;
        replica.requests.fetch_add(1, Ordering::Relaxed);
        replica.retries.fetch_add(u64::from(is_retry), Ordering::Relaxed);
        self.sent = Some(replica.pulse.lock().sent(replica.began.elapsed()));
        Some(replica.clone())
    }

    /// An answer has begun; its end frees the place.
    #[must_use]
    pub fn answered(mut self, status: StatusCode) -> Option<Slot> {
        let slot = self.slot.take()?;
        let replica = &slot.0;
        let now = replica.began.elapsed();
        replica.note_connection(Ok(()));
        replica.pulse.lock().answered(now);
        self.sent = None;
        // What stands before an application says these, or an application that is not well (RFC 9110
        // §15.6.3–5). A 500 is of the request more often than of the replica.
        let has_failed = matches!(status.as_u16(), 502..=504);
        self.note(replica, if has_failed { Outcome::Failure } else { Outcome::Success }, now);
        Some(slot)
    }

    /// No answer has come.
    pub fn failed(mut self, fault: &Fault) {
        let Some(slot) = self.slot.take() else { return };
        let replica = &slot.0;
        replica.note_connection(Err(fault));
        let outcome = if fault.is_of_replica() { Outcome::Failure } else { Outcome::Unknown };
        if matches!(fault, Fault::TimedOut) && self.pass.is_some() {
            // It stays unanswered, or others would take its place until the breaker has seen enough.
            self.sent = None;
        }
        self.finish(replica, outcome);
    }

    /// Another has answered before. That is a failure of this one if it gives no sign of life at all.
    pub fn overtaken(self) {
        let sent = self.slot.as_ref().zip(self.sent);
        let is_alive = sent.is_some_and(|(slot, sent)| slot.0.pulse.lock().has_beaten_since(sent));
        if !is_alive {
            self.failed(&Fault::TimedOut);
        }
    }

    fn finish(&mut self, replica: &Replica, outcome: Outcome) {
        if let Some(sent) = self.sent.take() {
            replica.pulse.lock().given_up(sent);
        }
        self.note(replica, outcome, replica.began.elapsed());
    }

    fn note(&mut self, replica: &Replica, outcome: Outcome, now: Duration) {
        replica.failures.fetch_add(u64::from(outcome == Outcome::Failure), Ordering::Relaxed);
        let Some(pass) = self.pass.take() else { return };
        let mut breaker = replica.breaker.lock();
        let before = breaker.state(now);
        breaker.note(pass, outcome, now);
        let after = breaker.state(now);
        drop(breaker);
        if after == State::Open {
            // From here on the breaker says when it is asked.
            replica.pulse.lock().answered(now);
        }
        if before != after {
            tracing::info!(address = %replica.address, ?before, ?after, "a breaker has changed");
            // Who waited for this one may have to go to another.
            replica.waiting.all_may_go_on();
        }
    }
}

impl Drop for Try {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.finish(&slot.0, Outcome::Unknown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENT: Patience = Patience { unhealthy_after: 3, healthy_after: 1 };

    fn replica() -> Arc<Replica> {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        Replica::new(address, false, &BreakerLimits::default(), Duration::from_secs(1), Arc::default())
    }

    fn sent(replica: &Arc<Replica>) -> Try {
        let mut sent = replica.begin(u32::MAX, true, Instant::now()).unwrap();
        sent.send(false).unwrap();
        sent
    }

    fn silence(replica: &Replica) -> Silence {
        replica.candidate(u32::MAX, false, Instant::now()).silence
    }

    #[test]
    fn one_that_was_overtaken_is_blamed_only_without_a_sign_of_life() {
        let replica = replica();
        let (slow, other) = (sent(&replica), sent(&replica));
        drop(other.answered(StatusCode::OK));
        slow.overtaken();
        assert_eq!(replica.figures().failures, 0, "it has answered another meanwhile");
        let hangs = sent(&replica);
        hangs.overtaken();
        assert_eq!(replica.figures().failures, 1);
        assert_eq!(replica.figures().in_flight, 0);
    }

    #[test]
    fn what_it_did_not_answer_once_is_forgotten_with_other_limits() {
        let replica = replica();
        for _ in 0..4 {
            sent(&replica).failed(&Fault::TimedOut);
        }
        assert_eq!(silence(&replica), Silence::None, "they are not as many as open the breaker");
        replica.limit(&BreakerLimits { consecutive_failures: 3, ..BreakerLimits::default() });
        assert_eq!(silence(&replica), Silence::None);
    }

    #[test]
    fn what_it_did_not_answer_once_is_forgotten_with_a_check_that_passes_while_nobody_waits() {
        let replica = replica();
        for _ in 0..4 {
            sent(&replica).failed(&Fault::TimedOut);
        }
        let waits = sent(&replica);
        assert_ne!(silence(&replica), Silence::None);
        replica.checked(Ok(()), PATIENT);
        assert_ne!(silence(&replica), Silence::None, "somebody waits still");
        drop(waits);
        replica.checked(Ok(()), PATIENT);
        let _waits = sent(&replica);
        assert_eq!(silence(&replica), Silence::None);
    }
}
