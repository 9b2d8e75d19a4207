//! What needs a connection of the client's own.

use cachedservice::{settings::near_cache::Pool, sidecar::near_cache::server::Bounds};

use super::{Client, Stage, bulk, until};

async fn pinned(stage: &Stage, number: usize) {
    until(&format!("{number} pinned"), async || (stage.relay.pins().used() == number).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_are_done_as_one_and_their_connection_is_used_again() {
    let stage = Stage::begin().await;
    let (mut one, mut two) = (stage.client().await, stage.client().await);
    for round in 1..=3 {
        assert_eq!(one.ask(&["MULTI"]).await, "+OK\r\n");
        assert_eq!(one.ask(&["INCR", "a"]).await, "+QUEUED\r\n");
        assert_eq!(two.ask(&["INCR", "b"]).await, format!(":{}\r\n", 2 * round - 1));
        assert_eq!(one.ask(&["INCR", "b"]).await, "+QUEUED\r\n");
        assert_eq!(one.ask(&["EXEC"]).await, format!("*2\r\n:{round}\r\n:{}\r\n", 2 * round));
        pinned(&stage, 0).await;
    }
    let listed = two.ask(&["CLIENT", "LIST"]).await;
    assert_eq!(listed.matches("cmd=exec").count(), 1, "{listed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_watched_and_changed_by_another_undoes_the_transaction() {
    let stage = Stage::begin().await;
    let (mut one, mut two) = (stage.client().await, stage.client().await);
    one.ask(&["WATCH", "a"]).await;
    two.ask(&["SET", "a", "2"]).await;
    one.ask(&["MULTI"]).await;
    one.ask(&["SET", "a", "1"]).await;
    assert_eq!(one.ask(&["EXEC"]).await, "*-1\r\n");
    assert_eq!(one.ask(&["GET", "a"]).await, bulk("2"));
    pinned(&stage, 0).await;
    // What was watched is not watched for whoever has the connection next.
    one.ask(&["WATCH", "a"]).await;
    assert_eq!(one.ask(&["UNWATCH"]).await, "+OK\r\n");
    pinned(&stage, 0).await;
    two.ask(&["MULTI"]).await;
    one.ask(&["SET", "a", "3"]).await;
    two.ask(&["GET", "a"]).await;
    assert_eq!(two.ask(&["EXEC"]).await, "*1\r\n$1\r\n3\r\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_its_client_leaves_is_no_other_clients() {
    let stage = Stage::begin().await;
    let mut one = stage.client().await;
    one.ask(&["MULTI"]).await;
    one.ask(&["SET", "a", "1"]).await;
    drop(one);
    pinned(&stage, 0).await;
    let mut two = stage.client().await;
    assert_eq!(two.ask(&["EXEC"]).await, "-ERR EXEC without MULTI\r\n");
    two.ask(&["MULTI"]).await;
    assert_eq!(two.ask(&["EXEC"]).await, "*0\r\n");
    assert_eq!(two.ask(&["GET", "a"]).await, "$-1\r\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_clients_that_wait_hold_up_nobody_and_get_what_they_wait_for() {
    let stage = Stage::begin().await;
    let mut waiting = Vec::new();
    for number in 0..50 {
        let mut client = stage.client().await;
        client.send(&["BLPOP", &format!("list{number}"), "0"]).await;
        client.send(&["PING"]).await;
        waiting.push(client);
    }
    pinned(&stage, 50).await;
    let mut other = stage.client().await;
    for round in 0..100 {
        assert_eq!(other.ask(&["ECHO", &round.to_string()]).await, bulk(&round.to_string()));
    }
    for (number, client) in waiting.iter_mut().enumerate() {
        let list = format!("list{number}");
        assert_eq!(other.ask(&["RPUSH", &list, "v"]).await, ":1\r\n");
        assert_eq!(client.reply().await, Some(format!("*2\r\n{}{}", bulk(&list), bulk("v"))));
        assert_eq!(client.reply().await.as_deref(), Some("+PONG\r\n"));
    }
    pinned(&stage, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_while_it_waits_takes_nothing_with_it() {
    let stage = Stage::begin().await;
    let mut client = stage.client().await;
    client.send(&["BLPOP", "list", "0"]).await;
    pinned(&stage, 1).await;
    let mut other = stage.client().await;
    let waits = async |other: &mut Client| other.ask(&["CLIENT", "LIST"]).await.contains("cmd=blpop");
    until("it waits", async || waits(&mut other).await.then_some(())).await;
    drop(client);
    until("it waits no more", async || (!waits(&mut other).await).then_some(())).await;
    other.ask(&["RPUSH", "list", "v"]).await;
    assert_eq!(other.ask(&["LLEN", "list"]).await, ":1\r\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_work_in_both_protocols() {
    let stage = Stage::begin().await;
    let mut publisher = stage.client().await;
    for (is_three, sign) in [(false, '*'), (true, '>')] {
        let mut client = stage.client().await;
        if is_three {
            client.ask(&["HELLO", "3"]).await;
        }
        client.send(&["SUBSCRIBE", "c", "d"]).await;
        for (number, channel) in ["c", "d"].into_iter().enumerate() {
            let told = format!("{sign}3\r\n{}{}:{}\r\n", bulk("subscribe"), bulk(channel), number + 1);
            assert_eq!(client.reply().await, Some(told));
        }
        for round in 0..100 {
            let text = round.to_string();
            assert_eq!(publisher.ask(&["PUBLISH", "c", &text]).await, ":1\r\n");
            let told = format!("{sign}3\r\n{}{}{}", bulk("message"), bulk("c"), bulk(&text));
            assert_eq!(client.reply().await, Some(told));
        }
        if is_three {
            assert_eq!(client.ask(&["ECHO", "a"]).await, bulk("a"), "and commands go on");
        }
        assert_eq!(client.ask(&["RESET"]).await, "+RESET\r\n");
        pinned(&stage, 0).await;
        assert_eq!(client.ask(&["GET", "a"]).await, "$-1\r\n", "all is as at the beginning, and RESP2");
        assert_eq!(publisher.ask(&["PUBLISH", "c", "x"]).await, ":0\r\n");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_concerns_the_connection_itself_is_of_one_and_the_same() {
    let stage = Stage::begin().await;
    let mut client = stage.client().await;
    assert_eq!(client.ask(&["CLIENT", "SETNAME", "me"]).await, "+OK\r\n");
    let number = client.ask(&["CLIENT", "ID"]).await;
    for _ in 0..3 {
        assert_eq!(client.ask(&["CLIENT", "ID"]).await, number);
    }
    assert!(client.ask(&["CLIENT", "INFO"]).await.contains(" name=me "));
    assert_eq!(client.ask(&["CLIENT", "GETNAME"]).await, bulk("me"));
    client.send(&["CLIENT", "REPLY", "SKIP"]).await;
    client.send(&["SET", "a", "1"]).await;
    assert_eq!(client.ask(&["GET", "a"]).await, bulk("1"));
    let mut tracking = stage.client().await;
    tracking.ask(&["HELLO", "3"]).await;
    assert_eq!(tracking.ask(&["CLIENT", "TRACKING", "ON"]).await, "+OK\r\n");
    assert_eq!(tracking.ask(&["GET", "a"]).await, bulk("1"));
    stage.client().await.ask(&["SET", "a", "2"]).await;
    let told = tracking.reply().await.unwrap();
    assert_eq!(told, ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_is_asked_is_seen_by_monitor() {
    let stage = Stage::begin().await;
    let mut monitor = stage.client().await;
    assert_eq!(monitor.ask(&["MONITOR"]).await, "+OK\r\n");
    stage.client().await.ask(&["GET", "seen"]).await;
    until("it is seen", async || monitor.reply().await.unwrap().contains("\"GET\" \"seen\"").then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_that_are_pinned_are_told_what_to_do() {
    let pool = Pool { max_pinned: 2, ..Pool::default() };
    let stage = Stage::of(pool, Bounds::default()).await;
    let mut clients = [stage.client().await, stage.client().await, stage.client().await];
    assert_eq!(clients[0].ask(&["MULTI"]).await, "+OK\r\n");
    assert_eq!(clients[1].ask(&["WATCH", "a"]).await, "+OK\r\n");
    let told = clients[2].ask(&["MULTI"]).await;
    assert!(told.starts_with("-ERR too many connections of this pod are pinned"), "{told}");
    assert!(told.contains(": 2; raise spec.cache.application.pool.maxPinned"), "{told}");
    assert_eq!(clients[2].ask(&["GET", "a"]).await, "$-1\r\n", "all else goes on");
    assert_eq!(clients[0].ask(&["DISCARD"]).await, "+OK\r\n");
    pinned(&stage, 1).await;
    assert_eq!(clients[2].ask(&["MULTI"]).await, "+OK\r\n");
    // And without a new start.
    assert!(clients[0].ask(&["MULTI"]).await.starts_with("-ERR too many"));
    stage.relay.reload(&stage.settings(Pool { max_pinned: 3, ..Pool::default() }));
    assert_eq!(clients[0].ask(&["MULTI"]).await, "+OK\r\n");
}
