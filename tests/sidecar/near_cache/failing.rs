//! Redis fails, and comes back.

use std::time::{Duration, Instant};

use cachedservice::{
    settings::near_cache::{Pool, WhenRedisFails},
    sidecar::near_cache::server::Bounds,
};

use super::{Client, Stage, bulk, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_gone_is_an_error_at_once_and_is_used_again_soon_after_it_is_back() {
    let mut stage = Stage::begin().await;
    let mut client = stage.client().await;
    assert_eq!(client.ask(&["SET", "a", "1"]).await, "+OK\r\n");
    stage.kill();
    for _ in 0..50 {
        let began = Instant::now();
        let told = client.ask(&["GET", "a"]).await;
        assert!(told.starts_with("-ERR"), "{told}");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
    let told = client.ask(&["MULTI"]).await;
    assert!(told.starts_with("-ERR Redis is not reached"), "{told}");
    // Long enough for the breaker to be as patient as it ever is.
    let gone = Instant::now();
    until("it has been gone for long", async || {
        client.ask(&["GET", "a"]).await;
        (gone.elapsed() > Duration::from_secs(4)).then_some(())
    })
    .await;
    stage.start_again();
    until("Redis is back", async || Client::straight(stage.redis).await).await;
    let back = Instant::now();
    until("it is used", async || (client.ask(&["GET", "a"]).await == "$-1\r\n").then_some(())).await;
    assert!(back.elapsed() < Duration::from_secs(2), "{:?}", back.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_cut_in_the_middle_give_nobody_the_reply_of_another() {
    let stage = Stage::begin().await;
    let cutting = {
        let mut straight = stage.straight().await;
        tokio::spawn(async move {
            loop {
                straight.ask(&["CLIENT", "KILL", "TYPE", "normal"]).await;
                tokio::time::sleep(Duration::from_millis(7)).await;
            }
        })
    };
    let clients = (0..16).map(|number| {
        let port = stage.near;
        tokio::spawn(async move {
            let (mut answered, mut lost, mut ended) = (0_u32, 0_u32, 0_u32);
            let mut client = Client::at(port).await.unwrap();
            for round in 0..150 {
                let texts: Vec<_> =
                    (0..20).map(|at| format!("{number}-{round}-{at}-{}", "x".repeat(at * 50))).collect();
                for text in &texts {
                    client.send(&["ECHO", text]).await;
                }
                for text in &texts {
                    match client.reply().await {
                        Some(told) if told == bulk(text) => answered += 1,
                        Some(told) => {
                            assert!(told.starts_with("-ERR "), "client {number} was told {told:.60}");
                            lost += 1;
                        }
                        None => {
                            // Its reply had begun: it begins anew.
                            ended += 1;
                            client = Client::at(port).await.unwrap();
                            break;
                        }
                    }
                }
            }
            (answered, lost, ended)
        })
    });
    let mut all = (0, 0, 0);
    for client in clients.collect::<Vec<_>>() {
        let (answered, lost, ended) = client.await.unwrap();
        all = (all.0 + answered, all.1 + lost, all.2 + ended);
    }
    cutting.abort();
    assert!(all.0 > 1000 && all.1 > 0, "answered, lost, ended: {all:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_transaction_that_is_lost_nothing_is_done_outside_of_it() {
    let stage = Stage::begin().await;
    let mut client = stage.client().await;
    client.ask(&["MULTI"]).await;
    client.ask(&["SET", "a", "1"]).await;
    let mut straight = stage.straight().await;
    straight.ask(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    client.send(&["SET", "a", "2"]).await;
    client.send(&["EXEC"]).await;
    assert_eq!(client.reply().await, None, "the client has to begin anew");
    assert_eq!(straight.ask(&["GET", "a"]).await, "$-1\r\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_is_an_error_for_what_comes_after_and_answers_what_came_before() {
    let stage = Stage::begin().await;
    let mut before = stage.client().await;
    assert_eq!(before.ask(&["SET", "a", "1"]).await, "+OK\r\n");
    stage.server.as_ref().unwrap().freeze(true);
    before.send(&["GET", "a"]).await;
    until("it is told", async || {
        let mut client = stage.client().await;
        client.send(&["GET", "a"]).await;
        let told = tokio::time::timeout(Duration::from_millis(300), client.reply()).await.ok()??;
        told.starts_with("-ERR Redis is not reached").then_some(())
    })
    .await;
    stage.server.as_ref().unwrap().freeze(false);
    assert_eq!(before.reply().await, Some(bulk("1")));
    let mut client = stage.client().await;
    let back = Instant::now();
    until("it is used", async || (client.ask(&["GET", "a"]).await == bulk("1")).then_some(())).await;
    assert!(back.elapsed() < Duration::from_secs(2), "{:?}", back.elapsed());
}

/// Reads of keys that are not there, of each kind that is told that there is nothing.
const READS: &[&str] = &[
    "GET a",
    "MGET a b",
    "GETRANGE a 0 1",
    "SUBSTR a 0 1",
    "STRLEN a",
    "BITCOUNT a",
    "GETBIT a 1",
    "EXISTS a b",
    "HGET a f",
    "HMGET a f g",
    "HGETALL a",
    "HKEYS a",
    "HVALS a",
    "HLEN a",
    "HEXISTS a f",
    "HSTRLEN a f",
    "LINDEX a 0",
    "LRANGE a 0 -1",
    "LLEN a",
    "SMEMBERS a",
    "SISMEMBER a 1",
    "SMISMEMBER a 1 2",
    "SCARD a",
    "SINTER a b",
    "SUNION a b",
    "SDIFF a b",
    "ZSCORE a m",
    "ZMSCORE a m n",
    "ZRANGE a 0 -1",
    "ZREVRANGE a 0 -1",
    "ZRANGEBYSCORE a 0 1",
    "ZREVRANGEBYSCORE a 1 0",
    "ZCARD a",
    "ZCOUNT a 0 1",
    "ZLEXCOUNT a - +",
    "XLEN a",
    "XRANGE a - +",
    "XREVRANGE a + -",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_find_nothing_while_redis_is_gone_where_that_is_wanted() {
    let mut stage = Stage::with(Pool::default(), Bounds::default(), WhenRedisFails::Miss).await;
    let mut expected = Vec::new();
    for protocol in ["2", "3"] {
        let mut straight = stage.straight().await;
        straight.ask(&["HELLO", protocol]).await;
        for read in READS {
            expected.push(straight.ask(&read.split(' ').collect::<Vec<_>>()).await);
        }
    }
    let (mut two, mut three) = (stage.client().await, stage.client().await);
    assert!(three.ask(&["HELLO", "3"]).await.starts_with('%'));
    two.ask(&["PING"]).await;
    stage.kill();
    let is_gone =
        async |client: &mut Client| client.ask(&["PING"]).await.starts_with("-ERR Redis is not reached");
    until("it is gone", async || is_gone(&mut two).await.then_some(())).await;
    let mut told = Vec::new();
    for client in [&mut two, &mut three] {
        for read in READS {
            told.push(client.ask(&read.split(' ').collect::<Vec<_>>()).await);
        }
    }
    assert_eq!(told, expected);
    for change in [&["SET", "a", "1"][..], &["INCR", "a"], &["EVAL", "return 1", "0"], &["NOSUCH"]] {
        assert!(two.ask(change).await.starts_with("-ERR Redis is not reached"), "{change:?}");
    }
}
