//! What concerns the connection: who it is, transactions, subscriptions.

use super::super::{
    Connection, Handling, PubSub, Transaction,
    entry::{Entry, connection, container, container_or, passed, pub_sub, transaction, wait},
    indices::{Where, from},
};

static CLIENT: [Entry; 20] = [
    connection("CACHING", Connection::Caching),
    connection("CAPA", Connection::Other),
    connection("GETNAME", Connection::GetName),
    connection("GETREDIR", Connection::Redirection),
    passed("HELP"),
    connection("ID", Connection::Id),
    connection("IMPORT-SOURCE", Connection::Other),
    connection("INFO", Connection::Info),
    connection("KILL", Connection::Kill),
    connection("LIST", Connection::List),
    connection("NO-EVICT", Connection::NoEvict),
    connection("NO-TOUCH", Connection::NoTouch),
    // Of all connections of the server, this sidecar's as well.
    passed("PAUSE"),
    connection("REPLY", Connection::Reply),
    connection("SETINFO", Connection::SetInfo),
    connection("SETNAME", Connection::SetName),
    connection("TRACKING", Connection::Tracking),
    connection("TRACKINGINFO", Connection::TrackingInfo),
    connection("UNBLOCK", Connection::Unblock),
    passed("UNPAUSE"),
];

static PUBSUB: [Entry; 6] = [
    passed("CHANNELS"),
    passed("HELP"),
    passed("NUMPAT"),
    passed("NUMSUB"),
    passed("SHARDCHANNELS"),
    passed("SHARDNUMSUB"),
];

pub(super) static COMMANDS: [Entry; 27] = [
    connection("ASKING", Connection::Asking),
    connection("AUTH", Connection::Auth),
    container_or("CLIENT", &CLIENT, Handling::Connection(Connection::Other)),
    transaction("DISCARD", Transaction::Discard, Where::Nowhere),
    passed("ECHO"),
    transaction("EXEC", Transaction::Exec, Where::Nowhere),
    connection("HELLO", Connection::Hello),
    transaction("MULTI", Transaction::Multi, Where::Nowhere),
    passed("PING"),
    pub_sub("PSUBSCRIBE", PubSub::PatternSubscribe),
    passed("PUBLISH"),
    container("PUBSUB", &PUBSUB),
    pub_sub("PUNSUBSCRIBE", PubSub::PatternUnsubscribe),
    connection("QUIT", Connection::Quit),
    connection("READONLY", Connection::ReadOnly),
    connection("READWRITE", Connection::ReadWrite),
    connection("RESET", Connection::Reset),
    connection("SELECT", Connection::Select),
    passed("SPUBLISH"),
    pub_sub("SSUBSCRIBE", PubSub::ShardSubscribe),
    pub_sub("SUBSCRIBE", PubSub::Subscribe),
    pub_sub("SUNSUBSCRIBE", PubSub::ShardUnsubscribe),
    pub_sub("UNSUBSCRIBE", PubSub::Unsubscribe),
    transaction("UNWATCH", Transaction::Unwatch, Where::Nowhere),
    wait("WAIT"),
    wait("WAITAOF"),
    transaction("WATCH", Transaction::Watch, from(1)),
];
