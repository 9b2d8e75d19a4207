//! Scripts and functions. Those that may write may write any key, whatever they declare.

use super::super::{
    entry::{Entry, change_unknown, container, passed, read, takes_over},
    indices::Where,
};

/// Those that Redis takes for writes are left so, though they change no key.
static FUNCTION: [Entry; 9] = [
    change_unknown("DELETE", Where::Nowhere),
    passed("DUMP"),
    change_unknown("FLUSH", Where::Nowhere),
    passed("HELP"),
    passed("KILL"),
    passed("LIST"),
    change_unknown("LOAD", Where::Nowhere),
    change_unknown("RESTORE", Where::Nowhere),
    passed("STATS"),
];

static SCRIPT: [Entry; 7] = [
    // The next `EVAL` of the connection begins a conversation.
    takes_over("DEBUG"),
    passed("EXISTS"),
    passed("FLUSH"),
    passed("HELP"),
    passed("KILL"),
    passed("LOAD"),
    // Valkey 8.
    passed("SHOW"),
];

pub(super) static COMMANDS: [Entry; 8] = [
    change_unknown("EVAL", Where::Counted(2, 1)),
    change_unknown("EVALSHA", Where::Counted(2, 1)),
    read("EVALSHA_RO", Where::Counted(2, 1)),
    read("EVAL_RO", Where::Counted(2, 1)),
    change_unknown("FCALL", Where::Counted(2, 1)),
    read("FCALL_RO", Where::Counted(2, 1)),
    container("FUNCTION", &FUNCTION),
    container("SCRIPT", &SCRIPT),
];
