//! Clients that take their time with an answer that others wait for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use cachedservice::settings::HttpCache;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::Notify,
    time::{sleep, timeout},
};

use crate::bytes::{Record, SOON, Wired, until};

/// More than the kernel keeps of a connection.
const LARGE: usize = 12 << 20;
const PIECE: [u8; 16 * 1024] = [b'#'; 16 * 1024];
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn settings(max_object: u64) -> HttpCache {
    HttpCache { memory: 512 << 20, max_object, rules: Vec::new() }
}

/// An application with a page of so many bytes that may be kept, and how many of them it has got rid of.
async fn large(max_object: u64, length: usize) -> (Wired, Arc<AtomicUsize>) {
    let written = Arc::new(AtomicUsize::new(0));
    let counted = written.clone();
    let pod = Wired::start_with(settings(max_object), move |mut stream: TcpStream, record: Record| {
        let counted = counted.clone();
        async move {
            while record.until(&mut stream, "\r\n\r\n").await.is_some() {
                let head =
                    "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n";
                let _ = stream.write_all(head.as_bytes()).await;
                for _ in 0..length / PIECE.len() {
                    if stream.write_all(b"4000\r\n").await.is_err()
                        || stream.write_all(&PIECE).await.is_err()
                        || stream.write_all(b"\r\n").await.is_err()
                    {
                        return;
                    }
                    counted.fetch_add(PIECE.len(), Ordering::Relaxed);
                }
                let _ = stream.write_all(b"0\r\n\r\n").await;
            }
        }
    })
    .await;
    (pod, written)
}

/// Has asked, and has taken nothing but the head. Little is kept for it on its side.
async fn slow(pod: &Wired) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut stream = socket.connect(pod.address).await.unwrap();
    stream.write_all(GET).await.unwrap();
    assert!(until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 200 OK"));
    stream
}

/// Reads so much of a body, whatever its form.
async fn read(stream: &mut TcpStream, length: usize) {
    let read = async {
        let (mut got, mut buffer) = (0, vec![0; 1 << 16]);
        while got < length {
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "an end after {got}");
            got += buffer[..count].iter().filter(|byte| **byte == b'#').count();
        }
        got
    };
    let got = timeout(SOON, read).await.expect("all of it in time");
    assert!(got - length < 1 << 16, "{got}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_client_that_does_not_read_holds_up_nobody_who_waits_for_the_same() {
    let (pod, _) = large(16 << 20, LARGE).await;
    let mut first = slow(&pod).await;
    // Less than a request waits for another before it asks for itself.
    let second = async {
        let mut stream = pod.connect().await;
        stream.write_all(GET).await.unwrap();
        let head = until(&mut stream, "\r\n\r\n").await;
        read(&mut stream, LARGE).await;
        head
    };
    let head = timeout(Duration::from_secs(4), second).await.expect("it waits for the first");
    assert!(head.contains("; hit"), "{head}");
    assert_eq!(pod.record.text().matches("GET /").count(), 1);
    // And gets all of it itself, when it comes to it.
    read(&mut first, LARGE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_client_that_goes_away_takes_the_answer_from_nobody_who_waits_for_the_same() {
    let (pod, _) = large(16 << 20, LARGE).await;
    let first = slow(&pod).await;
    let mut second = pod.connect().await;
    second.write_all(GET).await.unwrap();
    drop(first);
    read(&mut second, LARGE).await;
    assert_eq!(pod.record.text().matches("GET /").count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_too_large_to_be_kept_comes_as_its_client_takes_it() {
    const ENDLESS: usize = 1 << 30;
    let (pod, written) = large(1 << 20, ENDLESS).await;
    let mut first = slow(&pod).await;
    let mut before = 0;
    let still = async {
        loop {
            sleep(Duration::from_millis(500)).await;
            let now = written.load(Ordering::Relaxed);
            if now == before {
                return now;
            }
            before = now;
        }
    };
    let held_up = timeout(SOON, still).await.expect("it is held up");
    // What the kernel keeps of two connections, and what may be kept.
    assert!(held_up < 16 << 20, "{held_up}");
    read(&mut first, 64 << 20).await;
    assert!(written.load(Ordering::Relaxed) >= 64 << 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_asked_for_anew_for_nobody_and_is_too_large_to_be_kept_is_not_taken() {
    const MUCH: usize = 64 << 20;
    let (asked, left) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let told = left.clone();
    let pod = Wired::start_with(settings(1 << 20), move |mut stream: TcpStream, record: Record| {
        let (asked, left) = (asked.clone(), left.clone());
        async move {
            while record.until(&mut stream, "\r\n\r\n").await.is_some() {
                if asked.fetch_add(1, Ordering::Relaxed) == 0 {
                    let page = "HTTP/1.1 200 OK\r\ncache-control: max-age=0, stale-while-revalidate=60\r\ncontent-length: 4\r\n\r\npage";
                    let _ = stream.write_all(page.as_bytes()).await;
                    continue;
                }
                let head = "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ntransfer-encoding: chunked\r\n\r\n";
                let _ = stream.write_all(head.as_bytes()).await;
                for _ in 0..MUCH / PIECE.len() {
                    let piece = [&b"4000\r\n"[..], &PIECE, b"\r\n"].concat();
                    if stream.write_all(&piece).await.is_err() {
                        left.notify_one();
                        return;
                    }
                }
                let _ = stream.write_all(b"0\r\n\r\n").await;
            }
        }
    })
    .await;
    let get = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for _ in 0..2 {
        assert!(pod.exchange(get).await.ends_with("page"));
    }
    timeout(SOON, told.notified()).await.expect("the sidecar takes all of it, for nobody");
}
