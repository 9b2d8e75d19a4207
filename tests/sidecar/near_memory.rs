//! The near-cache's memory beside a real Redis, which others change, and which is slow, frozen or gone.

mod apart;
mod concurrent;
mod encrypted;
mod purging;
mod pushes;
mod times;
mod trouble;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use cachedservice::{
    settings::{NearCache, near_cache},
    sidecar::{
        near_cache::{
            coherence::Lacks,
            commands::{Cached, Handling, Meaning, meaning},
            connect::{Credentials, Identity, Place, Protocol, Upstream},
            near::{Look, Near, Spot, Trouble},
        },
        resp::request::Command,
    },
};
use redis::aio::MultiplexedConnection;

pub use crate::patience::{LIMIT, until};
use crate::redis_server::{Redis, free_port};

const PASSWORD: &str = "p@ss";

/// A Redis, and how it is reached.
pub struct Stage {
    pub server: Redis,
    folder: PathBuf,
}

impl Stage {
    pub fn begin() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("near-memory-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let stage = Self { server: Redis::start(free_port(), PASSWORD), folder };
        stage.tell(stage.server.port);
        stage
    }

    fn url(port: u16) -> String {
        format!("redis://:{}@127.0.0.1:{port}/0", PASSWORD.replace('@', "%40"))
    }

    /// Writes where Redis is.
    pub fn tell(&self, port: u16) {
        std::fs::write(self.folder.join("url"), Self::url(port)).unwrap();
    }

    /// A pod that stores everything for a minute.
    pub fn pod(&self) -> Pod {
        self.pod_by(&settings())
    }

    pub fn pod_by(&self, settings: &NearCache) -> Pod {
        let upstream = Upstream::to(&self.folder.join("url"), Duration::from_secs(2));
        Pod::of(Near::start(settings, Arc::new(upstream)))
    }

    /// A pod that stores what it must not.
    pub fn blind_pod(&self) -> Pod {
        let upstream = Upstream::to(&self.folder.join("url"), Duration::from_secs(2));
        Pod::of(Near::lacking(Lacks::Epochs, &settings(), Arc::new(upstream)))
    }

    /// Somebody else.
    pub async fn client(&self) -> MultiplexedConnection {
        let client = redis::Client::open(Self::url(self.server.port)).unwrap();
        until("Redis", async || client.get_multiplexed_async_connection().await.ok()).await
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

pub fn settings() -> NearCache {
    NearCache {
        port: 6379,
        memory: 8 << 20,
        ttl_ms: 60_000,
        max_value: 64 << 10,
        when_redis_fails: near_cache::WhenRedisFails::default(),
        pool: near_cache::Pool::default(),
        rules: Vec::new(),
    }
}

/// A sidecar's memory, and a session that uses it.
#[derive(Clone)]
pub struct Pod {
    pub near: Arc<Near>,
    spot: Spot,
}

impl Pod {
    fn of(near: Arc<Near>) -> Self {
        let spot = near.spot(&Place::default());
        Self { near, spot }
    }

    /// The same memory, as used by another user, in another database or protocol.
    pub fn at(&self, place: &Place) -> Self {
        Self { near: self.near.clone(), spot: self.near.spot(place) }
    }

    pub fn in_database(&self, database: u32) -> Self {
        self.at(&Place { database, ..Place::default() })
    }

    pub fn in_resp3(&self) -> Self {
        self.at(&Place { protocol: Protocol::Three, ..Place::default() })
    }

    pub fn as_user(&self, user: &'static str, password: &'static str) -> Self {
        let [user, password] = [user, password].map(|text| Bytes::from_static(text.as_bytes()));
        let identity = Arc::new(Identity::Client(Credentials { user: Some(user), password }));
        self.at(&Place { identity, ..Place::default() })
    }

    pub fn look(&self, words: &str) -> (Look, String) {
        let (command, meaning, _) = read(words);
        let mut out = BytesMut::new();
        let look = self.near.look(&self.spot, &command, &meaning, &mut out);
        (look, String::from_utf8(out.to_vec()).unwrap())
    }

    /// What memory answers.
    pub fn hit(&self, words: &str) -> Option<String> {
        let (look, reply) = self.look(words);
        (look == Look::Hit).then_some(reply)
    }

    /// What memory answers where Redis cannot be asked.
    pub fn stale(&self, words: &str) -> Option<String> {
        let (command, meaning, _) = read(words);
        let reply = self.near.unreached(&self.spot, &command, &meaning)?;
        Some(String::from_utf8(reply.to_vec()).unwrap())
    }

    /// What Redis answers, on a connection that tracks.
    pub async fn read(&self, words: &str) -> Result<String, Trouble> {
        let (command, meaning, cached) = read(words);
        let reply = self.near.read(&self.spot, &command, &meaning, cached).await?;
        Ok(String::from_utf8(reply.to_vec()).unwrap())
    }

    /// Reads until there is an answer, though not from memory.
    pub async fn answer(&self, words: &str) -> String {
        until(words, async || self.read(words).await.ok()).await
    }

    /// Reads until it is in memory.
    pub async fn fill(&self, words: &str) -> String {
        let filled = async || {
            let _ = self.read(words).await;
            self.hit(words)
        };
        until(words, filled).await
    }

    /// Waits until the connection is there, so that each read has an answer.
    pub async fn awake(&self) {
        self.answer("GET warm").await;
        assert_eq!(self.near.connections(), 1);
    }

    /// Waits until memory does not answer any more.
    pub async fn gone(&self, words: &str) {
        until(&format!("{words} gone"), async || self.hit(words).is_none().then_some(())).await;
    }

    /// A read past the memory, as a session tells of it.
    pub fn see(&self, words: &str) {
        let (command, meaning, _) = read(words);
        self.near.seeing(&command, &meaning).done();
    }

    /// A change as a session makes it.
    pub async fn change<T: redis::FromRedisValue>(&self, client: &MultiplexedConnection, words: &str) -> T {
        let command = command(words);
        let changing = self.near.changing(&command, &meaning_of(&command));
        let reply = run(client, words).await;
        changing.done();
        reply
    }
}

fn command(words: &str) -> Command {
    Command::of(&words.split(' ').map(str::as_bytes).collect::<Vec<_>>())
}

fn meaning_of(command: &Command) -> Meaning {
    meaning(&command.args().collect::<Vec<_>>()[..])
}

fn read(words: &str) -> (Command, Meaning, Cached) {
    let command = command(words);
    let meaning = meaning_of(&command);
    let Handling::Cached(cached) = meaning.handling else { panic!("{words} is not cached") };
    (command, meaning, cached)
}

/// Runs a command of Redis.
pub async fn run<T: redis::FromRedisValue>(client: &MultiplexedConnection, words: &str) -> T {
    let mut words = words.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    words.for_each(|word| {
        command.arg(word);
    });
    command.query_async(&mut client.clone()).await.unwrap()
}

/// How often Redis has done a command.
pub async fn calls(client: &MultiplexedConnection, name: &str) -> u64 {
    let text: String = run(client, "INFO commandstats").await;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
    line.and_then(|line| line.split(',').next()).map_or(0, |calls| calls.parse().unwrap())
}
