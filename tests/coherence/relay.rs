//! A pod's cache as it should not be: proof that the checker finds what is wrong with it.

use std::{
    collections::HashMap,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::Mutex,
    task::{AbortHandle, JoinHandle},
};

/// What a relay keeps of replies to GET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Nothing: then there is no flaw.
    Nothing,
    /// Whatever was read once.
    Everything,
    /// What was read, for so long, unless it is changed through the same relay: the cache that services write by hand.
    OwnWritesClear(Duration),
}

/// What clears nothing.
const READS: [&[u8]; 5] = [b"GET", b"MGET", b"GETRANGE", b"HGET", b"HGETALL"];

/// A relay that listens; it ends when dropped.
pub struct Relay {
    pub url: String,
    task: AbortHandle,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Replies by key, held while a command is under way: so the relay has no races but those it is made to have.
type Kept = Arc<Mutex<HashMap<Vec<u8>, (Instant, Vec<u8>)>>>;

impl Relay {
    pub async fn start(memory: Memory, redis_port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let url = format!("redis://{}", listener.local_addr().expect("an address"));
        let kept = Kept::default();
        let accepting: JoinHandle<()> = tokio::spawn(async move {
            // Dropped with the relay, and the connections with it.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(connection(client, memory, redis_port, kept.clone()));
            }
        });
        Self { url, task: accepting.abort_handle() }
    }
}

async fn connection(client: TcpStream, memory: Memory, redis_port: u16, kept: Kept) -> io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", redis_port)).await?;
    server.set_nodelay(true)?;
    client.set_nodelay(true)?;
    let (mut server, mut client) = (BufReader::new(server), BufReader::new(client));
    let mut is_in_transaction = false;
    let mut queued: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut raw = Vec::new();
        let arguments = command(&mut client, &mut raw).await?;
        let name = arguments[0].to_ascii_uppercase();
        let is_end = matches!(name.as_slice(), b"EXEC" | b"DISCARD" | b"UNWATCH");
        is_in_transaction = !is_end && (is_in_transaction || matches!(name.as_slice(), b"MULTI" | b"WATCH"));
        let mut reply = Vec::new();
        if memory == Memory::Nothing {
            server.write_all(&raw).await?;
            message(&mut server, &mut reply).await?;
        } else {
            let mut kept = kept.lock().await;
            let is_kept = name == b"GET" && !is_in_transaction;
            let found = kept.get(&arguments[1..].concat()).filter(|_| is_kept);
            if let Some((_, found)) = found.filter(|(since, _)| is_alive(memory, *since)) {
                reply.clone_from(found);
            } else {
                let began = Instant::now();
                server.write_all(&raw).await?;
                message(&mut server, &mut reply).await?;
                if is_kept {
                    kept.insert(arguments[1].clone(), (began, reply.clone()));
                } else if matches!(memory, Memory::OwnWritesClear(_)) && !READS.contains(&name.as_slice()) {
                    queued.extend_from_slice(&arguments[1..]);
                    // What a transaction changes is changed with its end.
                    if !is_in_transaction {
                        queued.drain(..).for_each(|argument| drop(kept.remove(&argument)));
                    }
                }
            }
        }
        client.write_all(&reply).await?;
    }
}

fn is_alive(memory: Memory, since: Instant) -> bool {
    match memory {
        Memory::OwnWritesClear(life) => since.elapsed() < life,
        _ => true,
    }
}

/// The arguments of one command, an array of strings.
async fn command(client: &mut BufReader<TcpStream>, raw: &mut Vec<u8>) -> io::Result<Vec<Vec<u8>>> {
    let count = header(client, raw).await?.1;
    let mut arguments = Vec::new();
    for _ in 0..count {
        header(client, raw).await?;
        let length = raw.len();
        string(client, raw, last_number(raw)).await?;
        arguments.push(raw[length..raw.len() - 2].to_vec());
    }
    Ok(arguments)
}

/// One reply, whatever is in it.
async fn message(server: &mut BufReader<TcpStream>, raw: &mut Vec<u8>) -> io::Result<()> {
    let mut outstanding = 1_i64;
    while outstanding > 0 {
        outstanding -= 1;
        match header(server, raw).await? {
            (b'$' | b'=' | b'!', length) if length >= 0 => string(server, raw, length).await?,
            (b'*' | b'~' | b'>', count) => outstanding += count.max(0),
            (b'%', count) => outstanding += 2 * count,
            _ => {}
        }
    }
    Ok(())
}

/// A line: its type and its number, if it has one.
async fn header(from: &mut (impl AsyncBufRead + Unpin), raw: &mut Vec<u8>) -> io::Result<(u8, i64)> {
    let start = raw.len();
    if from.read_until(b'\n', raw).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((raw[start], last_number(raw)))
}

/// The number of the last line.
fn last_number(raw: &[u8]) -> i64 {
    let line = raw[..raw.len() - 2].rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    std::str::from_utf8(&line[1..]).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

async fn string(from: &mut (impl AsyncBufRead + Unpin), raw: &mut Vec<u8>, length: i64) -> io::Result<()> {
    let start = raw.len();
    raw.resize(start + usize::try_from(length).unwrap_or(0) + 2, 0);
    from.read_exact(&mut raw[start..]).await?;
    Ok(())
}
