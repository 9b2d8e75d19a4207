//! Of all who miss a key, one is told so, and the others wait for what it writes: four sidecars in front of one Redis.

mod among;
mod crowd;
mod ends;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use cachedservice::{
    settings::{
        NearCache,
        near_cache::{Pool, Rule, SingleFlight, WhenRedisFails},
    },
    sidecar::near_cache::server::{Bounds, Relay, listen},
};
use tokio::task::JoinHandle;

use crate::{
    near_cache::{Client, until},
    redis_server::{Redis, free_port},
};

/// What a client is told of nothing.
const NOTHING: &str = "$-1\r\n";
/// So long that nobody is told for want of time.
const LONG: SingleFlight = SingleFlight { wait_ms: 20_000, lease_ms: 20_000 };
/// Well below it, and more than an answer takes.
const SOON: Duration = Duration::from_secs(5);

/// A sidecar.
struct Pod {
    port: u16,
    relay: Arc<Relay>,
    serving: JoinHandle<()>,
}

/// A Redis, and sidecars in front of it, where keys that begin with `hot:` have single flight.
struct Stage {
    redis: Redis,
    pods: Vec<Pod>,
    folder: PathBuf,
}

impl Stage {
    async fn of(pods: usize, terms: SingleFlight) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("near-leases-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let redis = Redis::start(free_port(), "");
        let url_file = folder.join("url");
        std::fs::write(&url_file, format!("redis://127.0.0.1:{}/0\n", redis.port)).unwrap();
        until("Redis", async || Client::at(redis.port).await.ok()).await;
        let mut stage = Self { redis, pods: Vec::new(), folder };
        for _ in 0..pods {
            let listener = listen(0).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let relay = Relay::to(&url_file, &settings(port, terms), Bounds::default());
            let serving = tokio::spawn(relay.clone().serve(listener));
            stage.pods.push(Pod { port, relay, serving });
            stage.awake(stage.pods.len() - 1).await;
        }
        stage
    }

    /// Waits until Redis tells the pod what changes.
    async fn awake(&self, pod: usize) {
        let mut client = self.client(pod).await;
        until("memory", async || {
            client.ask(&["GET", "warm"]).await;
            (self.pods[pod].relay.near().connections() > 0).then_some(())
        })
        .await;
    }

    async fn client(&self, pod: usize) -> Client {
        Client::at(self.pods[pod].port).await.unwrap()
    }

    /// One that asks Redis itself.
    async fn straight(&self) -> Client {
        Client::at(self.redis.port).await.unwrap()
    }

    /// How often somebody led, in all pods together.
    fn led(&self) -> u64 {
        self.pods.iter().map(|pod| pod.relay.near().leases().led.get()).sum()
    }

    /// How waits have ended: written, led, time, given up.
    fn ends(&self) -> [u64; 4] {
        let mut sums = [0; 4];
        for pod in &self.pods {
            let ends = &pod.relay.near().leases().ends;
            for (sum, count) in sums.iter_mut().zip([&ends.written, &ends.led, &ends.time, &ends.given_up]) {
                *sum += count.get();
            }
        }
        sums
    }

    /// Waits until so many reads wait in a pod.
    async fn waiting(&self, pod: usize, count: usize) {
        let board = self.pods[pod].relay.near().leases().clone();
        until("reads that wait", async || (board.waits() == count).then_some(())).await;
    }

    /// Another leads for this key, for very long.
    async fn led_elsewhere(&self, key: &str) {
        let lease = format!("cachedservice:lease:{key}");
        let told = self.straight().await.ask(&["SET", &lease, "another", "PX", "600000"]).await;
        assert_eq!(told, "+OK\r\n");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.pods.iter().for_each(|pod| pod.serving.abort());
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn settings(port: u16, terms: SingleFlight) -> NearCache {
    let hot = Rule { prefix: "hot:".to_owned(), single_flight: Some(terms), ..Rule::default() };
    NearCache {
        port,
        memory: 1 << 20,
        ttl_ms: 60_000,
        max_value: 1 << 20,
        when_redis_fails: WhenRedisFails::Error,
        pool: Pool::default(),
        rules: vec![hot],
    }
}

/// The reply, which comes soon.
async fn soon(client: &mut Client, command: &[&str]) -> String {
    let began = Instant::now();
    let told = client.ask(command).await;
    assert!(began.elapsed() < SOON, "{command:?} took {:?}", began.elapsed());
    told
}
