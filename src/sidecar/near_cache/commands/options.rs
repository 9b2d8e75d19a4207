//! Options of commands that decide which of their arguments are keys.

use super::{Args, Indices};

/// A count as Redis takes it; what it refuses may be read as something here, as the command fails then.
pub(super) fn number(text: &[u8]) -> Option<usize> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Where this word is, from an index on.
fn position<A: Args + ?Sized>(args: &A, word: &[u8], from: usize) -> Option<usize> {
    (from..args.count()).find(|&at| is_at(args, at, word))
}

fn is_at<A: Args + ?Sized>(args: &A, at: usize, word: &[u8]) -> bool {
    args.arg(at).is_some_and(|arg| arg.eq_ignore_ascii_case(word))
}

/// Whether this word is anywhere from an index on.
pub(super) fn has<A: Args + ?Sized>(args: &A, word: &[u8], from: usize) -> bool {
    position(args, word, from).is_some()
}

/// The index of `STREAMS` in `XREAD` and `XREADGROUP`: past the values of options, so that a group may have that name.
fn streams_word<A: Args + ?Sized>(args: &A) -> Option<usize> {
    let mut at = 1;
    while at < args.count() {
        at += if is_at(args, at, b"STREAMS") {
            return Some(at);
        } else if is_at(args, at, b"GROUP") {
            3
        } else if is_at(args, at, b"BLOCK") || is_at(args, at, b"COUNT") {
            2
        } else {
            // `NOACK`, and what later versions know.
            1
        };
    }
    None
}

pub(super) fn streams<A: Args + ?Sized>(args: &A) -> Indices {
    let Some(word) = streams_word(args) else { return Indices::NONE };
    let count = args.count();
    let half = (count - word - 1) / 2;
    Indices::new(word + 1, word + 1 + half, 1, count)
}

/// Whether `XREAD` or `XREADGROUP` may wait: a consumer named `BLOCK` makes it seem so, which does no harm.
pub(super) fn may_wait<A: Args + ?Sized>(args: &A) -> bool {
    position(args, b"BLOCK", 1).is_some_and(|block| streams_word(args).is_none_or(|streams| block < streams))
}

pub(super) fn sort_store<A: Args + ?Sized>(args: &A) -> Indices {
    let mut found = Indices::NONE;
    let mut at = 2;
    while at < args.count() {
        at += if is_at(args, at, b"LIMIT") {
            3
        } else if is_at(args, at, b"BY") || is_at(args, at, b"GET") {
            2
        } else if is_at(args, at, b"STORE") && at + 1 < args.count() {
            found = Indices::one(at + 1, args.count());
            2
        } else {
            1
        };
    }
    found
}

/// The key behind `STORE`, that behind `STOREDIST`, or both, though Redis stores in the last alone.
pub(super) fn radius_store<A: Args + ?Sized>(args: &A, first: usize) -> Indices {
    let mut found: Option<(usize, usize)> = None;
    let mut at = first;
    while at + 1 < args.count() {
        if is_at(args, at, b"STORE") || is_at(args, at, b"STOREDIST") {
            at += 1;
            found = Some((found.map_or(at, |(first, _)| first), at));
        }
        at += 1;
    }
    found.map_or(Indices::NONE, |(first, last)| Indices::new(first, last + 1, last - first, args.count()))
}

/// The keys that `MIGRATE` takes away, past passwords and user names that may be called `KEYS`.
pub(super) fn migrated<A: Args + ?Sized>(args: &A) -> Indices {
    let count = args.count();
    if args.arg(3).is_none_or(|key| !key.is_empty()) {
        return Indices::one(3, count);
    }
    let mut at = 6;
    while at < count {
        at += if is_at(args, at, b"KEYS") {
            return Indices::new(at + 1, count, 1, count);
        } else if is_at(args, at, b"AUTH") {
            2
        } else if is_at(args, at, b"AUTH2") {
            3
        } else {
            1
        };
    }
    Indices::NONE
}
