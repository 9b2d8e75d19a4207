//! What is remembered of keys for a while, without the keys: it is clients who make them, and make them long.

use std::hash::{BuildHasher, Hash, RandomState};

use quick_cache::sync::Cache;

/// What is remembered of so many keys; what is used least goes. Of two keys with the same hash, which nobody can
/// choose and hardly anybody finds, each is taken for the other: so it is for hints alone.
pub struct Remembered<T> {
    by_hash: Cache<u64, T>,
    hashes: RandomState,
}

impl<T: Clone> Remembered<T> {
    /// Nothing yet, and room for so many.
    #[must_use]
    pub fn of(count: usize) -> Self {
        Self { by_hash: Cache::new(count), hashes: RandomState::new() }
    }

    /// What is remembered of a key.
    pub fn get(&self, key: &impl Hash) -> Option<T> {
        self.by_hash.get(&self.hashes.hash_one(key))
    }

    /// Remembers this of a key, in the place of what was.
    pub fn insert(&self, key: &impl Hash, what: T) {
        self.by_hash.insert(self.hashes.hash_one(key), what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_key_it_is_known_what_was_told_last_and_of_no_more_than_there_is_room_for() {
        let remembered = Remembered::of(64);
        for (key, what) in [("a", 1), ("b", 2), ("a", 3)] {
            remembered.insert(&key, what);
        }
        assert_eq!(["a", "b", "c"].map(|key| remembered.get(&key)), [Some(3), Some(2), None]);
        for key in 0..1000 {
            remembered.insert(&key, 0);
        }
        assert!((0..1000).filter(|key| remembered.get(key).is_some()).count() <= 64);
    }
}
