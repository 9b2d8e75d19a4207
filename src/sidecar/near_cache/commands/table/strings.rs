//! Strings, bits and HyperLogLogs.

use super::super::{
    entry::{Entry, bitfield, cached, change, derive},
    indices::{Where, from},
};

pub(super) static COMMANDS: [Entry; 37] = [
    change("APPEND", Where::At(1)),
    cached("BITCOUNT", Where::At(1)),
    bitfield("BITFIELD"),
    cached("BITFIELD_RO", Where::At(1)),
    derive("BITOP", from(3), Where::At(2)),
    cached("BITPOS", Where::At(1)),
    change("DECR", Where::At(1)),
    change("DECRBY", Where::At(1)),
    // Redis 8.4, and what Valkey 9.0 has in its place.
    change("DELEX", Where::At(1)),
    change("DELIFEQ", Where::At(1)),
    // Redis 8.4: a checksum of the value.
    cached("DIGEST", Where::At(1)),
    cached("GET", Where::At(1)),
    cached("GETBIT", Where::At(1)),
    change("GETDEL", Where::At(1)),
    // A change even where it only reads: Redis takes it for a write, and so does not track its key.
    change("GETEX", Where::At(1)),
    cached("GETRANGE", Where::At(1)),
    change("GETSET", Where::At(1)),
    change("INCR", Where::At(1)),
    change("INCRBY", Where::At(1)),
    change("INCRBYFLOAT", Where::At(1)),
    cached("LCS", Where::Range(1, 2, 1)),
    cached("MGET", from(1)),
    change("MSET", Where::Range(1, -1, 2)),
    // Redis 8.4: a number of pairs, and then options.
    change("MSETEX", Where::Counted(1, 2)),
    change("MSETNX", Where::Range(1, -1, 2)),
    change("PFADD", Where::At(1)),
    // It may store the count that it has made in the key itself, and tells those who track it.
    change("PFCOUNT", from(1)),
    change("PFDEBUG", Where::At(2)),
    derive("PFMERGE", from(2), Where::At(1)),
    change("PSETEX", Where::At(1)),
    change("SET", Where::At(1)),
    change("SETBIT", Where::At(1)),
    change("SETEX", Where::At(1)),
    change("SETNX", Where::At(1)),
    change("SETRANGE", Where::At(1)),
    cached("STRLEN", Where::At(1)),
    cached("SUBSTR", Where::At(1)),
];
