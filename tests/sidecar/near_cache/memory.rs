//! What is answered from memory is what Redis would answer, whatever the pod itself has done.

use super::{Client, Stage, bulk, until};

/// Reads until the answer is from memory.
async fn remembered(stage: &Stage, client: &mut Client, key: &str) -> String {
    until("it is remembered", async || {
        let before = stage.hits();
        let told = client.ask(&["GET", key]).await;
        (stage.hits() > before).then_some(told)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_again_is_answered_from_memory_in_both_protocols() {
    let stage = Stage::begin().await;
    let (mut two, mut three) = (stage.client().await, stage.client().await);
    three.ask(&["HELLO", "3"]).await;
    two.ask(&["HSET", "h", "f", "v"]).await;
    assert_eq!(remembered(&stage, &mut two, "none").await, "$-1\r\n");
    assert_eq!(remembered(&stage, &mut three, "none").await, "_\r\n");
    for _ in 0..3 {
        assert_eq!(two.ask(&["HGETALL", "h"]).await, "*2\r\n$1\r\nf\r\n$1\r\nv\r\n");
        assert_eq!(three.ask(&["HGETALL", "h"]).await, "%1\r\n$1\r\nf\r\n$1\r\nv\r\n");
    }
    let before = stage.hits();
    for client in [&mut two, &mut three] {
        for _ in 0..10 {
            client.send(&["GET", "none"]).await;
        }
        for _ in 0..10 {
            client.reply().await.unwrap();
        }
    }
    assert_eq!(stage.hits() - before, 20, "a pipeline too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_of_the_pod_has_changed_is_seen_by_all_of_them_from_its_reply_on() {
    let stage = Stage::begin().await;
    let (mut writer, mut reader, mut same) =
        (stage.client().await, stage.client().await, stage.client().await);
    let ways: [&[&[&str]]; 9] = [
        &[&["SET", "a", "V"]],
        &[&["MSET", "b", "1", "a", "V"]],
        &[&["EVAL", "return redis.call('SET', 'a', ARGV[1])", "0", "V"]],
        &[&["MULTI"], &["SET", "a", "V"], &["EXEC"]],
        &[&["WATCH", "b"], &["SET", "a", "V"], &["UNWATCH"]],
        &[&["DEL", "b"], &["SET", "b", "V"], &["RENAME", "b", "a"]],
        &[&["SELECT", "1"], &["SET", "a", "V"], &["MOVE", "a", "0"], &["SELECT", "0"]],
        &[&["SELECT", "1"], &["SET", "a", "V"], &["SWAPDB", "0", "1"], &["SELECT", "0"]],
        &[
            &["MULTI"],
            &["SELECT", "1"],
            &["SET", "a", "V"],
            &["SWAPDB", "0", "1"],
            &["SELECT", "0"],
            &["EXEC"],
        ],
    ];
    for round in 0..20 {
        for (number, way) in ways.iter().enumerate() {
            // The last keeps its connection for good: another client for each.
            let mut last = stage.client().await;
            let writer = if number == 8 { &mut last } else { &mut writer };
            let value = format!("{round}-{number}");
            remembered(&stage, &mut reader, "a").await;
            if number == 6 {
                // It moves nothing onto what is there.
                same.ask(&["DEL", "a"]).await;
                remembered(&stage, &mut reader, "a").await;
            }
            for command in *way {
                let command: Vec<_> =
                    command.iter().map(|word| if *word == "V" { &value } else { *word }).collect();
                writer.send(&command).await;
            }
            for command in *way {
                let told = writer.reply().await.unwrap();
                assert!(!told.starts_with('-'), "{command:?}: {told}");
            }
            assert_eq!(reader.ask(&["GET", "a"]).await, bulk(&value), "{way:?}");
            assert_eq!(same.ask(&["GET", "a"]).await, bulk(&value), "{way:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_sees_its_own_changes_in_its_own_order() {
    let stage = Stage::begin().await;
    let mut client = stage.client().await;
    for round in 0..100 {
        let (first, second) = (format!("{round}-1"), format!("{round}-2"));
        for command in [
            &["SET", "a", &first][..],
            &["GET", "a"],
            &["GET", "b"],
            &["SET", "a", &second],
            &["GET", "a"],
            &["EVAL", "return redis.call('SET', 'a', 'script')", "0"],
            &["GET", "a"],
        ] {
            client.send(command).await;
        }
        let mut told = Vec::new();
        for _ in 0..7 {
            told.push(client.reply().await.unwrap());
        }
        let ok = "+OK\r\n".to_owned();
        let expected =
            [ok.clone(), bulk(&first), "$-1\r\n".into(), ok.clone(), bulk(&second), ok, bulk("script")];
        assert_eq!(told, expected);
        assert_eq!(remembered(&stage, &mut client, "a").await, bulk("script"));
        // What is read, and then changed, is read as it was before.
        stage.client().await.ask(&["DEL", "a"]).await;
        client.send(&["GET", "a"]).await;
        client.send(&["SET", "a", "1"]).await;
        assert_eq!(client.reply().await.as_deref(), Some("$-1\r\n"));
        assert_eq!(client.reply().await.as_deref(), Some("+OK\r\n"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_to_be_changed_in_a_transaction_is_not_from_memory() {
    let stage = Stage::begin().await;
    let (mut client, mut other) = (stage.client().await, stage.client().await);
    client.ask(&["SET", "a", "1"]).await;
    remembered(&stage, &mut client, "a").await;
    for end in ["EXEC", "DISCARD"] {
        // The other client sees to it that it stays in memory.
        remembered(&stage, &mut other, "a").await;
        let before = stage.hits();
        assert_eq!(client.ask(&["WATCH", "a"]).await, "+OK\r\n");
        assert_eq!(client.ask(&["GET", "a"]).await, bulk("1"));
        assert_eq!(client.ask(&["MULTI"]).await, "+OK\r\n");
        assert_eq!(client.ask(&["GET", "a"]).await, "+QUEUED\r\n");
        assert!(!client.ask(&[end]).await.starts_with('-'));
        assert_eq!(stage.hits(), before, "nothing was from memory");
    }
    remembered(&stage, &mut client, "a").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_read_is_not_answered_from_what_others_have_read() {
    let stage = Stage::begin().await;
    let mut straight = stage.straight().await;
    straight.ask(&["ACL", "SETUSER", "ann", "on", ">one", "~ann:*", "+@all"]).await;
    let mut own = stage.client().await;
    own.ask(&["SET", "a", "1"]).await;
    assert_eq!(remembered(&stage, &mut own, "a").await, bulk("1"));
    let mut ann = stage.client().await;
    assert_eq!(ann.ask(&["AUTH", "ann", "one"]).await, "+OK\r\n");
    for _ in 0..5 {
        assert!(ann.ask(&["GET", "a"]).await.starts_with("-NOPERM"));
    }
}
