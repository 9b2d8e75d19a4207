//! What is stored of a key: in most cases one reply, in one piece of memory. PURE.

use std::hash::{BuildHasher, RandomState};

use hashbrown::{HashTable, hash_table::Entry};

use super::{
    Question,
    record::{Made, Record, forget_use, hash_of, note_use, sizes_below, taken, written},
};

/// Of an entry in a table, which is from 44% to 88% full.
pub(super) const ENTRY: u64 = 28;
/// Of a key with several replies, beside these.
const SEVERAL: u64 = 160;
/// Of a reply in two pieces, where these are.
const SPLIT: u64 = 32;

/// What is stored of a key. It takes two words in its table.
pub(super) enum Slot {
    /// One reply, in one piece.
    Whole(Box<[u8]>),
    Far(Box<Far>),
}

/// What is further away.
pub(super) enum Far {
    /// One reply in two pieces: jemalloc has so few sizes that one would be given up to a fifth more than it needs.
    Split([Box<[u8]>; 2]),
    /// More than one reply.
    Several(Box<Several>),
}

/// Replies about a key: of other users, other databases, other fields of a hash. Each is a slot of one reply.
pub(super) struct Several {
    key: Box<[u8]>,
    records: HashTable<Slot>,
    size: u64,
}

impl Slot {
    /// Of one reply.
    pub fn new(made: Made) -> Self {
        let Made { bytes, reply } = made;
        let split = |first: usize| taken(first) + taken(bytes.len() - first) + SPLIT;
        let divisions = sizes_below(bytes.len()).into_iter().filter(|first| *first >= reply);
        let best = divisions.min_by_key(|first| split(*first));
        match best
            .filter(|first| split(*first) < taken(bytes.len()))
            .and_then(|at| bytes.split_at_checked(at))
        {
            Some((head, tail)) => Self::Far(Box::new(Far::Split([head.into(), tail.into()]))),
            None => Self::Whole(bytes.into_boxed_slice()),
        }
    }

    /// The reply, where it is one.
    pub fn record(&self) -> Option<Record<'_>> {
        match self {
            Self::Whole(head) => Some(Record { head, tail: &[] }),
            Self::Far(far) => match &**far {
                Far::Split([head, tail]) => Some(Record { head, tail }),
                Far::Several(_) => None,
            },
        }
    }

    fn head(&mut self) -> Option<&mut [u8]> {
        match self {
            Self::Whole(head) => Some(head),
            Self::Far(far) => match &mut **far {
                Far::Split([head, _]) => Some(head),
                Far::Several(_) => None,
            },
        }
    }

    fn several(&self) -> Option<&Several> {
        match self {
            Self::Whole(_) => None,
            Self::Far(far) => match &**far {
                Far::Split(_) => None,
                Far::Several(several) => Some(several),
            },
        }
    }

    fn several_mut(&mut self) -> Option<&mut Several> {
        match self {
            Self::Whole(_) => None,
            Self::Far(far) => match &mut **far {
                Far::Split(_) => None,
                Far::Several(several) => Some(several),
            },
        }
    }

    /// The key that it is about.
    pub fn key(&self) -> &[u8] {
        let several = || self.several().map(|several| &*several.key);
        self.record().map(Record::key).or_else(several).unwrap_or_default()
    }

    /// How many bytes it takes.
    pub fn size(&self) -> u64 {
        let of_several =
            self.several().map_or(0, |several| several.size + taken(several.key.len()) + SEVERAL);
        let of_one = self.record().map_or(0, |record| {
            let split = if record.tail.is_empty() { 0 } else { SPLIT + taken(record.tail.len()) };
            taken(record.head.len()) + split
        });
        of_one + of_several + ENTRY
    }

    /// What answers a question whose key is that of the slot, and stands at `at`.
    pub fn find(&mut self, question: &Question<'_>, at: usize, hashes: &RandomState) -> Option<&mut Self> {
        if let Some(record) = self.record() {
            return record.answers(question.tag, question.command, at).then_some(self);
        }
        let written = written(question.command, at)?;
        let hash = hash_of(hashes, question.tag, &written);
        let is_it =
            |slot: &Self| slot.record().is_some_and(|record| record.answers_written(question.tag, &written));
        self.several_mut()?.records.find_mut(hash, is_it)
    }

    /// Shows each reply.
    pub fn each(&self, see: &mut impl FnMut(Record<'_>)) {
        if let Some(record) = self.record() {
            see(record);
        }
        for slot in self.several().iter().flat_map(|several| &several.records) {
            slot.each(see);
        }
    }

    /// Its reply was given once more.
    pub fn note_use(&mut self) {
        if let Some(head) = self.head() {
            note_use(head);
        }
    }

    pub fn is_of_use(&self, is_of_use: &impl Fn(Record<'_>) -> bool) -> bool {
        let any = |several: &Several| several.records.iter().any(|slot| slot.is_of_use(is_of_use));
        self.record().map_or_else(|| self.several().is_some_and(any), is_of_use)
    }

    /// The hand comes by: whether anything stays.
    pub fn stays(&mut self, is_of_use: &impl Fn(Record<'_>) -> bool) -> bool {
        let is_of_use_itself = self.record().is_some_and(is_of_use);
        if let Some(head) = self.head() {
            return is_of_use_itself && forget_use(head);
        }
        let Some(several) = self.several_mut() else { return false };
        several.records.retain(|slot| slot.stays(is_of_use));
        several.size = several.records.iter().map(Self::size).sum();
        !several.records.is_empty()
    }

    /// Puts another reply to it, or in the place of what answers the same. Together they take so much at most.
    pub fn put(&mut self, slot: Self, hashes: &RandomState, most: u64) {
        let is_like = |one: &Self, other: &Self| {
            one.record().zip(other.record()).is_some_and(|(one, other)| one.is_like(other))
        };
        if is_like(self, &slot) {
            *self = slot;
            return;
        }
        if self.record().is_some() {
            let several = Several { key: self.key().into(), records: HashTable::new(), size: 0 };
            let before = std::mem::replace(self, Self::Far(Box::new(Far::Several(Box::new(several)))));
            self.put(before, hashes, most);
        }
        let Some(several) = self.several_mut() else { return };
        let (size, hash) = (slot.size(), slot.hash(hashes));
        if several.size + size > most {
            // A hash of very many fields, say: it begins anew.
            several.records.clear();
            several.size = 0;
        }
        match several.records.entry(hash, |other| is_like(other, &slot), |other| other.hash(hashes)) {
            Entry::Occupied(mut before) => {
                several.size = several.size - before.get().size() + size;
                *before.get_mut() = slot;
            }
            Entry::Vacant(place) => {
                place.insert(slot);
                several.size += size;
            }
        }
    }

    /// By what a reply is found among others of its key.
    fn hash(&self, hashes: &RandomState) -> u64 {
        self.record().map_or_else(|| hashes.hash_one(0), |record| record.hash(hashes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_takes_little_more_than_it_has_bytes() {
        let below = [150, 256, 300, 1054, 1280].map(sizes_below);
        assert_eq!(below, [[128, 112], [256, 224], [256, 224], [1024, 896], [1280, 1024]]);
        for length in 200..5000 {
            let slot = Slot::new(Made { bytes: vec![0; length], reply: 60 });
            let more = slot.size() - ENTRY - length as u64;
            assert!(more <= 64 + length as u64 / 20, "{more} of {length}");
            let record = slot.record().unwrap();
            assert_eq!(record.head.len() + record.tail.len(), length);
        }
    }

    #[test]
    fn it_takes_two_words_and_what_is_far_four() {
        assert_eq!((size_of::<Slot>(), size_of::<Far>()), (16, 32));
    }
}
