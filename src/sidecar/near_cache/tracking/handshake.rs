//! A connection on which Redis tells what changes.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::sidecar::{
    near_cache::connect::{Identity, Protocol, Refused, Stream, Upstream},
    resp::{reply::Scanner, write},
};

/// What it may take, once it is connected.
const LIMIT: Duration = Duration::from_secs(2);

/// Opens one, and tells whether the server knows fields of hashes that expire.
pub(super) async fn open(
    upstream: &Upstream,
    identity: &Identity,
    database: u32,
) -> Result<(Stream, bool), Refused> {
    let mut stream = upstream.open(identity, database, Protocol::Three).await?.stream;
    let mut sent = write::command(&[b"CLIENT", b"TRACKING", b"ON"]);
    sent.unsplit(write::command(&[b"COMMAND", b"INFO", b"HPTTL"]));
    let asking = async {
        stream.write_all(&sent).await?;
        let mut input = BytesMut::new();
        Ok::<_, std::io::Error>((
            reply(&mut stream, &mut input).await?,
            reply(&mut stream, &mut input).await?,
        ))
    };
    let lost = |problem: String| Refused::Unreachable(problem.into());
    let (tracking, fields) = timeout(LIMIT, asking)
        .await
        .map_err(|_| lost(format!("no answer within {LIMIT:?}")))?
        .map_err(|error| lost(error.to_string()))?;
    if &tracking[..] != write::OK {
        return Err(Refused::Said(tracking));
    }
    // A user that may not ask is taken to have a server that does.
    Ok((stream, !matches!(&fields[..], b"*1\r\n_\r\n" | b"*1\r\n*-1\r\n" | b"*0\r\n")))
}

/// A whole reply; what is behind it stays.
async fn reply(stream: &mut Stream, input: &mut BytesMut) -> std::io::Result<Bytes> {
    let (mut scanner, mut seen) = (Scanner::default(), 0);
    loop {
        let found = scanner.scan(input.get(seen..).unwrap_or_default());
        let found = found.map_err(|error| std::io::Error::other(error.to_string()))?;
        seen += found.bytes;
        if found.is_whole {
            return Ok(input.split_to(seen).freeze());
        }
        if stream.read_buf(input).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}
