//! What a read is told while Redis does not answer, where the settings have it that there is nothing: what Redis says
//! of a key that is not there. PURE.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    commands::{Args, Meaning},
    connect::Protocol,
};
use crate::sidecar::resp::write;

/// The reply to a read of keys that are not there; None: it is not known, or may change something.
#[must_use]
pub fn nothing<A: Args + ?Sized>(args: &A, meaning: &Meaning, protocol: Protocol) -> Option<Bytes> {
    let null: &[u8] = if protocol == Protocol::Three { b"_\r\n" } else { b"$-1\r\n" };
    let one = |reply: &[u8]| Some(Bytes::copy_from_slice(reply));
    match meaning.name {
        "GET" | "HGET" | "LINDEX" | "ZSCORE" => one(null),
        "GETRANGE" | "SUBSTR" => one(b"$0\r\n\r\n"),
        "STRLEN" | "BITCOUNT" | "EXISTS" | "HLEN" | "HEXISTS" | "HSTRLEN" | "LLEN" | "SCARD"
        | "SISMEMBER" | "ZCARD" | "ZCOUNT" | "ZLEXCOUNT" | "XLEN" | "GETBIT" => one(b":0\r\n"),
        "MGET" => each(args, 1, null),
        "HMGET" | "ZMSCORE" => each(args, 2, null),
        "SMISMEMBER" => each(args, 2, b":0\r\n"),
        "HGETALL" if protocol == Protocol::Three => one(b"%0\r\n"),
        "SMEMBERS" | "SINTER" | "SUNION" | "SDIFF" if protocol == Protocol::Three => one(b"~0\r\n"),
        "LRANGE" | "HKEYS" | "HVALS" | "ZRANGE" | "ZRANGEBYSCORE" | "ZREVRANGE" | "ZREVRANGEBYSCORE"
        | "XRANGE" | "XREVRANGE" | "HGETALL" | "SMEMBERS" | "SINTER" | "SUNION" | "SDIFF" => one(b"*0\r\n"),
        _ => None,
    }
}

/// The same for each argument from this one on.
fn each<A: Args + ?Sized>(args: &A, from: usize, reply: &[u8]) -> Option<Bytes> {
    // Without any it is wrong, and no read.
    let count = args.count().checked_sub(from).filter(|count| *count > 0)?;
    let mut all = BytesMut::with_capacity(16 + count * reply.len());
    write::array(&mut all, count);
    (0..count).for_each(|_| all.put_slice(reply));
    Some(all.freeze())
}
