//! What each command of Redis reads and changes, and how it is to be handled. PURE.
//!
//! ```text
//!  arguments ─▶ index ─▶ Entry of the table ─▶ Meaning: handling, keys read, keys changed
//! ```
//!
//! The table is written from Redis' own description of its commands (7.0 to 8.4, Valkey to 9.0), and
//! `tests/sidecar/near_commands.rs` holds it against `COMMAND` of the server on the machine. Where a command is not
//! known, or an argument of a known one is in doubt, it is taken to change keys that cannot be known: that costs one
//! round trip, while the opposite would cost a stale read.
//!
//! Wrong numbers of arguments are Redis' to refuse: such a command is passed on, with the keys that it has.

mod entry;
mod index;
mod indices;
mod options;
mod table;
#[cfg(test)]
mod tests;

pub use indices::Indices;

pub use crate::sidecar::resp::older::Shape;

/// The arguments of a command, its name first.
pub trait Args {
    /// How many there are, with the name.
    fn count(&self) -> usize;

    /// The one at this index; the name is at 0.
    fn arg(&self, at: usize) -> Option<&[u8]>;
}

impl<T: AsRef<[u8]>> Args for [T] {
    fn count(&self) -> usize {
        self.len()
    }

    fn arg(&self, at: usize) -> Option<&[u8]> {
        self.get(at).map(AsRef::as_ref)
    }
}

/// What one command, with these arguments, means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// The name in capitals, or `other` where it is not in the table: a label of a metric, as it is bounded.
    pub name: &'static str,
    /// How it is handled.
    pub handling: Handling,
    pub(crate) reads: Indices,
    pub(crate) changes: Indices,
}

impl Meaning {
    /// The indices of the arguments that are keys it reads.
    #[must_use]
    pub fn reads(&self) -> Indices {
        self.reads.clone()
    }

    /// The indices of the arguments that are keys it changes, or may change. It may read them as well, in whatever it answers.
    ///
    /// Those of [`Handling::ChangeUnknown`] are what is known of them, such as the declared keys of a script.
    #[must_use]
    pub fn changes(&self) -> Indices {
        self.changes.clone()
    }
}

/// How a command is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// L1 may answer it. It has at least one key, all its keys are in [`Meaning::reads`], and Redis tracks them.
    Cached(Cached),
    /// Passed on; it changes nothing that L1 holds, but its answer is not one to keep.
    Read,
    /// It changes the keys in [`Meaning::changes`], of which there is at least one, in whatever database.
    Change,
    /// It may change keys that cannot be known; Redis pushes an invalidation for each that is tracked.
    ChangeUnknown,
    /// It may change what any key holds, or who may read it, and Redis does not push that: after its reply L1 is
    /// emptied.
    ChangeAll,
    /// It may wait, and holds the connection meanwhile: one of the session's own. It may change keys.
    Blocking,
    /// `WAIT` and `WAITAOF`, which wait for the changes made before on the same connection.
    Wait,
    /// Subscriptions, which need a connection of the session's own.
    PubSub(PubSub),
    /// Transactions, which need a connection of the session's own.
    Transaction(Transaction),
    /// It asks or alters what Redis knows of the connection.
    Connection(Connection),
    /// From then on the connection speaks otherwise, or is closed by Redis: one of the session's own.
    TakesOver,
    /// Passed on; it has to do with no key.
    Passed,
}

/// What is to be known of a read that L1 may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cached {
    /// How its reply differs between RESP2 and RESP3.
    pub shape: Shape,
    /// What its reply depends on beside the lives of its keys.
    pub lifetime: Lifetime,
}

/// Which times of expiry a reply depends on.
///
/// Since Redis 7.4 and Valkey 9.0 fields of a hash have times of their own. A read leaves a field out from the very
/// millisecond on, but Redis pushes an invalidation only when it *removes* it: in its cycle or by an access, in Valkey
/// in its cycle alone. That is some 30 ms late as a rule; seen with Redis 8.2.3, it is 3 s late where the time of a
/// field has been shortened from 5 s to 2 s, as the cycle does not look before the first of them. `PTTL` of the key
/// says nothing of fields. So a reply from a hash may be kept:
///
/// * [`Lifetime::Fields`]: for no longer than the least that `HPTTL key FIELDS n field…`, sent in the same pipeline,
///   answers; -1 and -2 limit nothing.
/// * [`Lifetime::WholeHash`]: only where `OBJECT ENCODING key`, sent in the same pipeline, is `listpack` or
///   `ziplist` (fields with times turn it into `listpackex` or `hashtable`), as the fields are not known beforehand.
/// * Where the server does not know `HPTTL`, as Redis 7.0 and 7.2: like [`Lifetime::Keys`].
///
/// A time that is given to a field later is a change of the key, and pushed as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// The keys' own.
    Keys,
    /// The key's own, and those of the fields that are named from this argument to the last.
    Fields(u8),
    /// The key's own, and those of all fields.
    WholeHash,
}

/// Subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PubSub {
    Subscribe,
    PatternSubscribe,
    ShardSubscribe,
    Unsubscribe,
    PatternUnsubscribe,
    ShardUnsubscribe,
}

/// Transactions. The keys of `WATCH` are in [`Meaning::reads`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Transaction {
    Multi,
    Exec,
    Discard,
    Watch,
    Unwatch,
}

/// What is asked or altered of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// `AUTH`: who it is.
    Auth,
    /// `HELLO`: the protocol; perhaps who it is and its name.
    Hello,
    /// `SELECT`: the database.
    Select,
    /// `RESET`: all as at the beginning.
    Reset,
    /// `QUIT`: it ends.
    Quit,
    /// `READONLY`: of a cluster.
    ReadOnly,
    /// `READWRITE`: of a cluster.
    ReadWrite,
    /// `ASKING`: of a cluster, for the next command.
    Asking,
    /// `CLIENT SETNAME`.
    SetName,
    /// `CLIENT GETNAME`.
    GetName,
    /// `CLIENT SETINFO`.
    SetInfo,
    /// `CLIENT ID`.
    Id,
    /// `CLIENT INFO`.
    Info,
    /// `CLIENT LIST`: of all connections.
    List,
    /// `CLIENT KILL`: which may name any connection, and its own.
    Kill,
    /// `CLIENT UNBLOCK`: which names another connection.
    Unblock,
    /// `CLIENT REPLY`: whether there are replies at all.
    Reply,
    /// `CLIENT TRACKING`: a near-cache in the client itself.
    Tracking,
    /// `CLIENT CACHING`: for the next command.
    Caching,
    /// `CLIENT TRACKINGINFO`.
    TrackingInfo,
    /// `CLIENT GETREDIR`.
    Redirection,
    /// `CLIENT NO-EVICT`.
    NoEvict,
    /// `CLIENT NO-TOUCH`.
    NoTouch,
    /// `CLIENT` with a subcommand that is not known here, or one that alters more: `CAPA`, `IMPORT-SOURCE`.
    Other,
}

/// What this command means. It allocates nothing, and is one probe of a table in the usual case.
#[must_use]
pub fn meaning<A: Args + ?Sized>(args: &A) -> Meaning {
    let Some(entry) = args.arg(0).and_then(index::find) else {
        // Redis closes the connection of whoever says `POST` or `Host:`, as a browser that was led there would.
        let is_http = args
            .arg(0)
            .is_some_and(|name| name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"HOST:"));
        let handling = if is_http { Handling::TakesOver } else { Handling::ChangeUnknown };
        return Meaning { name: "other", handling, reads: Indices::NONE, changes: Indices::NONE };
    };
    entry.meaning(args)
}
