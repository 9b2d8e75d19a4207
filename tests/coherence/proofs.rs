//! The checker and the load at a real Redis: nothing is found where nothing is wrong, and each flaw that a relay
//! is made to have is.

use std::time::Duration;

use super::{
    checker::{Bounds, Flaw, Verdict, check},
    load::Load,
    redis_server::{Redis, free_port},
    relay::{Memory, Relay},
};

const LENGTH: Duration = Duration::from_secs(3);
const PODS: usize = 4;

/// What is found of four pods with such a memory.
async fn found(memory: Memory) -> Verdict {
    found_while(memory, 20, false).await
}

/// The same; Redis hangs for a while.
async fn found_while(memory: Memory, keys: usize, is_frozen: bool) -> Verdict {
    let redis = Redis::start(free_port(), "");
    let url = format!("redis://127.0.0.1:{}", redis.port);
    reachable(&url).await;
    let mut relays = Vec::new();
    for _ in 0..PODS {
        relays.push(Relay::start(memory, redis.port).await);
    }
    let load = Load {
        pods: relays.iter().map(|relay| relay.url.clone()).collect(),
        redis: url,
        clients_per_pod: 4,
        readers_per_pod: 0,
        direct_clients: 4,
        keys,
        is_expiring: true,
    };
    let running = load.start();
    if is_frozen {
        let frozen = async {
            redis.freeze(true);
            tokio::time::sleep(Duration::from_millis(500)).await;
            redis.freeze(false);
        };
        running.fault(Duration::from_millis(100), frozen).await;
    }
    let history = running.end_after(LENGTH).await;
    assert_eq!(history.faults.len(), usize::from(is_frozen));
    let verdict = check(&history, Bounds::default());
    println!("{memory:?}: {verdict}");
    // So many that the share of one in a thousand is one.
    assert!(verdict.staleness.exposed > 1000 && verdict.operations > 4000, "too little was done: {verdict}");
    assert_eq!(verdict.errors, 0, "{verdict}");
    verdict
}

pub async fn reachable(url: &str) {
    let client = redis::Client::open(url).unwrap();
    tokio::time::timeout(Duration::from_secs(10), async {
        while client.get_multiplexed_async_connection().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("Redis within ten seconds");
}

fn any(verdict: &Verdict, is: impl Fn(&Flaw) -> bool) -> bool {
    verdict.flaws.iter().any(is)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_found_where_nothing_is_kept() {
    let verdict = found(Memory::Nothing).await;
    assert!(verdict.flaws.is_empty(), "{verdict}");
    assert_eq!(verdict.staleness.old, 0, "{verdict}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_found_of_a_redis_that_hangs_for_a_while() {
    let verdict = found_while(Memory::Nothing, 20, true).await;
    assert!(verdict.flaws.is_empty(), "{verdict}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_that_is_never_cleared_is_found() {
    let verdict = found(Memory::Everything).await;
    assert!(any(&verdict, |flaw| matches!(flaw, Flaw::OwnWriteMissed { .. })), "{verdict}");
    assert!(any(&verdict, |flaw| matches!(flaw, Flaw::Backwards { .. })), "{verdict}");
    assert!(any(&verdict, |flaw| matches!(flaw, Flaw::TooOld { .. })), "{verdict}");
}

/// As it is written by hand in services: an update clears the memory of one replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_that_only_its_own_pod_clears_is_found() {
    // So many keys that a pod leaves one of them alone for more than a second.
    let verdict = found_while(Memory::OwnWritesClear(Duration::from_secs(60)), 300, false).await;
    assert!(any(&verdict, |flaw| matches!(flaw, Flaw::TooOld { .. })), "{verdict}");
    assert!(!any(&verdict, |flaw| matches!(flaw, Flaw::OwnWriteMissed { .. })), "{verdict}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_that_is_late_by_a_third_of_a_second_is_found() {
    let verdict = found(Memory::OwnWritesClear(Duration::from_millis(300))).await;
    assert!(any(&verdict, |flaw| matches!(flaw, Flaw::TooOftenOld { .. })), "{verdict}");
    assert!(!any(&verdict, |flaw| matches!(flaw, Flaw::TooOld { .. })), "{verdict}");
}
