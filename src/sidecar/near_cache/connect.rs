//! A connection to Redis, up to where commands may be sent on it: address, TLS, who asks, which protocol, which
//! database.

mod stream;
mod tls;

use std::{
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::rustls::RootCertStore;

pub use self::stream::Stream;
use crate::sidecar::resp::{reply::Scanner, write};

/// What the connections are called in `CLIENT LIST`.
pub(super) const NAME: &[u8] = b"cachedservice";
/// A greeting is no longer.
const GREETING: usize = 64 << 10;

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Identity {
    /// The service: user and password are those of the URL.
    #[default]
    Own,
    /// Whom the client has named with AUTH.
    Client(Credentials),
}

/// What a client has given with AUTH.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// None: a password alone was given.
    pub user: Option<Bytes>,
    /// In plain text, as Redis is told it.
    pub password: Bytes,
}

/// The form of replies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// RESP2, with which each connection begins.
    #[default]
    Two,
    /// RESP3.
    Three,
}

/// What all that is sent on a connection has in common.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Who asks; many have the same.
    pub identity: Arc<Identity>,
    /// The number of the database.
    pub database: u32,
    /// The form of replies.
    pub protocol: Protocol,
}

/// Why there is no connection.
#[derive(Clone, Debug, Error)]
pub enum Refused {
    /// Redis is not reached, or cannot be spoken to; in words without the password.
    #[error("{0}")]
    Unreachable(Arc<str>),
    /// Redis refuses who asks, or the database; its reply, the end of the line with it.
    #[error("Redis refuses: {}", String::from_utf8_lossy(.0).trim_end())]
    Said(Bytes),
}

/// A connection on which commands may be sent.
#[derive(Debug)]
pub struct Opened {
    /// What is sent, and what comes.
    pub stream: Stream,
    /// What Redis has said to HELLO; nothing in RESP2.
    pub greeting: Bytes,
}

/// The way to Redis.
#[derive(Debug)]
pub struct Upstream {
    url_file: PathBuf,
    limit_ms: AtomicU64,
    roots: Option<RootCertStore>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let user = self.user.as_deref().unwrap_or(b"default");
        write!(f, "{}", String::from_utf8_lossy(user))
    }
}

impl Refused {
    /// What the client is told: what Redis has said, if it has.
    #[must_use]
    pub fn told(&self) -> Bytes {
        match self {
            Self::Said(reply) => reply.clone(),
            Self::Unreachable(reason) => {
                let mut told = BytesMut::new();
                write::error(&mut told, &format!("ERR Redis is not reached: {reason}"));
                told.freeze()
            }
        }
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.database == other.database
            && self.protocol == other.protocol
            && (Arc::ptr_eq(&self.identity, &other.identity) || self.identity == other.identity)
    }
}

impl Eq for Place {}

impl Hash for Place {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&*self.identity, self.database, self.protocol).hash(state);
    }
}

impl Upstream {
    /// To the Redis whose URL stands in a file. A connection may take so long.
    #[must_use]
    pub fn to(url_file: &Path, limit: Duration) -> Self {
        let upstream = Self { url_file: url_file.to_owned(), limit_ms: AtomicU64::default(), roots: None };
        upstream.set_limit(limit);
        upstream
    }

    /// The same way, where certificates have to lead to one of these roots, and not to one of Mozilla's.
    #[must_use]
    pub fn trusting(self, roots: RootCertStore) -> Self {
        Self { roots: Some(roots), ..self }
    }

    /// From here on a connection may take so long.
    pub fn set_limit(&self, limit: Duration) {
        self.limit_ms.store(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn limit(&self) -> Duration {
        Duration::from_millis(self.limit_ms.load(Ordering::Relaxed))
    }

    /// The URL is read each time: address and password may be others by now.
    fn url(&self) -> Result<ConnectionInfo, Refused> {
        let file = self.url_file.display();
        let text = std::fs::read_to_string(&self.url_file).map_err(|error| {
            unreachable(&format!("the file {file} with the URL of Redis cannot be read: {error}"))
        })?;
        // The error may tell parts of the URL, and with it the password.
        text.trim()
            .into_connection_info()
            .map_err(|_| unreachable(&format!("the file {file} holds no URL of a Redis")))
    }

    /// The database in which a client begins: that of the URL.
    ///
    /// # Errors
    /// When the URL cannot be read.
    pub fn database(&self) -> Result<u32, Refused> {
        u32::try_from(self.url()?.redis_settings().db())
            .map_err(|_| unreachable("the URL of Redis names a database that is none"))
    }

    /// A connection for this user, in this database and protocol.
    ///
    /// # Errors
    /// When Redis is not reached in time, or refuses it.
    pub async fn open(
        &self,
        identity: &Identity,
        database: u32,
        protocol: Protocol,
    ) -> Result<Opened, Refused> {
        self.open_within(Duration::MAX, identity, database, protocol, NAME).await
    }

    /// The same, where it is not waited for so long, and under a name of its own; empty: none.
    ///
    /// # Errors
    /// The same.
    pub async fn open_within(
        &self,
        limit: Duration,
        identity: &Identity,
        database: u32,
        protocol: Protocol,
        name: &[u8],
    ) -> Result<Opened, Refused> {
        let opening = async {
            let url = self.url()?;
            let mut stream = dial(url.addr(), self.roots.as_ref()).await?;
            let greeting = greet(&mut stream, &url, identity, database, protocol, name).await?;
            Ok(Opened { stream, greeting })
        };
        let limit = limit.min(self.limit());
        if let Ok(opened) = timeout(limit, opening).await {
            return opened;
        }
        // A Redis that speaks no TLS waits in silence for the end of what it takes for a line.
        let is_tls = self.url().is_ok_and(|url| matches!(url.addr(), ConnectionAddr::TcpTls { .. }));
        let hint = if is_tls { "; does it speak TLS at this port?" } else { "" };
        Err(unreachable(&format!("no connection within {limit:?}{hint}")))
    }
}

fn unreachable(words: &str) -> Refused {
    Refused::Unreachable(words.into())
}

fn lost(error: &std::io::Error) -> Refused {
    unreachable(&format!("cannot connect: {error}"))
}

async fn dial(address: &ConnectionAddr, roots: Option<&RootCertStore>) -> Result<Stream, Refused> {
    match address {
        ConnectionAddr::Tcp(host, port) => Ok(Stream::Tcp(dial_tcp(host, *port).await?)),
        ConnectionAddr::TcpTls { insecure: true, .. } => Err(unreachable(
            "the URL of Redis asks for TLS without a check of certificates; leave out #insecure",
        )),
        ConnectionAddr::TcpTls { host, port, .. } => {
            let tcp = dial_tcp(host, *port).await?;
            Ok(Stream::Tls(Box::new(tls::speak(tcp, host, roots).await?)))
        }
        ConnectionAddr::Unix(path) => {
            Ok(Stream::Unix(UnixStream::connect(path).await.map_err(|error| lost(&error))?))
        }
        _ => Err(unreachable("the URL of Redis is of a kind that is not known here")),
    }
}

async fn dial_tcp(host: &str, port: u16) -> Result<TcpStream, Refused> {
    let stream = TcpStream::connect((host, port)).await.map_err(|error| lost(&error))?;
    stream.set_nodelay(true).map_err(|error| lost(&error))?;
    // A node that is gone says nothing.
    let keep_alive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(5))
        .with_retries(3);
    socket2::SockRef::from(&stream).set_tcp_keepalive(&keep_alive).map_err(|error| lost(&error))?;
    Ok(stream)
}

/// All that a connection needs is sent at once, and the replies are waited for together.
async fn greet(
    stream: &mut Stream,
    url: &ConnectionInfo,
    identity: &Identity,
    database: u32,
    protocol: Protocol,
    name: &[u8],
) -> Result<Bytes, Refused> {
    let settings = url.redis_settings();
    let of_url = settings.password().map(|password| (settings.username(), password));
    let auth: Vec<&[u8]> = match (identity, of_url) {
        (Identity::Own, None) => Vec::new(),
        (Identity::Own, Some((None, password))) => vec![b"AUTH", password.as_bytes()],
        (Identity::Own, Some((Some(user), password))) => vec![b"AUTH", user.as_bytes(), password.as_bytes()],
        (Identity::Client(Credentials { user: None, password }), _) => vec![b"AUTH", password],
        (Identity::Client(Credentials { user: Some(user), password }), _) => vec![b"AUTH", user, password],
    };
    let number = database.to_string();
    let mut sent = BytesMut::new();
    let mut expected = Vec::with_capacity(4);
    if !auth.is_empty() {
        sent.unsplit(write::command(&auth));
        expected.push(Greeting::Needed);
    }
    if protocol == Protocol::Three {
        sent.unsplit(write::command(&[b"HELLO", b"3"]));
        expected.push(Greeting::Hello);
    }
    if database != 0 {
        sent.unsplit(write::command(&[b"SELECT", number.as_bytes()]));
        expected.push(Greeting::Needed);
    }
    if !name.is_empty() {
        // A user that may not is none the less served.
        sent.unsplit(write::command(&[b"CLIENT", b"SETNAME", name]));
        expected.push(Greeting::Wanted);
    }
    stream.write_all(&sent).await.map_err(|error| lost(&error))?;
    let mut hello = Bytes::new();
    let mut buffer = BytesMut::new();
    for expected in expected {
        let reply = reply(stream, &mut buffer).await?;
        let is_error = reply.first() == Some(&b'-');
        match expected {
            Greeting::Needed | Greeting::Hello if is_error => return Err(Refused::Said(reply)),
            Greeting::Hello => hello = reply,
            // What is said to an unknown user may be told by this one alone: NOAUTH.
            Greeting::Wanted if reply.starts_with(b"-NOAUTH") => return Err(Refused::Said(reply)),
            Greeting::Needed | Greeting::Wanted => {}
        }
    }
    if buffer.is_empty() { Ok(hello) } else { Err(unreachable("Redis says more than it was asked")) }
}

/// What is done with a reply to a greeting.
#[derive(Clone, Copy)]
enum Greeting {
    Needed,
    Hello,
    Wanted,
}

async fn reply(stream: &mut Stream, buffer: &mut BytesMut) -> Result<Bytes, Refused> {
    let (mut scanner, mut seen) = (Scanner::default(), 0);
    loop {
        let new = buffer.get(seen..).unwrap_or_default();
        let found = scanner.scan(new).map_err(|_| unreachable("what answers is no Redis"))?;
        seen += found.bytes;
        if found.is_whole {
            return Ok(buffer.split_to(seen).freeze());
        }
        if seen > GREETING {
            return Err(unreachable("what answers is no Redis"));
        }
        if stream.read_buf(buffer).await.map_err(|error| lost(&error))? == 0 {
            return Err(unreachable("the connection was ended in its greeting"));
        }
    }
}
