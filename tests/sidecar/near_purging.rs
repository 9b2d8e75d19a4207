//! Purges of the near-cache in sidecars as they run: by the operator, by the application of a pod, and on the channel.

use cachedservice::settings::{
    NearCache,
    deletions::{Progress, State},
    near_cache::{Pool, WhenRedisFails},
};
use http::Method;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};

use crate::{
    application::{Answer, run_application},
    near_cache::{Client, bulk},
    process::{Process, TOKEN},
    redis::{Stage, counting, run, source, until},
    redis_server::free_port,
};

/// Which tiers the sidecars have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tiers {
    Http,
    Near,
    Both,
}

/// Sidecars of one service, and their Redis.
struct Replicas {
    stage: Stage,
    processes: Vec<Process>,
}

impl Replicas {
    async fn begin(number: usize, tiers: Tiers) -> Self {
        let stage = Stage::begin();
        drop(stage.client().await);
        let (_, answer) = counting();
        let (app, _) = run_application(answer).await;
        let start = || {
            let redis = stage.settings.clone();
            Process::start(app, move |settings| {
                settings.redis = Some(redis);
                settings.application = (tiers != Tiers::Http).then(near);
                settings.http = settings.http.take().filter(|_| tiers != Tiers::Near);
            })
        };
        let processes: Vec<_> = (0..number).map(|_| start()).collect();
        for process in &processes {
            process.until_readyz(200).await;
        }
        Self { stage, processes }
    }

    /// Has all read these keys, which Redis has, until they are in memory; there is nothing else.
    async fn fill(&self, keys: &[&str]) {
        let redis = self.stage.client().await;
        for key in keys {
            let _: () = run(&redis, &["SET", key, "old"]).await;
        }
        for process in &self.processes {
            let mut client = client(process).await;
            until("all are in memory", async || {
                for key in keys {
                    assert_eq!(client.ask(&["GET", key]).await, bulk("old"));
                }
                let status = process.status().await;
                (status["nearCache"]["keys"] == keys.len()).then_some(())
            })
            .await;
        }
    }

    /// Waits until all have so many keys in memory.
    async fn until_keys(&self, number: usize) {
        for process in &self.processes {
            process.until_status(|status| status["nearCache"]["keys"] == number).await;
        }
    }

    /// What the application of the first pod asks for, once its replicas can be told.
    async fn purge(&self, order: &Value) -> Answer {
        until("the replicas share", async || {
            let order = order.to_string();
            let answer = self.processes[0].admin(Method::POST, "/purge", Some(TOKEN), &order).await?;
            (answer.status != 503).then_some(answer)
        })
        .await
    }

    /// Publishes it when all listen.
    async fn publish(&self, redis: &MultiplexedConnection, order: &Value) {
        let order = order.to_string();
        until("all listen", async || {
            let channel = &self.stage.settings.channel;
            let listeners: Vec<Value> = numbers(redis, channel).await;
            (listeners == [json!(self.processes.len())]).then_some(())
        })
        .await;
        let heard: usize = run(redis, &["PUBLISH", &self.stage.settings.channel, &order]).await;
        assert_eq!(heard, self.processes.len());
    }
}

async fn numbers(redis: &MultiplexedConnection, channel: &str) -> Vec<Value> {
    let told: Vec<(String, u64)> = run(redis, &["PUBSUB", "NUMSUB", channel]).await;
    told.into_iter().map(|(_, number)| json!(number)).collect()
}

fn near() -> NearCache {
    NearCache {
        port: free_port(),
        memory: 1 << 20,
        ttl_ms: 60_000,
        max_value: 1 << 16,
        when_redis_fails: WhenRedisFails::Error,
        pool: Pool::default(),
        rules: Vec::new(),
    }
}

async fn client(process: &Process) -> Client {
    let port = process.settings.application.as_ref().unwrap().port;
    until("the near-cache", async || Client::at(port).await.ok()).await
}

async fn exist(redis: &MultiplexedConnection, keys: &[&str]) -> u64 {
    run(redis, &[&["EXISTS"], keys].concat()).await
}

fn record(purges: &[Value]) -> String {
    let purges: Vec<_> = (1..)
        .zip(purges)
        .map(|(epoch, targets)| {
            json!({ "epoch": epoch, "id": epoch.to_string(), "force": "hard", "targets": targets })
        })
        .collect();
    json!({ "version": 1, "forgotten": 0, "purges": purges }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_purges_is_forgotten_by_sidecars_with_the_near_cache_alone() {
    let replicas = Replicas::begin(2, Tiers::Near).await;
    let other = replicas.stage.client().await;
    let _: () = run(&other, &["SELECT", "1"]).await;
    for key in ["a", "job:1", "kept"] {
        let _: () = run(&other, &["SET", key, "new"]).await;
    }
    // After that: Redis names no database where it tells of a key.
    replicas.fill(&["a", "job:1", "kept"]).await;
    // Redis tells nobody of that.
    let _: () = run(&other, &["SWAPDB", "0", "1"]).await;
    let orders = [
        (record(&[json!([{ "redisKey": "a" }])]), 1, ["new", "old", "old"]),
        (
            record(&[json!([{ "redisKey": "a" }]), json!([{ "redisPrefix": "job" }])]),
            2,
            ["new", "new", "old"],
        ),
        (record(&[json!([]), json!([]), json!(["everything"])]), 3, ["new", "new", "new"]),
    ];
    for process in &replicas.processes {
        let mut client = client(process).await;
        for (record, epoch, expected) in &orders {
            let answer = process.order("/purges", record).await;
            let told: Value = serde_json::from_str(&answer.body).unwrap();
            assert_eq!((answer.status, &told["epoch"]), (200, &json!(epoch)), "{}", answer.body);
            for (key, value) in ["a", "job:1", "kept"].into_iter().zip(expected) {
                assert_eq!(client.ask(&["GET", key]).await, bulk(value), "{key} after {record}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_application_purges_in_one_pod_all_forget_and_redis_keeps() {
    let replicas = Replicas::begin(2, Tiers::Near).await;
    replicas.fill(&["a", "b", "job:1", "job:2"]).await;
    let order = json!({ "application": { "keys": ["a"], "prefixes": ["job:"] } });
    let answer = replicas.purge(&order).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"replicas":"all"}"#));
    assert_eq!(replicas.processes[0].status().await["nearCache"]["keys"], 1, "before it is answered");
    replicas.until_keys(1).await;
    let redis = replicas.stage.client().await;
    assert_eq!(exist(&redis, &["a", "b", "job:1", "job:2"]).await, 4);
    replicas.purge(&json!({ "everything": true })).await;
    for process in &replicas.processes {
        let mut client = client(process).await;
        until("it is not from memory", async || {
            let before = process.status().await["nearCache"]["hits"].clone();
            assert_eq!(client.ask(&["GET", "b"]).await, bulk("old"));
            (process.status().await["nearCache"]["hits"] == before).then_some(())
        })
        .await;
    }
    assert_eq!(exist(&redis, &["a", "b", "job:1", "job:2"]).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_all_forget_and_what_is_of_another_tier_is_ignored() {
    let replicas = Replicas::begin(2, Tiers::Near).await;
    replicas.fill(&["a", "job:1", "job:2"]).await;
    let redis = replicas.stage.client().await;
    // Of a tier that is off: all of it is refused, not a part.
    let wrong = json!({ "tags": ["t"], "application": { "keys": ["a"] } });
    replicas.publish(&redis, &wrong).await;
    replicas.publish(&redis, &json!({ "application": { "prefixes": ["job:"] } })).await;
    replicas.until_keys(1).await;
    assert_eq!(exist(&redis, &["a", "job:1", "job:2"]).await, 3);
    let recorded: u64 = until("it is recorded", async || {
        let sequence: Option<u64> = run(&redis, &["HGET", "u-1:purges", "sequence"]).await;
        sequence.filter(|sequence| *sequence > 0)
    })
    .await;
    assert_eq!(recorded, 1, "once, whoever was told");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_deleted_is_gone_in_redis_and_in_every_memory_and_nothing_else_is() {
    let replicas = Replicas::begin(2, Tiers::Near).await;
    replicas.fill(&["a", "b", "job*1", "job:1"]).await;
    let redis = replicas.stage.client().await;
    let many: Vec<String> = (0..2500).map(|number| format!("cart:{number}")).collect();
    for keys in many.chunks(500) {
        let pairs: Vec<&str> = keys.iter().flat_map(|key| [key.as_str(), "1"]).collect();
        let _: () = run(&redis, &[&["MSET"], &pairs[..]].concat()).await;
    }
    let order =
        json!({ "application": { "keys": ["a", "none"], "prefixes": ["job*", "c"], "redis": "Delete" } });
    let answer = replicas.purge(&order).await;
    assert_eq!(answer.body, r#"{"deleted":2502,"replicas":"all"}"#);
    replicas.until_keys(2).await;
    assert_eq!(exist(&redis, &["a", "job*1", "cart:0", "cart:2499"]).await, 0);
    assert_eq!(exist(&redis, &["b", "job:1", "u-1:purges"]).await, 3);
    let mut client = client(&replicas.processes[0]).await;
    assert_eq!(client.ask(&["GET", "a"]).await, "$-1\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_to_be_deleted_one_deletes_and_what_was_made_of_it_goes_after_that() {
    let replicas = Replicas::begin(3, Tiers::Both).await;
    replicas.fill(&["user:1", "other"]).await;
    for process in &replicas.processes {
        process.get("/").await;
    }
    let redis = replicas.stage.client().await;
    let order = json!({ "tags": ["t"], "application": { "prefixes": ["user:"], "redis": "Delete" } });
    replicas.publish(&redis, &order).await;
    until("it is recorded, and the pages once more", async || {
        let sequence: Option<u64> = run(&redis, &["HGET", "u-1:purges", "sequence"]).await;
        (sequence == Some(2)).then_some(())
    })
    .await;
    assert_eq!(exist(&redis, &["user:1"]).await, 0);
    assert_eq!(exist(&redis, &["other"]).await, 1);
    replicas.until_keys(1).await;
    let stats: String = run(&redis, &["INFO", "commandstats"]).await;
    assert!(stats.contains("cmdstat_unlink:calls=1,"), "one of three: {stats}");
    let last: String = run(&redis, &["HGET", "u-1:purges", "p2"]).await;
    assert_eq!(last, r#"{"force":"hard","targets":[{"tag":"t"}]}"#);
    for process in &replicas.processes {
        until("the page is made anew", async || (source(&process.get("/").await) != "L1").then_some(()))
            .await;
    }
}

async fn deletion(process: &Process, order: &Value) -> Progress {
    let answer = process.order("/deletions", &order.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

async fn ended(process: &Process, order: &Value) -> Progress {
    until("it has ended", async || {
        let progress = deletion(process, order).await;
        (progress.state != State::Running).then_some(progress)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_has_each_order_deleted_once_and_is_told_how_far_it_is() {
    let replicas = Replicas::begin(1, Tiers::Near).await;
    let (process, redis) = (&replicas.processes[0], replicas.stage.client().await);
    let set = async || {
        let _: () = run(&redis, &["MSET", "a", "1", "job:1", "1", "job:2", "1"]).await;
    };
    set().await;
    let order = |id: &str| json!({ "id": id, "keys": ["a"], "prefixes": ["job:"] });
    let done = ended(process, &order("one")).await;
    assert_eq!((done.state, done.deleted), (State::Done, 3));
    assert!(done.searched > 0);
    set().await;
    assert_eq!(ended(process, &order("one")).await, done, "it was done");
    assert_eq!(exist(&redis, &["a", "job:1", "job:2"]).await, 3);
    assert_eq!(ended(process, &order("two")).await.deleted, 3);
    // What Redis refuses is told once, and tried again.
    set().await;
    let _: () = run(&redis, &["ACL", "SETUSER", "default", "-unlink"]).await;
    assert_eq!(ended(process, &order("three")).await.state, State::Refused);
    let _: () = run(&redis, &["ACL", "SETUSER", "default", "+unlink"]).await;
    assert_eq!(ended(process, &order("three")).await.deleted, 3);
    let own = json!({ "id": "four", "prefixes": ["cachedservice:u-1"] }).to_string();
    assert_eq!(process.order("/deletions", &own).await.status, 400);
    let unknown = process.admin(Method::POST, "/deletions", None, &own).await.unwrap();
    assert_eq!(unknown.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_gone_keeps_a_purge_from_being_said_to_be_done() {
    let mut replicas = Replicas::begin(1, Tiers::Near).await;
    replicas.stage.server = None;
    let process = &replicas.processes[0];
    let order = json!({ "application": { "keys": ["a"], "redis": "Delete" } }).to_string();
    let answer = process.order("/purge", &order).await;
    assert_eq!(answer.status, 503);
    assert!(
        answer.body.contains(r#""replicas":"none""#) && answer.body.contains("Redis was lost"),
        "{answer:?}"
    );
    let order = json!({ "id": "one", "keys": ["a"] });
    assert_eq!(ended(process, &order).await.state, State::Unreachable);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_of_a_tier_that_is_off_is_refused_in_words() {
    let (near, http) = (Replicas::begin(1, Tiers::Near).await, Replicas::begin(1, Tiers::Http).await);
    let keys = json!({ "application": { "keys": ["a"] } }).to_string();
    let refused = http.processes[0].order("/purge", &keys).await;
    assert_eq!(refused.status, 400);
    assert!(refused.body.starts_with("cache.application is off"), "{}", refused.body);
    let refused = near.processes[0].order("/purge", r#"{"tags":["t"]}"#).await;
    assert_eq!(refused.status, 400);
    assert!(refused.body.starts_with("cache.http is off"), "{}", refused.body);
    let refused = http.processes[0].order("/deletions", r#"{"id":"one","keys":["a"]}"#).await;
    assert_eq!(refused.status, 409, "the operator asks another pod");
}
