//! How many connections there are, and that nobody is held up by another.

use std::time::Duration;

use cachedservice::{settings::near_cache::Pool, sidecar::near_cache::server::Bounds};

use super::{Client, LIMIT, Stage, bulk, until};

/// How many connections Redis has that clients share: with those that fill the memory, and without.
async fn shared(straight: &mut Client) -> (usize, usize) {
    let listed = straight.ask(&["CLIENT", "LIST"]).await;
    let shared: Vec<_> = listed.lines().filter(|line| line.contains(" name=cachedservice ")).collect();
    let fills = |line: &str| {
        let flags = line.split(" flags=").nth(1).and_then(|rest| rest.split(' ').next());
        flags.is_some_and(|flags| flags.contains('t'))
    };
    (shared.len(), shared.iter().filter(|line| !fills(line)).count())
}

async fn connected(straight: &mut Client) -> usize {
    shared(straight).await.1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_share_no_more_than_twenty_connections() {
    let stage = Stage::begin().await;
    let mut clients = Vec::new();
    for _ in 0..1000 {
        clients.push(stage.client().await);
    }
    let mut straight = stage.straight().await;
    let mut most = 0;
    for round in 0..3 {
        for (number, client) in clients.iter_mut().enumerate() {
            let key = format!("k{number}");
            client.send(&["SET", &key, &format!("{round}-{number}")]).await;
            client.send(&["GET", &key]).await;
        }
        most = most.max(shared(&mut straight).await.0);
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.reply().await.as_deref(), Some("+OK\r\n"));
            assert_eq!(client.reply().await, Some(bulk(&format!("{round}-{number}"))));
        }
        most = most.max(shared(&mut straight).await.0);
    }
    assert!((1..=20).contains(&most), "{most} connections");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn some_connections_stay_and_the_others_end_when_they_are_idle() {
    let pool = Pool { max: 20, min: 2, idle_timeout_ms: 600, ..Pool::default() };
    let stage = Stage::of(pool, Bounds::default()).await;
    let mut straight = stage.straight().await;
    until("those that stay", async || (connected(&mut straight).await == 2).then_some(())).await;
    let mut client = stage.client().await;
    for database in ["1", "2", "3"] {
        assert_eq!(client.ask(&["SELECT", database]).await, "+OK\r\n");
        assert_eq!(client.ask(&["GET", "a"]).await, "$-1\r\n");
    }
    // Those that fill the memory are not told apart until they have said so.
    until("one for each", async || (connected(&mut straight).await == 5).then_some(())).await;
    until("idle ones end", async || (connected(&mut straight).await == 2).then_some(())).await;
    assert_eq!(client.ask(&["GET", "a"]).await, "$-1\r\n", "and another is made when it is needed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_places_than_connections_take_turns() {
    let pool = Pool { max: 2, min: 1, ..Pool::default() };
    let stage = Stage::of(pool, Bounds::default()).await;
    let mut straight = stage.straight().await;
    let mut client = stage.client().await;
    for round in 0..3 {
        for database in 0..6 {
            assert_eq!(client.ask(&["SELECT", &database.to_string()]).await, "+OK\r\n");
            assert_eq!(client.ask(&["SET", "a", &format!("{round}{database}")]).await, "+OK\r\n");
            assert!(connected(&mut straight).await <= 2);
        }
    }
    straight.ask(&["SELECT", "4"]).await;
    assert_eq!(straight.ask(&["GET", "a"]).await, bulk("24"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_nothing_of_a_large_reply_holds_up_nobody() {
    let stage = Stage::begin().await;
    let mut straight = stage.straight().await;
    straight.ask(&["SETRANGE", "large", "60000000", "x"]).await;
    let mut slow = stage.client().await;
    slow.send(&["GET", "large"]).await;
    let mut others = Vec::new();
    for _ in 0..20 {
        others.push(stage.client().await);
    }
    for round in 0..50 {
        for other in &mut others {
            let text = round.to_string();
            let asked = tokio::time::timeout(Duration::from_secs(2), other.ask(&["ECHO", &text])).await;
            assert_eq!(asked.expect("not held up"), bulk(&text));
        }
    }
    // It was given up, or has all of it: never something else.
    let got = slow.rest_or(60_000_020).await;
    assert!(got.starts_with(b"$60000001\r\n\0\0"));
    assert!(got.len() <= 60_000_014);
    until("it is gone", async || (stage.relay.clients() == 20).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_a_large_reply_gets_all_of_it() {
    let stage = Stage::begin().await;
    let mut straight = stage.straight().await;
    straight.ask(&["SETRANGE", "large", "60000000", "x"]).await;
    let mut client = stage.client().await;
    client.send(&["GET", "large"]).await;
    client.send(&["PING"]).await;
    assert_eq!(client.reply_bytes().await.map(|reply| reply.len()), Some(60_000_001 + 13));
    assert_eq!(client.reply().await.as_deref(), Some("+PONG\r\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_asks_without_end_and_reads_nothing_is_not_read_from() {
    let stage = Stage::begin().await;
    let mut straight = stage.straight().await;
    straight.ask(&["SETRANGE", "some", "100000", "x"]).await;
    let mut greedy = stage.client().await;
    let asked = "*2\r\n$3\r\nGET\r\n$4\r\nsome\r\n".repeat(50);
    // It is stopped by the sockets being full, or is ended.
    let mut batches = 0;
    while batches < 100_000
        && matches!(
            tokio::time::timeout(Duration::from_millis(500), greedy.try_write(asked.as_bytes())).await,
            Ok(true)
        )
    {
        batches += 1;
    }
    assert!(batches < 100_000, "it could ask without end");
    let mut other = stage.client().await;
    assert_eq!(other.ask(&["ECHO", "a"]).await, bulk("a"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_end_what_was_asked_is_answered_and_all_connections_end() {
    let stage = Stage::begin().await;
    let mut straight = stage.straight().await;
    let (mut idle, mut waiting) = (stage.client().await, stage.client().await);
    assert_eq!(idle.ask(&["PING"]).await, "+PONG\r\n");
    // A script holds Redis up, so that the reply comes after the end was ordered.
    waiting
        .send(&["EVAL", "local s=redis.call('TIME') repeat local t=redis.call('TIME') until (t[1]-s[1])*1000000+t[2]-s[2]>300000 return 'done'", "0"])
        .await;
    until("it is asked", async || (stage.relay.pool().outstanding() > 0).then_some(())).await;
    stage.relay.end(LIMIT).await;
    assert_eq!(waiting.reply().await, Some(bulk("done")));
    assert_eq!((waiting.reply().await, idle.reply().await), (None, None));
    until("all are gone", async || (connected(&mut straight).await == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_clients_than_there_is_room_for_are_told_so() {
    let stage = Stage::of(Pool::default(), Bounds { clients: 2, ..Bounds::default() }).await;
    let (mut one, mut two) = (stage.client().await, stage.client().await);
    assert_eq!(one.ask(&["PING"]).await, "+PONG\r\n");
    assert_eq!(two.ask(&["PING"]).await, "+PONG\r\n");
    let mut third = stage.client().await;
    assert_eq!(third.reply().await.as_deref(), Some("-ERR max number of clients reached\r\n"));
    assert_eq!(third.reply().await, None);
}
