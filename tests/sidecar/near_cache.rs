//! The near-cache in front of a real Redis: what is asked through it and what is asked straight.

mod alike;
mod connections;
mod failing;
mod figures;
mod following;
mod lasting;
mod memory;
mod ordering;
mod pinned;
mod recovering;
mod stale;
mod top;
mod users;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use cachedservice::{
    settings::{
        NearCache,
        near_cache::{Pool, Rule, WhenRedisFails},
    },
    sidecar::{
        near_cache::server::{Bounds, Relay, listen},
        resp::{reply::Scanner, write},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};

pub use crate::patience::{LIMIT, until};
use crate::redis_server::{Redis, free_port};

const PASSWORD: &str = "p@ss";

/// A Redis, and a relay in front of it.
pub struct Stage {
    pub server: Option<Redis>,
    pub redis: u16,
    pub near: u16,
    pub relay: Arc<Relay>,
    serving: JoinHandle<()>,
    folder: PathBuf,
}

impl Stage {
    pub async fn begin() -> Self {
        Self::of(Pool::default(), Bounds::default()).await
    }

    pub async fn of(pool: Pool, bounds: Bounds) -> Self {
        Self::with(pool, bounds, WhenRedisFails::Error).await
    }

    pub async fn with(pool: Pool, bounds: Bounds, when_redis_fails: WhenRedisFails) -> Self {
        Self::by(NearCache { when_redis_fails, ..settings(0, pool) }, bounds).await
    }

    /// One that goes by these rules.
    pub async fn ruled(rules: Vec<Rule>) -> Self {
        Self::by(NearCache { rules, ..settings(0, Pool::default()) }, Bounds::default()).await
    }

    async fn by(settings: NearCache, bounds: Bounds) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("near-cache-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let redis = free_port();
        let url_file = folder.join("url");
        tell(&url_file, redis, PASSWORD);
        let server = Some(Redis::start(redis, PASSWORD));
        let listener = listen(0).await.unwrap();
        let near = listener.local_addr().unwrap().port();
        let settings = NearCache { port: near, ..settings };
        until("Redis", async || Client::straight(redis).await).await;
        let relay = Relay::to(&url_file, &settings, bounds);
        let serving = tokio::spawn(relay.clone().serve(listener));
        Self { server, redis, near, relay, serving, folder }
    }

    /// Writes where Redis is from here on, and the password.
    pub fn tell(&self, redis: u16, password: &str) {
        // Another file, as the kubelet has it.
        let (file, other) = (self.folder.join("url"), self.folder.join("other"));
        tell(&other, redis, password);
        std::fs::rename(other, file).unwrap();
    }

    /// Settings with these of the connections.
    pub fn settings(&self, pool: Pool) -> NearCache {
        settings(self.near, pool)
    }

    /// A client of the relay.
    pub async fn client(&self) -> Client {
        Client::at(self.near).await.unwrap()
    }

    /// One that asks Redis itself, as the same user.
    pub async fn straight(&self) -> Client {
        Client::straight(self.redis).await.unwrap()
    }

    /// How many answers came from memory.
    pub fn hits(&self) -> u64 {
        let figures = self.relay.near().figures();
        // There are no rules, and so it is the one of all keys.
        figures.of_rule(0).unwrap().hits.get()
    }

    pub fn kill(&mut self) {
        self.server = None;
    }

    pub fn start_again(&mut self) {
        self.server = Some(Redis::start(self.redis, PASSWORD));
    }
}

fn tell(file: &Path, redis: u16, password: &str) {
    let password = password.replace('@', "%40");
    std::fs::write(file, format!("redis://:{password}@127.0.0.1:{redis}/0\n")).unwrap();
}

fn settings(port: u16, pool: Pool) -> NearCache {
    NearCache {
        port,
        memory: 1 << 20,
        ttl_ms: 60_000,
        max_value: 1 << 20,
        when_redis_fails: WhenRedisFails::Error,
        pool,
        rules: Vec::new(),
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.serving.abort();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A client that sees each byte.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub async fn at(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    async fn straight(port: u16) -> Option<Self> {
        let mut client = Self::at(port).await.ok()?;
        client.send(&["AUTH", PASSWORD]).await;
        (client.reply().await? == "+OK\r\n").then_some(client)
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        timeout(LIMIT, self.stream.write_all(bytes)).await.expect("written in time").unwrap();
    }

    pub async fn send(&mut self, command: &[&str]) {
        let args: Vec<&[u8]> = command.iter().map(|arg| arg.as_bytes()).collect();
        // A connection that has ended shows in what is read.
        let _ = self.stream.write_all(&write::command(&args)).await;
    }

    /// The next reply; None when the connection has ended.
    pub async fn reply_bytes(&mut self) -> Option<Vec<u8>> {
        let (mut scanner, mut seen) = (Scanner::default(), 0);
        loop {
            let found = scanner.scan(&self.buffer[seen..]).unwrap();
            seen += found.bytes;
            if found.is_whole {
                return Some(self.buffer.drain(..seen).collect());
            }
            let read = timeout(LIMIT, self.stream.read_buf(&mut self.buffer)).await;
            if !matches!(read.expect("a reply in time"), Ok(1..)) {
                return None;
            }
        }
    }

    pub async fn reply(&mut self) -> Option<String> {
        self.reply_bytes().await.map(|reply| String::from_utf8_lossy(&reply).into_owned())
    }

    /// The reply to one command.
    pub async fn ask(&mut self, command: &[&str]) -> String {
        self.send(command).await;
        self.reply().await.expect("a reply")
    }

    /// Takes what comes, for a moment.
    pub async fn some(&mut self) {
        let _ = timeout(Duration::from_millis(3), self.stream.read_buf(&mut self.buffer)).await;
    }

    /// All that comes up to these bytes.
    pub async fn up_to(&mut self, end: &[u8]) -> Vec<u8> {
        while !self.buffer.ends_with(end) {
            let read = timeout(LIMIT, self.stream.read_buf(&mut self.buffer)).await;
            assert!(matches!(read, Ok(Ok(1..))), "{read:?} after {}", String::from_utf8_lossy(&self.buffer));
        }
        std::mem::take(&mut self.buffer)
    }

    /// Whether it could be written.
    pub async fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// All that comes until the connection ends, or there is so much.
    pub async fn rest_or(&mut self, most: usize) -> Vec<u8> {
        while self.buffer.len() < most {
            match timeout(LIMIT, self.stream.read_buf(&mut self.buffer)).await.expect("in time") {
                Ok(1..) => {}
                _ => break,
            }
        }
        std::mem::take(&mut self.buffer)
    }

    /// All that comes until the connection ends.
    pub async fn rest(&mut self) -> Vec<u8> {
        let _ = timeout(LIMIT, self.stream.read_to_end(&mut self.buffer)).await.expect("an end in time");
        std::mem::take(&mut self.buffer)
    }
}

/// A string as a reply.
pub fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}
