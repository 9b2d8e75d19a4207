//! Hashes.

use super::super::{
    Lifetime,
    entry::{Entry, cached_hash, change, read},
    indices::Where,
};

pub(super) static COMMANDS: [Entry; 28] = [
    change("HDEL", Where::At(1)),
    cached_hash("HEXISTS", Lifetime::Fields(2)),
    change("HEXPIRE", Where::At(1)),
    change("HEXPIREAT", Where::At(1)),
    read("HEXPIRETIME", Where::At(1)),
    cached_hash("HGET", Lifetime::Fields(2)),
    cached_hash("HGETALL", Lifetime::WholeHash),
    change("HGETDEL", Where::At(1)),
    // Redis takes it for a write, so that its key is not tracked (redis/redis#13839).
    change("HGETEX", Where::At(1)),
    change("HINCRBY", Where::At(1)),
    change("HINCRBYFLOAT", Where::At(1)),
    cached_hash("HKEYS", Lifetime::WholeHash),
    cached_hash("HLEN", Lifetime::WholeHash),
    cached_hash("HMGET", Lifetime::Fields(2)),
    change("HMSET", Where::At(1)),
    change("HPERSIST", Where::At(1)),
    change("HPEXPIRE", Where::At(1)),
    change("HPEXPIREAT", Where::At(1)),
    read("HPEXPIRETIME", Where::At(1)),
    read("HPTTL", Where::At(1)),
    read("HRANDFIELD", Where::At(1)),
    read("HSCAN", Where::At(1)),
    change("HSET", Where::At(1)),
    change("HSETEX", Where::At(1)),
    change("HSETNX", Where::At(1)),
    cached_hash("HSTRLEN", Lifetime::Fields(2)),
    read("HTTL", Where::At(1)),
    cached_hash("HVALS", Lifetime::WholeHash),
];
