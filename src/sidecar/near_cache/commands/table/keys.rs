//! Keys of whatever type, and all of them together.

use super::super::{
    entry::{Entry, cached, change, change_all, container, derive, derive_if_stored, passed, read},
    indices::{Where, from},
};

static OBJECT: [Entry; 5] = [
    read("ENCODING", Where::At(2)),
    read("FREQ", Where::At(2)),
    passed("HELP"),
    read("IDLETIME", Where::At(2)),
    read("REFCOUNT", Where::At(2)),
];

pub(super) static COMMANDS: [Entry; 32] = [
    // Into whatever database: an invalidation names no database either.
    derive("COPY", Where::At(1), Where::At(2)),
    read("DBSIZE", Where::Nowhere),
    change("DEL", from(1)),
    read("DUMP", Where::At(1)),
    cached("EXISTS", from(1)),
    change("EXPIRE", Where::At(1)),
    change("EXPIREAT", Where::At(1)),
    read("EXPIRETIME", Where::At(1)),
    change_all("FLUSHALL"),
    change_all("FLUSHDB"),
    read("KEYS", Where::Nowhere),
    change("MIGRATE", Where::Migrated),
    change("MOVE", Where::At(1)),
    container("OBJECT", &OBJECT),
    change("PERSIST", Where::At(1)),
    change("PEXPIRE", Where::At(1)),
    change("PEXPIREAT", Where::At(1)),
    read("PEXPIRETIME", Where::At(1)),
    read("PTTL", Where::At(1)),
    read("RANDOMKEY", Where::Nowhere),
    change("RENAME", Where::Range(1, 2, 1)),
    change("RENAMENX", Where::Range(1, 2, 1)),
    change("RESTORE", Where::At(1)),
    change("RESTORE-ASKING", Where::At(1)),
    read("SCAN", Where::Nowhere),
    // It may read keys beside, by `BY` and `GET`; without `STORE` it is a write to Redis even so.
    derive_if_stored("SORT", Where::SortStore),
    read("SORT_RO", Where::At(1)),
    // Redis tells nobody: seen with 7.0, where those who track a key of either database hear nothing.
    change_all("SWAPDB"),
    // What it does to the order of eviction is what it is for.
    read("TOUCH", from(1)),
    read("TTL", Where::At(1)),
    cached("TYPE", Where::At(1)),
    change("UNLINK", from(1)),
];
