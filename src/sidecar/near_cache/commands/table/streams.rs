//! Streams, which L1 does not hold.

use super::super::{
    entry::{Entry, change, change_streams, container, passed, read, read_streams},
    indices::Where,
};

static XGROUP: [Entry; 6] = [
    change("CREATE", Where::At(2)),
    change("CREATECONSUMER", Where::At(2)),
    change("DELCONSUMER", Where::At(2)),
    change("DESTROY", Where::At(2)),
    passed("HELP"),
    change("SETID", Where::At(2)),
];

static XINFO: [Entry; 4] = [
    read("CONSUMERS", Where::At(2)),
    read("GROUPS", Where::At(2)),
    passed("HELP"),
    read("STREAM", Where::At(2)),
];

pub(super) static COMMANDS: [Entry; 17] = [
    change("XACK", Where::At(1)),
    // Redis 8.2.
    change("XACKDEL", Where::At(1)),
    change("XADD", Where::At(1)),
    change("XAUTOCLAIM", Where::At(1)),
    change("XCLAIM", Where::At(1)),
    change("XDEL", Where::At(1)),
    // Redis 8.2.
    change("XDELEX", Where::At(1)),
    container("XGROUP", &XGROUP),
    container("XINFO", &XINFO),
    read("XLEN", Where::At(1)),
    read("XPENDING", Where::At(1)),
    read("XRANGE", Where::At(1)),
    read_streams("XREAD"),
    change_streams("XREADGROUP"),
    read("XREVRANGE", Where::At(1)),
    change("XSETID", Where::At(1)),
    change("XTRIM", Where::At(1)),
];
