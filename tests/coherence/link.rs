//! The way between a pod and Redis, which may be slow or still: bytes stay in their order, each direction of each
//! connection for itself.

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until},
};

/// How bytes come through in one direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Flow {
    /// At once.
    Free,
    /// Late by the delay and up to the jitter, and so many in a second.
    Slow { delay: Duration, jitter: Duration, bytes_per_second: u32 },
    /// Not at all. What comes meanwhile comes through later.
    Still,
}

/// So much is on its way in one direction at most; beyond it the sender waits.
const ROOM: usize = 256 << 10;
const PIECE: usize = 4 << 10;

/// To Redis, and from there.
pub type Flows = (Flow, Flow);

/// A relay that listens; it ends when dropped, and its connections with it.
pub struct Link {
    pub port: u16,
    ways: Arc<Mutex<Ways>>,
    task: AbortHandle,
}

/// How bytes come through on each connection, by the port from which it comes to Redis; and on those that are made next.
struct Ways {
    of: HashMap<u16, watch::Sender<Flows>>,
    next: Flows,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    pub async fn to(redis_port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let ways = Arc::new(Mutex::new(Ways { of: HashMap::new(), next: (Flow::Free, Flow::Free) }));
        let shared = ways.clone();
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(connection(client, redis_port, shared.clone()));
            }
        });
        Self { port, ways, task: accepting.abort_handle() }
    }

    /// From now on bytes come through so, on all connections.
    pub fn flow(&self, flows: Flows) {
        let mut ways = self.ways.lock().unwrap();
        ways.next = flows;
        for of in ways.of.values() {
            of.send_replace(flows);
        }
    }

    /// The same on the one that comes to Redis from this port.
    pub fn flow_of(&self, port: u16, flows: Flows) {
        self.ways.lock().unwrap().of[&port].send_replace(flows);
    }

    /// Whether one comes to Redis from this port.
    pub fn has(&self, port: u16) -> bool {
        self.ways.lock().unwrap().of.contains_key(&port)
    }
}

async fn connection(client: TcpStream, redis_port: u16, ways: Arc<Mutex<Ways>>) -> io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", redis_port)).await?;
    server.set_nodelay(true)?;
    client.set_nodelay(true)?;
    let port = server.local_addr()?.port();
    let (to, from) = {
        let mut ways = ways.lock().unwrap();
        let flows = watch::Sender::new(ways.next);
        let both = (flows.subscribe(), flows.subscribe());
        ways.of.insert(port, flows);
        both
    };
    let ((asked, told), (replied, sent)) = (client.into_split(), server.into_split());
    // Where one side has ended, what it said before still comes through.
    let _ = tokio::join!(pass(asked, sent, to, |flows| flows.0), pass(replied, told, from, |flows| flows.1));
    ways.lock().unwrap().of.remove(&port);
    Ok(())
}

/// What is on its way, each piece with the time at which it comes out.
#[derive(Default)]
struct OnItsWay {
    pieces: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    /// When the last byte has gone in, and when it comes out.
    last: Option<(Instant, Instant)>,
}

impl OnItsWay {
    fn push(&mut self, piece: Bytes, flow: Flow) {
        let now = Instant::now();
        let (went, came) = self.last.unwrap_or((now, now));
        let (mut in_at, mut out_at) = (now.max(went), now);
        if let Flow::Slow { delay, jitter, bytes_per_second } = flow {
            in_at += Duration::from_secs_f64(piece.len() as f64 / f64::from(bytes_per_second));
            out_at = in_at + delay + jitter.mul_f64(rand::random());
        }
        out_at = out_at.max(came);
        self.last = Some((in_at, out_at));
        self.bytes += piece.len();
        self.pieces.push_back((out_at, piece));
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut flows: watch::Receiver<Flows>,
    direction: fn(&Flows) -> Flow,
) -> io::Result<()> {
    let (mut way, mut is_over, mut buffer) = (OnItsWay::default(), false, BytesMut::new());
    while !is_over || !way.pieces.is_empty() {
        let (is_still, next) = (direction(&flows.borrow_and_update()) == Flow::Still, way.pieces.front());
        let out_at = next.map_or_else(Instant::now, |(out_at, _)| *out_at);
        buffer.reserve(PIECE);
        tokio::select! {
            read = from.read_buf(&mut buffer), if !is_over && way.bytes < ROOM => match read {
                Ok(1..) => way.push(buffer.split().freeze(), direction(&flows.borrow())),
                // It is the end, or it was cut off: what is on its way comes out either way.
                _ => is_over = true,
            },
            () = sleep_until(out_at), if !is_still && next.is_some() => {
                let (_, piece) = way.pieces.pop_front().expect("it was there");
                way.bytes -= piece.len();
                to.write_all(&piece).await?;
            }
            // The link is there for as long as this.
            _ = flows.changed() => {}
        }
    }
    to.shutdown().await
}
