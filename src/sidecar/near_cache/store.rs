//! The memory of the pod (L1): replies of Redis by key, bounded in bytes. PURE: it is told the time.
//!
//! By the name of a key alone, as pushes of Redis name no database, there is what all users have read of it in all
//! databases: for each of these, with each protocol and exact command, a reply. So a push drops all of it at once.
//!
//! A reply about several keys (`MGET`, `SINTER`) stands under the first of them. It is given only as long as nothing
//! has happened to the others either: it has the epoch in which its fill began, which is compared with theirs. That
//! is the check that each fill has to pass before it is stored, done once more, where lists of what depends on each
//! key would have to be kept right in every race.
//!
//! What has expired, and what has lost its cover, stays until it is in the way; it counts in bytes until then.

pub mod of_key;
mod record;
mod shard;
mod slot;

use std::hash::{BuildHasher, RandomState};

use bytes::BytesMut;
use parking_lot::Mutex;

use self::{
    record::{Header, Made, Record},
    shard::Shard,
    slot::Slot,
};
use super::{
    coherence::{Coherence, Cover, Token},
    commands::Indices,
};
use crate::sidecar::resp::request::Command;

/// In so many parts, each with its lock, it is held at most.
const SHARDS: u64 = 16;
/// Of a part an entry takes at most one of so many.
const SHARE: u64 = 8;

/// A read, of somebody.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// Of which user, database and protocol.
    pub tag: u32,
    /// All of it.
    pub command: &'a Command,
    /// Where its keys are.
    pub keys: Indices,
}

/// What is known of a reply that is to be stored.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// When its fill began.
    pub token: Token,
    /// When it is not given any more.
    pub expires: u64,
    /// The rule that holds for it.
    pub rule: u16,
}

/// What is stored.
pub struct Store {
    shards: Box<[Mutex<Shard>]>,
    hashes: RandomState,
    coherence: Coherence,
}

impl Question<'_> {
    /// The key under which its reply is stored.
    fn key(&self) -> Option<(usize, &[u8])> {
        let at = self.keys.clone().next()?;
        Some((at, self.command.arg(at)?))
    }

    fn others(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.clone().skip(1).filter_map(|at| self.command.arg(at))
    }
}

impl Store {
    /// Room for so many bytes, in parts of which each has room for replies of `largest`, if the whole has.
    #[must_use]
    pub fn new(bytes: u64, largest: u64, coherence: Coherence) -> Self {
        let has_room = |parts: &u64| bytes / parts / SHARE >= largest.saturating_add(1024);
        let parts = (0..=SHARDS.ilog2()).rev().map(|power| 1 << power).find(has_room).unwrap_or(1);
        let shards = (0..parts).map(|_| Mutex::new(Shard::new(bytes / parts))).collect();
        Self { shards, hashes: RandomState::new(), coherence }
    }

    /// What has happened to which keys.
    #[must_use]
    pub fn coherence(&self) -> &Coherence {
        &self.coherence
    }

    fn hash(&self, key: &[u8]) -> u64 {
        self.hashes.hash_one(key)
    }

    fn shard(&self, hash: u64) -> Option<&Mutex<Shard>> {
        self.shards.get(usize::try_from((hash >> 48) % self.shards.len() as u64).unwrap_or_default())
    }

    /// Writes the reply to a read, if there is one that may be given; tells the rule that holds for it.
    pub fn get(&self, question: &Question<'_>, now: u64, out: &mut BytesMut) -> Option<u16> {
        self.get_if(|cover| self.coherence.gives(cover, now), question, now, out)
    }

    /// The same where Redis is not reached: what broke off with its connection, and nothing was heard of since.
    pub fn get_stale(&self, question: &Question<'_>, now: u64, out: &mut BytesMut) -> Option<u16> {
        self.get_if(|cover| self.coherence.gives_stale(cover), question, now, out)
    }

    fn get_if(
        &self,
        is_given: impl FnOnce(Cover) -> bool,
        question: &Question<'_>,
        now: u64,
        out: &mut BytesMut,
    ) -> Option<u16> {
        let (at, key) = question.key()?;
        let hash = self.hash(key);
        let mut shard = self.shard(hash)?.lock();
        let slot = shard.find(hash, key, question, at, &self.hashes)?;
        let record = slot.record()?;
        let is_given = now < record.expires() && is_given(record.cover());
        if !is_given || !record.epoch().is_none_or(|epoch| self.is_current(epoch, question.others())) {
            return None;
        }
        let rule = record.rule();
        out.extend_from_slice(record.reply());
        out.extend_from_slice(record.tail);
        slot.note_use();
        Some(rule)
    }

    /// Stores the reply to a read, unless something has happened to its keys since its fill began, or there is no
    /// room for it. Whether it did.
    pub fn put(&self, question: &Question<'_>, terms: Terms, reply: &[u8], now: u64) -> bool {
        let Some((at, key)) = question.key() else { return false };
        let hash = self.hash(key);
        let epoch = (question.keys.len() > 1).then_some(terms.token.epoch);
        let header = Header {
            expires: terms.expires,
            cover: terms.token.cover,
            rule: terms.rule,
            tag: question.tag,
            epoch,
        };
        let Some(made) = Made::new(&header, key, question.command, at, reply) else { return false };
        let slot = Slot::new(made);
        let Some(shard) = self.shard(hash) else { return false };
        let mut shard = shard.lock();
        // Under the lock that a push of the key needs to drop it: one is after the other.
        let is_in_time = self.coherence.holds(terms.token.cover)
            && self.coherence.is_current(terms.token.epoch, hash)
            && self.is_current(terms.token.epoch, question.others());
        is_in_time && shard.insert(hash, slot, &self.hashes, &self.is_of_use(now))
    }

    fn is_current<'a>(&self, epoch: u64, keys: impl IntoIterator<Item = &'a [u8]>) -> bool {
        keys.into_iter().all(|key| self.coherence.is_current(epoch, self.hash(key)))
    }

    /// Whether nothing has happened to the keys of a read since a fill began.
    #[must_use]
    pub fn is_still(&self, question: &Question<'_>, token: Token) -> bool {
        let keys = question.keys.clone().filter_map(|at| question.command.arg(at));
        self.coherence.holds(token.cover) && self.is_current(token.epoch, keys)
    }

    /// Something has happened to a key, or is about to: what is stored of it goes, and fills that are on their way are
    /// not stored.
    pub fn happened(&self, key: &[u8]) {
        let hash = self.hash(key);
        // First, so that what is not dropped here is refused.
        self.coherence.happened(hash);
        if let Some(shard) = self.shard(hash) {
            shard.lock().remove(hash, key);
        }
    }

    /// The same of all keys that begin so. It goes through all that is stored.
    pub fn happened_to_prefix(&self, prefix: &[u8]) {
        self.coherence.happened_to_some();
        for shard in &self.shards {
            shard.lock().remove_prefix(prefix);
        }
    }

    /// Gives room for another number of bytes; what does not fit any more goes.
    pub fn resize(&self, bytes: u64, now: u64) {
        for shard in &self.shards {
            shard.lock().resize(bytes / self.shards.len() as u64, &self.is_of_use(now));
        }
    }

    fn is_of_use(&self, now: u64) -> impl Fn(Record<'_>) -> bool {
        move |record| record.is_of_use(&self.coherence, now)
    }

    /// How many bytes may be taken.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.shards.iter().map(|shard| shard.lock().limit()).sum()
    }

    /// How many bytes are taken.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.lock().bytes()).sum()
    }

    /// Of how many keys something is stored.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().keys()).sum()
    }

    /// How many keys have gone for lack of room.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.shards.iter().map(|shard| shard.lock().evictions()).sum()
    }
}

#[cfg(test)]
mod tests;
