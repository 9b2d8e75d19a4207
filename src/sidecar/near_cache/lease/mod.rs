//! Single flight: of all who miss a key, in whichever pod, one is told so, and the others wait for what it writes.
//!
//! Who may be told is who has the lease of the key, a key of its own in the same database with a time to live. Whether
//! the key is written, and whether the lease is gone, Redis tells on the connection that tracks, as both were read there.
//!
//! ```text
//!  reading ──▶ Redis has nothing ──▶ board ─▶ contest of the key ─▶ campaign: SET lease NX PX
//!     ▲                                          │                     │ had by another: waits until it is gone
//!     │ reads again ◀── key written ── push ─────┤                     ▼
//!     └ reads again, and is told ◀── leads ──────┴──────────────── it is the pod's: one of those who wait leads
//! ```
//!
//! * Who leads reads once more: what was written before its lease began is there then, so a lease that was given back is
//!   not followed by a second one for nothing.
//! * A lease never makes an error of a miss: where anything fails, all who wait are told what Redis has said.
//! * The lease is given back when the key is written (whoever has done it), when a client of the pod has tried to
//!   change it, when the connection that was told ends, and at the end of its time by Redis.

mod board;
mod campaign;
mod contest;
mod reading;

pub use self::board::{Board, Ends};
pub(super) use self::{
    contest::Holder,
    reading::{Done, Reading, Waiter},
};
use super::{
    commands::{Handling, Meaning},
    connect::Protocol,
    nothing::nothing,
};
use crate::sidecar::resp::{request::Command, write};
use bytes::Bytes;

/// What the names of leases begin with, before that of the key.
pub const PREFIX: &[u8] = b"cachedservice:lease:";

/// The name of the lease of a key.
fn name(key: &[u8]) -> Bytes {
    [PREFIX, key].concat().into()
}

/// What the read is told where there is nothing, if that is a miss to who asks: a read for the value of one key, and not
/// one of whether there is any.
pub(super) fn missed(command: &Command, meaning: &Meaning, protocol: Protocol) -> Option<Bytes> {
    let asks_for_a_value = matches!(
        meaning.name,
        "GET" | "MGET" | "HGET" | "HMGET" | "HGETALL" | "SMEMBERS" | "ZRANGE" | "ZREVRANGE"
    );
    let is_of_one = matches!(meaning.handling, Handling::Cached(_)) && meaning.reads().len() == 1;
    (asks_for_a_value && is_of_one).then(|| nothing(command, meaning, protocol)).flatten()
}

/// The key of a read of one.
pub(super) fn key_of(command: &Command, meaning: &Meaning) -> Option<Bytes> {
    let key = command.arg(meaning.reads().next()?)?;
    // The leases themselves are not kept apart.
    (!key.starts_with(PREFIX)).then(|| command.raw().slice_ref(key))
}

/// Gives a lease back, if it is the caller's still.
fn given_back(name: &[u8], token: &[u8]) -> Bytes {
    const SCRIPT: &[u8] =
        b"if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";
    write::command(&[b"EVAL", SCRIPT, b"1", name, token]).freeze()
}
