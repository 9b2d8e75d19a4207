//! One command of the table, and how its arguments decide what it means.

use super::{
    Args, Cached, Connection, Handling, Indices, Lifetime, Meaning, PubSub, Shape, Transaction,
    indices::Where, options,
};

/// One command, or one subcommand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// In capitals.
    pub name: &'static str,
    kind: Kind,
    reads: Where,
    changes: Where,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Is(Handling),
    /// Cached, in pairs where `WITHSCORES` is an option: from this index on.
    Scored(u8),
    /// Cached, in pairs where `WITHSCORES` follows the counted keys.
    ScoredAfterKeys,
    /// Cached, with a null of an array where `WITHSCORE` is an option.
    Ranked,
    /// `XREAD`, `XREADGROUP`: this, or waiting.
    MayWait(Handling),
    /// A change where there is a key that is changed, otherwise a read.
    IfStored,
    /// By its second argument; by the other handling where that is not known.
    Container(&'static [Entry], Handling),
}

const BY_TYPE: Handling = Handling::Cached(Cached { shape: Shape::ByType, lifetime: Lifetime::Keys });

impl Entry {
    const fn new(name: &'static str, kind: Kind, reads: Where, changes: Where) -> Self {
        Self { name, kind, reads, changes }
    }

    pub(super) fn meaning<A: Args + ?Sized>(&self, args: &A) -> Meaning {
        if let Kind::Container(entries, otherwise) = self.kind {
            return self.subcommand(entries, otherwise, args);
        }
        let (reads, changes) = (self.reads.indices(args), self.changes.indices(args));
        let handling = match self.handling(args, &reads, &changes) {
            // Redis refuses it: it takes a key.
            Handling::Cached(_) | Handling::Blocking if reads.len() + changes.len() == 0 => Handling::Passed,
            Handling::Change if args.count() == 1 => Handling::Passed,
            // Redis refuses it, most likely; should it not, it is not understood here.
            Handling::Change if changes.len() == 0 => Handling::ChangeUnknown,
            handling => handling,
        };
        Meaning { name: self.name, handling, reads, changes }
    }

    fn handling<A: Args + ?Sized>(&self, args: &A, reads: &Indices, changes: &Indices) -> Handling {
        let cached = |shape| Handling::Cached(Cached { shape, lifetime: Lifetime::Keys });
        let scored = |has_scores| cached(if has_scores { Shape::Pairs } else { Shape::ByType });
        match self.kind {
            Kind::Is(handling) => handling,
            Kind::Scored(first) => scored(options::has(args, b"WITHSCORES", first.into())),
            Kind::ScoredAfterKeys => scored(options::has(args, b"WITHSCORES", 2 + reads.len())),
            Kind::Ranked => cached(if args.count() > 3 { Shape::NullArrays } else { Shape::ByType }),
            Kind::MayWait(_) if options::may_wait(args) => Handling::Blocking,
            Kind::IfStored if changes.len() == 0 => Handling::Read,
            Kind::IfStored => Handling::Change,
            Kind::MayWait(otherwise) | Kind::Container(_, otherwise) => otherwise,
        }
    }

    fn subcommand<A: Args + ?Sized>(&self, entries: &[Self], otherwise: Handling, args: &A) -> Meaning {
        let known = args
            .arg(1)
            .map(|name| entries.iter().find(|entry| entry.name.as_bytes().eq_ignore_ascii_case(name)));
        let handling = match known {
            Some(Some(entry)) => return Meaning { name: self.name, ..entry.meaning(args) },
            Some(None) => otherwise,
            None => Handling::Passed,
        };
        Meaning { name: self.name, handling, reads: Indices::NONE, changes: Indices::NONE }
    }
}

/// L1 may answer it, and its reply in RESP2 follows from the types of that in RESP3.
pub(super) const fn cached(name: &'static str, reads: Where) -> Entry {
    Entry::new(name, Kind::Is(BY_TYPE), reads, Where::Nowhere)
}

/// L1 may answer it, and a null of its reply is one of an array.
pub(super) const fn cached_null_arrays(name: &'static str, reads: Where) -> Entry {
    let cached = Cached { shape: Shape::NullArrays, lifetime: Lifetime::Keys };
    Entry::new(name, Kind::Is(Handling::Cached(cached)), reads, Where::Nowhere)
}

/// L1 may answer it, and its one key is a hash, whose fields have lives of their own.
pub(super) const fn cached_hash(name: &'static str, lifetime: Lifetime) -> Entry {
    let cached = Cached { shape: Shape::ByType, lifetime };
    Entry::new(name, Kind::Is(Handling::Cached(cached)), Where::At(1), Where::Nowhere)
}

/// L1 may answer it; it takes `WITHSCORES` from this index on.
pub(super) const fn cached_scored(name: &'static str, first_option: u8) -> Entry {
    Entry::new(name, Kind::Scored(first_option), Where::At(1), Where::Nowhere)
}

/// L1 may answer it; it takes a number of keys, and then `WITHSCORES`.
pub(super) const fn cached_scored_union(name: &'static str) -> Entry {
    Entry::new(name, Kind::ScoredAfterKeys, Where::Counted(1, 1), Where::Nowhere)
}

/// L1 may answer it; it takes `WITHSCORE` behind the member.
pub(super) const fn cached_ranked(name: &'static str) -> Entry {
    Entry::new(name, Kind::Ranked, Where::At(1), Where::Nowhere)
}

/// It changes nothing, and L1 does not answer it.
pub(super) const fn read(name: &'static str, reads: Where) -> Entry {
    Entry::new(name, Kind::Is(Handling::Read), reads, Where::Nowhere)
}

/// It changes these keys.
pub(super) const fn change(name: &'static str, changes: Where) -> Entry {
    Entry::new(name, Kind::Is(Handling::Change), Where::Nowhere, changes)
}

/// It changes some keys by what others hold.
pub(super) const fn derive(name: &'static str, reads: Where, changes: Where) -> Entry {
    Entry::new(name, Kind::Is(Handling::Change), reads, changes)
}

/// It changes a key where it is told to store, and is a read otherwise.
pub(super) const fn derive_if_stored(name: &'static str, changes: Where) -> Entry {
    Entry::new(name, Kind::IfStored, Where::At(1), changes)
}

/// `BITFIELD`, which changes its key only where it sets bits.
pub(super) const fn bitfield(name: &'static str) -> Entry {
    Entry::new(name, Kind::IfStored, Where::At(1), Where::Bits)
}

/// It may change keys beyond these.
pub(super) const fn change_unknown(name: &'static str, changes: Where) -> Entry {
    Entry::new(name, Kind::Is(Handling::ChangeUnknown), Where::Nowhere, changes)
}

/// It may change everything, and Redis tells nobody.
pub(super) const fn change_all(name: &'static str) -> Entry {
    Entry::new(name, Kind::Is(Handling::ChangeAll), Where::Nowhere, Where::Nowhere)
}

/// It may wait, and changes these keys.
pub(super) const fn blocking(name: &'static str, changes: Where) -> Entry {
    Entry::new(name, Kind::Is(Handling::Blocking), Where::Nowhere, changes)
}

/// `XREAD`: it may wait where it is told to.
pub(super) const fn read_streams(name: &'static str) -> Entry {
    Entry::new(name, Kind::MayWait(Handling::Read), Where::Streams, Where::Nowhere)
}

/// `XREADGROUP`: it may wait where it is told to.
pub(super) const fn change_streams(name: &'static str) -> Entry {
    Entry::new(name, Kind::MayWait(Handling::Change), Where::Nowhere, Where::Streams)
}

pub(super) const fn pub_sub(name: &'static str, which: PubSub) -> Entry {
    Entry::new(name, Kind::Is(Handling::PubSub(which)), Where::Nowhere, Where::Nowhere)
}

pub(super) const fn transaction(name: &'static str, which: Transaction, reads: Where) -> Entry {
    Entry::new(name, Kind::Is(Handling::Transaction(which)), reads, Where::Nowhere)
}

pub(super) const fn connection(name: &'static str, which: Connection) -> Entry {
    Entry::new(name, Kind::Is(Handling::Connection(which)), Where::Nowhere, Where::Nowhere)
}

pub(super) const fn wait(name: &'static str) -> Entry {
    Entry::new(name, Kind::Is(Handling::Wait), Where::Nowhere, Where::Nowhere)
}

pub(super) const fn takes_over(name: &'static str) -> Entry {
    Entry::new(name, Kind::Is(Handling::TakesOver), Where::Nowhere, Where::Nowhere)
}

pub(super) const fn passed(name: &'static str) -> Entry {
    Entry::new(name, Kind::Is(Handling::Passed), Where::Nowhere, Where::Nowhere)
}

/// By its subcommand; a subcommand that is not known may change anything.
pub(super) const fn container(name: &'static str, entries: &'static [Entry]) -> Entry {
    container_or(name, entries, Handling::ChangeUnknown)
}

/// By its subcommand; in this way where it is not known.
pub(super) const fn container_or(
    name: &'static str,
    entries: &'static [Entry],
    otherwise: Handling,
) -> Entry {
    Entry::new(name, Kind::Container(entries, otherwise), Where::Nowhere, Where::Nowhere)
}
