//! Many read and write at once: nobody in the pod sees anything older than a change that was answered in the pod.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use redis::aio::MultiplexedConnection;

use super::{Pod, Stage, run};

const KEYS: usize = 4;
const READERS: usize = 6;

/// How writes are made.
#[derive(Clone, Copy)]
enum By {
    /// Commands whose keys are known.
    Keys,
    /// Scripts, whose keys are not.
    Script,
    /// Somebody else, of whom the pod knows nothing.
    Others,
}

struct Shared {
    /// What was answered of each key.
    done: [AtomicU64; KEYS],
    is_over: AtomicBool,
    hits: AtomicU64,
    stale: AtomicU64,
}

async fn write(pod: Pod, client: MultiplexedConnection, shared: Arc<Shared>, key: usize, by: By) {
    let mut version = 0_u64;
    while !shared.is_over.load(Ordering::Relaxed) {
        version += 1;
        match by {
            By::Keys => {
                let _: () = pod.change(&client, &format!("SET key:{key} {version}")).await;
            }
            By::Script => {
                let script = format!("redis.call('set','key:{key}','{version}')");
                let _: () = run(&client, &format!("EVAL {script} 0")).await;
                pod.near.barrier().await;
            }
            By::Others => {
                let _: () = run(&client, &format!("SET key:{key} {version}")).await;
            }
        }
        if !matches!(by, By::Others) {
            shared.done[key].store(version, Ordering::SeqCst);
        }
        tokio::task::yield_now().await;
    }
}

async fn read(pod: Pod, shared: Arc<Shared>, number: usize) {
    let mut round = number;
    let mut seen = [0; KEYS];
    while !shared.is_over.load(Ordering::Relaxed) {
        round += 1;
        let (key, next) = (round % KEYS, (round + 1) % KEYS);
        let (words, keys) = if round.is_multiple_of(3) {
            (format!("MGET key:{next} key:{key}"), vec![next, key])
        } else {
            (format!("GET key:{key}"), vec![key])
        };
        let expected: Vec<u64> = keys.iter().map(|&key| shared.done[key].load(Ordering::SeqCst)).collect();
        let reply = if let Some(reply) = pod.hit(&words) {
            shared.hits.fetch_add(1, Ordering::Relaxed);
            Ok(reply)
        } else {
            pod.read(&words).await
        };
        let Ok(reply) = reply else { continue };
        let values = reply.split("\r\n").filter(|line| !line.is_empty() && !line.starts_with(['$', '*']));
        let versions: Vec<u64> = values.map(|value| value.parse().unwrap()).collect();
        assert_eq!(versions.len(), keys.len(), "{reply:?}");
        for ((key, version), expected) in keys.into_iter().zip(versions).zip(expected) {
            // Neither older than what was answered in the pod, nor than what this one has read before.
            if version < expected.max(seen[key]) {
                shared.stale.fetch_add(1, Ordering::Relaxed);
            }
            seen[key] = version;
        }
        tokio::task::yield_now().await;
    }
}

/// How often memory has answered, and how often what was read was older than it may be; until that is, or the time is
/// over.
async fn check(stage: &Stage, pod: &Pod, by: By, time: Duration) -> (u64, u64) {
    let shared = Arc::new(Shared {
        done: Default::default(),
        is_over: AtomicBool::new(false),
        hits: AtomicU64::new(0),
        stale: AtomicU64::new(0),
    });
    pod.awake().await;
    let client = stage.client().await;
    for key in 0..KEYS {
        let _: () = run(&client, &format!("SET key:{key} 0")).await;
    }
    let mut tasks = Vec::new();
    for key in 0..KEYS {
        tasks.push(tokio::spawn(write(pod.clone(), stage.client().await, shared.clone(), key, by)));
    }
    tasks.extend((0..READERS).map(|number| tokio::spawn(read(pod.clone(), shared.clone(), number))));
    let began = Instant::now();
    while began.elapsed() < time && shared.stale.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    shared.is_over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    (shared.hits.load(Ordering::Relaxed), shared.stale.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn nobody_reads_what_is_older_than_an_answered_write() {
    let stage = Stage::begin();
    let (hits, stale) = check(&stage, &stage.pod(), By::Keys, Duration::from_secs(3)).await;
    assert!(hits > 10 && stale == 0, "{stale} stale, {hits} hits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn nobody_reads_what_is_older_than_an_answered_script() {
    let stage = Stage::begin();
    let (hits, stale) = check(&stage, &stage.pod(), By::Script, Duration::from_secs(3)).await;
    assert!(hits > 10 && stale == 0, "{stale} stale, {hits} hits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn nobody_reads_backwards_what_others_write() {
    let stage = Stage::begin();
    let (hits, stale) = check(&stage, &stage.pod(), By::Others, Duration::from_secs(3)).await;
    assert!(hits > 10 && stale == 0, "{stale} stale, {hits} hits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn it_is_found_out_when_epochs_are_not_looked_at() {
    let stage = Stage::begin();
    let (_, stale) = check(&stage, &stage.blind_pod(), By::Keys, Duration::from_secs(20)).await;
    assert!(stale > 0);
}
