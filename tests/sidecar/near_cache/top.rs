//! Which keys are hit most, as the admin port of the process tells it.

use std::{path::Path, time::Duration};

use cachedservice::settings::{self, near_cache::Pool};
use http::{Method, Response};
use serde_json::{Value, json};

use super::{Client, PASSWORD, settings as near_settings, until};
use crate::{
    application::run_application,
    process::{Process, TOKEN},
    redis_server::{Redis, free_port},
};

const TOP: &str = "/top?seconds=1&limit=2";

/// A sidecar with a near-cache, and where clients find it.
async fn started(server: &Redis) -> (Process, u16) {
    let (app, _) = run_application(|_| Response::new(bytes::Bytes::new())).await;
    let (near, port) = (free_port(), server.port);
    until("Redis", async || Client::straight(port).await).await;
    let process = Process::start(app, |settings| {
        let token = settings.token_file.clone().unwrap();
        let url_file = Path::new(&token).with_file_name("url");
        std::fs::write(&url_file, format!("redis://:p%40ss@127.0.0.1:{port}/0\n")).unwrap();
        settings.redis = Some(settings::Redis {
            url_file: url_file.to_str().unwrap().to_owned(),
            key_prefix: "cachedservice:n/shop:".to_owned(),
            channel: "cachedservice:n/shop:purge".to_owned(),
        });
        settings.application = Some(near_settings(near, Pool::default()));
    });
    process.until_readyz(200).await;
    (process, near)
}

async fn top(process: &Process) -> Value {
    let answer = process.admin(Method::GET, TOP, Some(TOKEN), "").await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keys_that_are_hit_most_are_told_to_who_has_the_token() {
    let server = Redis::start(free_port(), PASSWORD);
    let (process, near) = started(&server).await;
    let mut client = Client::at(near).await.unwrap();
    client.ask(&["SET", "often", "value"]).await;
    client.ask(&["PEXPIRE", "often", "30000"]).await;
    for token in [None, Some("another")] {
        assert_eq!(process.admin(Method::GET, TOP, token, "").await.unwrap().status, 401, "{token:?}");
    }
    let wrong = process.admin(Method::GET, "/top?seconds=0", Some(TOKEN), "").await.unwrap();
    assert_eq!((wrong.status, wrong.body.as_str()), (400, "seconds=0: write a number from 1 to 60\n"));

    let asking = async {
        for round in 0.. {
            client.ask(&["GET", "often"]).await;
            client.ask(&["GET", "often"]).await;
            client.ask(&["GET", "some"]).await;
            client.ask(&["GET", &format!("once:{round}")]).await;
        }
    };
    let told = tokio::select! {
        told = top(&process) => told,
        () = asking => unreachable!(),
    };
    let keys: Vec<_> = told["keys"].as_array().unwrap().iter().map(|key| &key["key"]).collect();
    assert_eq!(keys, ["often", "some"], "{told}");
    let [often, some] = [&told["keys"][0], &told["keys"][1]];
    let hits = |of: &Value| of["hits"].as_u64().unwrap();
    assert!(hits(often) > hits(some) && hits(some) > 0, "{told}");
    assert_eq!(told["hits"], json!(hits(often) + hits(some)), "nothing else was read twice");
    assert_eq!((&told["seconds"], &told["missed"], &often["replies"]), (&json!(1), &json!(0), &json!(1)));
    let left = often["ttlMs"].as_u64().unwrap();
    assert!((1..=30_000).contains(&left), "as long as in Redis: {told}");
    assert!(some["ttlMs"].as_u64().unwrap() > 30_000, "{told}");
    assert!((50..500).contains(&often["bytes"].as_u64().unwrap()), "{told}");

    // Nothing is counted while nobody asks, and nothing of before is told.
    client.ask(&["GET", "often"]).await;
    let quiet = top(&process).await;
    assert_eq!((&quiet["hits"], &quiet["keys"]), (&json!(0), &json!([])));

    let metrics = process.admin(Method::GET, "/metrics", None, "").await.unwrap().body;
    assert!(metrics.contains("near_rule_reads_total") && !metrics.contains("often"));
    let status = process.status().await;
    let near_cache = &status["nearCache"];
    assert_eq!(near_cache["rules"][0]["hits"], near_cache["hits"], "{near_cache}");
    assert_eq!((&near_cache["tracking"]["on"], &near_cache["pool"]["max"]), (&json!(1), &json!(20)));
    assert!(!status.to_string().contains("often"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_counted_for_one_at_a_time_and_no_longer_than_somebody_waits() {
    let server = Redis::start(free_port(), PASSWORD);
    let (process, _) = started(&server).await;
    let ask = |seconds: u8| {
        let path = format!("/top?seconds={seconds}");
        let process = &process;
        async move { process.admin(Method::GET, &path, Some(TOKEN), "").await.unwrap().status }
    };
    let (first, second) = tokio::join!(ask(1), ask(1));
    assert!(matches!((first, second), (200, 503) | (503, 200)), "{first} {second}");
    // Who goes away leaves nothing behind.
    assert!(tokio::time::timeout(Duration::from_millis(500), ask(60)).await.is_err());
    until("another may ask", async || (ask(1).await == 200).then_some(())).await;
}

#[tokio::test]
async fn without_a_near_cache_there_are_no_keys() {
    let (app, _) = run_application(|_| Response::new(bytes::Bytes::new())).await;
    let process = Process::start(app, |_| {});
    process.until_readyz(200).await;
    let answer = process.admin(Method::GET, "/top", Some(TOKEN), "").await.unwrap();
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("write spec.cache.application"), "{}", answer.body);
}
