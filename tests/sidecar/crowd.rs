//! Very many clients, slow ones, and those who send too much: the memory of the process stays bounded, and
//! others are answered as if nothing were.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use cachedservice::settings::memory::{CONNECTION, STREAM};
use futures::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Mutex,
    time::{sleep, timeout},
};

use crate::{
    bytes::{SOON, rest, until},
    frames,
    process::Process,
};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// One crowd at a time: they measure the time of others.
static TURN: Mutex<()> = Mutex::const_new(());

/// The sidecar as a process, in front of an application that has a page, an answer without end, and one that does
/// not read what it gets.
struct Crowded {
    process: Process,
    address: SocketAddr,
    /// What the application has got rid of of its answers without end.
    written: Arc<AtomicU64>,
}

impl Crowded {
    async fn start() -> Self {
        Self::start_by(|port| Process::start(port, |_| {})).await
    }

    async fn start_by(start: impl FnOnce(u16) -> Process) -> Self {
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit }).unwrap();
        let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let written = Arc::new(AtomicU64::new(0));
        let process = start(app.local_addr().unwrap().port());
        let counted = written.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = app.accept().await {
                tokio::spawn(application(stream, counted.clone()));
            }
        });
        process.until_readyz(200).await;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, process.settings.http_port));
        let crowded = Self { process, address, written };
        crowded.page("/page").await;
        crowded
    }

    async fn connect(&self) -> TcpStream {
        timeout(SOON, TcpStream::connect(self.address)).await.expect("a place").unwrap()
    }

    /// Asks for a page on a connection.
    async fn ask(&self, stream: &mut TcpStream, target: &str) {
        let request = format!("GET {target} HTTP/1.1\r\nHost: shop\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(until(stream, "page").await.starts_with("HTTP/1.1 200 OK"));
    }

    /// Asks for a page on a connection of its own, and how long that took.
    async fn page(&self, target: &str) -> Duration {
        let start = Instant::now();
        self.ask(&mut self.connect().await, target).await;
        start.elapsed()
    }

    /// Others are answered, from the cache and by the application.
    async fn others_go_on(&self) {
        let mut times = Vec::new();
        for number in 0..50 {
            times.push(self.page("/page").await);
            times.push(self.page(&format!("/miss?{number}")).await);
        }
        times.sort_unstable();
        // A debug build on a machine that others use.
        let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
        assert!(median < Duration::from_millis(50) && most < Duration::from_secs(2), "{median:?} {most:?}");
    }

    /// Clients of all kinds that do not mean well, as they stand after what they have sent: they do not read, do not
    /// go on with a head or a body, or are refused.
    async fn trouble(&self) -> Vec<TcpStream> {
        let (head, field) = ("GET / HTTP/1.1\r\nHost: shop\r\n", "x".repeat(30_000));
        let kinds = [
            "GET /endless HTTP/1.1\r\nHost: shop\r\n\r\n".to_owned(),
            format!("{head}X: {field}"),
            "POST /unread HTTP/1.1\r\nHost: shop\r\nContent-Length: 1000\r\n\r\nx".to_owned(),
            "POST /unread HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\nx".to_owned(),
            format!("{head}X: {field}\r\nY: {field}\r\n\r\n"),
            format!("{head} folded\r\n\r\n"),
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\0\0\0\0\0\0".to_owned(),
        ];
        let mut clients = Vec::new();
        for kind in kinds.iter().cycle().take(kinds.len() * 15) {
            let mut stream = self.connect().await;
            // It may have been refused before all is sent.
            let _ = stream.write_all(kind.as_bytes()).await;
            clients.push(stream);
        }
        until_still(&self.written).await;
        clients
    }

    /// What the process has in memory, when it has settled.
    async fn resident(&self) -> u64 {
        let mut before = self.process.resident();
        loop {
            sleep(Duration::from_millis(200)).await;
            let now = self.process.resident();
            if now.abs_diff(before) < 256 * KIB {
                return now;
            }
            before = now;
        }
    }
}

/// What a count is when it does not grow any more.
async fn until_still(count: &AtomicU64) -> u64 {
    let mut before = 0;
    let still = async {
        loop {
            sleep(Duration::from_millis(500)).await;
            let now = count.load(Ordering::Relaxed);
            if now == before {
                return now;
            }
            before = now;
        }
    };
    timeout(SOON, still).await.expect("it is held up")
}

async fn application(mut stream: TcpStream, written: Arc<AtomicU64>) {
    let mut head = Vec::new();
    loop {
        let mut byte = [0];
        if !stream.read_exact(&mut byte).await.is_ok_and(|count| count == 1) {
            return;
        }
        head.push(byte[0]);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let target = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned();
        head.clear();
        match target.as_str() {
            "/endless" => {
                let piece = [b'x'; 16 * 1024];
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
                while stream.write_all(b"4000\r\n").await.is_ok() {
                    if stream.write_all(&piece).await.is_err() || stream.write_all(b"\r\n").await.is_err() {
                        return;
                    }
                    written.fetch_add(piece.len() as u64, Ordering::Relaxed);
                }
                return;
            }
            // It has been told what it gets, and does not read it.
            "/unread" => std::future::pending().await,
            _ => {
                let page = "HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\ncontent-length: 4\r\n\r\npage";
                let _ = stream.write_all(page.as_bytes()).await;
            }
        }
    }
}

/// So many connections, each of which has had an answer and is kept for the next; what they take while they are
/// busy, and when nothing happens on them.
async fn connections_held_open(count: usize, busy: u64, idle: u64) {
    let _turn = TURN.lock().await;
    let crowded = Crowded::start().await;
    let empty = crowded.resident().await;
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = crowded.connect().await;
        crowded.ask(&mut stream, "/page").await;
        held.push(stream);
    }
    let full = crowded.resident().await;
    println!("{count} connections: {} KiB, empty {} KiB", full / KIB, empty / KIB);
    assert!(full - empty < busy, "{} KiB for each", (full - empty) / KIB / count as u64);
    crowded.others_go_on().await;
    let trouble = crowded.trouble().await;
    let troubled = crowded.resident().await;
    println!("and {} in trouble: {} KiB", trouble.len(), troubled / KIB);
    assert!(troubled - empty < busy + trouble.len() as u64 * CONNECTION, "{} KiB", (troubled - empty) / KIB);
    crowded.others_go_on().await;
    drop(trouble);
    // After a while they take next to nothing.
    let parked = async {
        while crowded.process.resident() - empty >= idle {
            sleep(Duration::from_millis(200)).await;
        }
    };
    let parked = timeout(SOON, parked).await;
    parked.expect("they are parked");
    println!("{count} connections, idle: {} KiB", crowded.resident().await / KIB);
    crowded.others_go_on().await;
    // None of them has been let go meanwhile.
    for stream in &mut held {
        crowded.ask(stream, "/page").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_connections_are_held_open_in_little_memory() {
    connections_held_open(1_000, 32 * KIB * 1_000, 8 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_low_limit_of_open_files_is_raised_as_far_as_it_may() {
    let _turn = TURN.lock().await;
    let crowded = Crowded::start_by(Process::start_with_few_files).await;
    let mut held = Vec::new();
    for _ in 0..100 {
        let mut stream = crowded.connect().await;
        crowded.ask(&mut stream, "/page").await;
        held.push(stream);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it takes half a minute, and most of the open files that a machine allows"]
async fn ten_thousand_connections_are_held_open_in_little_memory() {
    // One for each, and some for all else.
    let files = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let count = usize::try_from(files - files / 20).unwrap_or(usize::MAX).min(10_000);
    println!("of {files} files");
    connections_held_open(count, 32 * KIB * 10_000, 64 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_take_an_endless_answer_hold_it_up_and_not_in_memory() {
    const CLIENTS: u64 = 100;
    let _turn = TURN.lock().await;
    let crowded = Crowded::start().await;
    let empty = crowded.resident().await;
    let mut slow = Vec::new();
    for _ in 0..CLIENTS {
        let mut stream = crowded.connect().await;
        stream.write_all(b"GET /endless HTTP/1.1\r\nHost: shop\r\n\r\n").await.unwrap();
        until(&mut stream, "\r\n\r\n").await;
        slow.push(stream);
    }
    // When all that is between them is full, the application stands still.
    let before = until_still(&crowded.written).await;
    let full = crowded.resident().await;
    println!("{CLIENTS} slow readers: {} KiB, empty {} KiB, {before} written", full / KIB, empty / KIB);
    assert!(full - empty < CLIENTS * CONNECTION, "{} KiB for each", (full - empty) / KIB / CLIENTS);
    crowded.others_go_on().await;
    // Whoever takes it gets on.
    slow[0].read_exact(&mut vec![0; 8 << 20]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_not_taken_are_held_up_and_not_in_memory() {
    const STREAMS: u32 = 100;
    let _turn = TURN.lock().await;
    let crowded = Crowded::start().await;
    let empty = crowded.resident().await;
    let mut stream = frames::begin(crowded.connect().await).await;
    for number in 0..STREAMS {
        stream.write_all(&frames::get(number * 2 + 1, "/endless")).await.unwrap();
    }
    until_still(&crowded.written).await;
    let full = crowded.resident().await;
    println!("{STREAMS} streams: {} KiB, empty {} KiB", full / KIB, empty / KIB);
    assert!(full - empty < u64::from(STREAMS * STREAM) * CONNECTION, "{} KiB", (full - empty) / KIB);
    crowded.others_go_on().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it takes two minutes of real time"]
async fn a_stream_that_is_left_full_is_reset_though_its_client_answers_pings_and_its_connection_goes_on() {
    let crowded = Crowded::start().await;
    let mut stream = frames::begin(crowded.connect().await).await;
    stream.write_all(&frames::get(1, "/endless")).await.unwrap();
    let start = Instant::now();
    // It reads all, gives no room for more, and answers each ping.
    let reset = timeout(Duration::from_mins(3), frames::until_reset(&mut stream)).await;
    assert_eq!(reset.expect("an end in time"), 1);
    let time = start.elapsed();
    assert!(time >= Duration::from_mins(1) && time < Duration::from_secs(130), "{time:?}");
    stream.write_all(&frames::get(3, "/page")).await.unwrap();
    assert!(timeout(SOON, frames::is_answered(&mut stream)).await.expect("an answer in time"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_an_application_does_not_take_hold_up_the_client_and_not_in_memory() {
    const CLIENTS: u64 = 100;
    let _turn = TURN.lock().await;
    let crowded = Crowded::start().await;
    let empty = crowded.resident().await;
    let sent = Arc::new(AtomicU64::new(0));
    let mut sending = Vec::new();
    for _ in 0..CLIENTS {
        let mut stream = crowded.connect().await;
        stream
            .write_all(b"POST /unread HTTP/1.1\r\nHost: shop\r\nContent-Length: 1000000000\r\n\r\n")
            .await
            .unwrap();
        let sent = sent.clone();
        sending.push(tokio::spawn(async move {
            while stream.write_all(&[b'x'; 16 * 1024]).await.is_ok() {
                sent.fetch_add(16 * KIB, Ordering::Relaxed);
            }
        }));
    }
    let before = until_still(&sent).await;
    let full = crowded.resident().await;
    println!("{CLIENTS} bodies: {} KiB, empty {} KiB, {before} sent", full / KIB, empty / KIB);
    assert!(full - empty < CLIENTS * CONNECTION, "{} KiB for each", (full - empty) / KIB / CLIENTS);
    crowded.others_go_on().await;
    sending.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_and_malformed_input_and_heads_that_never_end_take_nothing_from_others() {
    let _turn = TURN.lock().await;
    let crowded = Crowded::start().await;
    let empty = crowded.resident().await;
    let mut slow = Vec::new();
    for _ in 0..300 {
        let mut stream = crowded.connect().await;
        // A head that has most of what it may have, and does not come to its end.
        stream.write_all(format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(30_000)).as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let oversized = [
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)), "431"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(5_000)), "431"),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(20_000)), "414"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n".to_owned(), "413"),
        ("x".repeat(1 << 20), "431"),
        ("\0".repeat(64), ""),
    ];
    for _ in 0..20 {
        for (request, status) in &oversized {
            let mut stream = crowded.connect().await;
            let _ = stream.write_all(request.as_bytes()).await;
            if !status.is_empty() {
                let answer = rest(&mut stream).await;
                assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer}");
            }
        }
    }
    let full = crowded.resident().await;
    println!("oversized: {} KiB, empty {} KiB", full / KIB, empty / KIB);
    assert!(full - empty < 64 * MIB, "{} KiB", (full - empty) / KIB);
    crowded.others_go_on().await;
    // Each is told that it was too slow, and let go.
    for mut stream in slow {
        assert!(rest(&mut stream).await.starts_with("HTTP/1.1 408 "));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_http2_that_an_application_does_not_take_are_held_up_and_not_in_memory() {
    const STREAMS: u32 = 100;
    let _turn = TURN.lock().await;
    let crowded = Crowded::start().await;
    let empty = crowded.resident().await;
    let stream = TokioIo::new(crowded.connect().await);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let sent = Arc::new(AtomicU64::new(0));
    let mut sending = Vec::new();
    for _ in 0..STREAMS {
        let (mut sender, sent) = (sender.clone(), sent.clone());
        let pieces = stream::repeat_with(move || {
            sent.fetch_add(16 * KIB, Ordering::Relaxed);
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[b'x'; 16 * 1024])))
        });
        let request = http::Request::post(format!("http://{}/unread", crowded.address));
        let request = request.body(StreamBody::new(pieces)).unwrap();
        sending.push(tokio::spawn(async move { drop(sender.send_request(request).await) }));
    }
    let before = until_still(&sent).await;
    let full = crowded.resident().await;
    println!("{STREAMS} bodies of HTTP/2: {} KiB, empty {} KiB, {before} sent", full / KIB, empty / KIB);
    assert!(full - empty < u64::from(STREAMS * STREAM) * CONNECTION, "{} KiB", (full - empty) / KIB);
    crowded.others_go_on().await;
    sending.iter().for_each(tokio::task::JoinHandle::abort);
}
