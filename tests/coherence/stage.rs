//! Four pods, each with its near-cache and its own way to the one Redis behind them, and what may happen to them.

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
    sidecar::near_cache::{
        coherence::Lacks,
        server::{Bounds as Room, Relay, listen},
    },
};
use tokio::{task::AbortHandle, time::sleep};

use super::{
    checker::{Bounds, Verdict, check},
    link::{Flow, Flows, Link},
    load::{Load, Running},
    proofs::reachable,
    redis_server::{Redis, free_port},
};

pub const PODS: usize = 4;
const FREE: Flows = (Flow::Free, Flow::Free);
/// After a fault: for connections to be made anew, and for what was lost with them to be gone.
const RECOVERY: Duration = Duration::from_secs(1);
/// Well below what is ever allowed, as a frozen Redis can push nothing.
const FROZEN: Duration = Duration::from_millis(400);
/// More than a connection may be silent before it is taken for lost.
const STILL: Duration = Duration::from_millis(1300);
const SLOW: Duration = Duration::from_millis(1000);
const PATIENCE: Duration = Duration::from_secs(10);

/// A sidecar's near-cache; it ends when dropped.
struct Pod {
    relay: Arc<Relay>,
    url: String,
    serving: AbortHandle,
    link: Link,
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Pod {
    /// How often a connection on which Redis tells what changes was lost.
    fn losses(&self) -> u64 {
        self.relay.near().figures().lost.get()
    }
}

pub struct Stage {
    pods: Vec<Pod>,
    redis: Redis,
    folder: PathBuf,
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Stage {
    pub async fn begin() -> Self {
        Self::lacking(Lacks::Nothing).await
    }

    /// Of near-caches that leave something out.
    pub async fn lacking(lacks: Lacks) -> Self {
        Self::with(lacks, Vec::new()).await
    }

    /// Of near-caches with these rules.
    pub async fn by(rules: Vec<Rule>) -> Self {
        Self::with(Lacks::Nothing, rules).await
    }

    async fn with(lacks: Lacks, rules: Vec<Rule>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("coherence-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let redis = Redis::start(free_port(), "");
        reachable(&format!("redis://127.0.0.1:{}", redis.port)).await;
        let mut pods = Vec::new();
        for number in 0..PODS {
            let link = Link::to(redis.port).await;
            let url_file = folder.join(number.to_string());
            std::fs::write(&url_file, format!("redis://127.0.0.1:{}/0\n", link.port)).unwrap();
            let listener = listen(0).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let relay = Relay::lacking(lacks, &url_file, &settings(port, rules.clone()), Room::default());
            let serving = tokio::spawn(relay.clone().serve(listener)).abort_handle();
            // Both protocols, as what is stored of one is not given to the other as it is.
            let protocol = if number % 2 == 0 { "" } else { "?protocol=resp3" };
            pods.push(Pod { relay, url: format!("redis://127.0.0.1:{port}/{protocol}"), serving, link });
        }
        Self { pods, redis, folder }
    }

    pub fn load(&self, keys: usize) -> Running {
        Load {
            pods: self.pods.iter().map(|pod| pod.url.clone()).collect(),
            redis: format!("redis://127.0.0.1:{}", self.redis.port),
            clients_per_pod: 8,
            readers_per_pod: 2,
            direct_clients: 4,
            keys,
            is_expiring: true,
        }
        .start()
    }

    /// Of each pod, how often a client led, and how often one that waited had what was written.
    pub fn leases(&self) -> Vec<(u64, u64)> {
        let boards = self.pods.iter().map(|pod| pod.relay.near().leases());
        boards.map(|board| (board.led.get(), board.ends.written.get())).collect()
    }

    pub async fn judged(&self, running: Running, length: Duration) -> Verdict {
        let history = running.end_after(length).await;
        let verdict = check(&history, Bounds::default());
        println!("{verdict}");
        assert!(verdict.staleness.exposed > 1000, "too little was done: {verdict}");
        // Each pod answered from memory, or nothing of this says anything.
        for pod in &self.pods {
            assert!(pod.relay.near().figures().reads().0 > 0, "no hits: {verdict}");
        }
        verdict
    }

    /// Kills all connections to Redis, those of tracking with them, and has it hang for a moment.
    pub async fn disturb(&self, running: &Running) {
        let killed: i64 = running.fault(RECOVERY, self.client(&["KILL", "TYPE", "normal"])).await;
        assert!(killed > 0, "nothing was killed");
        let frozen = async {
            self.redis.freeze(true);
            sleep(FROZEN).await;
            self.redis.freeze(false);
        };
        running.fault(RECOVERY, frozen).await;
    }

    /// Kills the connections on which Redis tells what changes, and none but these.
    pub async fn lose_streams(&self, running: &Running) {
        let before: Vec<_> = self.pods.iter().map(Pod::losses).collect();
        let kill = async {
            self.until("each pod has one", async || self.streams().await.len() == PODS).await;
            let streams = self.streams().await;
            let others = self.shared().await;
            for stream in &streams {
                let killed: i64 = self.client(&["KILL", "ID", &stream.id]).await;
                assert_eq!(killed, 1);
            }
            let left = self.shared().await;
            assert!(!others.is_empty() && others.iter().all(|id| left.contains(id)), "the others live on");
            self.until("each pod knows, and has another", async || {
                let has_another = self.pods.iter().all(|pod| pod.relay.near().connections() > 0);
                has_another && self.pods.iter().zip(&before).all(|(pod, before)| pod.losses() > *before)
            })
            .await;
        };
        running.fault(RECOVERY, kill).await;
    }

    /// The way of a pod to Redis is slow, and in this state the connection that tells what changes is lost.
    pub async fn slow_down(&self, running: &Running, pod: usize) {
        let pod = &self.pods[pod % PODS];
        let slow = |delay, jitter| Flow::Slow {
            delay: Duration::from_millis(delay),
            jitter: Duration::from_millis(jitter),
            bytes_per_second: 1 << 18,
        };
        let slowed = async {
            pod.link.flow((slow(1, 10), slow(5, 60)));
            sleep(SLOW).await;
            let before = pod.losses();
            let stream = self.stream_of(pod).await;
            let _: i64 = self.client(&["KILL", "ID", &stream.id]).await;
            self.until("the pod knows", async || pod.losses() > before).await;
            pod.link.flow(FREE);
        };
        running.fault(RECOVERY, slowed).await;
    }

    /// What fills the memory of the pods and tells them of changes comes late from here on, in its order, and all else as
    /// ever.
    pub async fn delay_streams(&self) {
        let [delay, jitter] = [2, 8].map(Duration::from_millis);
        for pod in &self.pods {
            let stream = self.stream_of(pod).await;
            pod.link
                .flow_of(stream.port, (Flow::Free, Flow::Slow { delay, jitter, bytes_per_second: 1 << 24 }));
        }
    }

    /// Nothing comes from Redis to a pod, for longer than anything may be given that was told before: at all, or on the
    /// connection that tells what changes, while all others go on.
    pub async fn silence(&self, running: &Running, pod: usize, is_all: bool) {
        let pod = &self.pods[pod % PODS];
        let silent = async {
            let before = pod.losses();
            let stream = self.stream_of(pod).await;
            if is_all {
                pod.link.flow((Flow::Free, Flow::Still));
            } else {
                pod.link.flow_of(stream.port, (Flow::Free, Flow::Still));
            }
            sleep(STILL).await;
            self.until("the pod has noticed", async || pod.losses() > before).await;
            pod.link.flow(FREE);
        };
        running.fault(RECOVERY, silent).await;
    }

    async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        tokio::time::timeout(PATIENCE, async {
            while !is_so().await {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("in vain: {what}"));
    }

    /// `CLIENT` with these words.
    async fn client<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.redis.port)).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        redis::cmd("CLIENT").arg(words).query_async(&mut connection).await.unwrap()
    }

    /// Those of all sidecars.
    async fn connections(&self) -> Vec<Connection> {
        let list: String = self.client(&["LIST"]).await;
        let of_sidecars = list.lines().filter(|line| line.contains(" name=cachedservice "));
        let field = |line: &str, name: &str| {
            let text = line.split(' ').find_map(|field| field.strip_prefix(name));
            text.expect("it is told").to_owned()
        };
        of_sidecars
            .map(|line| Connection {
                id: field(line, "id="),
                port: field(line, "addr=127.0.0.1:").parse().unwrap(),
                is_stream: field(line, "flags=").contains('t'),
            })
            .collect()
    }

    /// Those on which Redis tells what changes.
    async fn streams(&self) -> Vec<Connection> {
        self.connections().await.into_iter().filter(|connection| connection.is_stream).collect()
    }

    /// That of a pod.
    async fn stream_of(&self, pod: &Pod) -> Connection {
        self.until("it has one", async || pod.relay.near().connections() > 0).await;
        let mut streams = self.streams().await.into_iter();
        streams.find(|stream| pod.link.has(stream.port)).expect("it is in the list")
    }

    /// Those that clients share, by their ids.
    async fn shared(&self) -> Vec<String> {
        let all = self.connections().await;
        all.into_iter().filter(|connection| !connection.is_stream).map(|connection| connection.id).collect()
    }
}

/// A connection of a sidecar to Redis, and the port from which it comes.
struct Connection {
    id: String,
    port: u16,
    is_stream: bool,
}

fn settings(port: u16, rules: Vec<Rule>) -> NearCache {
    NearCache {
        port,
        memory: 1 << 20,
        ttl_ms: 60_000,
        max_value: 1 << 20,
        when_redis_fails: WhenRedisFails::Error,
        pool: Pool::default(),
        rules,
    }
}
