//! What clients that are slow hold of bodies that came from Redis.

use cachedservice::{
    settings::memory::BODIES,
    sidecar::{
        cache::key::Key,
        redis::{Ended, Lock, Take, Wanted},
    },
};
use http::HeaderMap;

use super::{Stage, page, source, stored};
use crate::application::{Got, settings};

/// So many bodies of so many bytes are more than there is room for.
const COUNT: usize = 200;
const LENGTH: usize = 60_000;

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_redis_take_no_more_than_all_may_and_are_asked_of_the_application_beyond() {
    let stage = Stage::begin();
    let answer = |_: &Got| page("t", &"x".repeat(LENGTH));
    let first = stage.pod(answer).await;
    for number in 0..COUNT {
        first.get(&format!("/{number}"), &[("host", "shop")]).await;
    }
    for _ in 0..2 {
        first.get("/used", &[("host", "shop")]).await;
    }
    stored(&first, COUNT as u64 + 1).await;
    first.front.shared().unwrap().tell_uses().await;
    let second = stage.pod(answer).await;
    let mut held = Vec::new();
    for number in 0..COUNT {
        let key = Key::of("http", "shop", &format!("/{number}").parse().unwrap(), &[]);
        let request = HeaderMap::new();
        let wanted = Wanted { key: &key, request: &request, is_of_a_user: false, newer_than: None };
        let looked = second.front.shared().unwrap().look(&wanted, Take::IfMissing).await;
        assert!(matches!(looked.lock, Lock::Nobody), "nobody waits for what is there");
        held.extend(looked.stored);
    }
    let room = usize::try_from(settings().memory + BODIES).unwrap();
    let bytes = held.len() * LENGTH;
    assert!(bytes <= room && bytes + LENGTH > room, "{bytes} of {room}");

    let (last, host) = (format!("/{}", COUNT - 1), [("host", "shop")]);
    let answer = second.get(&last, &host).await;
    assert_eq!((source(&answer).as_str(), answer.body.len()), ("uri-miss", LENGTH));
    assert_eq!(second.got().len(), 1);
    let warmed = second.front.shared().unwrap().warm().await;
    assert_eq!((warmed.entries, warmed.ended), (0, Ended::Full), "nor is there room for what others use");

    drop(held);
    let answer = second.get(&last, &host).await;
    assert_eq!((source(&answer).as_str(), answer.body.len()), ("L2", LENGTH));
}
