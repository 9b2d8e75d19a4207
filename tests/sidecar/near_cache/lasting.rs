//! A rule gives a TTL to what is written without one, and to nothing else.

use cachedservice::settings::near_cache::Rule;

use super::{Client, Stage, bulk};

const HOUR: u64 = 3_600_000;

async fn stage() -> Stage {
    let rule = |prefix: &str, add_ttl_ms| Rule { prefix: prefix.to_owned(), add_ttl_ms, ..Rule::default() };
    let short = rule("s:short:", Some(60_000));
    // What is not stored is written all the same.
    let off = Rule { off: true, ..rule("off:", Some(HOUR)) };
    Stage::ruled(vec![short, off, rule("s:", Some(HOUR))]).await
}

/// What is left of a key's life, by Redis.
async fn left(straight: &mut Client, key: &str) -> i64 {
    let reply = straight.ask(&["PTTL", key]).await;
    reply.trim_end().strip_prefix(':').unwrap().parse().unwrap()
}

fn lasts(left: i64, ttl: u64) -> bool {
    (1..=i64::try_from(ttl).unwrap()).contains(&left) && left > i64::try_from(ttl).unwrap() - 30_000
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_without_a_ttl_is_given_that_of_its_rule_and_nothing_else_is() {
    let stage = stage().await;
    let (mut client, mut straight) = (stage.client().await, stage.straight().await);
    for (key, ttl) in [("s:1", HOUR), ("s:short:1", 60_000), ("off:1", HOUR)] {
        assert_eq!(client.ask(&["SET", key, "v"]).await, "+OK\r\n");
        let left = left(&mut straight, key).await;
        assert!(lasts(left, ttl), "{key}: {left}");
        assert_eq!(straight.ask(&["GET", key]).await, bulk("v"));
    }
    assert_eq!(stage.relay.near().figures().lasting.get(), 3);
    for command in [
        &["SET", "other", "v"][..],
        &["SET", "s:2", "v", "KEEPTTL"],
        &["SETNX", "s:3", "v"],
        &["GETSET", "s:4", "v"],
        &["MSET", "s:5", "v"],
        &["HSET", "s:6", "f", "v"],
        &["APPEND", "s:7", "v"],
        &["INCR", "s:8"],
    ] {
        client.ask(command).await;
        let key = command[1];
        assert_eq!(left(&mut straight, key).await, -1, "{command:?}");
    }
    assert_eq!(client.ask(&["SET", "s:9", "v", "EX", "7200"]).await, "+OK\r\n");
    assert!(left(&mut straight, "s:9").await > i64::try_from(HOUR).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn within_a_transaction_and_on_a_connection_for_good_it_is_so_too() {
    let stage = stage().await;
    let (mut client, mut straight) = (stage.client().await, stage.straight().await);
    for command in [&["MULTI"][..], &["SET", "s:1", "a"], &["GET", "s:1"], &["EXEC"]] {
        client.send(command).await;
    }
    for expected in ["+OK\r\n", "+QUEUED\r\n", "+QUEUED\r\n", "*2\r\n+OK\r\n$1\r\na\r\n"] {
        assert_eq!(client.reply().await.as_deref(), Some(expected));
    }
    client.ask(&["WATCH", "w"]).await;
    assert_eq!(client.ask(&["SET", "s:2", "a"]).await, "+OK\r\n");
    client.ask(&["HELLO", "3"]).await;
    client.ask(&["SUBSCRIBE", "c"]).await;
    assert_eq!(client.ask(&["SET", "s:3", "a"]).await, "+OK\r\n");
    for key in ["s:1", "s:2", "s:3"] {
        let left = left(&mut straight, key).await;
        assert!(lasts(left, HOUR), "{key}: {left}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form_of_set_is_answered_as_by_redis_itself() {
    let stage = stage().await;
    let (mut client, mut straight) = (stage.client().await, stage.straight().await);
    straight.ask(&["SELECT", "1"]).await;
    for protocol in ["2", "3"] {
        client.ask(&["HELLO", protocol]).await;
        straight.ask(&["HELLO", protocol]).await;
        for key in ["s:1", "s:2"] {
            for line in [
                "DEL K",
                "SET K v XX",
                "SET K v NX GET",
                "SET K w NX",
                "SET K w GET",
                "set K v xx get",
                "SET K v NX XX",
                "SET K v NX GET",
                "SET K",
                "SET",
                "SET K v WHAT",
                "SET K v EX",
                "SET K v EX 0",
                "SET K v EX 10 PX 10",
                "SET K v KEEPTTL EX 10",
                "GET K",
                "DEL K",
                "HSET K f v",
                "SET K v GET",
                "SET K v",
                "TYPE K",
            ] {
                let line = line.replace('K', key);
                let words: Vec<_> = line.split(' ').collect();
                let (through, direct) = (client.ask(&words).await, straight.ask(&words).await);
                assert_eq!(through, direct, "{line}");
            }
        }
    }
    client.write(b"SET s:3 \"a b\"\r\n").await;
    assert_eq!(client.reply().await.as_deref(), Some("+OK\r\n"), "as a line of text");
    straight.ask(&["SELECT", "0"]).await;
    assert!(lasts(left(&mut straight, "s:3").await, HOUR));
    assert_eq!(client.ask(&["GET", "s:3"]).await, bulk("a b"));
}
