//! The last purge of each URL, by its hash alone. PURE.

use std::hash::{BuildHasher, RandomState};

use super::Epoch;

/// So many are told apart. It takes half a mebibyte, as far as it is used.
const COUNT: usize = 1 << 16;

/// When each URL was purged the last time. One with the same hash, which nobody can choose, is taken for it: it is
/// refused without need, which is no more than that it is asked for again.
#[derive(Clone, Debug)]
pub(super) struct ByHash {
    last: Vec<u64>,
    hashes: RandomState,
}

impl Default for ByHash {
    fn default() -> Self {
        Self { last: vec![0; COUNT], hashes: RandomState::new() }
    }
}

impl ByHash {
    /// The last purge of a URL, or a later one of another; 0 if there was none.
    pub(super) fn last(&self, url: &str) -> Epoch {
        Epoch(self.last.get(self.place(url)).copied().unwrap_or_default())
    }

    /// Notes a purge, which is later than those before.
    pub(super) fn insert(&mut self, url: &str, epoch: Epoch) {
        let place = self.place(url);
        if let Some(last) = self.last.get_mut(place) {
            *last = epoch.0;
        }
    }

    fn place(&self, url: &str) -> usize {
        usize::try_from(self.hashes.hash_one(url) % COUNT as u64).unwrap_or_default()
    }
}
