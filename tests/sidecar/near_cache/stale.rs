//! While Redis is not reached, what memory holds is given where a rule allows it, and nothing that the pod knows to be
//! older.

use std::time::{Duration, Instant};

use cachedservice::settings::near_cache::{Rule, WhenRedisFails};

use super::{Client, Stage, bulk, until};

/// A key, what its writer asks first, and what it asks of a Redis that is frozen.
type Write = (&'static str, Command, &'static [Command]);
type Command = &'static [&'static str];

const NOT_REACHED: &str = "-ERR Redis is not reached";

async fn stage() -> Stage {
    let rule = |prefix: &str, when| Rule {
        prefix: prefix.to_owned(),
        when_redis_fails: Some(when),
        ..Rule::default()
    };
    let brief = Rule { ttl_ms: Some(1500), ..rule("error:brief:", WhenRedisFails::StaleOrError) };
    let rules =
        vec![brief, rule("error:", WhenRedisFails::StaleOrError), rule("miss:", WhenRedisFails::StaleOrMiss)];
    Stage::ruled(rules).await
}

/// Answers from memory, of whatever rule.
fn hits(stage: &Stage) -> u64 {
    stage.relay.near().figures().reads().0
}

/// Reads until the answer is from memory.
async fn remembered(stage: &Stage, client: &mut Client, command: &[&str]) -> String {
    until("it is remembered", async || {
        let before = hits(stage);
        let told = client.ask(command).await;
        (hits(stage) > before).then_some(told)
    })
    .await
}

async fn gone(client: &mut Client) {
    let is_gone = async || client.ask(&["PING"]).await.starts_with(NOT_REACHED).then_some(());
    until("Redis is gone", is_gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_memory_holds_is_given_while_redis_is_gone_where_all_its_rules_allow_it() {
    let mut stage = stage().await;
    let (mut two, mut three) = (stage.client().await, stage.client().await);
    three.ask(&["HELLO", "3"]).await;
    let reads: [(&[&str], &str); 5] = [
        (&["GET", "error:1"], "$1\r\na\r\n"),
        (&["GET", "miss:1"], "$1\r\nb\r\n"),
        (&["MGET", "error:1", "miss:1"], "*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
        (&["STRLEN", "error:1"], ":1\r\n"),
        (&["EXISTS", "miss:none"], ":0\r\n"),
    ];
    for command in [["SET", "error:1", "a"], ["SET", "miss:1", "b"], ["SET", "other:1", "c"]] {
        assert_eq!(two.ask(&command).await, "+OK\r\n");
    }
    for client in [&mut two, &mut three] {
        for (read, reply) in reads {
            assert_eq!(remembered(&stage, client, read).await, reply);
        }
    }
    for read in [&["GET", "other:1"][..], &["MGET", "error:1", "other:1"]] {
        remembered(&stage, &mut two, read).await;
    }
    stage.kill();
    gone(&mut two).await;
    gone(&mut three).await;
    let before = stage.relay.near().figures().stale.get();
    for client in [&mut two, &mut three] {
        for (read, reply) in reads {
            assert_eq!(client.ask(read).await, reply);
        }
        // All at once, and in their order.
        for (read, _) in reads {
            client.send(read).await;
        }
        for (_, reply) in reads {
            assert_eq!(client.reply().await.as_deref(), Some(reply));
        }
    }
    assert_eq!(stage.relay.near().figures().stale.get() - before, 20);
    assert_eq!(two.ask(&["GET", "miss:none"]).await, "$-1\r\n");
    assert_eq!(three.ask(&["GET", "miss:none"]).await, "_\r\n");
    for error in [
        &["GET", "error:none"][..],
        &["GET", "other:1"],
        // One of the keys is of a rule that does not allow it.
        &["MGET", "error:1", "other:1"],
        &["MGET", "error:none", "miss:none"],
        &["TTL", "error:1"],
        &["SET", "error:2", "v"],
        &["EVAL", "return 1", "0"],
        &["MULTI"],
    ] {
        let told = two.ask(error).await;
        assert!(told.starts_with(NOT_REACHED), "{error:?}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_given_no_longer_than_its_rule_says_and_its_key_would_have_lived() {
    let mut stage = stage().await;
    let mut client = stage.client().await;
    client.ask(&["SET", "error:long", "v"]).await;
    remembered(&stage, &mut client, &["GET", "error:long"]).await;
    client.ask(&["SET", "error:brief:1", "v"]).await;
    client.ask(&["SET", "error:2", "v", "PX", "1500"]).await;
    for key in ["error:brief:1", "error:2"] {
        remembered(&stage, &mut client, &["GET", key]).await;
    }
    let filled = Instant::now();
    stage.kill();
    gone(&mut client).await;
    for key in ["error:brief:1", "error:2"] {
        until("it is over", async || {
            let asked = filled.elapsed();
            let told = client.ask(&["GET", key]).await;
            assert!(told == bulk("v") || told.starts_with("-ERR"), "{told}");
            assert!(told != bulk("v") || asked < Duration::from_millis(1510), "{key} after {asked:?}");
            (told != bulk("v")).then_some(())
        })
        .await;
    }
    assert_eq!(client.ask(&["GET", "error:long"]).await, bulk("v"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_pod_has_changed_or_heard_of_is_not_given_from_before_that() {
    let mut stage = stage().await;
    let (mut client, mut straight) = (stage.client().await, stage.straight().await);
    let mut writers = Vec::new();
    let writes: [Write; 6] = [
        ("error:set", &["PING"], &[&["SET", "error:set", "new"]]),
        ("error:del", &["PING"], &[&["PING"], &["DEL", "error:del"]]),
        ("error:script", &["PING"], &[&["EVAL", "redis.call('SET', KEYS[1], 'new')", "1", "error:script"]]),
        ("error:multi", &["MULTI"], &[&["SET", "error:multi", "new"], &["EXEC"]]),
        ("error:watch", &["WATCH", "w"], &[&["SET", "error:watch", "new"]]),
        // It gets no connection of its own any more.
        ("error:pop", &["PING"], &[&["BLMOVE", "list", "error:pop", "LEFT", "LEFT", "0"]]),
    ];
    for key in writes.map(|(key, ..)| key).into_iter().chain(["error:others", "error:kept", "error:unsent"]) {
        client.ask(&["SET", key, "old"]).await;
        assert_eq!(remembered(&stage, &mut client, &["GET", key]).await, bulk("old"));
    }
    let keys = stage.relay.near().store().keys();
    straight.ask(&["SET", "error:others", "new"]).await;
    until("it is told", async || (stage.relay.near().store().keys() < keys).then_some(())).await;
    for (_, first, _) in writes {
        let mut writer = stage.client().await;
        assert!(writer.ask(first).await.starts_with('+'));
        writers.push(writer);
    }
    stage.server.as_ref().unwrap().freeze(true);
    for (writer, (.., commands)) in writers.iter_mut().zip(writes) {
        for command in commands {
            writer.send(command).await;
        }
    }
    // Behind something else it is asked past the memory; and who is not told anything has seen nothing newer.
    let mut reader = stage.client().await;
    reader.write(b"PING\r\nGET error:kept\r\n").await;
    writers.push(reader);
    until("they are sent", async || (stage.relay.pool().outstanding() >= 6).then_some(())).await;
    stage.kill();
    gone(&mut client).await;
    for writer in &mut writers {
        // Until it is told, or ended.
        while let Some(told) = writer.reply().await {
            if told.starts_with("-ERR") {
                break;
            }
        }
    }
    assert!(client.ask(&["SET", "error:unsent", "new"]).await.starts_with(NOT_REACHED));
    assert_eq!(client.ask(&["GET", "error:kept"]).await, bulk("old"));
    for key in writes.map(|(key, ..)| key).into_iter().chain(["error:unsent", "error:others"]) {
        let told = client.ask(&["GET", key]).await;
        assert!(told.starts_with(NOT_REACHED), "{key}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_given_as_stale_is_never_given_again_once_redis_is_back() {
    let mut stage = stage().await;
    let mut client = stage.client().await;
    client.ask(&["SET", "error:1", "old"]).await;
    for read in [["GET", "error:1"], ["STRLEN", "error:1"]] {
        remembered(&stage, &mut client, &read).await;
    }
    stage.kill();
    gone(&mut client).await;
    assert_eq!(client.ask(&["GET", "error:1"]).await, bulk("old"));
    stage.start_again();
    let mut straight = until("Redis is back", async || Client::straight(stage.redis).await).await;
    straight.ask(&["SET", "error:1", "newer"]).await;
    until("it is used", async || client.ask(&["PING"]).await.starts_with('+').then_some(())).await;
    for _ in 0..100 {
        assert_eq!(client.ask(&["GET", "error:1"]).await, bulk("newer"));
    }
    assert_eq!(remembered(&stage, &mut client, &["GET", "error:1"]).await, bulk("newer"));
    // Of the first connection there is still the length of the old value.
    stage.kill();
    gone(&mut client).await;
    assert_eq!(client.ask(&["GET", "error:1"]).await, bulk("newer"));
    assert!(client.ask(&["STRLEN", "error:1"]).await.starts_with(NOT_REACHED));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_everybody_may_have_changed_is_not_given() {
    let mut stage = stage().await;
    let mut client = stage.client().await;
    client.ask(&["SET", "error:1", "old"]).await;
    remembered(&stage, &mut client, &["GET", "error:1"]).await;
    let mut straight = stage.straight().await;
    straight.ask(&["FLUSHALL"]).await;
    until("it is gone", async || (client.ask(&["GET", "error:1"]).await == "$-1\r\n").then_some(())).await;
    remembered(&stage, &mut client, &["GET", "error:1"]).await;
    assert_eq!(client.ask(&["SWAPDB", "0", "1"]).await, "+OK\r\n");
    stage.kill();
    gone(&mut client).await;
    assert!(client.ask(&["GET", "error:1"]).await.starts_with(NOT_REACHED));
}
