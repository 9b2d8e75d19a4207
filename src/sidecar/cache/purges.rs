//! What was purged, and when: no response that was asked for before a purge is kept or given after it. PURE.
//!
//! Every purge has a number, the epoch, which counts up. A fill notes the epoch before it asks the
//! application; what it brings is refused if a purge of a later epoch matches it. So no order of
//! events, no slow application and no slow Redis brings back what was purged.
//!
//! The epoch counts what this replica has seen. What replicas share is stored with a [`Stamp`], the
//! last purges that the replica that stored it knew, by the numbers that all of them see alike:
//!
//! * those of the operator, whose record is the API's: every replica gets it, whatever becomes of Redis;
//! * those that applications ask for, whose record is in Redis. It can be lost there, as all that
//!   Redis holds; a new one begins another generation, and what was stored in the one before is not given.

mod by_hash;

use std::collections::VecDeque;

use self::by_hash::ByHash;

use crate::settings::purges::PurgeRecord;
pub use crate::settings::purges::{Force, Target};

/// The number of a purge, in the order in which this replica saw them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// The last purges that were known when a response was asked for, as all replicas see them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The last of the operator's.
    pub api: u64,
    /// Which record of Redis is meant; 0 where none is known, with which nothing can be shared.
    pub generation: u64,
    /// The last in that record.
    pub sequence: u64,
}

/// What a fill notes before it asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Began {
    /// For what this replica keeps.
    pub epoch: Epoch,
    /// For what it shares.
    pub stamp: Stamp,
}

/// Who has numbered a purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody: it is of this replica alone.
    Replica,
    /// The operator.
    Api(u64),
    /// The record in Redis, of its present generation.
    Shared(u64),
}

/// The purges that matter to fills that are under way, and to what is stored elsewhere.
#[derive(Clone, Debug)]
pub struct Purges {
    /// The last of each kind.
    now: Began,
    /// Of the last purge that was forgotten here.
    forgotten: Epoch,
    /// The last of each kind that was forgotten, here or where it was recorded.
    forgotten_stamp: Stamp,
    /// Of this replica alone. There may be many, one for each request that changes something.
    unrecorded: VecDeque<Kept>,
    /// Those that all replicas know. What is shared is judged by them: the others must not push them out.
    recorded: VecDeque<Kept>,
    /// The last hard purge of each whole URL, also of those that are forgotten otherwise: as many as there are requests
    /// that change something, they must not have all refused that is on its way.
    of_keys: ByHash,
    /// A number of the operator's that was known here and is in no record any more.
    lost: Option<u64>,
    most: usize,
    /// Before each purge of which not all is taken out yet.
    sweeps: Vec<Epoch>,
}

#[derive(Clone, Debug)]
struct Kept {
    epoch: Epoch,
    target: Target,
    force: Force,
    source: Source,
}

impl Purges {
    /// None yet; so many are kept of those that all replicas know, and of the others.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            now: Began::default(),
            forgotten: Epoch(0),
            forgotten_stamp: Stamp::default(),
            unrecorded: VecDeque::new(),
            recorded: VecDeque::new(),
            of_keys: ByHash::default(),
            lost: None,
            most,
            sweeps: Vec::new(),
        }
    }

    /// The present, for a fill that begins. While what was purged is being taken out, a fill may find some of
    /// it there; so it counts as one of before.
    #[must_use]
    pub fn now(&self) -> Began {
        let epoch = self.sweeps.iter().min().copied().unwrap_or(self.now.epoch);
        Began { epoch, ..self.now }
    }

    /// Purges that come from here on are to be carried out; returns what tells of the end of that.
    #[must_use]
    pub fn begin_sweep(&mut self) -> Epoch {
        self.sweeps.push(self.now.epoch);
        self.now.epoch
    }

    /// All is taken out that was purged since.
    pub fn end_sweep(&mut self, began: Epoch) {
        if let Some(place) = self.sweeps.iter().position(|sweep| *sweep == began) {
            self.sweeps.swap_remove(place);
        }
    }

    /// Notes that all is known up to a purge.
    pub fn see(&mut self, source: Source) {
        let stamp = &mut self.now.stamp;
        match source {
            Source::Replica => {}
            Source::Api(number) => stamp.api = stamp.api.max(number),
            Source::Shared(number) => stamp.sequence = stamp.sequence.max(number),
        }
    }

    /// Notes a purge; from then on nothing that began before and matches is taken.
    pub fn add(&mut self, target: Target, force: Force, source: Source) {
        self.now.epoch = Epoch(self.now.epoch.0 + 1);
        self.see(source);
        if let (Some(key), Force::Hard) = (whole_url(&target), force) {
            self.of_keys.insert(key, self.now.epoch);
        }
        let kept = if source == Source::Replica { &mut self.unrecorded } else { &mut self.recorded };
        kept.push_back(Kept { epoch: self.now.epoch, target, force, source });
        if kept.len() > self.most
            && let Some(oldest) = kept.pop_front()
        {
            // What is known by its hash still is not forgotten.
            let known = whole_url(&oldest.target).map(|key| self.of_keys.last(key));
            if known.is_none_or(|known| known < oldest.epoch) {
                self.forgotten = self.forgotten.max(oldest.epoch);
            }
            match oldest.source {
                Source::Replica => {}
                Source::Api(number) => self.forget_api(number),
                Source::Shared(number) => self.forget_shared(number),
            }
        }
    }

    /// Notes what is new in the operator's record, and tells it. What was forgotten before this
    /// replica has seen it may have matched anything.
    pub fn add_record(&mut self, record: &PurgeRecord) -> Vec<(Target, Force)> {
        let mut new = Vec::new();
        let known = self.now.stamp.api;
        if self.lost.is_some_and(|lost| record.forgotten >= lost) {
            self.lost = None;
        }
        if known < record.last() && !record.knows(known) {
            // Another record was begun with numbers that were given before: which of its purges were done here
            // nobody can tell, nor which of them what is shared comes after.
            self.lost = self.lost.max(Some(known));
            self.add(Target::Everything, Force::Hard, Source::Api(record.last()));
            self.forget_api(record.last());
            return vec![(Target::Everything, Force::Hard)];
        }
        if record.forgotten > self.now.stamp.api {
            self.add(Target::Everything, Force::Hard, Source::Api(record.forgotten));
            new.push((Target::Everything, Force::Hard));
        }
        self.forget_api(record.forgotten);
        let known = self.now.stamp.api;
        for purge in record.purges.iter().filter(|purge| purge.epoch > known) {
            for target in &purge.targets {
                self.add(target.clone(), purge.force, Source::Api(purge.epoch));
                new.push((target.clone(), purge.force));
            }
            // Also of one that names nothing.
            self.now.stamp.api = purge.epoch;
        }
        new
    }

    /// A number of the operator's that was known here and is not in its record, which was lost and begun anew
    /// before it.
    #[must_use]
    pub fn lost(&self) -> Option<u64> {
        self.lost
    }

    /// Begins with a record in Redis; up to `forgotten` it holds no purges any more.
    pub fn begin_generation(&mut self, generation: u64, forgotten: u64) {
        self.now.stamp = Stamp { generation, sequence: forgotten, ..self.now.stamp };
        self.forgotten_stamp = Stamp { generation, sequence: forgotten, ..self.forgotten_stamp };
        // Their numbers are of another record.
        for kept in &mut self.recorded {
            if matches!(kept.source, Source::Shared(_)) {
                kept.source = Source::Replica;
            }
        }
    }

    fn forget_shared(&mut self, number: u64) {
        self.forgotten_stamp.sequence = self.forgotten_stamp.sequence.max(number);
    }

    fn forget_api(&mut self, number: u64) {
        self.forgotten_stamp.api = self.forgotten_stamp.api.max(number);
    }

    /// What the purges since `began` mean for a response that was asked for then. Of what is too
    /// long ago to know, it is gone.
    #[must_use]
    pub fn since(&self, began: Epoch, key: &str, tags: &[String]) -> Option<Force> {
        if began < self.forgotten || began < self.of_keys.last(key) {
            return Some(Force::Hard);
        }
        let later = self.recorded.iter().chain(&self.unrecorded).filter(|kept| kept.epoch > began);
        strongest(later, key, tags)
    }

    /// The last purge that is remembered of what has a key; not of tags, which only a response tells.
    #[must_use]
    pub fn last(&self, key: &str) -> Option<(&Target, Force)> {
        let all = self.recorded.iter().chain(&self.unrecorded);
        let last = all.filter(|kept| kept.target.matches(key, &[])).max_by_key(|kept| kept.epoch)?;
        Some((&last.target, last.force))
    }

    /// The same of a response that was stored with a stamp, by whatever replica.
    #[must_use]
    pub fn since_stamp(&self, stamp: Stamp, key: &str, tags: &[String]) -> Option<Force> {
        let forgotten = self.forgotten_stamp;
        if stamp.generation == 0
            || stamp.generation != self.now.stamp.generation
            // Who stored it knew more than is known here: it may have been purged since by what is not, as where
            // there is no record yet.
            || stamp.api > self.now.stamp.api
            || stamp.api < forgotten.api
            || stamp.sequence < forgotten.sequence
        {
            return Some(Force::Hard);
        }
        let is_later = |kept: &Kept| match kept.source {
            Source::Replica => false,
            Source::Api(number) => number > stamp.api,
            Source::Shared(number) => number > stamp.sequence,
        };
        strongest(self.recorded.iter().filter(|kept| is_later(kept)), key, tags)
    }
}

/// The URL that a purge is of alone, whatever host it may be of else.
fn whole_url(target: &Target) -> Option<&str> {
    match target {
        Target::Key(url) if !url.starts_with('/') => Some(url),
        _ => None,
    }
}

fn strongest<'a>(later: impl Iterator<Item = &'a Kept>, key: &str, tags: &[String]) -> Option<Force> {
    later.filter(|kept| kept.target.matches(key, tags)).map(|kept| kept.force).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::purges::{Purge, VERSION};

    fn tag(tag: &str) -> Target {
        Target::Tag(tag.to_owned())
    }

    fn key(key: &str) -> Target {
        Target::Key(key.to_owned())
    }

    fn record(forgotten: u64, purges: &[(u64, &str)]) -> PurgeRecord {
        let purge = |&(epoch, name): &(u64, &str)| Purge {
            epoch,
            id: epoch.to_string(),
            force: Force::Hard,
            targets: vec![tag(name)],
        };
        PurgeRecord { version: VERSION, begun: 0, forgotten, purges: purges.iter().map(purge).collect() }
    }

    fn tags(tag: &str) -> Vec<String> {
        vec![tag.to_owned()]
    }

    #[test]
    fn what_began_before_a_purge_is_not_taken_after_it() {
        let mut purges = Purges::new(10);
        let began = purges.now().epoch;
        assert_eq!(purges.since(began, "k", &[]), None);
        purges.add(key("k"), Force::Hard, Source::Replica);
        assert_eq!(purges.since(began, "k", &[]), Some(Force::Hard));
        assert_eq!(purges.since(began, "other", &[]), None);
        assert_eq!(purges.since(purges.now().epoch, "k", &[]), None, "it began after it");
    }

    #[test]
    fn what_begins_while_a_purge_is_carried_out_counts_as_of_before() {
        let mut purges = Purges::new(10);
        let [first, second] = ["a", "b"].map(|purged| {
            let sweep = purges.begin_sweep();
            purges.add(key(purged), Force::Hard, Source::Shared(1));
            sweep
        });
        let began = purges.now();
        assert_eq!(began.stamp.sequence, 1, "what others have stored is judged by it");
        let gone =
            |purges: &Purges| ["a", "b"].map(|key| purges.since(purges.now().epoch, key, &[]).is_some());
        assert_eq!(gone(&purges), [true, true]);
        purges.end_sweep(first);
        assert_eq!(gone(&purges), [false, true]);
        purges.end_sweep(second);
        assert_eq!(gone(&purges), [false, false]);
        assert_eq!(purges.since(began.epoch, "a", &[]), Some(Force::Hard));
    }

    #[test]
    fn the_last_purge_of_a_key_is_told() {
        let mut purges = Purges::new(10);
        assert_eq!(purges.last("k"), None);
        purges.add(Target::Everything, Force::Soft, Source::Api(1));
        purges.add(key("k"), Force::Hard, Source::Replica);
        purges.add(key("other"), Force::Soft, Source::Api(2));
        assert_eq!(purges.last("k"), Some((&key("k"), Force::Hard)));
        assert_eq!(purges.last("j"), Some((&Target::Everything, Force::Soft)));
    }

    #[test]
    fn of_two_purges_the_stronger_counts() {
        let mut purges = Purges::new(10);
        let began = purges.now().epoch;
        purges.add(Target::Everything, Force::Soft, Source::Replica);
        assert_eq!(purges.since(began, "k", &[]), Some(Force::Soft));
        purges.add(tag("t"), Force::Hard, Source::Replica);
        purges.add(Target::Everything, Force::Soft, Source::Replica);
        assert_eq!(purges.since(began, "k", &tags("t")), Some(Force::Hard));
    }

    #[test]
    fn what_began_before_all_that_is_known_is_not_taken() {
        let mut purges = Purges::new(2);
        let began = purges.now().epoch;
        for _ in 0..2 {
            purges.add(key("other"), Force::Soft, Source::Replica);
        }
        assert_eq!(purges.since(began, "k", &[]), None);
        purges.add(key("other"), Force::Soft, Source::Replica);
        assert_eq!(purges.since(began, "k", &[]), Some(Force::Hard));
        let later = Epoch(1);
        assert_eq!(purges.since(later, "k", &[]), None);
    }

    #[test]
    fn a_record_is_taken_once_and_only_what_is_new_of_it() {
        let mut purges = Purges::new(10);
        assert_eq!(purges.add_record(&record(0, &[(5, "a")])), [(tag("a"), Force::Hard)]);
        assert_eq!(purges.add_record(&record(0, &[(5, "a"), (9, "b")])), [(tag("b"), Force::Hard)]);
        assert_eq!(purges.add_record(&record(5, &[(9, "b")])), []);
        assert_eq!(purges.now().stamp.api, 9);
    }

    #[test]
    fn a_replica_that_missed_purges_that_were_forgotten_drops_all() {
        let mut purges = Purges::new(10);
        let began = purges.now().epoch;
        let new = purges.add_record(&record(7, &[(9, "b")]));
        assert_eq!(new, [(Target::Everything, Force::Hard), (tag("b"), Force::Hard)]);
        assert_eq!(purges.since(began, "k", &[]), Some(Force::Hard));
    }

    #[test]
    fn a_record_that_was_begun_anew_before_what_is_known_is_not_believed() {
        let mut purges = Purges::new(10);
        purges.begin_generation(1, 0);
        purges.add_record(&record(0, &[(5, "a")]));
        let before = purges.now();
        // One that the kubelet brings late is no other.
        assert_eq!(purges.add_record(&record(0, &[])), []);
        assert_eq!((purges.lost(), purges.now()), (None, before));
        let everything = [(Target::Everything, Force::Hard)];
        let other = record(3, &[(4, "b"), (9, "c")]);
        assert_eq!(purges.add_record(&other), everything, "which of them were done cannot be told");
        assert_eq!((purges.lost(), purges.now().stamp.api), (Some(5), 9));
        assert_eq!(purges.since(before.epoch, "k", &[]), Some(Force::Hard));
        assert_eq!(purges.since_stamp(Stamp { api: 5, ..before.stamp }, "k", &[]), Some(Force::Hard));
        assert_eq!(purges.add_record(&other), []);
        assert_eq!(purges.lost(), Some(5), "until it is in what is forgotten");
        purges.add_record(&record(9, &[(10, "b")]));
        assert_eq!(purges.lost(), None);
    }

    #[test]
    fn what_was_stored_by_who_knew_more_is_not_given() {
        let mut purges = Purges::new(10);
        purges.begin_generation(1, 0);
        let later = Stamp { api: 7, generation: 1, sequence: 0 };
        assert_eq!(purges.since_stamp(later, "k", &[]), Some(Force::Hard), "no record is known");
        purges.add_record(&record(6, &[]));
        assert_eq!(purges.since_stamp(later, "k", &[]), Some(Force::Hard));
        purges.add_record(&record(6, &[(7, "a")]));
        assert_eq!(purges.since_stamp(later, "k", &[]), None);
    }

    #[test]
    fn what_others_stored_before_a_purge_is_not_given() {
        let mut purges = Purges::new(10);
        let stamp = |api, sequence| Stamp { api, generation: 1, sequence };
        assert_eq!(
            purges.since_stamp(Stamp::default(), "k", &[]),
            Some(Force::Hard),
            "no record, nothing shared"
        );
        purges.begin_generation(1, 3);
        purges.add_record(&record(2, &[(5, "a")]));
        purges.add(tag("b"), Force::Soft, Source::Shared(4));
        assert_eq!(purges.now().stamp, stamp(5, 4));
        assert_eq!(purges.since_stamp(stamp(5, 4), "k", &tags("a")), None);
        assert_eq!(purges.since_stamp(stamp(4, 4), "k", &tags("a")), Some(Force::Hard));
        assert_eq!(purges.since_stamp(stamp(4, 4), "k", &tags("b")), None, "of another tag");
        assert_eq!(purges.since_stamp(stamp(5, 3), "k", &tags("b")), Some(Force::Soft));
        assert_eq!(purges.since_stamp(stamp(1, 4), "k", &[]), Some(Force::Hard), "before what is known");
        assert_eq!(purges.since_stamp(stamp(5, 2), "k", &[]), Some(Force::Hard), "before what is known");
    }

    #[test]
    fn nothing_of_an_earlier_generation_is_given() {
        let mut purges = Purges::new(10);
        purges.begin_generation(1, 0);
        purges.add(tag("a"), Force::Hard, Source::Shared(1));
        let before = purges.now();
        purges.begin_generation(2, 0);
        assert_eq!(purges.since_stamp(before.stamp, "k", &[]), Some(Force::Hard));
        let stamp = purges.now().stamp;
        assert_eq!(stamp, Stamp { api: 0, generation: 2, sequence: 0 });
        assert_eq!(purges.since_stamp(stamp, "k", &tags("a")), None);
        assert_eq!(purges.since(Epoch(0), "k", &tags("a")), Some(Force::Hard), "the replica itself goes on");
    }

    #[test]
    fn what_was_stored_before_a_purge_that_is_forgotten_here_is_not_given() {
        let mut purges = Purges::new(1);
        purges.begin_generation(1, 0);
        let stamp = purges.now().stamp;
        purges.add(tag("a"), Force::Hard, Source::Shared(1));
        assert_eq!(purges.since_stamp(stamp, "k", &[]), None);
        purges.add(tag("a"), Force::Hard, Source::Shared(2));
        assert_eq!(purges.since_stamp(stamp, "k", &[]), Some(Force::Hard));
    }

    #[test]
    fn however_much_is_changed_here_what_is_shared_is_still_judged() {
        let mut purges = Purges::new(2);
        purges.begin_generation(1, 0);
        let before = purges.now();
        purges.add(tag("a"), Force::Hard, Source::Shared(1));
        for _ in 0..5 {
            purges.add(tag("other"), Force::Hard, Source::Replica);
        }
        assert_eq!(purges.since_stamp(before.stamp, "k", &tags("a")), Some(Force::Hard));
        assert_eq!(purges.since_stamp(before.stamp, "k", &[]), None);
        assert_eq!(purges.since(before.epoch, "k", &[]), Some(Force::Hard), "too long ago to know");
    }

    #[test]
    fn however_many_urls_are_changed_what_is_on_its_way_of_others_is_taken() {
        for source in [|_| Source::Replica, Source::Shared] {
            let mut purges = Purges::new(2);
            purges.begin_generation(1, 0);
            let began = purges.now().epoch;
            for number in 0..100 {
                purges.add(key(&format!("http://shop/{number}")), Force::Hard, source(number));
            }
            let others = (0..100).map(|number| format!("http://shop/other/{number}"));
            let taken = others.filter(|other| purges.since(began, other, &[]).is_none()).count();
            assert!(taken > 90, "few have the same hash: {taken}");
            for number in 0..100 {
                let changed = format!("http://shop/{number}");
                assert_eq!(purges.since(began, &changed, &[]), Some(Force::Hard), "{changed}");
                assert_eq!(purges.since(purges.now().epoch, &changed, &[]), None, "{changed}");
            }
        }
    }

    #[test]
    fn what_is_purged_softly_or_of_any_host_may_be_forgotten_and_then_nothing_is_taken() {
        for (target, force) in [(key("http://shop/a"), Force::Soft), (key("/a"), Force::Hard)] {
            let mut purges = Purges::new(1);
            let began = purges.now().epoch;
            purges.add(target.clone(), force, Source::Replica);
            assert_eq!(purges.since(began, "http://shop/a", &[]), Some(force), "{target:?}");
            purges.add(key("http://shop/b"), Force::Hard, Source::Replica);
            assert_eq!(purges.since(began, "http://shop/a", &[]), Some(Force::Hard), "{target:?}");
        }
    }
}
