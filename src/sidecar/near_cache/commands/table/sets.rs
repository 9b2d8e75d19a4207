//! Sets.

use super::super::{
    entry::{Entry, cached, change, derive, read},
    indices::{Where, from},
};

pub(super) static COMMANDS: [Entry; 17] = [
    change("SADD", Where::At(1)),
    cached("SCARD", Where::At(1)),
    cached("SDIFF", from(1)),
    derive("SDIFFSTORE", from(2), Where::At(1)),
    cached("SINTER", from(1)),
    cached("SINTERCARD", Where::Counted(1, 1)),
    derive("SINTERSTORE", from(2), Where::At(1)),
    cached("SISMEMBER", Where::At(1)),
    cached("SMEMBERS", Where::At(1)),
    cached("SMISMEMBER", Where::At(1)),
    change("SMOVE", Where::Range(1, 2, 1)),
    change("SPOP", Where::At(1)),
    read("SRANDMEMBER", Where::At(1)),
    change("SREM", Where::At(1)),
    read("SSCAN", Where::At(1)),
    cached("SUNION", from(1)),
    derive("SUNIONSTORE", from(2), Where::At(1)),
];
