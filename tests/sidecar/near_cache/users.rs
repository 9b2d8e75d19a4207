//! Each client is who it says, in the database that it has chosen.

use super::{PASSWORD, Stage, bulk};

const WRONG: &str = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_are_kept_apart() {
    let stage = Stage::begin().await;
    let (mut one, mut two) = (stage.client().await, stage.client().await);
    assert_eq!(one.ask(&["SELECT", "1"]).await, "+OK\r\n");
    one.ask(&["SET", "a", "1"]).await;
    assert_eq!(two.ask(&["GET", "a"]).await, "$-1\r\n");
    // In one pipeline, with what goes to others between.
    for database in ["2", "1", "0"] {
        two.send(&["SELECT", database]).await;
        two.send(&["GET", "a"]).await;
    }
    for expected in ["+OK\r\n", "$-1\r\n", "+OK\r\n", "$1\r\n1\r\n", "+OK\r\n", "$-1\r\n"] {
        assert_eq!(two.reply().await.as_deref(), Some(expected));
    }
    // A transaction that selects: what follows is there too.
    for command in [&["MULTI"][..], &["SELECT", "1"], &["EXEC"], &["GET", "a"]] {
        two.send(command).await;
    }
    for expected in ["+OK\r\n", "+QUEUED\r\n", "*1\r\n+OK\r\n", "$1\r\n1\r\n"] {
        assert_eq!(two.reply().await.as_deref(), Some(expected));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_have_their_own_rights_and_nobody_elses() {
    let stage = Stage::begin().await;
    let mut straight = stage.straight().await;
    for user in [
        ["ACL", "SETUSER", "ann", "on", ">one", "~ann:*", "+@all"],
        ["ACL", "SETUSER", "bob", "on", ">two", "~bob:*", "+@all"],
    ] {
        assert_eq!(straight.ask(&user).await, "+OK\r\n");
    }
    let mut ann = stage.client().await;
    let mut bob = stage.client().await;
    let mut own = stage.client().await;
    assert_eq!(ann.ask(&["AUTH", "ann", "two"]).await, WRONG);
    assert_eq!(ann.ask(&["ACL", "WHOAMI"]).await, bulk("default"), "it is who it was");
    assert_eq!(ann.ask(&["AUTH", "ann", "one"]).await, "+OK\r\n");
    assert!(bob.ask(&["HELLO", "3", "AUTH", "bob", "two"]).await.starts_with("%7\r\n"));
    for round in 0..50 {
        let text = round.to_string();
        for (client, name, other) in [(&mut ann, "ann", "bob"), (&mut bob, "bob", "ann")] {
            client.send(&["SET", &format!("{name}:a"), &text]).await;
            client.send(&["SET", &format!("{other}:a"), &text]).await;
            client.send(&["ACL", "WHOAMI"]).await;
            assert_eq!(client.reply().await.as_deref(), Some("+OK\r\n"));
            assert!(client.reply().await.unwrap().starts_with("-NOPERM"), "{name}");
            assert_eq!(client.reply().await, Some(bulk(name)));
        }
        assert_eq!(own.ask(&["SET", "c", &text]).await, "+OK\r\n");
    }
    // Transactions are theirs too, and one who may not is not let in by another's connection.
    assert_eq!(ann.ask(&["MULTI"]).await, "+OK\r\n");
    assert_eq!(ann.ask(&["ACL", "WHOAMI"]).await, "+QUEUED\r\n");
    assert_eq!(ann.ask(&["EXEC"]).await, "*1\r\n$3\r\nann\r\n");
    // The password is Redis' to check, also where a connection with the earlier one is there.
    straight.ask(&["ACL", "SETUSER", "ann", "resetpass", ">three"]).await;
    let mut late = stage.client().await;
    assert_eq!(late.ask(&["AUTH", "ann", "one"]).await, WRONG);
    assert_eq!(late.ask(&["AUTH", "ann", "three"]).await, "+OK\r\n");
    assert_eq!(late.ask(&["AUTH", "default", PASSWORD]).await, "+OK\r\n");
    assert_eq!(late.ask(&["AUTH", PASSWORD]).await, "+OK\r\n");
    assert_eq!(late.ask(&["ACL", "WHOAMI"]).await, bulk("default"));
}
