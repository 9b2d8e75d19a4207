//! What has happened here and the others do not know yet: keys that requests have changed, and purges of the
//! application that are not in the record. Until they do, nothing that it is about is taken from Redis.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::record::Purge;
use crate::sidecar::cache::{key::Key, purges::Stamp};

/// So many keys are told at once.
const BATCH: usize = 64;
/// So many keys wait to be told. With more, all is purged instead.
const MOST_KEYS: usize = 4096;
/// So many purges wait to be recorded.
const MOST_PURGES: usize = 256;

/// What waits to be told.
pub struct Outbox {
    waiting: Mutex<Waiting>,
    /// So that nobody takes the lock for nothing.
    is_empty: AtomicBool,
    wake: Notify,
    /// Up to which number changes have been told.
    told: watch::Sender<u64>,
}

#[derive(Default)]
struct Waiting {
    /// By rising numbers.
    changes: VecDeque<(u64, Key)>,
    purges: VecDeque<Pending>,
    /// The number of the last change, or of the last purge.
    last: u64,
}

/// A purge that has been carried out here.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Which of all: another may be about the same, and stand for what came later.
    pub id: u64,
    /// What is purged.
    pub purge: Purge,
    /// What was known of the record when it came: others may have recorded it since. None: it is recorded anyway.
    pub known: Option<Stamp>,
    /// It was tried to record it, and it is not known whether that was done.
    pub is_unsure: bool,
    /// Where it is in the record; it stands here until the news of that have come.
    recorded: Option<(u64, u64)>,
}

/// What is told next.
pub enum Next {
    /// These keys, up to a number.
    Changes(u64, Vec<Key>),
    /// A purge.
    Purge(Pending),
}

impl Waiting {
    fn purged(&mut self, purge: Purge, known: Option<Stamp>) {
        self.last += 1;
        self.purges.push_back(Pending { id: self.last, purge, known, is_unsure: false, recorded: None });
    }
}

impl Outbox {
    /// With nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self {
            waiting: Mutex::default(),
            is_empty: AtomicBool::new(true),
            wake: Notify::new(),
            told: watch::Sender::new(0),
        }
    }

    /// Requests have changed these; returns the number by which it is known that they are told.
    pub fn changed(&self, keys: Vec<Key>) -> u64 {
        let mut waiting = self.waiting.lock();
        for key in keys {
            waiting.last += 1;
            let number = waiting.last;
            waiting.changes.push_back((number, key));
        }
        let last = waiting.last;
        self.put_in(&mut waiting);
        last
    }

    /// A purge has been carried out here, which others may have recorded since this was known; or none.
    pub fn purged(&self, purge: Purge, known: impl Into<Option<Stamp>>) {
        let mut waiting = self.waiting.lock();
        waiting.purged(purge, known.into());
        self.put_in(&mut waiting);
    }

    /// It is not known whether a purge was recorded.
    pub fn unsure(&self, id: u64) {
        let mut waiting = self.waiting.lock();
        if let Some(found) = waiting.purges.iter_mut().find(|pending| pending.id == id) {
            found.is_unsure = true;
        }
    }

    fn put_in(&self, waiting: &mut Waiting) {
        if waiting.changes.len() > MOST_KEYS || waiting.purges.len() > MOST_PURGES {
            // One purge of all stands for what cannot be remembered.
            let purge = Purge::unknown();
            waiting.changes.clear();
            waiting.purges.clear();
            waiting.purged(purge, None);
        }
        self.is_empty.store(false, Ordering::Release);
        self.wake.notify_one();
    }

    /// Whether something is about this, and others do not know it yet.
    #[must_use]
    pub fn hides(&self, key: &Key, tags: &[String], known: Stamp) -> bool {
        if self.is_empty.load(Ordering::Acquire) {
            return false;
        }
        self.settle(known);
        let waiting = self.waiting.lock();
        waiting.changes.iter().any(|(_, changed)| changed == key)
            || waiting
                .purges
                .iter()
                .any(|pending| pending.purge.targets.iter().any(|target| target.matches(key.as_str(), tags)))
    }

    /// Takes out what is known from the record.
    pub fn settle(&self, known: Stamp) {
        let mut waiting = self.waiting.lock();
        waiting.purges.retain(|pending| match pending.recorded {
            Some((generation, number)) => known.generation == generation && known.sequence < number,
            None => true,
        });
        self.note_if_empty(&waiting);
    }

    fn note_if_empty(&self, waiting: &Waiting) {
        self.is_empty.store(waiting.changes.is_empty() && waiting.purges.is_empty(), Ordering::Release);
    }

    /// Waits for what is to be told next. It stays here until it is said to be told.
    pub async fn next(&self) -> Next {
        loop {
            if let Some(next) = self.peek() {
                return next;
            }
            self.wake.notified().await;
        }
    }

    fn peek(&self) -> Option<Next> {
        let waiting = self.waiting.lock();
        let batch = waiting.changes.iter().take(BATCH);
        if let Some((last, _)) = batch.clone().next_back() {
            return Some(Next::Changes(*last, batch.map(|(_, key)| key.clone()).collect()));
        }
        waiting.purges.iter().find(|pending| pending.recorded.is_none()).cloned().map(Next::Purge)
    }

    /// The changes up to a number are told.
    pub fn changes_told(&self, last: u64) {
        let mut waiting = self.waiting.lock();
        waiting.changes.retain(|(number, _)| *number > last);
        self.note_if_empty(&waiting);
        self.told.send_if_modified(|told| {
            let is_more = *told < last;
            *told = last.max(*told);
            is_more
        });
    }

    /// A purge is recorded, as this number of a generation.
    pub fn purge_recorded(&self, id: u64, generation: u64, number: u64) {
        let mut waiting = self.waiting.lock();
        if let Some(found) = waiting.purges.iter_mut().find(|pending| pending.id == id) {
            found.recorded = Some((generation, number));
            self.told.send_modify(|_| {});
        }
    }

    /// How many keys and purges the others do not know yet.
    #[must_use]
    pub fn left(&self) -> usize {
        let waiting = self.waiting.lock();
        let purges = waiting.purges.iter().filter(|pending| pending.recorded.is_none());
        waiting.changes.len() + purges.count()
    }

    /// Waits until there is nothing that the others do not know.
    pub async fn until_all_told(&self) {
        let mut told = self.told.subscribe();
        // Looked at between two changes, and not by the channel itself, which others have while they have this lock.
        while self.left() > 0 && told.changed().await.is_ok() {}
    }

    /// Waits until a change is told.
    pub async fn until_told(&self, number: u64) {
        let _ = self.told.subscribe().wait_for(|told| *told >= number).await;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::settings::purges::{Force, Target};

    fn key(text: &str) -> Key {
        Key::told(text.to_owned())
    }

    fn purge(tag: &str) -> Purge {
        Purge { force: Force::Hard, targets: vec![Target::Tag(tag.to_owned())], delete: false }
    }

    const KNOWN: Stamp = Stamp { api: 0, generation: 7, sequence: 3 };

    #[tokio::test]
    async fn a_changed_key_is_hidden_until_it_is_told() {
        let outbox = Outbox::new();
        let number = outbox.changed(vec![key("http://a/"), key("http://b/")]);
        assert!(outbox.hides(&key("http://a/"), &[], KNOWN) && !outbox.hides(&key("http://c/"), &[], KNOWN));
        let Next::Changes(last, keys) = outbox.next().await else { panic!("no changes") };
        assert_eq!((last, keys.len()), (number, 2));
        let later = outbox.changed(vec![key("http://a/")]);
        outbox.changes_told(last);
        outbox.until_told(number).await;
        assert_eq!(outbox.left(), 1);
        assert!(outbox.hides(&key("http://a/"), &[], KNOWN), "it was changed again");
        outbox.changes_told(later);
        outbox.until_all_told().await;
        assert!(!outbox.hides(&key("http://a/"), &[], KNOWN));
    }

    #[tokio::test]
    async fn a_purge_hides_what_it_is_about_until_the_news_of_it_have_come() {
        let outbox = Outbox::new();
        let tags = ["t".to_owned()];
        outbox.purged(purge("t"), KNOWN);
        let Next::Purge(pending) = outbox.next().await else { panic!("no purge") };
        assert_eq!((pending.known, &pending.purge), (Some(KNOWN), &purge("t")));
        assert!(outbox.until_all_told().now_or_never().is_none());
        outbox.purge_recorded(pending.id, 7, 4);
        outbox.until_all_told().await;
        assert!(outbox.hides(&key("http://a/"), &tags, KNOWN));
        assert!(outbox.peek().is_none(), "it is recorded once");
        assert!(!outbox.hides(&key("http://a/"), &tags, Stamp { sequence: 4, ..KNOWN }));
    }

    #[tokio::test]
    async fn what_is_too_much_to_remember_is_a_purge_of_all() {
        let outbox = Outbox::new();
        outbox.changed((0..=MOST_KEYS).map(|number| key(&format!("http://a/{number}"))).collect());
        assert!(outbox.hides(&key("http://other/"), &[], KNOWN));
        let Next::Purge(pending) = outbox.next().await else { panic!("no purge") };
        assert_eq!((pending.purge, pending.known), (Purge::unknown(), None));
    }

    #[tokio::test]
    async fn a_purge_that_stands_for_more_by_now_is_recorded_again() {
        let outbox = Outbox::new();
        let many = || (0..=MOST_KEYS).map(|number| key(&format!("http://a/{number}"))).collect();
        outbox.changed(many());
        let Next::Purge(first) = outbox.next().await else { panic!("no purge") };
        // These came after the record had it.
        outbox.changed(many());
        outbox.purge_recorded(first.id, 7, 4);
        outbox.settle(Stamp { sequence: 4, ..KNOWN });
        assert!(matches!(outbox.peek(), Some(Next::Purge(_))));
        assert!(outbox.hides(&key("http://a/1"), &[], Stamp { sequence: 4, ..KNOWN }));
    }
}
