//! The fence: whether this process may write, at this very moment.

use std::future::pending;

use tokio::{sync::watch, time::Instant};

/// Tells whether this process leads. A clone tells the same.
///
/// The answer rests on the monotonic clock alone: a process that was frozen
/// while another took over gets `false` with its first question after it wakes,
/// before any of its timers has fired. (A monotonic clock stands still while
/// the whole machine sleeps; such a machine learns of its loss from its next
/// renewal.)
#[derive(Clone, Debug)]
pub struct Leadership(Option<watch::Receiver<Terms>>);

/// The uninterrupted times as the leader.
#[derive(Clone, Copy, Debug, Default)]
struct Terms {
    /// How many have begun; the number of the last one.
    begun: u64,
    /// From here on others may lead, unless a renewal moves it. None before the
    /// first term, and when the last one was ended.
    until: Option<Instant>,
}

impl Terms {
    fn running(self) -> Option<u64> {
        self.until.filter(|until| Instant::now() < *until).map(|_| self.begun)
    }
}

impl Leadership {
    /// Leads for ever: for a process that runs without an election.
    #[must_use]
    pub fn always() -> Self {
        Self(None)
    }

    /// Whether nobody else can lead now, so that a write is allowed.
    #[must_use]
    pub fn may_write(&self) -> bool {
        self.term().is_some()
    }

    /// Completes as soon as this process leads. Never, if the election has
    /// ended.
    pub async fn wait_until_leader(&self) {
        let Some(receiver) = &self.0 else { return };
        let mut receiver = receiver.clone();
        while !self.may_write() {
            if receiver.changed().await.is_err() {
                pending::<()>().await;
            }
        }
    }

    /// Completes as soon as this process does not lead any more; at once, if it
    /// does not lead when first polled. A loss counts even if the lease is won
    /// back at once, because another may have led in between.
    pub async fn lost(&self) {
        if let Some(term) = self.term() {
            self.ended(term).await;
        }
    }

    /// The number of the term that runs now.
    pub(crate) fn term(&self) -> Option<u64> {
        let Some(receiver) = &self.0 else { return Some(0) };
        let terms = *receiver.borrow();
        terms.running()
    }

    /// How many terms are over.
    pub(crate) fn terms_over(&self) -> u64 {
        let Some(receiver) = &self.0 else { return 0 };
        let terms = *receiver.borrow();
        terms.begun - u64::from(terms.running().is_some())
    }

    /// Completes when the term of this number has ended.
    pub(crate) async fn ended(&self, number: u64) {
        let Some(receiver) = &self.0 else { return pending().await };
        let mut receiver = receiver.clone();
        loop {
            let terms = *receiver.borrow_and_update();
            let Some(until) = terms.until.filter(|_| terms.running() == Some(number)) else { return };
            // Of an election that ended without a word nothing changes any
            // more: the term runs out.
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                Ok(()) = receiver.changed() => {}
            }
        }
    }
}

/// The one that says who leads: held by the election.
#[derive(Debug)]
pub(super) struct Grant(watch::Sender<Terms>);

impl Grant {
    pub(super) fn new() -> (Self, Leadership) {
        let (sender, receiver) = watch::channel(Terms::default());
        (Self(sender), Leadership(Some(receiver)))
    }

    /// Allows writes until the given instant. True if that begins a new term.
    pub(super) fn extend(&mut self, until: Instant) -> bool {
        let terms = *self.0.borrow();
        let begins = terms.running().is_none();
        self.0.send_replace(Terms { begun: terms.begun + u64::from(begins), until: Some(until) });
        begins
    }

    /// Forbids writes from now on. True if there was a term, running or run out.
    pub(super) fn revoke(&self) -> bool {
        let terms = *self.0.borrow();
        self.0.send_replace(Terms { until: None, ..terms });
        terms.until.is_some()
    }

    /// Whether the last term ran out without a renewal.
    pub(super) fn ran_out(&self) -> bool {
        self.0.borrow().until.is_some_and(|until| until <= Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_frozen_process_answers_no_with_its_first_question() {
        let (mut grant, leadership) = Grant::new();
        assert!(!leadership.may_write());
        grant.extend(Instant::now() + TEN);
        assert!(leadership.may_write());
        // The clock moves while no task of the process runs.
        tokio::time::advance(TEN).await;
        assert!(!leadership.may_write());
        assert!(leadership.lost().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_moves_the_deadline_within_the_same_term() {
        let (mut grant, leadership) = Grant::new();
        assert!(grant.extend(Instant::now() + TEN), "a new term");
        let mut lost = Box::pin(leadership.lost());
        assert!(lost.as_mut().now_or_never().is_none());

        tokio::time::advance(TEN / 2).await;
        assert!(!grant.extend(Instant::now() + TEN), "the same term");
        tokio::time::advance(TEN.mul_f64(0.9999)).await;
        assert!(leadership.may_write());
        assert!(lost.as_mut().now_or_never().is_none());

        let waited_from = Instant::now();
        lost.await;
        assert!(waited_from.elapsed() <= Duration::from_millis(2), "{:?}", waited_from.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_loss_is_told_even_if_the_lease_is_won_back_unseen() {
        let (mut grant, leadership) = Grant::new();
        grant.extend(Instant::now() + TEN);
        let mut lost = Box::pin(leadership.lost());
        assert!(lost.as_mut().now_or_never().is_none());

        assert!(grant.revoke());
        assert!(grant.extend(Instant::now() + TEN));
        assert!(leadership.may_write());
        assert!(lost.now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_term_is_over_when_it_ran_out_or_was_ended() {
        let (mut grant, leadership) = Grant::new();
        assert_eq!(leadership.terms_over(), 0);
        grant.extend(Instant::now() + TEN);
        assert_eq!(leadership.terms_over(), 0);
        tokio::time::advance(TEN).await;
        assert_eq!(leadership.terms_over(), 1);
        grant.revoke();
        assert_eq!(leadership.terms_over(), 1);
        grant.extend(Instant::now() + TEN);
        assert_eq!(leadership.terms_over(), 1);
        grant.revoke();
        assert_eq!(leadership.terms_over(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_with_the_first_term() {
        let (mut grant, leadership) = Grant::new();
        let mut waiting = Box::pin(leadership.wait_until_leader());
        assert!(waiting.as_mut().now_or_never().is_none());
        grant.extend(Instant::now() + TEN);
        assert!(waiting.now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_election_that_died_lets_the_term_run_out() {
        let (mut grant, leadership) = Grant::new();
        grant.extend(Instant::now() + TEN);
        drop(grant);
        assert!(leadership.may_write());
        leadership.lost().await;
        assert!(!leadership.may_write());
        assert!(leadership.wait_until_leader().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_election_the_process_always_leads() {
        let leadership = Leadership::always();
        tokio::time::advance(TEN * 1000).await;
        assert!(leadership.may_write());
        assert!(leadership.wait_until_leader().now_or_never().is_some());
        assert!(leadership.lost().now_or_never().is_none());
    }
}
