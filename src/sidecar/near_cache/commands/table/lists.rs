//! Lists, which L1 does not hold.

use super::super::{
    entry::{Entry, blocking, change, read},
    indices::Where,
};

pub(super) static COMMANDS: [Entry; 22] = [
    blocking("BLMOVE", Where::Range(1, 2, 1)),
    blocking("BLMPOP", Where::Counted(2, 1)),
    blocking("BLPOP", Where::Range(1, -2, 1)),
    blocking("BRPOP", Where::Range(1, -2, 1)),
    blocking("BRPOPLPUSH", Where::Range(1, 2, 1)),
    read("LINDEX", Where::At(1)),
    change("LINSERT", Where::At(1)),
    read("LLEN", Where::At(1)),
    change("LMOVE", Where::Range(1, 2, 1)),
    change("LMPOP", Where::Counted(1, 1)),
    change("LPOP", Where::At(1)),
    read("LPOS", Where::At(1)),
    change("LPUSH", Where::At(1)),
    change("LPUSHX", Where::At(1)),
    read("LRANGE", Where::At(1)),
    change("LREM", Where::At(1)),
    change("LSET", Where::At(1)),
    change("LTRIM", Where::At(1)),
    change("RPOP", Where::At(1)),
    change("RPOPLPUSH", Where::Range(1, 2, 1)),
    change("RPUSH", Where::At(1)),
    change("RPUSHX", Where::At(1)),
];
