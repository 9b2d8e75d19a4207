//! What is purged from outside, of what is there and of what is on its way.

use std::pin::pin;

use cachedservice::settings::purges::Target;
use futures::poll;

use super::{Stage, run};

#[tokio::test]
async fn what_is_on_its_way_when_it_is_purged_is_given_and_not_stored() {
    let stage = Stage::begin();
    let (pod, other) = (stage.pod(), stage.client().await);
    let _: () = run(&other, "SET job:1 1").await;
    pod.awake().await;
    let (key, prefix) = (Target::RedisKey("job:1".to_owned()), Target::RedisPrefix("job:".to_owned()));
    let others = [Target::RedisKey("job:2".to_owned()), Target::Key("job:1".to_owned())];
    for (targets, is_kept) in
        [(vec![key], false), (vec![prefix], false), (vec![Target::Everything], false), (others.into(), true)]
    {
        pod.near.purge(&[Target::Everything]);
        let mut reading = pin!(pod.read("GET job:1"));
        assert!(poll!(&mut reading).is_pending(), "it is on its way");
        pod.near.purge(&targets);
        assert_eq!(reading.await.unwrap(), "$1\r\n1\r\n");
        assert_eq!(pod.hit("GET job:1").is_some(), is_kept, "{targets:?}");
    }
}

#[tokio::test]
async fn what_is_purged_is_gone_of_all_databases_and_nothing_else_is() {
    let stage = Stage::begin();
    let (pod, other) = (stage.pod(), stage.client().await);
    let _: () = run(&other, "MSET a 1 ab 1 b 1").await;
    let second = pod.in_database(1);
    for read in ["GET a", "GET ab", "GET b"] {
        pod.fill(read).await;
        second.fill(read).await;
    }
    let has =
        || ["GET a", "GET ab", "GET b"].map(|read| (pod.hit(read).is_some(), second.hit(read).is_some()));
    pod.near.purge(&[Target::RedisKey("a".to_owned())]);
    assert_eq!(has(), [(false, false), (true, true), (true, true)]);
    pod.near.purge(&[Target::RedisPrefix("a".to_owned())]);
    assert_eq!(has(), [(false, false), (false, false), (true, true)]);
}
