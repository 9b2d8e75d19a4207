//! The near-cache itself, of four pods in front of one Redis: nothing is found of it, with faults and without; and
//! what is found of it where it leaves something out.

use std::time::{Duration, Instant};

use cachedservice::{
    settings::near_cache::{Rule, SingleFlight},
    sidecar::near_cache::coherence::Lacks,
};
use tokio::time::sleep;

use super::{
    checker::{Flaw, Verdict},
    stage::{PODS, Stage},
};

fn is_stale(flaw: &Flaw) -> bool {
    matches!(flaw, Flaw::OwnWriteMissed { .. } | Flaw::Backwards { .. } | Flaw::TooOld { .. })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_found_of_four_near_caches() {
    let stage = Stage::begin().await;
    let verdict = stage.judged(stage.load(20), Duration::from_secs(4)).await;
    assert!(verdict.flaws.is_empty(), "{verdict}");
    assert_eq!(verdict.errors, 0, "{verdict}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_found_of_near_caches_whose_clients_wait_for_one_another() {
    let single_flight = Some(SingleFlight { wait_ms: 60, lease_ms: 30 });
    let rule = Rule { prefix: "coherence:".to_owned(), single_flight, ..Rule::default() };
    let stage = Stage::by(vec![rule]).await;
    let running = stage.load(20);
    stage.disturb(&running).await;
    let verdict = stage.judged(running, Duration::from_secs(4)).await;
    assert!(verdict.flaws.is_empty(), "{verdict}");
    for (led, written) in stage.leases() {
        assert!(led > 0 && written > 0, "nobody has waited: {led} led, {written} had what was written");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_found_of_near_caches_whose_connections_are_killed_and_whose_redis_hangs() {
    let stage = Stage::begin().await;
    let running = stage.load(20);
    for _ in 0..3 {
        stage.disturb(&running).await;
    }
    let verdict = stage.judged(running, Duration::from_secs(3)).await;
    assert!(verdict.flaws.is_empty(), "{verdict}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_found_of_near_caches_that_lose_but_the_connections_that_tell_what_changes() {
    let stage = Stage::begin().await;
    // So many that a pod reads some again only after long.
    let running = stage.load(100);
    for _ in 0..10 {
        sleep(Duration::from_millis(300)).await;
        stage.lose_streams(&running).await;
    }
    let verdict = stage.judged(running, Duration::from_secs(3)).await;
    assert!(verdict.flaws.is_empty(), "{verdict}");
    assert_eq!(verdict.errors, 0, "what is asked elsewhere does not notice: {verdict}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_found_of_near_caches_whose_way_to_redis_is_slow_or_still() {
    let stage = Stage::begin().await;
    let running = stage.load(20);
    stage.slow_down(&running, 0).await;
    stage.silence(&running, 1, true).await;
    for pod in [2, 3] {
        stage.silence(&running, pod, false).await;
    }
    let verdict = stage.judged(running, Duration::from_secs(3)).await;
    assert!(verdict.flaws.is_empty(), "{verdict}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_found_of_near_caches_whose_writes_overtake_what_they_read() {
    let stage = Stage::begin().await;
    let running = stage.load(4);
    stage.delay_streams().await;
    let verdict = stage.judged(running, Duration::from_secs(3)).await;
    assert!(verdict.flaws.is_empty(), "{verdict}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_near_cache_that_does_not_look_at_epochs_is_found() {
    let stage = Stage::lacking(Lacks::Epochs).await;
    let mut verdict = Verdict::default();
    // A write has to overtake a reply: few keys, and more than one try.
    for _ in 0..5 {
        let running = stage.load(4);
        stage.delay_streams().await;
        verdict = stage.judged(running, Duration::from_secs(3)).await;
        if verdict.flaws.iter().any(is_stale) {
            return;
        }
    }
    panic!("nothing was found: {verdict}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_near_cache_that_keeps_what_a_lost_connection_covered_is_found() {
    let stage = Stage::lacking(Lacks::Losses).await;
    let mut verdict = Verdict::default();
    // Something has to be changed by another pod that is in memory from before the loss.
    for _ in 0..5 {
        let running = stage.load(100);
        sleep(Duration::from_millis(500)).await;
        stage.lose_streams(&running).await;
        verdict = stage.judged(running, Duration::from_secs(2)).await;
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
    for first in 0_usize.. {
        if Instant::now() >= end {
            return;
        }
        let stage = Stage::begin().await;
        let running = stage.load(if first % 2 == 0 { 20 } else { 100 });
        for round in 0..PODS {
            stage.disturb(&running).await;
            stage.lose_streams(&running).await;
            stage.slow_down(&running, first + round).await;
            stage.silence(&running, first + round + 1, round % 2 == 0).await;
            // Without faults, so that the bound of those times is looked at as well.
            sleep(Duration::from_secs(2)).await;
        }
        let verdict = stage.judged(running, Duration::from_secs(3)).await;
        assert!(verdict.flaws.is_empty(), "{verdict}");
    }
}
