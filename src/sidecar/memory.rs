//! The memory of a replica (L1): stored responses, bounded in bytes.

mod purging;
mod variants;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use http::HeaderMap;
use parking_lot::{Mutex, RwLock};
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter, sync::Cache};

use self::variants::Variants;
use super::{
    cache::{
        Stored,
        key::Key,
        purges::{Began, Force, Purges, Stamp, Target},
    },
    rules::purged,
};
use crate::settings::Rule;

/// So many responses of one key are kept, for requests that differ in what they vary by. The oldest goes.
const VARIANTS: usize = 16;
/// So many purges are remembered for fills that are under way.
const PURGES: usize = 1024;
/// Of a key, beside its text and what is stored.
const OVERHEAD: u64 = 64;
/// What a typical entry takes, for the size of the tables.
const TYPICAL: u64 = 4096;
/// Of a large response, beside its body.
const HEAD: u64 = 64 << 10;
/// In so many parts, each with its lock, what is stored is held at most.
const PARTS: u64 = 256;

/// Has the near-cache forget something.
type Beside = Box<dyn Fn(&[Target]) + Send + Sync>;

/// Stored responses by key.
pub struct Memory {
    entries: Cache<Key, Variants, Weight, DefaultHashBuilder, Evictions>,
    evictions: Evictions,
    purged: [AtomicU64; purging::KINDS.len()],
    /// Taken for every change, so that a purge and a fill come one after the other. Never for long: each fill
    /// takes it when it begins.
    purges: Mutex<Purges>,
    /// Taken for a whole record of the operator's.
    by_record: Mutex<()>,
    /// Up to which number of it all is done.
    done: AtomicU64,
    /// It is not read yet.
    awaits_record: AtomicBool,
    /// Those that leave something out of keys.
    rules: RwLock<Vec<Rule>>,
    /// The near-cache of the pod, where there is one.
    beside: OnceLock<Beside>,
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
        weight(key, variants.iter().map(|stored| stored.size()).sum())
    }
}

fn weight(key: &Key, stored: usize) -> u64 {
    OVERHEAD + (key.as_str().len() + stored) as u64
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
    /// Room for so many bytes, in parts of which each has room for a body of `largest`, if the whole has.
    #[must_use]
    pub fn new(bytes: u64, largest: u64) -> Self {
        let typical = usize::try_from(bytes / TYPICAL).unwrap_or(usize::MAX).max(1);
        let (evictions, hashes) = (Evictions::default(), DefaultHashBuilder::default());
        let has_room = |parts: &u64| most_of(bytes / parts) >= largest.saturating_add(HEAD);
        let parts = (0..=PARTS.ilog2()).rev().map(|power| 1 << power).find(has_room).unwrap_or(1);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut options = OptionsBuilder::new();
        options.estimated_items_capacity(typical).weight_capacity(bytes);
        options.shards(usize::try_from(parts).unwrap_or(1).min((cores * 4).next_power_of_two()));
        let entries = match options.build() {
            Ok(options) => Cache::with_options(options, Weight, hashes, evictions.clone()),
            // Never: both capacities are there.
            Err(_) => Cache::with(typical, bytes, Weight, hashes, evictions.clone()),
        };
        Self {
            entries,
            evictions,
            purged: Default::default(),
            purges: Mutex::new(Purges::new(PURGES)),
            by_record: Mutex::default(),
            done: AtomicU64::default(),
            awaits_record: AtomicBool::default(),
            rules: RwLock::default(),
            beside: OnceLock::new(),
        }
    }

    /// From here on keys are made by these rules.
    pub fn go_by(&self, rules: &[Rule]) {
        let rules = rules.iter().filter(|rule| !rule.ignored_query.is_empty()).cloned().collect();
        *self.rules.write() = rules;
    }

    /// What a purge is about, as keys are made.
    #[must_use]
    pub fn about(&self, targets: Vec<Target>) -> Vec<Target> {
        let rules = self.rules.read();
        targets.into_iter().flat_map(|target| purged(target, &rules)).collect()
    }

    /// Whether a response of this size, with its fields, is kept at all.
    #[must_use]
    pub fn has_room_for(&self, key: &Key, size: usize) -> bool {
        weight(key, size) <= most_of(self.entries.shard_capacity())
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

    /// The last purge of what has this key, if one is remembered; not of tags, which only a response tells.
    #[must_use]
    pub fn last_purge(&self, key: &Key) -> Option<(Target, Force)> {
        self.purges.lock().last(key.as_str()).map(|(target, force)| (target.clone(), force))
    }

    /// What the purges since a fill began mean for what it has brought.
    #[must_use]
    pub fn since(&self, began: Began, key: &Key, tags: &[String]) -> Option<Force> {
        self.purges.lock().since(began.epoch, key.as_str(), tags)
    }

    /// Keeps a response, unless it was purged since it was asked for; tells what it keeps.
    pub fn put(&self, key: Key, stored: Stored, began: Began) -> Option<Arc<Stored>> {
        self.put_beside(key, stored, began, |_| true)
    }

    /// The same in the place of one that was there before, unless another has come meanwhile.
    pub fn put_in_place_of(&self, before: &Stored, key: Key, stored: Stored, began: Began) {
        let is_older =
            |other: &Stored| other.secondary != before.secondary || other.received <= before.received;
        self.put_beside(key, stored, began, is_older);
    }

    /// Keeps a response, unless there is one of its key with which it is not to be.
    fn put_beside(
        &self,
        key: Key,
        mut stored: Stored,
        began: Began,
        may_be: impl Fn(&Stored) -> bool,
    ) -> Option<Arc<Stored>> {
        let purges = self.purges.lock();
        match purges.since(began.epoch, key.as_str(), &stored.tags) {
            Some(Force::Hard) => return None,
            Some(Force::Soft) => stored.is_purged_softly = true,
            None => {}
        }
        let before = self.entries.get(&key);
        let others = before.iter().flat_map(|variants| variants.iter());
        if !others.clone().all(|other| may_be(other)) {
            return None;
        }
        let mut variants: Vec<_> =
            others.filter(|other| other.secondary != stored.secondary).cloned().collect();
        if variants.len() == VARIANTS {
            variants.remove(0);
        }
        let kept = Arc::new(stored);
        variants.push(kept.clone());
        // Together they would not be kept at all.
        let size = |variants: &[Arc<Stored>]| variants.iter().map(|stored| stored.size()).sum();
        while variants.len() > 1 && !self.has_room_for(&key, size(&variants)) {
            variants.remove(0);
        }
        self.entries.insert(key, variants.into());
        drop(purges);
        Some(kept)
    }

    /// Whether there is a response to the same requests already that is not older.
    #[must_use]
    pub fn has(&self, key: &Key, like: &Stored) -> bool {
        let is_as_good =
            |stored: &Arc<Stored>| stored.secondary == like.secondary && stored.received >= like.received;
        self.entries.peek(key).is_some_and(|variants| variants.iter().any(is_as_good))
    }

    /// Gives room for another number of bytes; what does not fit any more goes. The parts are as many as before.
    pub fn resize(&self, bytes: u64) {
        self.entries.set_capacity(bytes);
    }

    /// How large a response may be that is kept, of those that may be as large as `wanted`: a memory that was made
    /// for smaller ones has parts with less room than one that is made for these.
    #[must_use]
    pub fn largest(&self, wanted: u64) -> u64 {
        if wanted <= most_of(self.entries.capacity()) {
            wanted.min(most_of(self.entries.shard_capacity()))
        } else {
            wanted
        }
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

/// What an entry may take of a part: the cache keeps the rest for what is new, and a little is for rounding.
fn most_of(part: u64) -> u64 {
    part - part.div_ceil(32)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderValue, StatusCode, uri::PathAndQuery};
    use jiff::Timestamp;

    use super::*;
    use crate::settings::purges::{Purge, PurgeRecord};
    use crate::sidecar::{
        cache::{Exchange, purges::Source, stored::Origin},
        tests::headers,
    };

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
        let memory = Memory::new(1 << 20, 1 << 16);
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
        let memory = Memory::new(ROOM, 1 << 10);
        let request = HeaderMap::new();
        for number in 0..1000 {
            let target: PathAndQuery = format!("/{number}").parse().unwrap();
            let stored = Stored { body: Bytes::from(vec![0; 1000]), ..response(&request, &[], "") };
            memory.put(Key::of("http", "shop", &target, &[]), stored, memory.begin());
            assert!(memory.bytes() <= ROOM);
        }
        assert!(memory.bytes() > ROOM / 2, "{}", memory.bytes());
    }

    fn large(accept: &'static str, bytes: usize) -> Stored {
        let request = headers(&[("accept", accept)]);
        Stored { body: Bytes::from(vec![0; bytes]), ..response(&request, &[], "") }
    }

    #[test]
    fn what_is_as_large_as_may_be_is_kept_whatever_its_key() {
        const LARGEST: usize = 1 << 20;
        let memory = Memory::new(8 << 20, LARGEST as u64);
        for number in 0..64 {
            let target: PathAndQuery = format!("/{number}").parse().unwrap();
            let key = Key::of("http", "shop", &target, &[]);
            memory.put(key.clone(), large("", LARGEST), memory.begin());
            assert!(memory.entries.get(&key).is_some(), "{number}");
        }
        assert!(memory.has_room_for(&key("/"), LARGEST) && memory.bytes() <= 8 << 20);
        assert!(!memory.has_room_for(&key("/"), 8 << 20));
    }

    #[test]
    fn a_memory_that_was_made_for_smaller_ones_keeps_no_larger_ones() {
        let made_for = |largest| Memory::new(64 << 20, largest);
        assert_eq!(made_for(1 << 10).largest(1 << 10), 1 << 10);
        let largest = made_for(1 << 10).largest(60 << 20);
        let parted = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
        assert!(!parted || largest < 60 << 20, "{largest}");
        assert_eq!(made_for(60 << 20).largest(60 << 20), 60 << 20);
        // As large as all there is: it was asked for so.
        assert_eq!(made_for(64 << 20).largest(64 << 20), 64 << 20);
    }

    #[test]
    fn of_variants_that_together_are_too_large_the_oldest_go() {
        let memory = Memory::new(1 << 20, 1 << 20);
        for accept in ["a", "b", "c"] {
            memory.put(key("/"), large(accept, 400 << 10), memory.begin());
        }
        let has = |accept| matches!(memory.get(&key("/"), &headers(&[("accept", accept)])), Found::Stored(_));
        assert_eq!(["a", "b", "c"].map(has), [false, true, true]);
    }

    #[test]
    fn with_less_room_what_does_not_fit_goes() {
        let memory = Memory::new(64 << 10, 1 << 10);
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
        let memory = Memory::new(1 << 20, 1 << 16);
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
        let memory = Memory::new(1 << 20, 1 << 16);
        let request = HeaderMap::new();
        let began = memory.begin();
        memory.put(key("/a"), response(&request, &["t"], "a"), began);
        memory.put(key("/b"), response(&request, &[], "b"), began);
        memory.purge(&[Target::Tag("t".to_owned())], Force::Hard, Source::Replica);
        assert_eq!(
            (body(memory.get(&key("/a"), &request)), body(memory.get(&key("/b"), &request))),
            (None, Some("b".to_owned()))
        );
        memory.put(key("/c"), response(&request, &["t"], "old"), began);
        assert_eq!(body(memory.get(&key("/c"), &request)), None, "it was asked for before the purge");
        memory.put(key("/c"), response(&request, &["t"], "new"), memory.begin());
        assert_eq!(body(memory.get(&key("/c"), &request)).as_deref(), Some("new"));
        memory.purge(&[Target::Everything], Force::Hard, Source::Replica);
        assert!(matches!(memory.get(&key("/b"), &request), Found::Nothing));
    }

    #[test]
    fn a_key_with_parameters_that_rules_leave_out_is_purged_whoever_asks() {
        let request = HeaderMap::new();
        let rule = Rule { ignored_query: vec!["utm_*".to_owned()], ..Rule::default() };
        let targets = [Target::Key("http://shop/a?utm_x=1&b=2".to_owned())];
        let purge = Purge { epoch: 1, id: String::new(), force: Force::Hard, targets: targets.to_vec() };
        let record = PurgeRecord { purges: vec![purge], ..PurgeRecord::empty() };
        let by: [&dyn Fn(&Memory); 3] = [
            &|memory| memory.purge(&targets, Force::Hard, Source::Replica),
            &|memory| memory.purge(&targets, Force::Hard, Source::Shared(1)),
            &|memory| assert_eq!(memory.purge_by_record(&record), 1),
        ];
        for purge in by {
            let memory = Memory::new(1 << 20, 1 << 16);
            memory.go_by(std::slice::from_ref(&rule));
            let began = memory.begin();
            memory.put(key("/a?b=2"), response(&request, &[], "a"), began);
            purge(&memory);
            assert!(matches!(memory.get(&key("/a?b=2"), &request), Found::Nothing));
            assert!(memory.put(key("/a?b=2"), response(&request, &[], "a"), began).is_none());
        }
    }

    #[test]
    fn a_soft_purge_leaves_what_is_to_be_validated() {
        let memory = Memory::new(1 << 20, 1 << 16);
        let request = HeaderMap::new();
        let began = memory.begin();
        memory.put(key("/a"), response(&request, &[], "a"), began);
        memory.purge(&[Target::Prefix("http://shop/".to_owned())], Force::Soft, Source::Replica);
        memory.put(key("/b"), response(&request, &[], "b"), began);
        for target in ["/a", "/b"] {
            let Found::Stored(stored) = memory.get(&key(target), &request) else {
                panic!("{target} is gone")
            };
            assert!(stored.is_purged_softly, "{target}");
        }
    }
}
