//! What is counted of the near-cache: by rule, of its connections, and of what goes past it.

use std::collections::BTreeMap;

use cachedservice::{
    settings::{
        NearCache,
        near_cache::{Pool, Rule},
    },
    sidecar::{health::Health, http::Front, metrics, near_cache::server::Bounds},
};

use super::{Client, Stage, until};
use crate::{application, figures::series};

/// The series of the near-cache, without what all their names begin with.
fn told(stage: &Stage) -> BTreeMap<String, f64> {
    let front = Front::new(application::settings(), 1);
    let told = series(&metrics::encode(&front, Some(&stage.relay), &Health::new()).unwrap());
    let near = told.into_iter().filter_map(|(name, value)| {
        Some((name.strip_prefix("cachedservice_sidecar_near_")?.to_owned(), value))
    });
    near.collect()
}

fn reads(stage: &Stage, prefix: &str) -> Option<(f64, f64)> {
    let told = told(stage);
    let of = |result: &str| {
        told.get(&format!("rule_reads_total{{prefix=\"{prefix}\",result=\"{result}\"}}")).copied()
    };
    of("hit").zip(of("miss"))
}

fn with(stage: &Stage, rules: &[(&str, bool)]) -> NearCache {
    let rule = |&(prefix, off): &(&str, bool)| Rule { prefix: prefix.to_owned(), off, ..Rule::default() };
    let mut rules: Vec<_> = rules.iter().map(rule).collect();
    Rule::sort(&mut rules);
    NearCache { rules, ..stage.settings(Pool::default()) }
}

/// Asks until the last so many answers came from memory.
async fn hit(stage: &Stage, client: &mut Client, command: &[&str], times: u64) {
    let hits = || stage.relay.near().figures().reads().0;
    until(&format!("{command:?} is remembered"), async || {
        let before = hits();
        client.ask(command).await;
        (hits() > before).then_some(())
    })
    .await;
    let before = hits();
    for _ in 1..times {
        client.ask(command).await;
    }
    assert_eq!(hits() - before, times - 1, "{command:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hits_and_misses_are_told_by_the_prefix_of_their_rule_whatever_the_settings_become() {
    let stage = Stage::begin().await;
    let mut client = stage.client().await;
    assert_eq!((reads(&stage, ""), reads(&stage, "user:")), (Some((0.0, 0.0)), None));
    stage.relay.reload(&with(&stage, &[("user:", false), ("job:", true)]));
    hit(&stage, &mut client, &["GET", "user:1"], 5).await;
    hit(&stage, &mut client, &["GET", "other"], 2).await;
    // Of several keys it is one read, of the rule of the first.
    hit(&stage, &mut client, &["MGET", "user:1", "other"], 3).await;
    let (hits, misses) = reads(&stage, "user:").unwrap();
    assert!((hits - 8.0).abs() < 0.5 && misses >= 2.0, "{hits} {misses}");
    assert_eq!(reads(&stage, "").unwrap().0, 2.0);
    // What a rule keeps out is neither.
    client.ask(&["GET", "job:1"]).await;
    client.ask(&["MGET", "user:1", "job:1"]).await;
    assert_eq!(reads(&stage, "job:"), Some((0.0, 0.0)));
    assert_eq!(told(&stage)["passed_total{reason=\"rule\"}"], 2.0);

    // In another place of the settings, and without a neighbour.
    let before = reads(&stage, "user:").unwrap();
    stage.relay.reload(&with(&stage, &[("user:", false), ("a:", false), ("user:session:", false)]));
    assert_eq!(reads(&stage, "user:"), Some(before));
    assert_eq!(reads(&stage, "job:"), None);
    hit(&stage, &mut client, &["GET", "user:session:1"], 4).await;
    hit(&stage, &mut client, &["GET", "user:1"], 1).await;
    assert_eq!(reads(&stage, "user:session:").unwrap().0, 4.0);
    assert_eq!(reads(&stage, "user:").unwrap().0, before.0 + 1.0);

    // Gone, and back; what was counted of all of them never goes back.
    let all = stage.relay.near().figures().reads();
    stage.relay.reload(&with(&stage, &[]));
    assert_eq!((reads(&stage, "user:"), stage.relay.near().figures().reads()), (None, all));
    stage.relay.reload(&with(&stage, &[("user:", false)]));
    assert_eq!(reads(&stage, "user:").unwrap().0, before.0 + 1.0);
    assert_eq!(told(&stage)["reads_total{result=\"hit\"}"], all.0 as f64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_for_whom_redis_does_not_tell_what_changes_is_counted() {
    let stage = Stage::begin().await;
    let (mut client, mut straight) = (stage.client().await, stage.straight().await);
    hit(&stage, &mut client, &["GET", "a"], 1).await;
    let state = |state: &str| told(&stage)[&format!("tracking{{state=\"{state}\"}}")];
    assert_eq!((state("on"), state("refused")), (1.0, 0.0));
    straight.ask(&["ACL", "SETUSER", "blind", "on", ">secret", "~*", "+@all", "-client|tracking"]).await;
    assert_eq!(client.ask(&["AUTH", "blind", "secret"]).await, "+OK\r\n");
    until("it is refused", async || {
        client.ask(&["GET", "a"]).await;
        (state("refused") > 0.5).then_some(())
    })
    .await;
    let before = told(&stage)["passed_total{reason=\"untracked\"}"];
    client.ask(&["GET", "a"]).await;
    assert_eq!(told(&stage)["passed_total{reason=\"untracked\"}"], before + 1.0);
    assert_eq!(state("on"), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_told_by_what_they_do_and_those_that_nobody_got() {
    let pool = Pool { max: 1, min: 1, max_pinned: 1, connect_timeout_ms: 500, ..Pool::default() };
    let stage = Stage::of(pool, Bounds::default()).await;
    let (mut one, mut other) = (stage.client().await, stage.client().await);
    let mut straight = stage.straight().await;
    let of = |state: &str| told(&stage)[&format!("pool_connections{{state=\"{state}\"}}")];
    let refused = |kind: &str| told(&stage)[&format!("pool_refusals_total{{kind=\"{kind}\"}}")];
    let limits = ["shared", "pinned"].map(|kind| told(&stage)[&format!("pool_limit{{kind=\"{kind}\"}}")]);
    assert_eq!(limits, [1.0, 1.0]);

    assert_eq!(one.ask(&["MULTI"]).await, "+OK\r\n");
    assert_eq!((of("pinned"), refused("pinned")), (1.0, 0.0));
    assert!(other.ask(&["MULTI"]).await.contains("pool.maxPinned"));
    assert_eq!((of("pinned"), refused("pinned")), (1.0, 1.0));
    one.ask(&["EXEC"]).await;
    until("it waits for the next use", async || (of("spare") > 0.5).then_some(())).await;
    assert_eq!(of("pinned"), 0.0);

    assert_eq!(other.ask(&["SELECT", "1"]).await, "+OK\r\n");
    assert_eq!(one.ask(&["SET", "a", "1"]).await, "+OK\r\n");
    until("nothing is outstanding", async || (of("idle") > 0.5).then_some(())).await;
    assert_eq!(told(&stage)["pool_refusals_total{kind=\"shared\"}"], 0.0);
    assert!(told(&stage)["pool_waits_total"] >= 1.0, "each began without a connection");
    // Now it has to do for longer than another waits.
    straight.ask(&["CLIENT", "PAUSE", "10000", "ALL"]).await;
    one.send(&["SET", "a", "2"]).await;
    until("it waits for its reply", async || (of("used") > 0.5).then_some(())).await;
    let answer = other.ask(&["SET", "a", "1"]).await;
    assert!(answer.contains("pool.max"), "{answer}");
    assert!(refused("shared") >= 1.0);
    straight.ask(&["CLIENT", "UNPAUSE"]).await;
    assert_eq!(one.reply().await.as_deref(), Some("+OK\r\n"));
}
