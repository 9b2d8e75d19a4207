//! The keys of a load, and the versions that are written to them.

use std::sync::atomic::{AtomicU64, Ordering};

use rand::RngExt;
use tokio::sync::{Mutex, MutexGuard};

/// How a key is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Counted up by whoever wants: Redis tells the version.
    Counter,
    /// The same in a field of a hash.
    HashCounter,
    /// Set and deleted, by one writer at a time, who gives the version.
    Value,
    /// The same in a field of a hash.
    Record,
}

pub const KINDS: [Kind; 4] = [Kind::Counter, Kind::HashCounter, Kind::Value, Kind::Record];

/// A place that is written by one at a time: its versions.
pub struct Slot {
    /// The last version that was given.
    version: Mutex<u64>,
    /// A key one of whose writes had no reply is not written again, as that write may come at any time: the place
    /// goes on with another key.
    generation: AtomicU64,
}

/// All keys.
pub struct Slots {
    run: u64,
    slots: Vec<Slot>,
    per_kind: usize,
}

/// One key, for as long as nobody else writes it.
pub struct Held<'a> {
    pub key: Key,
    slot: &'a Slot,
    version: MutexGuard<'a, u64>,
}

/// A key by its number and its name.
#[derive(Clone)]
pub struct Key {
    pub number: u64,
    pub name: String,
}

impl Slots {
    /// So many of each kind.
    pub fn new(per_kind: usize) -> Self {
        let slot = || Slot { version: Mutex::new(0), generation: AtomicU64::new(0) };
        Self {
            run: rand::rng().random(),
            slots: std::iter::repeat_with(slot).take(per_kind * KINDS.len()).collect(),
            per_kind,
        }
    }

    /// A place of this kind; a few of them are asked for most.
    pub fn any(&self, kind: Kind) -> usize {
        let first = KINDS.iter().position(|other| *other == kind).expect("a kind") * self.per_kind;
        let most = if rand::random_bool(0.5) { self.per_kind.min(3) } else { self.per_kind };
        first + rand::rng().random_range(0..most)
    }

    pub fn key(&self, slot: usize) -> Key {
        let generation = self.slots[slot].generation.load(Ordering::Relaxed);
        Key {
            number: (generation << 16) | slot as u64,
            name: format!("coherence:{:x}:{slot}:{generation}", self.run),
        }
    }

    /// The place, unless another writes it just now.
    pub fn hold(&self, slot: usize) -> Option<Held<'_>> {
        let version = self.slots[slot].version.try_lock().ok()?;
        Some(Held { key: self.key(slot), slot: &self.slots[slot], version })
    }
}

impl Held<'_> {
    pub fn next(&mut self) -> u64 {
        *self.version += 1;
        *self.version
    }

    /// The place goes on with another key.
    pub fn retire(mut self) {
        *self.version = 0;
        self.slot.generation.fetch_add(1, Ordering::Relaxed);
    }
}
