//! The keys that are hit most, counted while somebody asks. In between it costs one look at a flag.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;

use super::Near;

/// Of so many keys it is counted at most.
const ROOM: usize = 2048;
/// A longer key has no count of its own.
const LONGEST: usize = 512;

/// Whether it is counted, and how far it is.
#[derive(Default)]
pub(super) struct Top {
    is_on: AtomicBool,
    counted: Mutex<Option<Counted>>,
}

/// Which keys were hit how often. Nobody's key is in a log.
#[derive(Default)]
pub struct Counted {
    /// Of keys that are hit often. Of each there may be as many more as [`Self::missed`] says.
    hits: HashMap<Box<[u8]>, u64>,
    /// All hits.
    pub all: u64,
    /// Those of keys that are too long to be kept.
    pub long: u64,
    /// So many hits of a key may not be known.
    pub missed: u64,
}

/// A key that was hit.
pub struct TopKey {
    /// The key.
    pub key: Box<[u8]>,
    /// How often at least.
    pub hits: u64,
}

impl Top {
    /// A key was hit.
    pub fn note<'a>(&self, key: impl FnOnce() -> Option<&'a [u8]>) {
        if self.is_on.load(Ordering::Relaxed)
            && let Some(key) = key()
            && let Some(counted) = self.counted.lock().as_mut()
        {
            counted.note(key);
        }
    }
}

impl Counted {
    /// Frequent items after Misra and Gries: where there is no room, each key loses as many hits as half of them have at
    /// most, and those that have none left go. So what is hit once by a scan puts nothing out that is hit often.
    fn note(&mut self, key: &[u8]) {
        self.all += 1;
        if key.len() > LONGEST {
            self.long += 1;
        } else if let Some(hits) = self.hits.get_mut(key) {
            *hits += 1;
        } else {
            if self.hits.len() >= ROOM {
                self.make_room();
            }
            self.hits.insert(key.into(), 1);
        }
    }

    fn make_room(&mut self) {
        let mut counts: Vec<u64> = self.hits.values().copied().collect();
        let middle = counts.len() / 2;
        let (_, median, _) = counts.select_nth_unstable(middle);
        let median = *median;
        self.hits.retain(|_, hits| {
            *hits = hits.saturating_sub(median);
            *hits > 0
        });
        self.missed += median;
    }

    /// Those that were hit most, at most so many.
    #[must_use]
    pub fn top(self, limit: usize) -> Vec<TopKey> {
        let mut keys: Vec<_> = self.hits.into_iter().map(|(key, hits)| TopKey { key, hits }).collect();
        keys.sort_unstable_by(|one, other| other.hits.cmp(&one.hits).then_with(|| one.key.cmp(&other.key)));
        keys.truncate(limit);
        keys
    }
}

/// It is counted until this is dropped.
pub struct Counting(Option<Arc<Near>>);

impl Near {
    /// Begins to count which keys are hit; nothing where it is counted for somebody already.
    #[must_use]
    pub fn count_keys(self: &Arc<Self>) -> Option<Counting> {
        let top = &self.memory.top;
        let mut counted = top.counted.lock();
        if counted.is_some() {
            return None;
        }
        *counted = Some(Counted::default());
        top.is_on.store(true, Ordering::Relaxed);
        Some(Counting(Some(self.clone())))
    }
}

impl Counting {
    /// What was counted.
    #[must_use]
    pub fn end(mut self) -> Counted {
        self.stop().unwrap_or_default()
    }

    /// Once alone: it may be counted for somebody else from then on.
    fn stop(&mut self) -> Option<Counted> {
        let near = self.0.take()?;
        let top = &near.memory.top;
        top.is_on.store(false, Ordering::Relaxed);
        top.counted.lock().take()
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(counted: Counted, limit: usize) -> Vec<(String, u64)> {
        let text = |key: &[u8]| String::from_utf8(key.to_vec()).unwrap();
        counted.top(limit).into_iter().map(|top| (text(&top.key), top.hits)).collect()
    }

    #[test]
    fn few_keys_are_counted_each() {
        let mut counted = Counted::default();
        for key in ["b", "a", "c", "a", "b", "a"] {
            counted.note(key.as_bytes());
        }
        counted.note(&[b'x'; LONGEST + 1]);
        assert_eq!((counted.all, counted.long, counted.missed), (7, 1, 0));
        assert_eq!(shown(counted, 2), [("a".to_owned(), 3), ("b".to_owned(), 2)]);
    }

    #[test]
    fn what_is_hit_often_is_found_among_any_number_of_keys_and_nothing_grows() {
        let mut counted = Counted::default();
        for round in 0..100_000_u32 {
            counted.note(format!("hot:{}", round % 10).as_bytes());
            counted.note(format!("once:{round}").as_bytes());
            assert!(counted.hits.len() <= ROOM);
        }
        let missed = counted.missed;
        assert!(missed > 0 && missed <= counted.all * 2 / ROOM as u64, "{missed}");
        let told = shown(counted, 10);
        assert!(told.iter().all(|(key, _)| key.starts_with("hot:")), "{told:?}");
        for (key, hits) in told {
            assert!(hits <= 10_000 && hits + missed >= 10_000, "{key}: {hits} and {missed}");
        }
    }
}
