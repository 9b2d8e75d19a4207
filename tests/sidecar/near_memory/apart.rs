//! Users and databases have each their own.

use cachedservice::sidecar::near_cache::{near::Look, tracking::State};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{Stage, run, until};

#[tokio::test]
async fn what_one_database_holds_is_not_given_for_another() {
    let stage = Stage::begin();
    let (pod, other) = (stage.pod(), stage.client().await);
    let _: () = run(&other, "SET a 0").await;
    let _: redis::Value = run(&other, "COPY a a DB 3").await;
    let third = pod.in_database(3);
    assert_eq!(pod.fill("GET a").await, "$1\r\n0\r\n");
    assert_eq!(third.fill("GET a").await, "$1\r\n0\r\n");
    let _: () = run(&other, "SET a 1").await;
    pod.gone("GET a").await;
    // Redis names no database.
    third.gone("GET a").await;
    assert_eq!(pod.fill("GET a").await, "$1\r\n1\r\n");
    assert_eq!(third.fill("GET a").await, "$1\r\n0\r\n");
}

#[tokio::test]
async fn what_one_user_may_read_is_not_given_to_another() {
    let stage = Stage::begin();
    let (pod, other) = (stage.pod(), stage.client().await);
    let _: () = run(&other, "SET a 1").await;
    let _: () = run(&other, "ACL SETUSER some on >secret +@all ~b").await;
    pod.fill("GET a").await;
    let some = pod.as_user("some", "secret");
    assert!(some.answer("GET a").await.starts_with("-NOPERM"));
    assert_eq!(some.look("GET a").0, Look::Miss);
    some.fill("GET b").await;
    let wrong = pod.as_user("some", "wrong");
    until("refused", async || {
        (wrong.read("GET b").await.is_err() && wrong.look("GET b").0 == Look::Pass).then_some(())
    })
    .await;
}

#[tokio::test]
async fn where_redis_does_not_tell_what_changes_nothing_is_stored_and_it_is_known_why() {
    let stage = Stage::begin();
    let (pod, other) = (stage.pod(), stage.client().await);
    let _: () = run(&other, "ACL SETUSER blind on >secret ~* +@all -client|tracking").await;
    let _: () = run(&other, "ACL SETUSER timeless on >secret ~* +@all -pttl").await;
    for (user, words) in [("blind", "client|tracking"), ("timeless", "pttl")] {
        let some = pod.as_user(user, "secret");
        let refused = async || {
            let _ = some.read("GET a").await;
            let mut states = pod.near.status().into_iter().map(|status| status.state);
            states.any(|state| matches!(state, State::Refused(said) if said.contains(words))).then_some(())
        };
        until(user, refused).await;
        until(user, async || (some.look("GET a").0 == Look::Pass).then_some(())).await;
    }
}

#[tokio::test]
async fn a_server_that_does_not_speak_resp3_is_one_of_which_nothing_is_stored() {
    let stage = Stage::begin();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    stage.tell(listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            // AUTH, HELLO and CLIENT SETNAME come in one.
            let _ = client.read(&mut [0; 4096]).await;
            let _ = client.write_all(b"+OK\r\n-ERR unknown command 'HELLO'\r\n+OK\r\n").await;
        }
    });
    let pod = stage.pod();
    let refused = async || {
        assert!(pod.read("GET a").await.is_err());
        let state = pod.near.status().pop()?.state;
        matches!(state, State::Refused(words) if words.contains("HELLO")).then_some(())
    };
    until("refused", refused).await;
    assert_eq!(pod.look("GET a").0, Look::Pass);
}
