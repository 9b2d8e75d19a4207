//! Another URL of Redis is followed by the connections that there are, if it works.

use std::time::{Duration, Instant};

use cachedservice::{settings::near_cache::Pool, sidecar::near_cache::server::Bounds};

use super::{Client, LIMIT, PASSWORD, Stage, bulk, until};
use crate::redis_server::{Redis, free_port};

/// The numbers of the sidecar's connections, at Redis.
async fn connections(straight: &mut Client) -> Vec<u64> {
    let listed = straight.ask(&["CLIENT", "LIST"]).await;
    let own = listed.lines().filter(|line| line.contains(" name=cachedservice "));
    let number = |line: &str| line.split("id=").nth(1)?.split(' ').next()?.parse().ok();
    own.map(|line| number(line).unwrap()).collect()
}

/// Waits until all connections are there that stay, and one that fills the memory.
async fn settled(stage: &Stage, client: &mut Client, straight: &mut Client) -> Vec<u64> {
    until("all connections", async || {
        client.ask(&["GET", "a"]).await;
        let standing = connections(straight).await;
        (stage.relay.near().connections() == 1 && standing.len() == 6).then_some(standing)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_address_is_followed_without_an_error() {
    let stage = Stage::begin().await;
    let (mut client, mut straight) = (stage.client().await, stage.straight().await);
    assert_eq!(client.ask(&["SET", "a", "first"]).await, "+OK\r\n");
    // One that is held, and one that waits for its next use.
    let mut holding = stage.client().await;
    for command in [&["MULTI"][..], &["EXEC"], &["WATCH", "w"]] {
        holding.ask(command).await;
    }
    settled(&stage, &mut client, &mut straight).await;
    let second = Redis::start(free_port(), PASSWORD);
    let mut other = until("the second", async || Client::straight(second.port).await).await;
    other.ask(&["SET", "a", "second"]).await;
    stage.tell(second.port, PASSWORD);
    until("it is followed", async || {
        let told = client.ask(&["GET", "a"]).await;
        assert!(told == bulk("first") || told == bulk("second"), "{told}");
        (told == bulk("second")).then_some(())
    })
    .await;
    until("none is left", async || connections(&mut straight).await.is_empty().then_some(())).await;
    settled(&stage, &mut client, &mut other).await;
    // Who has a connection for himself keeps it, and nobody gets it after him.
    assert_eq!(holding.ask(&["GET", "a"]).await, bulk("first"));
    assert_eq!(holding.ask(&["UNWATCH"]).await, "+OK\r\n");
    for command in [&["MULTI"][..], &["GET", "a"]] {
        holding.ask(command).await;
    }
    assert_eq!(holding.ask(&["EXEC"]).await, format!("*1\r\n{}", bulk("second")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_always_waits_for_a_reply_follows_as_well() {
    let stage = Stage::begin().await;
    let mut client = stage.client().await;
    client.ask(&["SETBIT", "large", "99999999", "1"]).await;
    // Some milliseconds of Redis.
    let slow = ["BITOP", "NOT", "other", "large"];
    for _ in 0..100 {
        client.send(&slow).await;
    }
    let second = Redis::start(free_port(), PASSWORD);
    let mut other = until("the second", async || Client::straight(second.port).await).await;
    stage.tell(second.port, PASSWORD);
    until("it is followed", async || {
        for _ in 0..20 {
            client.send(&["SET", "a", "1"]).await;
            client.send(&slow).await;
            client.reply().await.unwrap();
            client.reply().await.unwrap();
        }
        (other.ask(&["GET", "a"]).await == bulk("1")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_password_is_followed_once_redis_takes_it() {
    let stage = Stage::begin().await;
    let (mut client, mut straight) = (stage.client().await, stage.straight().await);
    client.ask(&["SET", "a", "1"]).await;
    let before = settled(&stage, &mut client, &mut straight).await;
    stage.tell(stage.redis, "other");
    // Each look at the file is a trial, which is refused.
    until("it is tried", async || {
        assert_eq!(client.ask(&["GET", "a"]).await, bulk("1"));
        let log = straight.ask(&["ACL", "LOG"]).await;
        let count = log.split("count\r\n:").nth(1)?.split('\r').next()?.parse::<u32>().ok()?;
        (log.contains("auth") && count >= 2).then_some(())
    })
    .await;
    let standing = connections(&mut straight).await;
    assert!(before.iter().all(|number| standing.contains(number)), "{before:?}, then {standing:?}");
    assert_eq!(straight.ask(&["CONFIG", "SET", "requirepass", "other"]).await, "+OK\r\n");
    until("all are others", async || {
        assert_eq!(client.ask(&["GET", "a"]).await, bulk("1"));
        let now = connections(&mut straight).await;
        (!now.is_empty() && before.iter().all(|number| !now.contains(number))).then_some(())
    })
    .await;
    settled(&stage, &mut client, &mut straight).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_long_a_connection_may_take_is_as_the_settings_say_at_last() {
    let stage = Stage::of(Pool { min: 0, ..Pool::default() }, Bounds::default()).await;
    let connect_timeout_ms = u64::try_from(LIMIT.as_millis() * 3).unwrap();
    stage.relay.reload(&stage.settings(Pool { min: 0, connect_timeout_ms, ..Pool::default() }));
    stage.relay.reload(&stage.settings(Pool { min: 0, connect_timeout_ms: 50, ..Pool::default() }));
    stage.server.as_ref().unwrap().freeze(true);
    let mut client = stage.client().await;
    let asked = Instant::now();
    let told = client.ask(&["SET", "a", "1"]).await;
    assert!(told.contains("no connection within 50ms"), "{told}");
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
}
