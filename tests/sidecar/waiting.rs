//! What happens while a request waits: for the application, or for another request.

use std::{
    sync::{
        Arc, Condvar, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use cachedservice::{
    settings::HttpCache,
    sidecar::{
        cache::purges::{Force, Source, Target},
        figures::made::Made,
        http::Front,
    },
};
use http::{Method, Response};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    application::{Got, HANG_UP, Pod, settings},
    gate,
};

/// Waits until something holds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Behind the cache of which the application purges everything while it is asked with the field `x-purge`.
async fn purged_meanwhile(answer: impl Fn(&Got) -> Response<Bytes> + Send + Sync + 'static) -> Pod {
    let front: Arc<OnceLock<Arc<Front>>> = Arc::default();
    let purged = front.clone();
    let pod = Pod::start(settings(), move |got| {
        if got.headers.contains_key("x-purge") {
            purged.get().unwrap().memory().purge(&[Target::Everything], Force::Hard, Source::Replica);
        }
        answer(got)
    })
    .await;
    assert!(front.set(pod.front.clone()).is_ok());
    pod
}

fn stale(fields: &[(&str, &str)]) -> Response<Bytes> {
    let mut response = Response::builder().header("cache-control", "max-age=0, stale-if-error=60");
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(Bytes::from_static(b"old")).unwrap()
}

#[tokio::test]
async fn what_is_purged_while_the_application_is_asked_does_not_answer_for_it() {
    let pod = purged_meanwhile(|got| match got.field("x-purge") {
        "" => stale(&[]),
        _ => Response::builder().status(503).body(Bytes::from_static(b"down")).unwrap(),
    })
    .await;
    assert_eq!(pod.get("/", &[]).await.body, "old");
    let answer = pod.get("/", &[("x-purge", "1")]).await;
    assert_eq!((answer.status, answer.body.as_str()), (503, "down"));
}

#[tokio::test]
async fn what_is_purged_while_it_is_validated_is_asked_for_anew() {
    let pod = purged_meanwhile(|got| match (got.field("x-purge"), got.field("if-none-match")) {
        ("", _) => stale(&[("etag", "\"1\"")]),
        (_, "") => Response::new(Bytes::from_static(b"new")),
        _ => Response::builder().status(304).header("etag", "\"1\"").body(Bytes::new()).unwrap(),
    })
    .await;
    assert_eq!(pod.get("/", &[]).await.body, "old");
    let answer = pod.get("/", &[("x-purge", "1")]).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "new"));
}

/// An application that holds the first answer with `x-hold` until the test lets it go; none may be stored.
async fn holding(settings: HttpCache) -> (Pod, mpsc::Sender<()>) {
    let (go, gone) = mpsc::channel();
    let (gone, has_held) = (Mutex::new(gone), AtomicBool::new(false));
    let pod = Pod::start(settings, move |got| {
        if got.headers.contains_key("x-hold") && !has_held.swap(true, Ordering::SeqCst) {
            // The other tasks of this thread go on elsewhere.
            let _ =
                tokio::task::block_in_place(|| gone.lock().unwrap().recv_timeout(Duration::from_secs(20)));
        }
        let answer = Response::builder().header("cache-control", "no-store");
        answer.body(Bytes::from_static(b"own")).unwrap()
    })
    .await;
    (pod, go)
}

/// While one waits for its answer, another has it in less than requests wait for each other.
async fn nobody_is_held_up(pod: Pod, go: mpsc::Sender<()>, reached: usize) {
    let pod = Arc::new(pod);
    let held = tokio::spawn({
        let pod = pod.clone();
        async move { pod.get("/poll", &[("x-hold", "1")]).await }
    });
    tokio::time::timeout(Duration::from_secs(5), async {
        while pod.got().len() < reached {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the application is asked");
    let other = tokio::time::timeout(Duration::from_secs(2), pod.get("/poll", &[])).await;
    go.send(()).unwrap();
    assert_eq!(other.expect("it waits for another").body, "own");
    assert_eq!(held.await.unwrap().body, "own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_a_cache_no_request_waits_for_another() {
    let (pod, go) = holding(HttpCache { memory: 0, max_object: 0, rules: Vec::new() }).await;
    nobody_is_held_up(pod, go, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_waits_for_an_answer_that_was_for_nobody_else_a_moment_ago() {
    let (pod, go) = holding(settings()).await;
    assert_eq!(pod.get("/poll", &[]).await.body, "own");
    nobody_is_held_up(pod, go, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_request_changes_is_not_given_though_its_client_has_left() {
    let (keeper, gate) = gate::shut();
    let count = AtomicU32::new(0);
    let pod = Pod::start(settings(), move |got| {
        if got.method == Method::POST {
            gate.pass();
            return Response::new(Bytes::new());
        }
        let body = count.fetch_add(1, Ordering::SeqCst).to_string();
        Response::builder().header("cache-control", "max-age=60").body(Bytes::from(body)).unwrap()
    })
    .await;
    let host = [("host", "shop")];
    assert_eq!(pod.get("/", &host).await.body, "0");
    let mut client = TcpStream::connect(pod.address).await.unwrap();
    client.write_all(b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    until("the application has it", || pod.got().len() == 2).await;
    drop(client);
    let abandoned = || pod.front.figures().requests().find(|(made, _)| *made == Made::Abandoned).unwrap().1;
    until("it is seen that the client has left", || abandoned() == 1).await;
    assert_eq!(pod.get("/", &host).await.body, "0", "nothing is changed yet");
    keeper.open();
    let began = Instant::now();
    while pod.get("/", &host).await.body == "0" {
        assert!(began.elapsed() < Duration::from_secs(10), "what was before is given on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_an_answer_that_finds_no_room() {
    const ASKING: u32 = 4;
    // All that may be is as large as all the room, which is for fields as well.
    let settings = HttpCache { memory: 1 << 20, max_object: 1 << 20, rules: Vec::new() };
    let meeting = Arc::new((Mutex::new(0), Condvar::new()));
    let pod = Pod::start(settings, move |_| {
        let (came, all_came) = &*meeting;
        let is_first = {
            let mut came = came.lock().unwrap();
            *came += 1;
            all_came.notify_all();
            *came == 1
        };
        let has_met = tokio::task::block_in_place(|| {
            if is_first {
                std::thread::sleep(Duration::from_millis(200));
                return true;
            }
            let waiting = came.lock().unwrap();
            let limit = Duration::from_secs(3);
            !all_came.wait_timeout_while(waiting, limit, |came| *came < ASKING).unwrap().1.timed_out()
        });
        let body = if has_met { "t" } else { "a" };
        let answer = Response::builder().header("cache-control", "max-age=60");
        answer.body(Bytes::from(body.repeat(1 << 20))).unwrap()
    })
    .await;
    let pod = Arc::new(pod);
    let asking = (0..ASKING).map(|_| {
        let pod = pod.clone();
        tokio::spawn(async move { pod.get("/", &[("host", "shop")]).await.body })
    });
    for body in asking.collect::<Vec<_>>() {
        assert!(body.await.unwrap().starts_with('t'), "one after the other");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_renewed_is_asked_for_once_and_no_task_waits_for_that() {
    const HITS: usize = 30;
    let (keeper, gate) = gate::shut();
    let count = AtomicU32::new(0);
    let pod = Pod::start(settings(), move |_| {
        let is_first = count.fetch_add(1, Ordering::SeqCst) == 0;
        if !is_first {
            gate.pass();
        }
        let (age, body) = if is_first { (0, "old") } else { (60, "new") };
        let control = format!("max-age={age}, stale-while-revalidate=60");
        Response::builder().header("cache-control", control).body(Bytes::from(body)).unwrap()
    })
    .await;
    // After the first hit all is there that the others need.
    for _ in 0..2 {
        assert_eq!(pod.get("/", &[]).await.body, "old");
    }
    until("it is being renewed", || pod.got().len() == 2).await;
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    for _ in 0..HITS {
        assert_eq!(pod.get("/", &[]).await.body, "old");
    }
    let more = tokio::runtime::Handle::current().metrics().num_alive_tasks().saturating_sub(tasks);
    assert!(more < HITS / 2, "{more} more tasks");
    keeper.open();
    let began = Instant::now();
    while pod.get("/", &[]).await.body == "old" {
        assert!(began.elapsed() < Duration::from_secs(10), "it is renewed");
    }
    assert_eq!(pod.got().len(), 2);
}

/// An application of which all answers but the first are this.
async fn failing_after_the_first(answer: impl Fn() -> Response<Bytes> + Send + Sync + 'static) -> Pod {
    let has_answered = AtomicBool::new(false);
    Pod::start(settings(), move |_| {
        if has_answered.swap(true, Ordering::SeqCst) {
            return answer();
        }
        let page = Response::builder().header("cache-control", "max-age=0, stale-while-revalidate=60");
        page.body(Bytes::from_static(b"page")).unwrap()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_failure_what_is_stale_is_not_asked_for_anew_with_each_request() {
    for answer in [
        || Response::builder().status(503).body(Bytes::new()).unwrap(),
        || Response::builder().header(HANG_UP, "1").body(Bytes::new()).unwrap(),
        || Response::builder().header("cache-control", "no-store").body(Bytes::new()).unwrap(),
    ] {
        let pod = failing_after_the_first(answer).await;
        let began = Instant::now();
        let mut asked = 0;
        while began.elapsed() < Duration::from_millis(900) {
            assert_eq!(pod.get("/", &[]).await.body, "page");
            asked += 1;
        }
        // One that hangs up is asked once more each time.
        let got = pod.got().len();
        assert!(asked > 20 && got <= 5, "{got} of {asked} have reached the application");
        // It is not forgotten either.
        tokio::time::timeout(Duration::from_secs(10), async {
            while pod.got().len() == got {
                assert_eq!(pod.get("/", &[]).await.body, "page");
            }
        })
        .await
        .expect("it is asked again");
    }
}
