//! A part of the memory, by the names of keys, and what has to go when there is no room. PURE.
//!
//! A hand goes round the table, whose order is that of hashes and so by chance, and takes from each entry one of its
//! uses; what has none goes. So what is read often stays, and what was read once by a scan does not; a list would
//! take two pointers more for each entry.

use std::hash::{BuildHasher, RandomState};

use hashbrown::{HashTable, hash_table::Entry};

use super::{Question, SHARE, record::Record, slot::Slot};

/// A table of more places than that which is nearly empty becomes a smaller one.
const LARGE: usize = 1024;

/// A part of the memory.
pub(super) struct Shard {
    slots: HashTable<Slot>,
    bytes: u64,
    most: u64,
    hand: usize,
    evictions: u64,
}

impl Shard {
    /// Room for so many bytes.
    pub fn new(most: u64) -> Self {
        Self { slots: HashTable::new(), bytes: 0, most, hand: 0, evictions: 0 }
    }

    pub fn limit(&self) -> u64 {
        self.most
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn keys(&self) -> usize {
        self.slots.len()
    }

    pub fn evictions(&self) -> u64 {
        self.evictions
    }

    /// What is stored of a key.
    pub fn slot(&self, hash: u64, key: &[u8]) -> Option<&Slot> {
        self.slots.find(hash, |slot| slot.key() == key)
    }

    /// What answers a question whose key stands at `at`, whether or not it may be given.
    pub fn find(
        &mut self,
        hash: u64,
        key: &[u8],
        question: &Question<'_>,
        at: usize,
        hashes: &RandomState,
    ) -> Option<&mut Slot> {
        self.slots.find_mut(hash, |slot| slot.key() == key)?.find(question, at, hashes)
    }

    /// Puts a reply in, in the place of what answers the same, and lets others go for it; whether there is room for it.
    pub fn insert(
        &mut self,
        hash: u64,
        reply: Slot,
        hashes: &RandomState,
        is_of_use: &impl Fn(Record<'_>) -> bool,
    ) -> bool {
        let most = self.most / SHARE;
        if reply.size() > most {
            return false;
        }
        let is_of_key = |slot: &Slot| slot.key() == reply.key();
        match self.slots.entry(hash, is_of_key, |slot| hashes.hash_one(slot.key())) {
            Entry::Occupied(mut slot) => {
                let before = slot.get().size();
                slot.get_mut().put(reply, hashes, most);
                self.bytes = self.bytes - before + slot.get().size();
            }
            Entry::Vacant(place) => {
                self.bytes += reply.size();
                place.insert(reply);
            }
        }
        self.make_room(is_of_use);
        if self.slots.num_buckets() > LARGE && self.slots.len() < self.slots.num_buckets() / 16 {
            self.slots.shrink_to(self.slots.len() * 2, |slot| hashes.hash_one(slot.key()));
        }
        true
    }

    /// Drops all that is stored of a key.
    pub fn remove(&mut self, hash: u64, key: &[u8]) {
        if let Ok(slot) = self.slots.find_entry(hash, |slot| slot.key() == key) {
            let (slot, _) = slot.remove();
            self.bytes -= slot.size();
        }
    }

    /// Drops all that is stored of keys that begin so.
    pub fn remove_prefix(&mut self, prefix: &[u8]) {
        let bytes = &mut self.bytes;
        self.slots.retain(|slot| {
            let is_kept = !slot.key().starts_with(prefix);
            if !is_kept {
                *bytes -= slot.size();
            }
            is_kept
        });
    }

    /// Gives it other room.
    pub fn resize(&mut self, most: u64, is_of_use: &impl Fn(Record<'_>) -> bool) {
        self.most = most;
        self.make_room(is_of_use);
    }

    fn make_room(&mut self, is_of_use: &impl Fn(Record<'_>) -> bool) {
        while self.bytes > self.most && !self.slots.is_empty() {
            self.hand = (self.hand + 1) % self.slots.num_buckets();
            let Some(slot) = self.slots.get_bucket_mut(self.hand) else { continue };
            let (before, is_needed) = (slot.size(), slot.is_of_use(is_of_use));
            if slot.stays(is_of_use) {
                self.bytes = self.bytes - before + slot.size();
            } else if let Ok(slot) = self.slots.get_bucket_entry(self.hand) {
                slot.remove();
                self.bytes -= before;
                self.evictions += u64::from(is_needed);
            }
        }
    }
}
