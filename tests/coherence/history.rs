//! What clients did and saw, on one clock.

/// Nanoseconds since the history began.
pub type Time = u64;

/// From before a command was sent until after its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: Time,
    pub end: Time,
}

/// Through what an operation went to Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum By {
    /// The sidecar of this pod.
    Pod(usize),
    /// Nothing between.
    Direct,
    /// Redis itself, as a time to live was over.
    Expiry,
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Version(u64),
    Absent,
}

/// What an operation did. The versions of a key rise in the order in which Redis executed its writes; it begins
/// as absent, which is version 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Wrote {
        version: u64,
        is_deletion: bool,
    },
    /// No reply came: it may be executed, at any time. Without a version where Redis would have told it.
    Unresolved {
        version: Option<u64>,
        is_deletion: bool,
    },
    Read {
        seen: Seen,
        /// It is promised that no memory answers it: scripts, transactions, and what is asked of Redis itself.
        is_fresh: bool,
    },
}

/// One operation on one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    pub session: usize,
    pub by: By,
    pub key: u64,
    pub span: Span,
    pub what: What,
    /// The command, to find it again.
    pub command: &'static str,
}

/// All that was done, in any order.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub operations: Vec<Operation>,
    /// While something was killed, frozen or slow, and until it was well again.
    pub faults: Vec<Span>,
    /// Commands that came to an error, or to no reply.
    pub errors: usize,
}
