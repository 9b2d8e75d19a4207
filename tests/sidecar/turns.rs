//! Many that ask for the same of which nothing comes for others: they do not wait one after the other for it. And
//! answers that come to their end, or not, after their client has left.

use std::{
    future::Future,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use cachedservice::{
    settings::HttpCache,
    sidecar::{
        cache::purges::{Force, Source, Target},
        http::Front,
    },
};
use http::Response;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{
    application::{HANG_UP, Pod, settings},
    bytes::{Record, SOON, Wired, rest, until},
};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
/// So many ask at once.
const MANY: usize = 16;
/// How long the application takes for each answer.
const SLOW: Duration = Duration::from_millis(500);

/// The application is at it for a while; the other tasks of this thread go on elsewhere.
fn work() {
    tokio::task::block_in_place(|| std::thread::sleep(SLOW));
}

/// What so many get at once, and how long the last of them has waited.
async fn at_once<F>(ask: impl Fn() -> F) -> (Vec<String>, Duration)
where
    F: Future<Output = String> + Send + 'static,
{
    let began = Instant::now();
    let asking: Vec<_> = (0..MANY).map(|_| tokio::spawn(ask())).collect();
    let mut answers = Vec::new();
    for answer in asking {
        answers.push(answer.await.unwrap());
    }
    (answers, began.elapsed())
}

/// One after the other they take twice as long.
fn is_together(time: Duration) -> bool {
    time < SLOW * u32::try_from(MANY).unwrap() / 2
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn when_the_application_fails_all_who_wait_get_what_is_stale_at_once() {
    for failure in [
        || Response::builder().status(503).body(Bytes::new()).unwrap(),
        || Response::builder().header(HANG_UP, "1").body(Bytes::new()).unwrap(),
    ] {
        let has_answered = AtomicBool::new(false);
        let pod = Pod::start(settings(), move |_| {
            if has_answered.swap(true, Ordering::SeqCst) {
                work();
                return failure();
            }
            let page = Response::builder().header("cache-control", "max-age=1, stale-if-error=60");
            page.body(Bytes::from_static(b"old")).unwrap()
        })
        .await;
        let pod = Arc::new(pod);
        assert_eq!(pod.get("/", &[]).await.body, "old");
        let stale = async {
            while pod.get("/", &[("cache-control", "only-if-cached")]).await.status == 200 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SOON, stale).await.expect("it does not become stale");
        let before = pod.got().len();
        let (answers, time) = at_once(|| {
            let pod = pod.clone();
            async move { pod.get("/", &[]).await.body }
        })
        .await;
        assert!(answers.iter().all(|body| body == "old"), "{answers:?}");
        assert!(is_together(time), "{time:?}");
        let asked = pod.got().len() - before;
        assert!(asked < MANY, "the application, which is in trouble, was asked {asked} times");
    }
}

/// An application whose answers seem to be for others until this comes at their end.
async fn ending_with(settings: HttpCache, end: String) -> Wired {
    let end = Arc::new(end);
    Wired::start_with(settings, move |mut stream: TcpStream, record: Record| {
        let end = end.clone();
        async move {
            while record.until(&mut stream, "\r\n\r\n").await.is_some() {
                let head =
                    "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n";
                let _ = stream.write_all(format!("{head}4\r\npage\r\n").as_bytes()).await;
                sleep(SLOW).await;
                let _ = stream.write_all(end.as_bytes()).await;
                if !end.ends_with("\r\n\r\n") {
                    return;
                }
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn when_a_body_turns_out_to_be_not_for_others_all_who_wait_ask_at_once() {
    let of = |memory, max_object| HttpCache { memory, max_object, rules: Vec::new() };
    let large = format!("800\r\n{}\r\n0\r\n\r\n", "x".repeat(0x800));
    for (what, settings, end) in [
        ("too large", of(1 << 20, 1000), large),
        ("with trailers", of(1 << 20, 1 << 16), "0\r\nX-Sum: 1\r\n\r\n".to_owned()),
        ("broken off", of(1 << 20, 1 << 16), "1\r\n".to_owned()),
    ] {
        let pod = ending_with(settings, end).await;
        let address = pod.address;
        let (answers, time) = at_once(|| async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(GET).await.unwrap();
            rest(&mut stream).await
        })
        .await;
        assert!(answers.iter().all(|answer| answer.contains("page")), "{what}: {answers:?}");
        assert!(is_together(time), "{what}: {time:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn however_often_nothing_comes_of_it_nobody_waits_longer_for_others_than_once() {
    let front: Arc<OnceLock<Arc<Front>>> = Arc::default();
    let purged = front.clone();
    let pod = Pod::start(settings(), move |_| {
        work();
        // Whatever it answers is not to be given any more.
        purged.get().unwrap().memory().purge(&[Target::Everything], Force::Hard, Source::Replica);
        let answer = Response::builder().header("cache-control", "max-age=60");
        answer.body(Bytes::from_static(b"own")).unwrap()
    })
    .await;
    assert!(front.set(pod.front.clone()).is_ok());
    let pod = Arc::new(pod);
    let (answers, time) = at_once(|| {
        let pod = pod.clone();
        async move { pod.get("/", &[]).await.body }
    })
    .await;
    assert!(answers.iter().all(|body| body == "own"), "{answers:?}");
    assert!(time < Duration::from_millis(7500), "{time:?}");
}

/// An application that begins with an answer, goes on with it bit by bit if it `goes_on`, and does not end it; how
/// many of its connections are open.
async fn endless(goes_on: bool) -> (Wired, Arc<AtomicUsize>) {
    let open = Arc::new(AtomicUsize::new(0));
    let counted = open.clone();
    let pod = Wired::start(move |mut stream: TcpStream, record: Record| {
        let open = counted.clone();
        async move {
            if record.until(&mut stream, "\r\n\r\n").await.is_none() {
                return;
            }
            open.fetch_add(1, Ordering::SeqCst);
            let head = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 10000\r\n\r\npage";
            let _ = stream.write_all(head.as_bytes()).await;
            if goes_on {
                while stream.write_all(b"x").await.is_ok() {
                    sleep(Duration::from_millis(300)).await;
                }
            } else {
                // It tells of the end of the connection.
                let _ = record.until(&mut stream, "no more").await;
            }
            open.fetch_sub(1, Ordering::SeqCst);
        }
    })
    .await;
    (pod, open)
}

/// So many clients that begin to take an answer each, and leave.
async fn begin_and_leave(pod: &Wired, count: usize) {
    let mut clients = Vec::new();
    for number in 0..count {
        let mut stream = pod.connect().await;
        let request = format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        until(&mut stream, "page").await;
        clients.push(stream);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_answer_of_which_nothing_more_comes_is_given_up_soon_after_its_client() {
    let (pod, open) = endless(false).await;
    begin_and_leave(&pod, 1).await;
    let given_up = async {
        while open.load(Ordering::SeqCst) > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, given_up).await.expect("it is waited for without a client");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_more_answers_than_so_many_are_taken_without_a_client() {
    const MOST: usize = 128;
    let (pod, open) = endless(true).await;
    begin_and_leave(&pod, MOST + 32).await;
    let given_up = async {
        while open.load(Ordering::SeqCst) > MOST {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, given_up).await.expect("clients that leave gather them");
    assert_eq!(open.load(Ordering::SeqCst), MOST, "those that may go on do");
}
