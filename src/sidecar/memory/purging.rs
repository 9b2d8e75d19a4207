//! What is taken out of memory. A purge is noted at once, and then one entry after the other is looked at, so that
//! no request waits for the whole.

use std::{sync::Arc, sync::atomic::Ordering};

use super::{Beside, Memory, Variants};
use crate::{
    settings::purges::{Purge, PurgeRecord},
    sidecar::cache::{
        Stored,
        key::Key,
        purges::{Force, Purges, Source, Target},
    },
};

/// Of what purges are counted.
pub(super) const KINDS: [&str; 6] = ["everything", "prefix", "tag", "key", "redis-key", "redis-prefix"];
/// To look at so many entries takes no time.
const FEW: usize = 256;

impl Memory {
    /// From here on what is purged of the near-cache goes there.
    pub fn purge_beside(&self, near: impl Fn(&[Target]) + Send + Sync + 'static) {
        let near: Beside = Box::new(near);
        // There is one near-cache.
        let _ = self.beside.set(near);
    }

    /// Has the near-cache forget what a purge is about. First: who makes a response anew does not read there what was
    /// before.
    fn forget_beside(&self, targets: &[Target]) {
        let is_of_it = |target: &&Target| target.is_of_redis() || **target == Target::Everything;
        let named: Vec<_> = targets.iter().filter(is_of_it).cloned().collect();
        for target in named.iter().filter(|target| target.is_of_redis()) {
            self.count(target);
        }
        if let Some(near) = self.beside.get().filter(|_| !named.is_empty()) {
            near(&named);
        }
    }

    /// Purges, of what is there and of what is on its way.
    pub fn purge(&self, targets: &[Target], force: Force, source: Source) {
        self.forget_beside(targets);
        self.purge_responses(targets, force, source);
    }

    /// All responses go, as it is not known which of them are of before a change.
    pub fn lose_track(&self) {
        self.purge_responses(&[Target::Everything], Force::Hard, Source::Replica);
    }

    fn purge_responses(&self, targets: &[Target], force: Force, source: Source) {
        let of_responses = targets.iter().filter(|target| !target.is_of_redis()).cloned();
        let targets = self.about(of_responses.collect());
        self.carry_out(|purges| {
            // At once: who sees a number relies on all of them.
            for target in &targets {
                purges.add(target.clone(), force, source);
            }
            // Also of one that names nothing.
            purges.see(source);
            targets.iter().map(|target| (target.clone(), force)).collect()
        });
    }

    /// Whether a purge may take so long that it is nothing for a thread that others wait for.
    #[must_use]
    pub fn takes_long(&self, targets: &[Target], force: Force) -> bool {
        let is_long_beside = |target: &Target| matches!(target, Target::RedisPrefix(_));
        targets.iter().any(is_long_beside)
            || (targets.iter().any(|target| is_looked_for(target, force)) && self.entries.len() > FEW)
    }

    /// Purges what is new in the operator's record; returns up to which number it has been.
    pub fn purge_by_record(&self, record: &PurgeRecord) -> u64 {
        // One after the other: who is told a number relies on all that was to be done.
        let _turn = self.by_record.lock();
        self.forget_beside(&record.since(self.begin().stamp.api));
        let of_keys = |purge: &Purge| {
            let of_responses = purge.targets.iter().filter(|target| !target.is_of_redis()).cloned();
            Purge { targets: self.about(of_responses.collect()), ..purge.clone() }
        };
        let record = PurgeRecord { purges: record.purges.iter().map(of_keys).collect(), ..record.clone() };
        self.carry_out(|purges| purges.add_record(&record));
        let done = self.begin().stamp.api;
        self.done.store(done, Ordering::Release);
        done
    }

    /// Up to which of the operator's purges all are done.
    #[must_use]
    pub fn purged(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }

    /// A number of the operator's that was known here and that its record does not know.
    #[must_use]
    pub fn lost(&self) -> Option<u64> {
        self.purges.lock().lost()
    }

    /// Begins with another record in Redis, of which the purges up to `forgotten` are not known. What
    /// may have been in the one before is not known either, so all goes.
    pub fn begin_generation(&self, generation: u64, forgotten: u64) {
        self.forget_beside(&[Target::Everything]);
        self.carry_out(|purges| {
            purges.begin_generation(generation, forgotten);
            purges.add(Target::Everything, Force::Hard, Source::Replica);
            vec![(Target::Everything, Force::Hard)]
        });
    }

    /// How many purges there were, by what they were of.
    pub fn purges(&self) -> impl Iterator<Item = (&'static str, u64)> {
        KINDS.into_iter().zip(self.purged.iter().map(|purged| purged.load(Ordering::Relaxed)))
    }

    /// Notes purges, and takes out what they are about.
    fn carry_out(&self, note: impl FnOnce(&mut Purges) -> Vec<(Target, Force)>) {
        let mut purges = self.purges.lock();
        let before = purges.begin_sweep();
        let orders = note(&mut purges);
        for (target, _) in &orders {
            self.count(target);
        }
        let (looked_for, known): (Vec<_>, Vec<_>) =
            orders.into_iter().partition(|(target, force)| is_looked_for(target, *force));
        for (target, _) in known {
            // As each request that changes something purges it.
            if let Target::Key(url) = target {
                self.entries.remove(&Key::told(url));
            }
        }
        if !looked_for.is_empty() {
            drop(purges);
            self.sweep(&looked_for);
            purges = self.purges.lock();
        }
        purges.end_sweep(before);
    }

    fn count(&self, target: &Target) {
        let kind = match target {
            Target::Everything => 0,
            Target::Prefix(_) => 1,
            Target::Tag(_) => 2,
            Target::Key(_) => 3,
            Target::RedisKey(_) => 4,
            Target::RedisPrefix(_) => 5,
        };
        self.purged[kind].fetch_add(1, Ordering::Relaxed);
    }

    fn sweep(&self, orders: &[(Target, Force)]) {
        if orders.contains(&(Target::Everything, Force::Hard)) {
            return self.entries.clear();
        }
        let force_of = |key: &Key, stored: &Stored| {
            let hits = orders.iter().filter(|(target, _)| target.matches(key.as_str(), &stored.tags));
            hits.map(|(_, force)| *force).max()
        };
        for (key, variants) in self.entries.iter() {
            if variants.iter().any(|stored| force_of(&key, stored).is_some()) {
                let _purges = self.purges.lock();
                // There may be others by now.
                let Some(variants) = self.entries.peek(&key) else { continue };
                self.leave(&key, &variants, |stored| force_of(&key, stored));
            }
        }
    }

    fn leave(&self, key: &Key, variants: &Variants, force_of: impl Fn(&Stored) -> Option<Force>) {
        let left: Vec<Arc<Stored>> = variants
            .iter()
            .filter_map(|stored| match force_of(stored) {
                None => Some(stored.clone()),
                Some(Force::Soft) => {
                    Some(Arc::new(Stored { is_purged_softly: true, ..Stored::clone(stored) }))
                }
                Some(Force::Hard) => None,
            })
            .collect();
        if left.is_empty() {
            self.entries.remove(key);
        } else {
            // Softly: to be purged is no use of it. It may be gone by now.
            let _ = self.entries.replace(key.clone(), left.into(), true);
        }
    }

    /// The operator's record is to be read: what others have stored may have been purged by it.
    pub fn await_record(&self) {
        self.awaits_record.store(true, Ordering::Release);
    }

    /// All of the operator's record that there was is known.
    pub fn record_is_read(&self) {
        self.awaits_record.store(false, Ordering::Release);
    }

    /// Whether it is known what the operator has purged, so that what others have stored may be taken.
    #[must_use]
    pub fn knows_record(&self) -> bool {
        !self.awaits_record.load(Ordering::Acquire)
    }
}

/// Whether all entries are looked at: it is not one URL in full, where that is not so.
fn is_looked_for(target: &Target, force: Force) -> bool {
    !target.is_of_redis()
        && !matches!((target, force), (Target::Key(url), Force::Hard) if !url.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::AtomicBool,
        time::{Duration, Instant},
    };

    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};
    use jiff::Timestamp;

    use super::*;
    use crate::sidecar::{
        cache::{Exchange, stored::Origin},
        memory::Found,
    };

    fn stored(tag: &str) -> Stored {
        let now = Timestamp::UNIX_EPOCH;
        let origin = Origin {
            request: &HeaderMap::new(),
            exchange: Exchange { requested: now, received: now },
            lifetime: None,
            default_lifetime: None,
            tags: vec![tag.to_owned()],
        };
        Stored::new(StatusCode::OK, HeaderMap::new(), Bytes::new(), origin)
    }

    fn key(number: usize) -> Key {
        Key::told(format!("http://shop/{number}"))
    }

    /// Many entries, each with a tag of its own.
    fn full(number: usize) -> Memory {
        let memory = Memory::new(64 << 20, 1 << 10);
        for number in 0..number {
            memory.put(key(number), stored(&number.to_string()), memory.begin());
        }
        assert_eq!(memory.entries(), number);
        memory
    }

    fn tags(numbers: impl Iterator<Item = usize>) -> Vec<Target> {
        numbers.map(|number| Target::Tag(number.to_string())).collect()
    }

    fn has(memory: &Memory, number: usize) -> bool {
        matches!(memory.get(&key(number), &HeaderMap::new()), Found::Stored(_))
    }

    #[test]
    fn a_purge_of_much_takes_all_that_it_names_and_holds_nobody_up() {
        let targets = tags((0..20_000).step_by(200));
        // The longest that another waits, of how long it takes; other programs may hold up either.
        let once = || {
            let memory = full(20_000);
            let (began, mut longest) = (Instant::now(), Duration::ZERO);
            let whole = std::thread::scope(|scope| {
                let purging = scope.spawn(|| memory.purge(&targets, Force::Hard, Source::Shared(1)));
                while !purging.is_finished() {
                    let asked = Instant::now();
                    let _ = memory.begin();
                    longest = longest.max(asked.elapsed());
                }
                began.elapsed()
            });
            assert_eq!(memory.entries(), 20_000 - targets.len());
            assert!(!has(&memory, 0) && has(&memory, 1) && !has(&memory, 19_800));
            assert_eq!(memory.begin().stamp.sequence, 1);
            (longest, whole)
        };
        let times: Vec<_> = (0..5).map(|_| once()).collect();
        assert!(times.iter().any(|(longest, whole)| *longest < *whole / 4), "{times:?}");
    }

    #[test]
    fn only_what_has_to_be_looked_for_takes_long() {
        let memory = full(FEW + 1);
        let [path, url] = ["/a", "http://shop/a"].map(|key| [Target::Key(key.to_owned())]);
        let everything = [Target::Everything];
        for (targets, force, is_long) in [
            (&everything, Force::Hard, true),
            (&url, Force::Hard, false),
            (&url, Force::Soft, true),
            (&path, Force::Hard, true),
        ] {
            assert_eq!(memory.takes_long(targets, force), is_long, "{targets:?} {force:?}");
        }
        assert!(!full(FEW).takes_long(&path, Force::Hard));
    }

    #[test]
    fn what_is_of_the_near_cache_goes_there_once_and_before_the_responses() {
        let memory = Arc::new(full(1));
        let (got, looking) = (Arc::<parking_lot::Mutex<Vec<Vec<Target>>>>::default(), memory.clone());
        let (noted, is_there) = (got.clone(), Arc::<AtomicBool>::default());
        let still = is_there.clone();
        memory.purge_beside(move |targets| {
            still.store(has(&looking, 0), Ordering::SeqCst);
            noted.lock().push(targets.to_vec());
        });
        let taken = || std::mem::take(&mut *got.lock());
        let key = |name: &str| Target::RedisKey(name.to_owned());
        let purge = |epoch, targets| Purge { epoch, id: epoch.to_string(), force: Force::Hard, targets };
        let mut record = PurgeRecord::begun(3);
        record.purges.push(purge(5, vec![key("a"), Target::Tag("0".to_owned())]));
        // A replica that begins has nothing that the purges of before may have been about.
        memory.purge_by_record(&record);
        assert_eq!(taken(), [vec![Target::Everything]]);
        assert!(is_there.load(Ordering::SeqCst) && !has(&memory, 0));
        record.purges.push(purge(7, vec![key("b")]));
        assert_eq!((memory.purge_by_record(&record), memory.purge_by_record(&record)), (7, 7));
        assert_eq!(taken(), [vec![key("b")]]);
        let prefix = [Target::RedisPrefix("a".to_owned()), Target::Prefix("/".to_owned())];
        memory.purge(&prefix, Force::Soft, Source::Replica);
        assert_eq!(taken(), [vec![prefix[0].clone()]]);
        memory.lose_track();
        assert!(taken().is_empty());
        for source in [Source::Replica, Source::Shared(1)] {
            memory.purge(&[Target::Everything], Force::Hard, source);
            assert_eq!(taken(), [vec![Target::Everything]]);
        }
        memory.begin_generation(1, 0);
        assert_eq!(taken(), [vec![Target::Everything]]);
        let counted: Vec<_> = memory.purges().skip(4).collect();
        assert_eq!(counted, [("redis-key", 1), ("redis-prefix", 1)]);
    }

    #[test]
    fn a_purge_of_the_record_that_names_nothing_is_known_all_the_same() {
        let memory = full(1);
        memory.purge(&[], Force::Hard, Source::Shared(1));
        assert_eq!(memory.begin().stamp.sequence, 1);
    }
}
