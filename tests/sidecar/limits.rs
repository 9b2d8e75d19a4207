//! The limits that the documents name are those of the code; and what becomes of connections that are too many.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use cachedservice::{
    settings::{HttpCache, NearCache, Settings, memory},
    sidecar::{
        follow::{fit, follow_settings},
        health::Health,
        http::{
            Front,
            edge::{limits, streams},
            server::serve,
        },
        near_cache::server::{Bounds, Relay},
    },
};
use http_body::Body as _;
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::timeout,
};

use crate::{
    application::{run_application, settings},
    bytes::{Record, Wired, rest, until},
    frames, near_memory, patience,
    process::Process,
};

#[test]
fn the_documents_name_the_limits_of_the_code() {
    let documents = include_str!("../../docs/http-cache.md");
    for line in [
        format!("| connections to a pod | 1 for each {} KiB of its limit", memory::CONNECTION >> 10),
        format!("{} MiB for the program", memory::PROGRAM >> 20),
        format!("{} MiB for bodies on", memory::BODIES >> 20),
        format!("{} to {}", memory::FEW, memory::MOST),
        format!("{} in the {} MiB", memory::connections(Some(128 << 20), 64 << 20, 1 << 20), 128),
        format!(
            "| head of a request | {} bytes, {} fields, {} s (431, 408) |",
            limits::HEAD,
            limits::FIELDS,
            limits::HEAD_TIME.as_secs()
        ),
        format!("| target | {} bytes (414) |", limits::TARGET),
        format!("| body of a request | {} bytes (413) |", limits::BODY),
        format!(
            "or for an answer to be taken | {} s for each {} KiB |",
            limits::STALL_TIME.as_secs(),
            limits::STALL_BYTES >> 10
        ),
        format!(
            "| a connection between two requests | {} s in HTTP/1, {} s in HTTP/2 |",
            limits::IDLE_TIME.as_secs(),
            streams::IDLE.as_secs()
        ),
        format!("| requests at once on a connection of HTTP/2 | {} |", limits::STREAMS),
        format!(
            "| requests at once on all connections of HTTP/2 | each takes the places of {} connections (503) |",
            memory::STREAM
        ),
    ] {
        assert!(documents.contains(&line), "{line}");
    }
}

#[tokio::test]
async fn long_urls_whose_answers_are_for_nobody_else_leave_little_behind() {
    let (port, _) = run_application(|_| {
        http::Response::builder().header("cache-control", "private").body("mine".into()).unwrap()
    })
    .await;
    let process = Process::start(port, |_| {});
    process.until_readyz(200).await;
    let long = "x".repeat(limits::TARGET - 64);
    let ask = async |number: u32| assert_eq!(process.get(&format!("/{number}?{long}")).await.status, 200);
    for number in 0..100 {
        ask(number).await;
    }
    let before = process.resident();
    for number in 100..3100 {
        ask(number).await;
    }
    let grown = process.resident().saturating_sub(before);
    assert!(grown < 3000 * limits::TARGET as u64 / 3, "{} KiB", grown >> 10);
}

#[tokio::test]
async fn what_is_stored_and_the_connections_are_together_what_the_container_has_memory_for() {
    const MI: u64 = 1 << 20;
    let limit = Some(64 * MI);
    let of = |memory, max_object| HttpCache {
        memory: memory * MI,
        max_object: max_object * MI,
        rules: Vec::new(),
    };
    let (front, health) = (Front::new(of(16, 1), 1), Health::new());
    let told = || (front.memory().limit(), front.most_connections(), health.loaded().settings_reduced);
    fit(&front, &of(16, 1), None, limit, &health);
    assert_eq!(told(), (16 * MI, 307, Vec::new()));
    // More is stored, and fewer connections are taken.
    fit(&front, &of(32, 1), None, limit, &health);
    assert_eq!(told(), (32 * MI, 102, Vec::new()));
    // These are the settings of pods with more memory, which take the place of this one.
    fit(&front, &of(256, 1), None, limit, &health);
    assert_eq!(told(), (38_010_880, memory::FEW, vec!["http.memory: 38010880 of 268435456".to_owned()]));
    fit(&front, &of(16, 1), None, limit, &health);
    assert_eq!(told(), (16 * MI, 307, Vec::new()));
    // A near-cache that has less than it wants is told beside.
    let near = |memory: u64| NearCache { memory, ..near_memory::settings() };
    fit(&front, &of(16, 1), Some((&near(MI), &near(2 * MI))), limit, &health);
    assert_eq!(told().2, ["application.memory: 1048576 of 2097152"]);
    // Without a limit there is room for all.
    fit(&front, &of(256, 1), None, None, &health);
    assert_eq!(told(), (256 * MI, memory::MOST, Vec::new()));
}

#[tokio::test]
async fn other_settings_give_a_near_cache_no_more_memory_than_its_container_has() {
    const MI: u64 = 1 << 20;
    let of = |memory: u64, ttl: u64| {
        let application = serde_json::json!({ "port": 6379, "memory": memory, "ttlMs": ttl, "maxValue": MI });
        let redis = serde_json::json!({ "urlFile": "/none", "keyPrefix": "p:", "channel": "c" });
        serde_json::json!({
            "version": 1, "httpPort": 8000, "adminPort": 9000, "appPort": 8080,
            "redis": redis, "application": application,
        })
        .to_string()
    };
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fitting-{}.json", std::process::id()));
    std::fs::write(&file, of(64 * MI, 1)).unwrap();
    let running = Settings::parse(&of(64 * MI, 1)).unwrap();
    let (front, health) = (Front::new(settings(), 1), Arc::new(Health::new()));
    let near = Relay::to(&file, running.application.as_ref().unwrap(), Bounds::default());
    let (relay, telling, followed) = (near.clone(), health.clone(), file.clone());
    let following = tokio::spawn(async move {
        // 28Mi for all else, and 50Mi for what is on its way.
        follow_settings(&followed, running, front, Some(relay), telling, || Some(178 << 20)).await;
    });
    for (wanted, has) in [(80, 80), (1024, 100), (32, 32)] {
        std::fs::write(&file, of(wanted * MI, wanted)).unwrap();
        let reduced: &[String] = if has < wanted {
            &[format!("application.memory: {} of {}", has * MI, wanted * MI)]
        } else {
            &[]
        };
        patience::until("these hold", async || {
            let held = near.near().store().limit() == has * MI;
            (held && health.loaded().settings_reduced == reduced).then_some(())
        })
        .await;
    }
    following.abort();
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn connections_on_which_nothing_happens_make_room_for_others_and_those_that_ask_do_not() {
    let (port, _) = run_application(|_| http::Response::new("page".into())).await;
    let front = Front::new(settings(), port);
    front.limit_connections(3);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, front.clone(), std::future::pending(), Duration::ZERO));
    let connect = async || TcpStream::connect(address).await.unwrap();
    // Of two the request is under way, the third says nothing.
    let mut asking = [connect().await, connect().await];
    for stream in &mut asking {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a").await.unwrap();
    }
    let mut silent = connect().await;
    timeout(Duration::from_secs(5), async {
        while front.figures().connections() < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("all have a place");
    let mut another = connect().await;
    another.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    // Sooner than the silent one would end by itself.
    let answer = timeout(limits::HEAD_TIME / 2, until(&mut another, "page")).await;
    assert!(answer.expect("a place").starts_with("HTTP/1.1 200 OK"));
    assert_eq!(rest(&mut silent).await, "");
    for stream in &mut asking {
        stream.write_all(b"\r\n\r\n").await.unwrap();
        assert!(until(stream, "page").await.starts_with("HTTP/1.1 200 OK"));
    }
}

#[tokio::test]
async fn requests_of_all_http2_connections_have_places_and_more_are_refused_at_once() {
    let (port, _) = run_application(|_| http::Response::new(vec![b'x'; 100_000].into())).await;
    let front = Front::new(settings(), port);
    // Two connections, and three requests of two places.
    front.limit_connections(2 + 3 * 2 + 1);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, front, std::future::pending(), Duration::ZERO));
    let connect = async || {
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let mut builder = http2::Builder::new(TokioExecutor::new());
        // Less than an answer is, so that it is under way for as long as it is not read.
        builder.initial_stream_window_size(16_384);
        let (sender, connection) = builder.handshake::<_, Empty<Bytes>>(stream).await.unwrap();
        tokio::spawn(connection);
        sender
    };
    let ask = async |sender: &mut http2::SendRequest<Empty<Bytes>>| {
        let request = http::Request::get(format!("http://{address}/")).body(Empty::new()).unwrap();
        sender.send_request(request).await.unwrap()
    };
    let mut senders = [connect().await, connect().await];
    let mut held = Vec::new();
    for number in 0..3 {
        let answer = ask(&mut senders[number % 2]).await;
        assert_eq!(answer.status(), 200);
        held.push(answer);
    }
    for sender in &mut senders {
        let refused = ask(sender).await;
        assert_eq!(refused.status(), 503);
        assert!(refused.body().is_end_stream(), "it waits for no room that the client gives");
    }
    held.pop();
    let next = async { while ask(&mut senders[0]).await.status() != 200 {} };
    timeout(Duration::from_secs(5), next).await.expect("a place that is free again");
}

#[tokio::test]
async fn connections_of_http2_without_a_request_make_room_for_others_and_those_with_one_do_not() {
    let go = Arc::new(Notify::new());
    let gone = go.clone();
    let pod = Wired::start(move |mut stream, record: Record| {
        let gone = gone.clone();
        async move {
            while let Some(head) = record.until(&mut stream, "\r\n\r\n").await {
                if head.starts_with(b"GET /slow") {
                    gone.notified().await;
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\npage").await;
            }
        }
    })
    .await;
    // Nothing of the sidecar has run yet. For two connections and the requests of one.
    pod.front.limit_connections(2 + 2 * 2);
    let mut slow = frames::begin(pod.connect().await).await;
    slow.write_all(&frames::get(1, "/slow")).await.unwrap();
    let mut idle = frames::begin(pod.connect().await).await;
    idle.write_all(&frames::get(1, "/")).await.unwrap();
    assert!(frames::is_answered(&mut idle).await);
    slow.write_all(&frames::get(3, "/slow?another")).await.unwrap();
    until_got(&pod, 3).await;
    let mut another = pod.connect().await;
    another.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    // It answers what its connection is asked, as clients do, and is told to end.
    let ends = async { while frames::is_answered(&mut idle).await {} };
    timeout(limits::PARK_TIME * 3, ends).await.expect("an end");
    assert!(until(&mut another, "page").await.starts_with("HTTP/1.1 200 OK"));
    go.notify_one();
    assert!(frames::is_answered(&mut slow).await);
}

#[tokio::test]
async fn connections_of_http2_alone_leave_places_for_what_they_ask() {
    let (port, _) = run_application(|_| http::Response::new("page".into())).await;
    let front = Front::new(settings(), port);
    front.limit_connections(16);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, front, std::future::pending(), Duration::ZERO));
    let mut all = Vec::new();
    for _ in 0..14 {
        let mut stream = frames::begin(TcpStream::connect(address).await.unwrap()).await;
        stream.write_all(&frames::get(1, "/")).await.unwrap();
        assert!(timeout(Duration::from_secs(5), frames::is_answered(&mut stream)).await.unwrap());
        all.push(stream);
    }
}

/// Waits until the application has got so many requests.
async fn until_got(pod: &Wired, number: usize) {
    let got = async {
        while pod.record.text().matches("GET ").count() < number {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(5), got).await.expect("the application has got them");
}
