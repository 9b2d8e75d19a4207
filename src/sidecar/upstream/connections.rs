//! Connections to the application of one replica, used again.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};

use super::{alone::Alone, body::Upload, fault::Fault};
use crate::sidecar::http::edge::limits::BUFFER;

/// Shorter than most servers keep a connection that is not used.
const IDLE: Duration = Duration::from_secs(4);
/// For a request that cannot be repeated: it is lost if the server ends the connection meanwhile.
const IDLE_UNREPEATABLE: Duration = Duration::from_secs(1);
/// A connection on which nothing came for so long is asked whether the other end is there, and has as long
/// again to answer. An application may be silent for as long as it likes, a node that is gone may not.
const ALIVE: Duration = Duration::from_secs(30);
/// So many are kept for later at most.
const MOST_IDLE: usize = 1024;
/// So many requests share a connection of HTTP/2; servers allow a hundred or more.
const STREAMS: u32 = 100;
/// What an application may send of one answer before the client takes it. The window of the connection is
/// that of all its requests, so that clients that are slow hold up no others.
const WINDOW: u32 = 32 * 1024;
/// So many connections of HTTP/2 are made at once.
const CONNECTING: usize = 8;

/// The connections to one address.
pub struct Connections {
    address: SocketAddr,
    connect: Duration,
    idle: Mutex<Vec<Idle>>,
    is_reaping: AtomicBool,
    shared: Mutex<Vec<Shared>>,
    connecting: Semaphore,
    this: Weak<Connections>,
}

struct Idle {
    connection: Alone,
    since: Instant,
}

/// A connection of HTTP/2.
#[derive(Clone)]
struct Shared {
    connection: http2::SendRequest<Upload>,
    /// One for each request on it, and one for the list.
    requests: Arc<()>,
    trust: Arc<Trust>,
}

/// What is known of a connection.
#[derive(Default)]
struct Trust {
    answers: AtomicU64,
    is_lost: AtomicBool,
}

impl Trust {
    fn answers(&self) -> u64 {
        self.answers.load(Ordering::Acquire)
    }
}

impl Connections {
    /// To an address; a connection is there in `connect`, or not at all.
    #[must_use]
    pub fn to(address: SocketAddr, connect: Duration) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            address,
            connect,
            idle: Mutex::default(),
            is_reaping: AtomicBool::new(false),
            shared: Mutex::default(),
            connecting: Semaphore::new(CONNECTING),
            this: this.clone(),
        })
    }

    /// Asks in HTTP/1.1. The connection is for [`Connections::put_back`] after the end of the body.
    ///
    /// # Errors
    /// When no answer has come.
    pub async fn ask(
        &self,
        mut request: Request<Upload>,
        is_repeatable: bool,
    ) -> Result<(Response<Incoming>, Alone), Fault> {
        loop {
            let (mut connection, was_reused) = match self.take(is_repeatable) {
                Some(connection) => (connection, true),
                // What an application sends faster than a client takes it is not kept here.
                None => (Box::pin(self.open_alone()).await?, false),
            };
            match connection.send(request).await {
                Ok(response) => return Ok((response, connection)),
                Err(mut failed) => match failed.take_message() {
                    // It had ended meanwhile, before anything was written.
                    Some(message) if was_reused => request = message,
                    Some(_) => return Err(Fault::Unsent),
                    None => return Err(Fault::of_sending(failed.into_error(), was_reused)),
                },
            }
        }
    }

    /// Keeps a connection for the next request.
    pub fn put_back(&self, connection: Alone) {
        if connection.has_ended() {
            return;
        }
        let mut idle = self.idle.lock();
        if idle.len() < MOST_IDLE {
            idle.push(Idle { connection, since: Instant::now() });
        }
        drop(idle);
        if !self.is_reaping.swap(true, Ordering::AcqRel) {
            tokio::spawn(reap(self.this.clone()));
        }
    }

    fn take(&self, is_repeatable: bool) -> Option<Alone> {
        let most = if is_repeatable { IDLE } else { IDLE_UNREPEATABLE };
        let mut idle = self.idle.lock();
        let mut index = idle.len();
        // The youngest first, so that those that are not needed grow old.
        while index > 0 {
            index -= 1;
            let Idle { connection, since } = idle.get_mut(index)?;
            if connection.is_closed() {
                idle.remove(index);
            } else if since.elapsed() > most {
                return None;
            } else if connection.is_ready() {
                return Some(idle.remove(index).connection);
            }
        }
        None
    }

    /// Asks in HTTP/2, on a connection that others use too; what comes with the answer is held as long as
    /// the request is on it.
    ///
    /// # Errors
    /// When no answer has come.
    pub async fn ask_http2(
        &self,
        mut request: Request<Upload>,
    ) -> Result<(Response<Incoming>, Arc<()>), Fault> {
        loop {
            let Shared { mut connection, requests, trust } = self.share().await?;
            let watched = Watched { trust: &trust, before: trust.answers(), began: Instant::now() };
            let answered = connection.try_send_request(request).await;
            let mut failed = match answered {
                Ok(response) => {
                    trust.answers.fetch_add(1, Ordering::AcqRel);
                    return Ok((response, requests));
                }
                Err(failed) => failed,
            };
            let had_answered = watched.before > 0;
            if let Some(message) = failed.take_message() {
                trust.is_lost.store(true, Ordering::Release);
                if !had_answered {
                    return Err(Fault::Unsent);
                }
                request = message;
                continue;
            }
            return Err(match Fault::of_sending(failed.into_error(), had_answered) {
                Fault::Broken { error, .. } | Fault::Malformed(error) if trust.answers() == 0 => {
                    Fault::NoHttp2(error)
                }
                fault => fault,
            });
        }
    }

    async fn share(&self) -> Result<Shared, Fault> {
        if let Some(shared) = self.least_used() {
            return Ok(shared);
        }
        let _turn = self.connecting.acquire().await;
        if let Some(shared) = self.least_used() {
            return Ok(shared);
        }
        let stream = self.open().await?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW * STREAMS)
            .max_send_buf_size(BUFFER);
        let (connection, driver) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|_| Fault::Unsent)?;
        tokio::spawn(async move {
            let _ = driver.await;
        });
        let shared = Shared { connection, requests: Arc::default(), trust: Arc::default() };
        self.shared.lock().push(shared.clone());
        Ok(shared)
    }

    fn least_used(&self) -> Option<Shared> {
        let mut shared = self.shared.lock();
        shared
            .retain(|shared| !shared.connection.is_closed() && !shared.trust.is_lost.load(Ordering::Acquire));
        let least = shared.iter().min_by_key(|shared| Arc::strong_count(&shared.requests))?;
        (Arc::strong_count(&least.requests) <= STREAMS as usize).then(|| least.clone())
    }

    async fn open_alone(&self) -> Result<Alone, Fault> {
        Alone::on(self.open().await?, BUFFER).await
    }

    async fn open(&self) -> Result<TcpStream, Fault> {
        let stream = match timeout(self.connect, TcpStream::connect(self.address)).await {
            Ok(connected) => connected.map_err(Fault::of_connecting)?,
            Err(_) => return Err(Fault::NoConnection(std::io::ErrorKind::TimedOut.into())),
        };
        let _ = stream.set_nodelay(true);
        let alive = TcpKeepalive::new().with_time(ALIVE).with_interval(ALIVE / 3).with_retries(3);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&alive);
        Ok(stream)
    }
}

/// Gives a connection up on which nothing has come for as long as somebody was ready to wait: what is at
/// its other end may be gone.
struct Watched<'a> {
    trust: &'a Trust,
    before: u64,
    began: Instant,
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if self.trust.answers() == self.before && self.began.elapsed() > IDLE_UNREPEATABLE {
            self.trust.is_lost.store(true, Ordering::Release);
        }
    }
}

/// Ends those that nobody has used for long, for as long as there are any.
async fn reap(connections: Weak<Connections>) {
    loop {
        sleep(IDLE / 2).await;
        let Some(connections) = connections.upgrade() else { return };
        let mut idle = connections.idle.lock();
        idle.retain_mut(|idle| !idle.connection.is_closed() && idle.since.elapsed() <= IDLE);
        if idle.is_empty() {
            // Under the lock, so that what is put back next starts this again.
            connections.is_reaping.store(false, Ordering::Release);
            return;
        }
    }
}
