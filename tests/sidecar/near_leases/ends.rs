//! How a wait ends.

use std::time::{Duration, Instant};

use cachedservice::settings::near_cache::SingleFlight;

use super::{LONG, NOTHING, SOON, Stage, soon};
use crate::near_cache::{Client, bulk, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_connection_that_was_told_ends_another_is_told() {
    let stage = Stage::of(2, LONG).await;
    for key in ["hot:here", "hot:there"] {
        let mut leader = stage.client(0).await;
        assert_eq!(soon(&mut leader, &["GET", key]).await, NOTHING);
        let pod = usize::from(key == "hot:there");
        let (mut next, mut last) = (stage.client(pod).await, stage.client(1 - pod).await);
        next.send(&["GET", key]).await;
        stage.waiting(pod, 1).await;
        drop(leader);
        let began = Instant::now();
        assert_eq!(next.reply().await.as_deref(), Some(NOTHING), "{key}");
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        // And the others wait for that one.
        last.send(&["GET", key]).await;
        stage.waiting(1 - pod, 1).await;
        next.ask(&["SET", key, "value"]).await;
        assert_eq!(last.reply().await, Some(bulk("value")));
    }
    assert_eq!(stage.ends(), [2, 2, 0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_of_a_pod_that_is_gone_ends_by_itself() {
    let stage = Stage::of(1, LONG).await;
    let mut straight = stage.straight().await;
    straight.ask(&["SET", "cachedservice:lease:hot:1", "another", "PX", "300"]).await;
    let mut client = stage.client(0).await;
    assert_eq!(soon(&mut client, &["GET", "hot:1"]).await, NOTHING);
    assert_eq!((stage.led(), stage.ends()), (1, [0, 1, 0, 0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evicted_lease_is_another_ones() {
    let stage = Stage::of(1, LONG).await;
    stage.led_elsewhere("hot:1").await;
    let mut client = stage.client(0).await;
    client.send(&["GET", "hot:1"]).await;
    stage.waiting(0, 1).await;
    stage.straight().await.ask(&["DEL", "cachedservice:lease:hot:1"]).await;
    assert_eq!(client.reply().await.as_deref(), Some(NOTHING));
    assert_eq!(stage.led(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_longer_than_the_rule_says() {
    let stage = Stage::of(1, SingleFlight { wait_ms: 300, lease_ms: 300 }).await;
    stage.led_elsewhere("hot:1").await;
    let mut client = stage.client(0).await;
    let began = Instant::now();
    assert_eq!(client.ask(&["GET", "hot:1"]).await, NOTHING);
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(290) && waited < SOON, "{waited:?}");
    assert_eq!((stage.led(), stage.ends()), (0, [0, 0, 1, 0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_frozen_nobody_waits_for_longer_either() {
    let stage = Stage::of(1, SingleFlight { wait_ms: 1500, lease_ms: 1500 }).await;
    stage.led_elsewhere("hot:1").await;
    let mut client = stage.client(0).await;
    let began = Instant::now();
    client.send(&["GET", "hot:1"]).await;
    stage.waiting(0, 1).await;
    stage.redis.freeze(true);
    let told = client.reply().await;
    stage.redis.freeze(false);
    assert_eq!(told.as_deref(), Some(NOTHING));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    // And when Redis goes on all is as before.
    stage.awake(0).await;
    stage.straight().await.ask(&["DEL", "cachedservice:lease:hot:1"]).await;
    let (mut leader, mut next) = (stage.client(0).await, stage.client(0).await);
    assert_eq!(soon(&mut leader, &["GET", "hot:2"]).await, NOTHING);
    next.send(&["GET", "hot:2"]).await;
    stage.waiting(0, 1).await;
    leader.ask(&["SET", "hot:2", "value"]).await;
    assert_eq!(next.reply().await, Some(bulk("value")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_may_not_write_leases_does_not_wait() {
    let stage = Stage::of(1, LONG).await;
    let mut straight = stage.straight().await;
    straight.ask(&["ACL", "SETUSER", "ann", "on", ">one", "~hot:*", "~warm", "+@all"]).await;
    straight
        .ask(&["ACL", "SETUSER", "bob", "on", ">two", "~hot:*", "~warm", "%R~cachedservice:lease:*", "+@all"])
        .await;
    for (user, password) in [("ann", "one"), ("bob", "two")] {
        let mut clients = [stage.client(0).await, stage.client(0).await, stage.client(0).await];
        for client in &mut clients {
            assert_eq!(client.ask(&["AUTH", user, password]).await, "+OK\r\n");
        }
        let before = stage.pods[0].relay.near().connections();
        until("memory", async || {
            clients[0].ask(&["GET", "warm"]).await;
            (stage.pods[0].relay.near().connections() > before).then_some(())
        })
        .await;
        for client in &mut clients {
            assert_eq!(soon(client, &["GET", "hot:1"]).await, NOTHING, "{user}");
        }
    }
    assert_eq!(stage.led(), 0);
    // Those who may still do.
    let (mut leader, mut next) = (stage.client(0).await, stage.client(0).await);
    assert_eq!(soon(&mut leader, &["GET", "hot:1"]).await, NOTHING);
    next.send(&["GET", "hot:1"]).await;
    stage.waiting(0, 1).await;
    leader.ask(&["SET", "hot:1", "value"]).await;
    assert_eq!(next.reply().await, Some(bulk("value")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_told_and_deletes_the_key_has_the_next_told() {
    let stage = Stage::of(2, LONG).await;
    let (mut leader, mut next) = (stage.client(0).await, stage.client(1).await);
    assert_eq!(soon(&mut leader, &["GET", "hot:1"]).await, NOTHING);
    next.send(&["GET", "hot:1"]).await;
    stage.waiting(1, 1).await;
    // There was nothing in the database either.
    assert_eq!(leader.ask(&["DEL", "hot:1"]).await, ":0\r\n");
    assert_eq!(next.reply().await.as_deref(), Some(NOTHING));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_ends_gives_its_leases_back() {
    let stage = Stage::of(2, LONG).await;
    let mut leader = stage.client(0).await;
    let mut next = stage.client(1).await;
    assert_eq!(soon(&mut leader, &["GET", "hot:1"]).await, NOTHING);
    next.send(&["GET", "hot:1"]).await;
    stage.waiting(1, 1).await;
    let began = Instant::now();
    stage.pods[0].relay.end(SOON).await;
    assert_eq!(next.reply().await.as_deref(), Some(NOTHING));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_ends_while_it_waits_holds_up_nobody() {
    let stage = Stage::of(1, LONG).await;
    let mut leader = stage.client(0).await;
    assert_eq!(soon(&mut leader, &["GET", "hot:1"]).await, NOTHING);
    let mut gone = stage.client(0).await;
    gone.send(&["GET", "hot:1"]).await;
    stage.waiting(0, 1).await;
    drop(gone);
    stage.waiting(0, 0).await;
    let mut next: Client = stage.client(0).await;
    next.send(&["GET", "hot:1"]).await;
    stage.waiting(0, 1).await;
    leader.ask(&["SET", "hot:1", "value"]).await;
    assert_eq!(next.reply().await, Some(bulk("value")));
}
