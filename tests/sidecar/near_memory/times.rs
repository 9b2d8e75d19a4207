//! Nothing is given longer than it lives, or than the rules say.

use std::time::{Duration, Instant};

use cachedservice::{
    settings::{NearCache, near_cache::Rule},
    sidecar::near_cache::near::Look,
};

use super::{Stage, run, settings, until};

/// What a clock of milliseconds may be wrong, at both ends.
const ROUNDING: Duration = Duration::from_millis(3);

#[tokio::test]
async fn nothing_is_given_after_it_has_expired_in_redis() {
    let stage = Stage::begin();
    let (pod, other) = (stage.pod(), stage.client().await);
    pod.awake().await;
    for round in 0..20 {
        let time = Duration::from_millis(20 + 10 * round);
        let _: () = run(&other, &format!("SET a {round} PX {}", time.as_millis())).await;
        let _: () = run(&other, "SET b 1").await;
        let written = Instant::now();
        pod.read("GET a").await.unwrap();
        pod.read("MGET b a").await.unwrap();
        let mut hits = 0;
        while written.elapsed() < time + Duration::from_millis(10) {
            for words in ["GET a", "MGET b a"] {
                let looked = written.elapsed();
                let is_of_value =
                    pod.hit(words).is_some_and(|reply| reply.contains(&format!("\r\n{round}\r\n")));
                assert!(!is_of_value || looked <= time + ROUNDING, "{words} after {looked:?} of {time:?}");
                hits += u32::from(is_of_value);
            }
            tokio::task::yield_now().await;
        }
        assert!(hits > 0, "never, of {time:?}");
    }
}

#[tokio::test]
async fn rules_say_what_is_stored_and_for_how_long() {
    let stage = Stage::begin();
    let rule = |prefix: &str| Rule { prefix: prefix.to_owned(), ..Rule::default() };
    let rules = vec![
        Rule { ttl_ms: Some(50), ..rule("short:") },
        Rule { max_value: Some(20), ..rule("size:") },
        Rule { off: true, ..rule("off:") },
    ];
    let by = NearCache { rules, ..settings() };
    let (pod, other) = (stage.pod_by(&by), stage.client().await);
    pod.awake().await;
    pod.read("GET short:1").await.unwrap();
    let read = Instant::now();
    pod.gone("GET short:1").await;
    assert!(read.elapsed() <= Duration::from_secs(2));
    assert_eq!(pod.look("GET short:1").0, Look::Miss);

    for words in ["GET off:1", "MGET a off:1"] {
        assert_eq!(pod.look(words).0, Look::Pass);
    }
    let _: () = run(&other, "SET size:1 0123456789").await;
    let _: () = run(&other, "SET size:2 01234567890123456789").await;
    pod.fill("GET size:1").await;
    pod.read("GET size:2").await.unwrap();
    assert_eq!(pod.hit("GET size:2"), None);

    pod.near.go_by(&settings());
    assert_eq!(pod.hit("GET size:1"), None);
    pod.fill("GET off:1").await;
    pod.fill("GET size:2").await;
}

#[tokio::test]
async fn what_is_read_beside_a_key_whose_rule_is_off_is_no_older_in_memory_afterwards() {
    let stage = Stage::begin();
    let rules = vec![Rule { prefix: "off:".to_owned(), off: true, ..Rule::default() }];
    let pod = stage.pod_by(&NearCache { rules, ..settings() });
    pod.fill("GET a").await;
    pod.see("GET off:1");
    assert!(pod.hit("GET a").is_some());
    pod.see("MGET off:1 a");
    assert_eq!(pod.hit("GET a"), None);
}

#[tokio::test]
async fn a_rule_that_allows_larger_values_than_the_others_has_them_stored() {
    let stage = Stage::begin();
    let rules = vec![Rule { prefix: "size:".to_owned(), max_value: Some(4 << 20), ..Rule::default() }];
    let by = NearCache { rules, memory: 64 << 20, max_value: 1 << 20, ..settings() };
    let (pod, other) = (stage.pod_by(&by), stage.client().await);
    pod.awake().await;
    let _: u64 = run(&other, "SETRANGE size:4 4000000 x").await;
    let _: u64 = run(&other, "SETRANGE other:4 4000000 x").await;
    pod.fill("GET size:4").await;
    pod.read("GET other:4").await.unwrap();
    assert_eq!(pod.hit("GET other:4"), None);
}

#[tokio::test]
async fn errors_are_told_and_not_stored() {
    let stage = Stage::begin();
    let (pod, other) = (stage.pod(), stage.client().await);
    let _: u32 = run(&other, "SADD s a").await;
    for _ in 0..2 {
        assert!(pod.answer("GET s").await.starts_with("-WRONGTYPE"));
        assert_eq!(pod.look("GET s").0, Look::Miss);
    }
    let figures = pod.near.figures();
    until("counted", async || (figures.refused.get() >= 2 && figures.stored.get() == 0).then_some(())).await;
}
