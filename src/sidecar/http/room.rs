//! The memory of bodies on their way into the cache, in it, and on their way out of it: a client that is slow holds
//! what it was to get also when the cache has let it go.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::{Bytes, BytesMut};

use crate::settings::memory::BODIES;

/// How much all bodies may take, and do.
#[derive(Debug)]
pub struct Room {
    all: Arc<AtomicU64>,
    most: u64,
}

/// A part of it, until it is dropped.
#[derive(Debug)]
pub struct Taken {
    all: Arc<AtomicU64>,
    most: u64,
    own: u64,
}

/// What is taken, by all.
#[derive(Clone, Debug, Default)]
pub struct Bodies(Arc<AtomicU64>);

impl Bodies {
    /// Room beside a cache of so many bytes, of which one body may have so many.
    #[must_use]
    pub fn room(&self, memory: u64, max_object: u64) -> Room {
        Room { all: self.0.clone(), most: memory.saturating_add(BODIES.max(max_object)) }
    }
}

impl Room {
    /// A part that is empty yet.
    #[must_use]
    pub fn nothing(&self) -> Taken {
        Taken { all: self.all.clone(), most: self.most, own: 0 }
    }
}

impl Taken {
    /// Takes so many more bytes, if there is room for them.
    pub fn more(&mut self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        let is_there = self.all.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= self.most;
        if is_there {
            self.own += bytes;
        } else {
            self.all.fetch_sub(bytes, Ordering::Relaxed);
        }
        is_there
    }

    /// Gives all back.
    pub fn give_back(&mut self) {
        self.all.fetch_sub(std::mem::take(&mut self.own), Ordering::Relaxed);
    }

    /// A body that has this part for as long as somebody has something of it.
    pub fn hold(&mut self, body: BytesMut) -> Bytes {
        let taken = Self { all: self.all.clone(), most: self.most, own: std::mem::take(&mut self.own) };
        Bytes::from_owner(Held { body, _taken: taken })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.give_back();
    }
}

struct Held {
    body: BytesMut,
    _taken: Taken,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_has_a_part_of_takes_room_and_what_nobody_has_takes_none() {
        let bodies = Bodies::default();
        let room = bodies.room(0, 0);
        let mut taken = room.nothing();
        assert!(taken.more(5) && !taken.more(usize::try_from(BODIES).unwrap()) && taken.more(5));
        let body = taken.hold(BytesMut::from(&b"0123456789"[..]));
        drop(taken);
        let part = body.slice(2..4);
        drop(body);
        assert_eq!(bodies.0.load(Ordering::Relaxed), 10);
        drop(part);
        assert_eq!(bodies.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn there_is_always_room_for_one_body_of_the_size_that_is_allowed() {
        let room = Bodies::default().room(0, BODIES * 2);
        assert!(room.nothing().more(usize::try_from(BODIES * 2).unwrap()));
    }
}
