//! The server: its settings, users, replicas and figures.

use super::super::{
    entry::{Entry, change_all, container, passed, read, takes_over},
    indices::Where,
};

/// Redis closes the connections of a user who is deleted, but pushes nothing to those of a user who may read less.
static ACL: [Entry; 13] = [
    passed("CAT"),
    change_all("DELUSER"),
    // It only says whether the command would be allowed.
    passed("DRYRUN"),
    passed("GENPASS"),
    passed("GETUSER"),
    passed("HELP"),
    passed("LIST"),
    change_all("LOAD"),
    passed("LOG"),
    passed("SAVE"),
    change_all("SETUSER"),
    passed("USERS"),
    passed("WHOAMI"),
];

/// Those that move slots, and with them keys, or make a replica of the server, are not here.
static CLUSTER: [Entry; 18] = [
    passed("COUNT-FAILURE-REPORTS"),
    passed("COUNTKEYSINSLOT"),
    passed("FORGET"),
    passed("GETKEYSINSLOT"),
    passed("HELP"),
    passed("INFO"),
    passed("KEYSLOT"),
    passed("LINKS"),
    passed("MEET"),
    passed("MYID"),
    passed("MYSHARDID"),
    passed("NODES"),
    passed("REPLICAS"),
    passed("SAVECONFIG"),
    passed("SHARDS"),
    passed("SLAVES"),
    passed("SLOT-STATS"),
    passed("SLOTS"),
];

static COMMAND: [Entry; 7] = [
    passed("COUNT"),
    passed("DOCS"),
    passed("GETKEYS"),
    passed("GETKEYSANDFLAGS"),
    passed("HELP"),
    passed("INFO"),
    passed("LIST"),
];

/// What a setting evicts is pushed.
static CONFIG: [Entry; 5] =
    [passed("GET"), passed("HELP"), passed("RESETSTAT"), passed("REWRITE"), passed("SET")];

static LATENCY: [Entry; 7] = [
    passed("DOCTOR"),
    passed("GRAPH"),
    passed("HELP"),
    passed("HISTOGRAM"),
    passed("HISTORY"),
    passed("LATEST"),
    passed("RESET"),
];

static LOG: [Entry; 4] = [passed("GET"), passed("HELP"), passed("LEN"), passed("RESET")];

static MEMORY: [Entry; 6] = [
    passed("DOCTOR"),
    passed("HELP"),
    passed("MALLOC-STATS"),
    passed("PURGE"),
    passed("STATS"),
    read("USAGE", Where::At(2)),
];

/// A module that is loaded may do anything.
static MODULE: [Entry; 2] = [passed("HELP"), passed("LIST")];

pub(super) static COMMANDS: [Entry; 27] = [
    container("ACL", &ACL),
    passed("BGREWRITEAOF"),
    passed("BGSAVE"),
    container("CLUSTER", &CLUSTER),
    container("COMMAND", &COMMAND),
    // Valkey 8.1.
    container("COMMANDLOG", &LOG),
    container("CONFIG", &CONFIG),
    // It can do anything, such as to load other data.
    change_all("DEBUG"),
    // The data of another server may take the place of this one's.
    change_all("FAILOVER"),
    passed("INFO"),
    passed("LASTSAVE"),
    container("LATENCY", &LATENCY),
    read("LOLWUT", Where::Nowhere),
    container("MEMORY", &MEMORY),
    container("MODULE", &MODULE),
    takes_over("MONITOR"),
    passed("PFSELFTEST"),
    takes_over("PSYNC"),
    takes_over("REPLCONF"),
    change_all("REPLICAOF"),
    passed("ROLE"),
    passed("SAVE"),
    passed("SHUTDOWN"),
    change_all("SLAVEOF"),
    container("SLOWLOG", &LOG),
    takes_over("SYNC"),
    passed("TIME"),
];
