//! What one replica has asked for answers at the others.

use std::{
    sync::{Arc, Condvar, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use cachedservice::sidecar::redis::Figures;
use http::{Method, Response};

use super::{Stage, counting, figures, holding_up, page, run, shares, source, stored, until};
use crate::application::{Got, Pod};

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_starts_anew_answers_from_redis_and_then_from_memory() {
    let stage = Stage::begin();
    let (_, answer) = counting();
    let first = stage.pod(answer.clone()).await;
    let asked = first.get("/a?b", &[("host", "shop")]).await;
    assert_eq!((asked.body.as_str(), source(&asked).as_str()), ("0", "uri-miss"));
    stored(&first, 1).await;
    drop(first);
    let second = stage.pod(answer).await;
    for level in ["L2", "L1"] {
        let answer = second.get("/a?b", &[("host", "shop")]).await;
        assert_eq!((answer.body.as_str(), source(&answer).as_str()), ("0", level));
        assert_eq!((answer.status, answer.field("cache-tag")), (200, "t"));
        assert!(answer.field("age").parse::<u64>().unwrap() < 60);
    }
    let head = second.ask(Method::HEAD, "/a?b", &[("host", "shop")], "").await;
    assert_eq!(head.field("content-length"), "1");
    assert!(second.got().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_variant_goes_to_its_requests_in_one_step() {
    let stage = Stage::begin();
    let answer = |got: &Got| {
        Response::builder()
            .header("cache-control", "max-age=60")
            .header("vary", "accept-language")
            .body(Bytes::copy_from_slice(got.headers["accept-language"].as_bytes()))
            .unwrap()
    };
    let first = stage.pod(answer).await;
    let ask = async |pod: &Pod, language: &str| {
        pod.get("/", &[("host", "shop"), ("accept-language", language)]).await
    };
    for (number, language) in ["de", "en"].into_iter().enumerate() {
        assert_eq!(ask(&first, language).await.body, language);
        stored(&first, number as u64 + 1).await;
    }
    let second = stage.pod(answer).await;
    for language in ["de", "en"] {
        let answer = ask(&second, language).await;
        assert_eq!((answer.body.as_str(), source(&answer).as_str()), (language, "L2"));
    }
    let other = ask(&second, "fr").await;
    assert_eq!((other.body.as_str(), source(&other).as_str()), ("fr", "vary-miss"));
    assert_eq!(second.got().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_at_once_on_two_replicas_reach_the_application_once() {
    let stage = Stage::begin();
    let (count, counted) = counting();
    let answer = move |got: &Got| {
        holding_up(|| std::thread::sleep(Duration::from_millis(200)));
        counted(got)
    };
    let pods = [Arc::new(stage.pod(answer.clone()).await), Arc::new(stage.pod(answer).await)];
    let asking = (0..200).map(|number| {
        let pod = pods[number % 2].clone();
        tokio::spawn(async move { pod.get("/", &[("host", "shop")]).await.body })
    });
    for body in asking.collect::<Vec<_>>() {
        assert_eq!(body.await.unwrap(), "0");
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
    let waits = pods.iter().map(|pod| Figures::of(&figures(pod).waits)).sum::<u64>();
    assert_eq!(waits, 1, "one at the replica that does not ask, for all of its requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_for_others_releases_all_who_wait() {
    let stage = Stage::begin();
    let answer = |_: &Got| {
        holding_up(|| std::thread::sleep(Duration::from_millis(200)));
        Response::builder().header("cache-control", "private").body(Bytes::from_static(b"mine")).unwrap()
    };
    let pods = [Arc::new(stage.pod(answer).await), Arc::new(stage.pod(answer).await)];
    let began = Instant::now();
    let asking = (0..40).map(|number| {
        let pod = pods[number % 2].clone();
        tokio::spawn(async move { pod.get("/", &[("host", "shop")]).await.body })
    });
    for body in asking.collect::<Vec<_>>() {
        assert_eq!(body.await.unwrap(), "mine");
    }
    // One after the other they would take eight seconds.
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(pods.iter().map(|pod| pod.got().len()).sum::<usize>(), 40);
    // For a while Redis is not asked about it any more.
    let before = Figures::of(&figures(&pods[0]).misses);
    pods[0].get("/", &[("host", "shop")]).await;
    assert_eq!(Figures::of(&figures(&pods[0]).misses), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_at_other_replicas_is_released_at_once_and_not_one_after_the_other() {
    let stage = Stage::begin();
    let (came, all_came) = (Mutex::new(0), Condvar::new());
    let meeting = Arc::new((came, all_came));
    let answer = move |_: &Got| {
        let (came, all_came) = &*meeting;
        let number = {
            let mut came = came.lock().unwrap();
            *came += 1;
            all_came.notify_all();
            *came
        };
        let has_met = holding_up(|| {
            if number == 1 {
                std::thread::sleep(Duration::from_millis(200));
                return true;
            }
            // The other three meet here.
            let waiting = came.lock().unwrap();
            let met = all_came.wait_timeout_while(waiting, Duration::from_secs(3), |came| *came < 4).unwrap();
            !met.1.timed_out()
        });
        let body = if has_met { "together" } else { "alone" };
        Response::builder()
            .header("cache-control", "private")
            .body(Bytes::from_static(body.as_bytes()))
            .unwrap()
    };
    let mut asking = Vec::new();
    for _ in 0..4 {
        let pod = stage.pod(answer.clone()).await;
        asking.push(tokio::spawn(async move { pod.get("/", &[("host", "shop")]).await.body }));
    }
    for body in asking {
        assert_eq!(body.await.unwrap(), "together");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_takes_over_from_one_that_is_gone() {
    let stage = Stage::begin();
    let pod = stage.pod(|_: &Got| page("t", "page")).await;
    // The lock of a replica that was killed: nobody renews it or gives it back.
    let client = stage.client().await;
    pod.get("/", &[("host", "shop")]).await;
    stored(&pod, 1).await;
    let responses: Vec<String> = run(&client, &["KEYS", "u-1:http:*"]).await;
    let [name] = &responses[..] else { panic!("{responses:?}") };
    let lock = name.replace("http:", "lock:");
    let () = run(&client, &["DEL", name]).await;
    let () = run(&client, &["SET", &lock, "dead", "PX", "700"]).await;
    let other = stage.pod(|_: &Got| page("t", "other")).await;
    let began = Instant::now();
    assert_eq!(other.get("/", &[("host", "shop")]).await.body, "other");
    let took = began.elapsed();
    assert!(took > Duration::from_millis(300) && took < Duration::from_secs(3), "{took:?}");
    stored(&other, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stale_is_renewed_by_one_replica_for_all() {
    let stage = Stage::begin();
    // Stale from the beginning, and fresh for long once it is renewed: no time has to pass, nor may it run out.
    let answer = |got: &Got| {
        let answer = Response::builder()
            .header("cache-control", "max-age=600, stale-while-revalidate=600")
            .header("etag", "\"1\"");
        if got.headers.contains_key("if-none-match") {
            answer.header("age", "0").status(304).body(Bytes::new()).unwrap()
        } else {
            answer.header("age", "600").body(Bytes::from_static(b"page")).unwrap()
        }
    };
    let [one, other] = [stage.pod(answer).await, stage.pod(answer).await];
    one.get("/", &[("host", "shop")]).await;
    stored(&one, 1).await;
    let stale = other.get("/", &[("host", "shop")]).await;
    assert_eq!(source(&stale), "L2");
    assert!(!is_fresh(&stale), "{stale:?}");
    stored(&other, 1).await;
    until("the first has what was renewed", async || {
        is_fresh(&one.get("/", &[("host", "shop")]).await).then_some(())
    })
    .await;
    assert_eq!([one.got().len(), other.got().len()], [1, 1], "the one asks, and the other renews");
}

/// Whether it says that its time is not over.
fn is_fresh(answer: &crate::application::Answer) -> bool {
    let status = answer.field("cache-status");
    status.contains("ttl=") && !status.contains("ttl=-") && !status.contains("ttl=0")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_has_written_is_a_miss() {
    let stage = Stage::begin();
    let first = stage.pod(|_: &Got| page("t", "page")).await;
    first.get("/", &[("host", "shop")]).await;
    stored(&first, 1).await;
    let client = stage.client().await;
    let responses: Vec<String> = run(&client, &["KEYS", "u-1:http:*"]).await;
    let field: String = run(&client, &["HGET", &responses[0], "order"]).await;
    let whole: Vec<u8> = run(&client, &["HGET", &responses[0], &field]).await;
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    for bytes in [&b"something"[..], &changed, &whole[..whole.len() - 1]] {
        let mut set = redis::cmd("HSET");
        let () =
            set.arg(&responses[0]).arg(&field).arg(bytes).query_async(&mut client.clone()).await.unwrap();
        let pod = stage.pod(|_: &Got| page("t", "page")).await;
        let answer = pod.get("/", &[("host", "shop")]).await;
        assert_eq!((answer.body.as_str(), source(&answer).as_str()), ("page", "uri-miss"));
        assert_eq!(Figures::of(&figures(&pod).unreadable), 2, "once for it, once as it asks for the lock");
        stored(&pod, 1).await;
    }
    // In place of it stands what was stored anew.
    let pod = stage.pod(|_: &Got| page("t", "other")).await;
    assert_eq!(source(&pod.get("/", &[("host", "shop")]).await), "L2");
    shares(&first).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_gets_does_not_keep_others_from_sharing() {
    let stage = Stage::begin();
    let (_, answer) = counting();
    let [one, other] = [stage.pod(answer.clone()).await, stage.pod(answer).await];
    // Nothing says that it is for all, so what was asked for with credentials is not kept.
    let authorization = [("host", "shop"), ("authorization", "Basic eA==")];
    for pod in [&one, &other] {
        assert_eq!(source(&pod.get("/", &authorization).await), "uri-miss");
    }
    assert_eq!(one.get("/", &[("host", "shop")]).await.body, "2");
    stored(&one, 1).await;
    let shared = other.get("/", &[("host", "shop")]).await;
    assert_eq!((shared.body.as_str(), source(&shared).as_str()), ("2", "L2"));
}
