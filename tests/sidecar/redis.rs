//! Several replicas that share a Redis, which is slow, frozen or gone, or has lost what it held.

mod anything;
mod ending;
mod garbage;
mod purging;
mod room;
mod sharing;
mod slow;
mod trouble;
mod warming;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use cachedservice::{settings, sidecar::redis::Figures};
use http::Response;
use redis::aio::MultiplexedConnection;

pub use crate::patience::until;
use crate::{
    application::{Got, Pod},
    redis_server::{Redis, free_port},
};

/// Long enough on a machine that does much else.
const PATIENT: Duration = Duration::from_secs(2);
const PASSWORD: &str = "p@ss";

/// A Redis, and what the replicas are told of it.
pub struct Stage {
    pub server: Option<Redis>,
    pub port: u16,
    folder: PathBuf,
    pub settings: settings::Redis,
}

impl Stage {
    pub fn begin() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let port = free_port();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("redis-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let url_file = folder.join("url").to_string_lossy().into_owned();
        let settings = settings::Redis {
            url_file,
            key_prefix: "u-1:".to_owned(),
            channel: "cachedservice:default/shop:purge".to_owned(),
        };
        let stage = Self { server: Some(Redis::start(port, PASSWORD)), port, folder, settings };
        stage.tell(PASSWORD);
        stage
    }

    /// Writes the URL with this password.
    pub fn tell(&self, password: &str) {
        let password = password.replace('@', "%40");
        let url = format!("redis://:{password}@127.0.0.1:{}/0\n", self.port);
        std::fs::write(&self.settings.url_file, url).unwrap();
    }

    /// The settings of a replica that reaches it by another port.
    pub fn through(&self, port: u16) -> settings::Redis {
        let url_file = format!("{}-{port}", self.settings.url_file);
        let text = std::fs::read_to_string(&self.settings.url_file).unwrap();
        std::fs::write(&url_file, text.replace(&format!(":{}/", self.port), &format!(":{port}/"))).unwrap();
        settings::Redis { url_file, ..self.settings.clone() }
    }

    pub fn server(&self) -> &Redis {
        self.server.as_ref().unwrap()
    }

    /// A replica that shares.
    pub async fn pod(&self, answer: impl Fn(&Got) -> Response<Bytes> + Send + Sync + 'static) -> Pod {
        let pod = Pod::sharing(&self.settings, PATIENT, answer).await;
        shares(&pod).await;
        pod
    }

    /// A connection of somebody else.
    pub async fn client(&self) -> MultiplexedConnection {
        let url = std::fs::read_to_string(&self.settings.url_file).unwrap();
        let client = redis::Client::open(url.trim()).unwrap();
        until("Redis", async || client.get_multiplexed_async_connection().await.ok()).await
    }
}

/// Runs a command of Redis.
pub async fn run<T: redis::FromRedisValue>(client: &MultiplexedConnection, command: &[&str]) -> T {
    let mut run = redis::cmd(command[0]);
    for argument in &command[1..] {
        run.arg(*argument);
    }
    run.query_async(&mut client.clone()).await.unwrap()
}

/// Ends the connections on which the replicas hear news.
pub async fn cut_off_news(client: &MultiplexedConnection) {
    let _: u64 = run(client, &["CLIENT", "KILL", "TYPE", "pubsub"]).await;
}

/// Ends the connections on which the replicas ask.
pub async fn cut_off_commands(client: &MultiplexedConnection) {
    let _: u64 = run(client, &["CLIENT", "KILL", "TYPE", "normal"]).await;
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Waits until a replica shares.
pub async fn shares(pod: &Pod) {
    until("it shares", async || pod.front.shared().unwrap().is_coherent().then_some(())).await;
}

/// Waits until a replica has stored so many responses in Redis.
pub async fn stored(pod: &Pod, number: u64) {
    until("stored", async || (Figures::of(&figures(pod).stored) >= number).then_some(())).await;
}

pub fn figures(pod: &Pod) -> &Figures {
    pod.front.shared().unwrap().figures()
}

/// What an application does that holds up its thread, and none that others need.
pub fn holding_up<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

/// A page that is fresh for a minute, of these tags.
pub fn page(tag: &str, body: &str) -> Response<Bytes> {
    Response::builder()
        .header("cache-control", "max-age=60")
        .header("cache-tag", tag)
        .body(Bytes::from(body.to_owned()))
        .unwrap()
}

/// Where an answer is from: `L1`, `L2`, or why the application was asked.
pub fn source(answer: &crate::application::Answer) -> String {
    let status = answer.field("cache-status");
    let parts = status.split("; ");
    let found = parts.filter_map(|part| part.strip_prefix("detail=").or(part.strip_prefix("fwd="))).next();
    found.unwrap_or_default().to_owned()
}

/// Answers with a number that counts up, so that it is seen which answer it is.
pub fn counting() -> (Arc<AtomicU32>, impl Fn(&Got) -> Response<Bytes> + Send + Sync + Clone + 'static) {
    let count = Arc::new(AtomicU32::new(0));
    let counted = count.clone();
    let answer = move |_: &Got| page("t", &counted.fetch_add(1, Ordering::SeqCst).to_string());
    (count, answer)
}
