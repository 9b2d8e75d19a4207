//! Those who have found nothing at one key: one of them leads, the others wait.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};

use super::Board;

/// Those who have found nothing at a key.
#[derive(Debug)]
pub(in crate::sidecar::near_cache) struct Contest {
    /// Of the connection that tells of the key.
    pub place: u8,
    pub key: Bytes,
    /// Counts what happens to the key.
    written: watch::Sender<u64>,
    state: Mutex<State>,
    stirred: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Who was told that there is nothing, and is to write it.
    leader: Option<Arc<Holder>>,
    waiting: VecDeque<(u64, oneshot::Sender<Grant>)>,
    numbers: u64,
    /// Somebody has led, here or elsewhere.
    is_contested: bool,
}

/// A connection of the application, which may lead.
#[derive(Debug)]
pub(in crate::sidecar::near_cache) struct Holder(Mutex<Option<Vec<Weak<Contest>>>>);

/// Who takes part.
pub(super) struct Member {
    contest: Arc<Contest>,
    board: Arc<Board>,
    number: u64,
    written: watch::Receiver<u64>,
    grant: oneshot::Receiver<Grant>,
    is_first: bool,
}

/// What a member goes on with.
pub(super) enum Event {
    /// Something has happened to the key.
    Written,
    /// It may lead.
    Leads(Grant),
    /// Nobody leads, and nobody is to wait.
    Failed,
}

/// The lease, for whom it is offered; who drops it does not take it.
#[derive(Debug)]
pub(super) struct Grant {
    contest: Arc<Contest>,
    taken: oneshot::Sender<()>,
}

impl Contest {
    pub fn of(place: u8, key: Bytes) -> Arc<Self> {
        Arc::new(Self {
            place,
            key,
            written: watch::Sender::new(0),
            state: Mutex::default(),
            stirred: Notify::new(),
        })
    }

    /// One more takes part; None if it is who leads.
    pub(super) fn join(self: &Arc<Self>, board: &Arc<Board>, holder: &Arc<Holder>) -> Option<Member> {
        let mut state = self.state.lock();
        if state.leader.as_ref().is_some_and(|leader| Arc::ptr_eq(leader, holder)) {
            return None;
        }
        let (sender, grant) = oneshot::channel();
        let is_first = !state.is_contested && state.waiting.is_empty();
        state.numbers += 1;
        let number = state.numbers;
        state.waiting.push_back((number, sender));
        let written = self.written.subscribe();
        Some(Member { contest: self.clone(), board: board.clone(), number, written, grant, is_first })
    }

    /// Offers the lease to who has waited longest; None if nobody does.
    pub(super) fn offer(self: &Arc<Self>) -> Option<oneshot::Receiver<()>> {
        loop {
            let (_, waiting) = self.state.lock().waiting.pop_front()?;
            let (taken, is_taken) = oneshot::channel();
            if waiting.send(Grant { contest: self.clone(), taken }).is_ok() {
                return Some(is_taken);
            }
        }
    }

    /// Whether somebody here leads.
    pub(super) fn is_led(&self) -> bool {
        self.state.lock().leader.is_some()
    }

    /// Nobody leads here any more.
    pub(super) fn depose(&self) {
        self.state.lock().leader = None;
    }

    /// Another pod leads.
    pub(super) fn contested(&self) {
        self.state.lock().is_contested = true;
    }

    /// Nobody is to wait.
    pub(super) fn fail(&self) {
        self.state.lock().waiting.clear();
    }

    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.leader.is_none() && state.waiting.is_empty()
    }

    /// Done when something is to be looked at.
    pub(super) async fn stirring(&self) {
        self.stirred.notified().await;
    }

    pub(super) fn stir(&self) {
        self.stirred.notify_one();
    }

    /// Something has happened to the key: who waits looks, and nobody has to write it any more.
    pub(super) fn written(&self) {
        self.look_again();
        if self.state.lock().leader.take().is_some() {
            self.stir();
        }
    }

    /// Who waits is to look.
    pub(super) fn look_again(&self) {
        self.written.send_modify(|count| *count += 1);
    }

    /// All is over.
    pub(super) fn end(&self) {
        self.depose();
        self.fail();
        self.stir();
    }

    fn left_by(&self, holder: &Arc<Holder>) {
        let mut state = self.state.lock();
        if state.leader.as_ref().is_some_and(|leader| Arc::ptr_eq(leader, holder)) {
            state.leader = None;
            drop(state);
            self.stir();
        }
    }
}

impl Member {
    /// What is to be done next.
    pub async fn event(&mut self) -> Event {
        tokio::select! {
            biased;
            grant = &mut self.grant => grant.map_or(Event::Failed, Event::Leads),
            // Its sender is the contest's, which is kept here.
            _ = self.written.changed() => Event::Written,
        }
    }

    /// Whether it had to wait for somebody.
    pub fn has_waited(&self) -> bool {
        !self.is_first || self.contest.state.lock().is_contested
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.board.left();
        let mut state = self.contest.state.lock();
        state.waiting.retain(|(number, _)| *number != self.number);
        let is_empty = state.waiting.is_empty();
        drop(state);
        if is_empty {
            self.contest.stir();
        }
    }
}

impl Grant {
    /// It is told that there is nothing, and leads; false if it is gone, or the lease is.
    pub fn take(self, holder: &Arc<Holder>) -> bool {
        let Self { contest, taken } = self;
        {
            let mut state = contest.state.lock();
            state.leader = Some(holder.clone());
            state.is_contested = true;
        }
        if holder.leads(&contest) && taken.send(()).is_ok() {
            return true;
        }
        contest.left_by(holder);
        false
    }

    /// There is something: the lease is not needed, and the others find it too.
    pub fn found(self) {
        self.contest.look_again();
    }
}

impl Default for Holder {
    fn default() -> Self {
        Self(Mutex::new(Some(Vec::new())))
    }
}

impl Holder {
    /// Notes that it leads; whether it is there still.
    fn leads(&self, contest: &Arc<Contest>) -> bool {
        let mut led = self.0.lock();
        let Some(led) = led.as_mut() else { return false };
        led.retain(|contest| contest.strong_count() > 0);
        led.push(Arc::downgrade(contest));
        true
    }

    /// The connection has ended.
    pub fn leave(self: &Arc<Self>) {
        let led = self.0.lock().take();
        led.iter().flatten().filter_map(Weak::upgrade).for_each(|contest| contest.left_by(self));
    }
}

#[cfg(test)]
mod tests;
