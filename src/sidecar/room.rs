//! The memory of bodies on their way into the cache, in it, and on their way out of it: a client that is slow holds
//! what it was to get also when the cache has let it go.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::{Bytes, BytesMut};

use crate::settings::memory::BODIES;

/// How much all bodies may take, and do: those of the application, and those of Redis.
#[derive(Clone, Debug)]
pub struct Room(Arc<All>);

#[derive(Debug)]
struct All {
    taken: AtomicU64,
    most: AtomicU64,
}

/// A part of it, until it is dropped.
#[derive(Debug)]
pub struct Taken {
    all: Arc<All>,
    own: u64,
}

impl Room {
    /// Room beside a cache of so many bytes, of which one body may have so many.
    ///
    /// The cache counts for each of its responses no less than its body takes here. So what is in it leaves room for
    /// bodies on their way at any time, whose coming makes the cache let others go.
    #[must_use]
    pub fn beside(memory: u64, max_object: u64) -> Self {
        Self(Arc::new(All { taken: AtomicU64::new(0), most: AtomicU64::new(most(memory, max_object)) }))
    }

    /// The same beside another cache, for what comes from here on.
    pub fn resize(&self, memory: u64, max_object: u64) {
        self.0.most.store(most(memory, max_object), Ordering::Relaxed);
    }

    /// A part that is empty yet.
    #[must_use]
    pub fn nothing(&self) -> Taken {
        Taken { all: self.0.clone(), own: 0 }
    }

    /// A copy of a body that was read together with other things, if there is room for it: it takes what it is, and
    /// keeps nothing else of what was read.
    #[must_use]
    pub fn copy(&self, body: &[u8]) -> Option<Bytes> {
        let mut taken = self.nothing();
        taken.more(body.len()).then(|| taken.hold(BytesMut::from(body)))
    }
}

fn most(memory: u64, max_object: u64) -> u64 {
    memory.saturating_add(BODIES.max(max_object))
}

impl Taken {
    /// Takes so many more bytes, if there is room for them.
    pub fn more(&mut self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        let All { taken, most } = &*self.all;
        let all = taken.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let is_there = all <= most.load(Ordering::Relaxed);
        if is_there {
            self.own += bytes;
        } else {
            taken.fetch_sub(bytes, Ordering::Relaxed);
        }
        is_there
    }

    /// Gives all back.
    pub fn give_back(&mut self) {
        self.all.taken.fetch_sub(std::mem::take(&mut self.own), Ordering::Relaxed);
    }

    /// A body that has this part for as long as somebody has something of it.
    pub fn hold(&mut self, body: BytesMut) -> Bytes {
        let taken = Self { all: self.all.clone(), own: std::mem::take(&mut self.own) };
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

    fn taken(room: &Room) -> u64 {
        room.0.taken.load(Ordering::Relaxed)
    }

    #[test]
    fn what_somebody_has_a_part_of_takes_room_and_what_nobody_has_takes_none() {
        let room = Room::beside(0, 0);
        let mut part = room.nothing();
        assert!(part.more(5) && !part.more(usize::try_from(BODIES).unwrap()) && part.more(5));
        let body = part.hold(BytesMut::from(&b"0123456789"[..]));
        drop(part);
        let piece = body.slice(2..4);
        drop(body);
        assert_eq!(taken(&room), 10);
        drop(piece);
        assert_eq!(taken(&room), 0);
    }

    #[test]
    fn a_copy_takes_what_it_is_and_where_there_is_no_room_for_it_nothing() {
        let room = Room::beside(10, BODIES);
        let whole = vec![b'x'; usize::try_from(BODIES).unwrap()];
        let copies = [room.copy(&whole), room.copy(&whole), room.copy(&whole[..10]), room.copy(b"x")];
        assert_eq!(copies.each_ref().map(Option::is_some), [true, false, true, false]);
        assert_eq!(taken(&room), BODIES + 10);
        room.resize(11, BODIES);
        assert_eq!(room.copy(b"x").unwrap(), "x");
        drop(copies);
        assert_eq!(taken(&room), 0);
    }

    #[test]
    fn there_is_always_room_for_one_body_of_the_size_that_is_allowed() {
        let room = Room::beside(0, BODIES * 2);
        assert!(room.nothing().more(usize::try_from(BODIES * 2).unwrap()));
    }
}
