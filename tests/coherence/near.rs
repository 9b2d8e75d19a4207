//! The near-cache itself, of four pods in front of one Redis: nothing is found of it, with faults and without; and
//! what is found of it without its check of epochs.

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
        near_cache::{Pool, WhenRedisFails},
    },
    sidecar::near_cache::server::{self, Relay, listen},
};
use tokio::task::AbortHandle;

use super::{
    checker::{Bounds, Flaw, Verdict, check},
    load::{Load, Running},
    proofs::reachable,
    redis_server::{Redis, free_port},
};

const PODS: usize = 4;
/// After a fault: for connections to be made anew, and for what was lost with them to be gone.
const RECOVERY: Duration = Duration::from_secs(1);
/// Well below what is ever allowed, as a frozen Redis can push nothing.
const FROZEN: Duration = Duration::from_millis(400);

type Make = fn(&Path, &NearCache, server::Bounds) -> Arc<Relay>;

/// A sidecar's near-cache; it ends when dropped.
struct Pod {
    relay: Arc<Relay>,
    url: String,
    serving: AbortHandle,
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Stage {
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
    async fn of(make: Make) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("coherence-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let redis = Redis::start(free_port(), "");
        let url = format!("redis://127.0.0.1:{}", redis.port);
        reachable(&url).await;
        let url_file = folder.join("url");
        std::fs::write(&url_file, format!("{url}/0\n")).unwrap();
        let mut pods = Vec::new();
        for number in 0..PODS {
            let listener = listen(0).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let relay = make(&url_file, &settings(port), server::Bounds::default());
            let serving = tokio::spawn(relay.clone().serve(listener)).abort_handle();
            // Both protocols, as what is stored of one is not given to the other as it is.
            let protocol = if number % 2 == 0 { "" } else { "?protocol=resp3" };
            pods.push(Pod { relay, url: format!("redis://127.0.0.1:{port}/{protocol}"), serving });
        }
        Self { pods, redis, folder }
    }

    fn load(&self, keys: usize) -> Running {
        Load {
            pods: self.pods.iter().map(|pod| pod.url.clone()).collect(),
            redis: format!("redis://127.0.0.1:{}", self.redis.port),
            clients_per_pod: 8,
            direct_clients: 4,
            keys,
            is_expiring: true,
        }
        .start()
    }

    async fn judged(&self, running: Running, length: Duration) -> Verdict {
        let history = running.end_after(length).await;
        let verdict = check(&history, Bounds::default());
        println!("{verdict}");
        assert!(verdict.staleness.exposed > 1000, "too little was done: {verdict}");
        // Each pod answered from memory, or nothing of this says anything.
        for pod in &self.pods {
            assert!(pod.relay.near().figures().of_rule(0).unwrap().hits.get() > 0, "no hits: {verdict}");
        }
        verdict
    }

    /// Kills all connections to Redis, those of tracking with them, and has it hang for a moment.
    async fn disturb(&self, running: &Running) {
        let killed = running.fault(RECOVERY, self.kill(&["TYPE", "normal"])).await;
        assert!(killed > 0, "nothing was killed");
        let frozen = async {
            self.redis.freeze(true);
            tokio::time::sleep(FROZEN).await;
            self.redis.freeze(false);
        };
        running.fault(RECOVERY, frozen).await;
    }

    /// Kills connections, as an operator or a Redis that is short of memory does.
    async fn kill(&self, which: &[&str]) -> i64 {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.redis.port)).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut command = redis::cmd("CLIENT");
        command.arg("KILL").arg(which);
        command.query_async(&mut connection).await.unwrap()
    }
}

fn settings(port: u16) -> NearCache {
    NearCache {
        port,
        memory: 1 << 20,
        ttl_ms: 60_000,
        max_value: 1 << 20,
        when_redis_fails: WhenRedisFails::Error,
        pool: Pool::default(),
        rules: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_found_of_four_near_caches() {
    let stage = Stage::of(Relay::to).await;
    let verdict = stage.judged(stage.load(20), Duration::from_secs(4)).await;
    assert!(verdict.flaws.is_empty(), "{verdict}");
    assert_eq!(verdict.errors, 0, "{verdict}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_found_of_near_caches_whose_connections_are_killed_and_whose_redis_hangs() {
    let stage = Stage::of(Relay::to).await;
    let running = stage.load(20);
    for _ in 0..3 {
        stage.disturb(&running).await;
    }
    let verdict = stage.judged(running, Duration::from_secs(3)).await;
    assert!(verdict.flaws.is_empty(), "{verdict}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_near_cache_that_does_not_look_at_epochs_is_found() {
    let is_stale = |flaw: &Flaw| {
        matches!(flaw, Flaw::OwnWriteMissed { .. } | Flaw::Backwards { .. } | Flaw::TooOld { .. })
    };
    let stage = Stage::of(Relay::blind).await;
    let mut verdict = Verdict::default();
    // An invalidation has to overtake a reply, which it does a few times in a second: few keys, and more than one try.
    for _ in 0..5 {
        verdict = stage.judged(stage.load(4), Duration::from_secs(3)).await;
        if verdict.flaws.iter().any(is_stale) {
            return;
        }
    }
    panic!("nothing was found: {verdict}");
}

/// Rounds of their own, as all that was seen of one is kept until it is judged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: make soak-near"]
async fn nothing_is_found_in_a_long_time_of_faults() {
    let seconds = std::env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(600);
    let end = Instant::now() + Duration::from_secs(seconds.min(3600));
    while Instant::now() < end {
        let stage = Stage::of(Relay::to).await;
        let running = stage.load(20);
        for _ in 0..5 {
            stage.disturb(&running).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        let verdict = stage.judged(running, Duration::from_secs(3)).await;
        assert!(verdict.flaws.is_empty(), "{verdict}");
    }
}
