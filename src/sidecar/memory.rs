//! The memory of a replica (L1): stored responses, bounded in bytes.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use http::HeaderMap;
use parking_lot::Mutex;
use quick_cache::{DefaultHashBuilder, Lifecycle, Weighter, sync::Cache};

use crate::settings::purges::PurgeRecord;

use super::cache::{
    Stored,
    key::Key,
    purges::{Began, Force, Purges, Source, Stamp, Target},
};

/// So many responses of one key are kept, for requests that differ in what they vary by. The oldest goes.
const VARIANTS: usize = 16;
/// So many purges are remembered for fills that are under way.
const PURGES: usize = 1024;
/// Of what purges are counted.
const PURGED: [&str; 4] = ["everything", "prefix", "tag", "key"];
/// Of a key, beside its text and what is stored.
const OVERHEAD: u64 = 64;
/// What a typical entry takes, for the size of the tables.
const TYPICAL: u64 = 4096;

type Variants = Arc<[Arc<Stored>]>;

/// Stored responses by key.
pub struct Memory {
    entries: Cache<Key, Variants, Weight, DefaultHashBuilder, Evictions>,
    evictions: Evictions,
    purged: [AtomicU64; PURGED.len()],
    /// Taken for every change, so that a purge and a fill come one after the other.
    purges: Mutex<Purges>,
}

/// What a lookup has found.
#[derive(Clone, Debug)]
pub enum Found {
    /// A response to such a request.
    Stored(Arc<Stored>),
    /// Responses of the key, and none to such a request.
    OtherVariants,
    /// Nothing of the key.
    Nothing,
}

#[derive(Clone)]
struct Weight;

impl Weighter<Key, Variants> for Weight {
    fn weight(&self, key: &Key, variants: &Variants) -> u64 {
        let stored: usize = variants.iter().map(|stored| stored.size()).sum();
        OVERHEAD + (key.as_str().len() + stored) as u64
    }
}

/// Counts what goes for lack of room.
#[derive(Clone, Debug, Default)]
struct Evictions(Arc<AtomicU64>);

impl Lifecycle<Key, Variants> for Evictions {
    /// What has gone, freed when the cache is not locked any more.
    type RequestState = [Option<(Key, Variants)>; 2];

    fn on_evict(&self, state: &mut Self::RequestState, key: Key, variants: Variants) {
        self.0.fetch_add(1, Ordering::Relaxed);
        if let Some(place) = state.iter_mut().find(|place| place.is_none()) {
            *place = Some((key, variants));
        }
    }
}

impl Memory {
    /// Room for so many bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let typical = usize::try_from(bytes / TYPICAL).unwrap_or(usize::MAX).max(1);
        let (evictions, hashes) = (Evictions::default(), DefaultHashBuilder::default());
        Self {
            entries: Cache::with(typical, bytes, Weight, hashes, evictions.clone()),
            evictions,
            purged: Default::default(),
            purges: Mutex::new(Purges::new(PURGES)),
        }
    }

    /// The present, for a fill that begins.
    #[must_use]
    pub fn begin(&self) -> Began {
        self.purges.lock().now()
    }

    /// Whether a response that was there when something began was taken out since, for good.
    #[must_use]
    pub fn is_gone_since(&self, began: Began, key: &Key, tags: &[String]) -> bool {
        self.purges.lock().since(began.epoch, key.as_str(), tags) == Some(Force::Hard)
    }

    /// What the purges that are known mean for a response that another replica has stored.
    #[must_use]
    pub fn since_stamp(&self, stamp: Stamp, key: &Key, tags: &[String]) -> Option<Force> {
        self.purges.lock().since_stamp(stamp, key.as_str(), tags)
    }

    /// What there is for a request.
    #[must_use]
    pub fn get(&self, key: &Key, request: &HeaderMap) -> Found {
        let Some(variants) = self.entries.get(key) else { return Found::Nothing };
        let stored = variants.iter().rev().find(|stored| stored.is_for(request));
        stored.map_or(Found::OtherVariants, |stored| Found::Stored(stored.clone()))
    }

    /// What the purges since a fill began mean for what it has brought.
    #[must_use]
    pub fn since(&self, began: Began, key: &Key, tags: &[String]) -> Option<Force> {
        self.purges.lock().since(began.epoch, key.as_str(), tags)
    }

    /// Keeps a response, unless it was purged since it was asked for; tells what it keeps.
    pub fn put(&self, key: Key, mut stored: Stored, began: Began) -> Option<Arc<Stored>> {
        let purges = self.purges.lock();
        match purges.since(began.epoch, key.as_str(), &stored.tags) {
            Some(Force::Hard) => return None,
            Some(Force::Soft) => stored.is_purged_softly = true,
            None => {}
        }
        let before = self.entries.get(&key);
        let others = before.iter().flat_map(|variants| variants.iter());
        let mut variants: Vec<_> =
            others.filter(|other| other.secondary != stored.secondary).cloned().collect();
        if variants.len() == VARIANTS {
            variants.remove(0);
        }
        let kept = Arc::new(stored);
        variants.push(kept.clone());
        self.entries.insert(key, variants.into());
        drop(purges);
        Some(kept)
    }

    /// Purges, of what is there and of what is on its way.
    pub fn purge(&self, target: Target, force: Force, source: Source) {
        let mut purges = self.purges.lock();
        self.take_out(&target, force);
        purges.add(target, force, source);
    }

    /// Purges what is new in the operator's record; returns up to which number it has been.
    pub fn purge_by_record(&self, record: &PurgeRecord) -> u64 {
        let mut purges = self.purges.lock();
        for (target, force) in purges.add_record(record) {
            self.take_out(&target, force);
        }
        purges.now().stamp.api
    }

    /// Purges by the record in Redis.
    pub fn purge_shared(&self, number: u64, targets: &[Target], force: Force) {
        // At once: who sees the number relies on all of them.
        let mut purges = self.purges.lock();
        for target in targets {
            self.take_out(target, force);
            purges.add(target.clone(), force, Source::Shared(number));
        }
    }

    /// Begins with another record in Redis, of which the purges up to `forgotten` are not known. What
    /// may have been in the one before is not known either, so all goes.
    pub fn begin_generation(&self, generation: u64, forgotten: u64) {
        let mut purges = self.purges.lock();
        self.entries.clear();
        purges.begin_generation(generation, forgotten);
        purges.add(Target::Everything, Force::Hard, Source::Replica);
    }

    fn take_out(&self, target: &Target, force: Force) {
        let place = match target {
            Target::Everything => 0,
            Target::Prefix(_) => 1,
            Target::Tag(_) => 2,
            Target::Key(_) => 3,
        };
        self.purged[place].fetch_add(1, Ordering::Relaxed);
        match (target, force) {
            (Target::Everything, Force::Hard) => self.entries.clear(),
            // One URL in full, as each request that changes something purges it: not all are looked at.
            (Target::Key(url), Force::Hard) if !url.starts_with('/') => {
                self.entries.remove(&Key::told(url.clone()));
            }
            _ => self.purge_variants(target, force),
        }
    }

    fn purge_variants(&self, target: &Target, force: Force) {
        let is_hit = |key: &Key, variants: &Variants| {
            variants.iter().any(|stored| target.matches(key.as_str(), &stored.tags))
        };
        let hit: Vec<(Key, Variants)> =
            self.entries.iter().filter(|(key, variants)| is_hit(key, variants)).collect();
        for (key, variants) in hit {
            let left: Vec<Arc<Stored>> = variants
                .iter()
                .filter_map(|stored| match (target.matches(key.as_str(), &stored.tags), force) {
                    (false, _) => Some(stored.clone()),
                    (true, Force::Soft) => {
                        Some(Arc::new(Stored { is_purged_softly: true, ..Stored::clone(stored) }))
                    }
                    (true, Force::Hard) => None,
                })
                .collect();
            if left.is_empty() {
                self.entries.remove(&key);
            } else {
                self.entries.insert(key, left.into());
            }
        }
    }

    /// Gives room for another number of bytes; what does not fit any more goes.
    pub fn resize(&self, bytes: u64) {
        self.entries.set_capacity(bytes);
    }

    /// Up to which of the operator's purges all are known.
    #[must_use]
    pub fn purged(&self) -> u64 {
        self.purges.lock().now().stamp.api
    }

    /// How many purges there were, by what they were of.
    pub fn purges(&self) -> impl Iterator<Item = (&'static str, u64)> {
        PURGED.into_iter().zip(self.purged.iter().map(|purged| purged.load(Ordering::Relaxed)))
    }

    /// How many keys have gone, or did not come in, for lack of room.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.evictions.0.load(Ordering::Relaxed)
    }

    /// Of how many keys something is stored.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries.len()
    }

    /// For how many bytes there is room.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.entries.capacity()
    }

    /// How many bytes are taken.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.entries.weight()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderValue, StatusCode, uri::PathAndQuery};
    use jiff::Timestamp;

    use super::*;
    use crate::sidecar::cache::{Exchange, stored::Origin};
    use crate::sidecar::tests::headers;

    fn key(target: &'static str) -> Key {
        Key::of("http", "shop", &PathAndQuery::from_static(target), &[])
    }

    fn response(request: &HeaderMap, tags: &[&str], body: &'static str) -> Stored {
        let now = Timestamp::UNIX_EPOCH;
        let origin = Origin {
            request,
            exchange: Exchange { requested: now, received: now },
            lifetime: None,
            default_lifetime: None,
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
        };
        let varies = headers(&[("vary", "accept")]);
        Stored::new(StatusCode::OK, varies, Bytes::from_static(body.as_bytes()), origin)
    }

    fn body(found: Found) -> Option<String> {
        match found {
            Found::Stored(stored) => Some(String::from_utf8_lossy(&stored.body).into_owned()),
            Found::OtherVariants | Found::Nothing => None,
        }
    }

    #[test]
    fn each_variant_is_found_by_its_requests() {
        let memory = Memory::new(1 << 20);
        let [text, json] = ["text/plain", "application/json"].map(|kind| headers(&[("accept", kind)]));
        assert!(matches!(memory.get(&key("/"), &text), Found::Nothing));
        memory.put(key("/"), response(&text, &[], "a"), memory.begin());
        assert!(matches!(memory.get(&key("/"), &json), Found::OtherVariants));
        memory.put(key("/"), response(&json, &[], "b"), memory.begin());
        memory.put(key("/"), response(&text, &[], "c"), memory.begin());
        assert_eq!(body(memory.get(&key("/"), &text)).as_deref(), Some("c"));
        assert_eq!(body(memory.get(&key("/"), &json)).as_deref(), Some("b"));
    }

    #[test]
    fn memory_is_bounded_in_bytes() {
        const ROOM: u64 = 64 << 10;
        let memory = Memory::new(ROOM);
        let request = HeaderMap::new();
        for number in 0..1000 {
            let target: PathAndQuery = format!("/{number}").parse().unwrap();
            let stored = Stored { body: Bytes::from(vec![0; 1000]), ..response(&request, &[], "") };
            memory.put(Key::of("http", "shop", &target, &[]), stored, memory.begin());
            assert!(memory.bytes() <= ROOM);
        }
        assert!(memory.bytes() > ROOM / 2, "{}", memory.bytes());
    }

    #[test]
    fn with_less_room_what_does_not_fit_goes() {
        let memory = Memory::new(64 << 10);
        for number in 0..64 {
            let target: PathAndQuery = format!("/{number}").parse().unwrap();
            let stored = Stored { body: Bytes::from(vec![0; 1000]), ..response(&HeaderMap::new(), &[], "") };
            memory.put(Key::of("http", "shop", &target, &[]), stored, memory.begin());
        }
        assert!(memory.bytes() > 16 << 10);
        memory.resize(16 << 10);
        assert!(memory.bytes() <= 16 << 10 && memory.limit() <= 16 << 10, "{}", memory.bytes());
    }

    #[test]
    fn one_key_has_so_many_variants_and_no_more() {
        let memory = Memory::new(1 << 20);
        for number in 0..=VARIANTS {
            let mut request = HeaderMap::new();
            request.insert("accept", HeaderValue::from(number));
            memory.put(key("/"), response(&request, &[], "a"), memory.begin());
        }
        assert_eq!(memory.entries.get(&key("/")).unwrap().len(), VARIANTS);
        let first = headers(&[("accept", "0")]);
        assert!(matches!(memory.get(&key("/"), &first), Found::OtherVariants), "the oldest goes");
    }

    #[test]
    fn a_purge_takes_what_is_there_and_what_is_on_its_way() {
        let memory = Memory::new(1 << 20);
        let request = HeaderMap::new();
        let began = memory.begin();
        memory.put(key("/a"), response(&request, &["t"], "a"), began);
        memory.put(key("/b"), response(&request, &[], "b"), began);
        memory.purge(Target::Tag("t".to_owned()), Force::Hard, Source::Replica);
        assert_eq!(
            (body(memory.get(&key("/a"), &request)), body(memory.get(&key("/b"), &request))),
            (None, Some("b".to_owned()))
        );
        memory.put(key("/c"), response(&request, &["t"], "old"), began);
        assert_eq!(body(memory.get(&key("/c"), &request)), None, "it was asked for before the purge");
        memory.put(key("/c"), response(&request, &["t"], "new"), memory.begin());
        assert_eq!(body(memory.get(&key("/c"), &request)).as_deref(), Some("new"));
        memory.purge(Target::Everything, Force::Hard, Source::Replica);
        assert!(matches!(memory.get(&key("/b"), &request), Found::Nothing));
    }

    #[test]
    fn a_soft_purge_leaves_what_is_to_be_validated() {
        let memory = Memory::new(1 << 20);
        let request = HeaderMap::new();
        let began = memory.begin();
        memory.put(key("/a"), response(&request, &[], "a"), began);
        memory.purge(Target::Prefix("http://shop/".to_owned()), Force::Soft, Source::Replica);
        memory.put(key("/b"), response(&request, &[], "b"), began);
        for target in ["/a", "/b"] {
            let Found::Stored(stored) = memory.get(&key(target), &request) else {
                panic!("{target} is gone")
            };
            assert!(stored.is_purged_softly, "{target}");
        }
    }
}
