//! A read that waits among the other commands of its client.

use super::{LONG, NOTHING, Stage, soon};
use crate::near_cache::{bulk, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_told_does_not_wait_for_itself() {
    let stage = Stage::of(1, LONG).await;
    let mut client = stage.client(0).await;
    for _ in 0..3 {
        assert_eq!(soon(&mut client, &["GET", "hot:1"]).await, NOTHING);
    }
    for _ in 0..3 {
        client.send(&["GET", "hot:2"]).await;
    }
    for _ in 0..3 {
        assert_eq!(client.reply().await.as_deref(), Some(NOTHING));
    }
    assert_eq!((stage.led(), stage.ends()), (2, [0; 4]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_rule_asks_for_does_not_wait() {
    let stage = Stage::of(1, LONG).await;
    stage.led_elsewhere("hot:1").await;
    stage.led_elsewhere("cold:1").await;
    let mut client = stage.client(0).await;
    assert_eq!(soon(&mut client, &["GET", "cold:1"]).await, NOTHING);
    // Whether there is something is no miss, and of several keys nobody can tell who is to write them.
    assert_eq!(soon(&mut client, &["EXISTS", "hot:1"]).await, ":0\r\n");
    assert_eq!(soon(&mut client, &["STRLEN", "hot:1"]).await, ":0\r\n");
    assert_eq!(soon(&mut client, &["MGET", "hot:1", "hot:2"]).await, "*2\r\n$-1\r\n$-1\r\n");
    assert_eq!(soon(&mut client, &["TTL", "hot:1"]).await, ":-2\r\n");
    assert_eq!(soon(&mut client, &["LRANGE", "hot:1", "0", "-1"]).await, "*0\r\n");
    // Nor is anything of a transaction, or of a connection that has its own.
    client.ask(&["WATCH", "hot:1"]).await;
    assert_eq!(soon(&mut client, &["GET", "hot:1"]).await, NOTHING);
    client.ask(&["MULTI"]).await;
    client.ask(&["GET", "hot:1"]).await;
    assert_eq!(soon(&mut client, &["EXEC"]).await, "*1\r\n$-1\r\n");
    assert_eq!((stage.led(), stage.ends()), (0, [0; 4]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_value_is_waited_for() {
    let stage = Stage::of(2, LONG).await;
    let (mut leader, mut next) = (stage.client(0).await, stage.client(1).await);
    next.ask(&["HELLO", "3"]).await;
    let kinds: [(&[&str], &[&str], &str); 8] = [
        (&["GET"], &["SET", "K", "v"], "$1\r\nv\r\n"),
        (&["MGET"], &["SET", "K", "v"], "*1\r\n$1\r\nv\r\n"),
        (&["HGETALL"], &["HSET", "K", "f", "v"], "%1\r\n$1\r\nf\r\n$1\r\nv\r\n"),
        (&["HGET", "f"], &["HSET", "K", "f", "v"], "$1\r\nv\r\n"),
        (&["HMGET", "f", "g"], &["HSET", "K", "f", "v"], "*2\r\n$1\r\nv\r\n_\r\n"),
        (&["SMEMBERS"], &["SADD", "K", "m"], "~1\r\n$1\r\nm\r\n"),
        (&["ZRANGE", "0", "-1"], &["ZADD", "K", "1", "m"], "*1\r\n$1\r\nm\r\n"),
        (&["ZREVRANGE", "0", "-1"], &["ZADD", "K", "1", "m"], "*1\r\n$1\r\nm\r\n"),
    ];
    for (number, (read, write, value)) in kinds.into_iter().enumerate() {
        let key = format!("hot:{number}");
        let mut asked = vec![read[0], &key];
        asked.extend(&read[1..]);
        soon(&mut leader, &asked).await;
        next.send(&asked).await;
        stage.waiting(1, 1).await;
        let written: Vec<_> = write.iter().map(|word| if *word == "K" { &key } else { *word }).collect();
        leader.ask(&written).await;
        assert_eq!(next.reply().await.as_deref(), Some(value), "{read:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_read_waits_the_other_commands_of_its_client_are_done_and_answered_in_order() {
    let stage = Stage::of(1, LONG).await;
    let mut straight = stage.straight().await;
    straight.ask(&["SET", "there", "x"]).await;
    stage.led_elsewhere("hot:1").await;
    stage.led_elsewhere("hot:2").await;
    let mut client = stage.client(0).await;
    for command in [
        &["GET", "hot:1"][..],
        &["SET", "other", "1"],
        &["GET", "there"],
        &["GET", "hot:2"],
        &["GET", "hot:1"],
        &["PING"],
        &["INCR", "other"],
    ] {
        client.send(command).await;
    }
    until("all is done", async || (straight.ask(&["GET", "other"]).await == bulk("2")).then_some(())).await;
    straight.ask(&["SET", "hot:2", "second"]).await;
    straight.ask(&["SET", "hot:1", "first"]).await;
    for expected in
        [&bulk("first"), "+OK\r\n", &bulk("x"), &bulk("second"), &bulk("first"), "+PONG\r\n", ":2\r\n"]
    {
        assert_eq!(client.reply().await.as_deref(), Some(expected));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients_that_wait_for_what_the_other_is_to_write_do_so() {
    let stage = Stage::of(2, LONG).await;
    let (mut one, mut two) = (stage.client(0).await, stage.client(1).await);
    assert_eq!(soon(&mut one, &["GET", "hot:1"]).await, NOTHING);
    assert_eq!(soon(&mut two, &["GET", "hot:2"]).await, NOTHING);
    one.send(&["GET", "hot:2"]).await;
    two.send(&["GET", "hot:1"]).await;
    stage.waiting(0, 1).await;
    stage.waiting(1, 1).await;
    one.send(&["SET", "hot:1", "first"]).await;
    two.send(&["SET", "hot:2", "second"]).await;
    for (client, value) in [(&mut one, "second"), (&mut two, "first")] {
        assert_eq!(client.reply().await, Some(bulk(value)));
        assert_eq!(client.reply().await.as_deref(), Some("+OK\r\n"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_concerns_the_same_key_or_the_connection_ends_the_wait_and_is_done_after_it() {
    let stage = Stage::of(1, LONG).await;
    for (number, (command, reply)) in [
        (&["SET", "K", "mine"][..], "+OK\r\n"),
        (&["MGET", "K", "L"], "*2\r\n$-1\r\n$-1\r\n"),
        (&["EXISTS", "K"], ":0\r\n"),
        (&["TTL", "K"], ":-2\r\n"),
        (&["EVAL", "return redis.call('SET', ARGV[1], 'mine')", "0", "K"], "+OK\r\n"),
        (&["FLUSHDB"], "+OK\r\n"),
        (&["MULTI"], "+OK\r\n"),
        (&["SELECT", "0"], "+OK\r\n"),
        (&["CLIENT", "SETNAME", "me"], "+OK\r\n"),
    ]
    .into_iter()
    .enumerate()
    {
        let key = format!("hot:{number}");
        stage.led_elsewhere(&key).await;
        let mut client = stage.client(0).await;
        client.send(&["GET", &key]).await;
        client.send(&["GET", &key]).await;
        stage.waiting(0, 1).await;
        let command: Vec<_> = command.iter().map(|word| if *word == "K" { &key } else { *word }).collect();
        client.send(&command).await;
        for expected in [NOTHING, NOTHING, reply] {
            assert_eq!(client.reply().await.as_deref(), Some(expected), "{command:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_while_replies_are_awaited_takes_part_too() {
    let stage = Stage::of(1, LONG).await;
    stage.led_elsewhere("hot:1").await;
    let mut client = stage.client(0).await;
    let mut pipeline = Vec::new();
    for command in [&["SET", "a", "1"][..], &["GET", "hot:1"], &["SET", "a", "2"]] {
        let args: Vec<&[u8]> = command.iter().map(|arg| arg.as_bytes()).collect();
        pipeline.extend_from_slice(&cachedservice::sidecar::resp::write::command(&args));
    }
    client.write(&pipeline).await;
    stage.waiting(0, 1).await;
    stage.straight().await.ask(&["SET", "hot:1", "value"]).await;
    for expected in ["+OK\r\n", &bulk("value"), "+OK\r\n"] {
        assert_eq!(client.reply().await.as_deref(), Some(expected));
    }
}
