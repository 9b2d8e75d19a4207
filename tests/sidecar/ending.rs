//! The end of the sidecar: what has come is answered, whether somebody has looked at it or not.
//!
//! All on one thread, and what a client sends is written without a turn for the others: so nothing of the sidecar
//! has run between the last request and the end.

use std::{io::Write, net::SocketAddr, time::Duration};

use cachedservice::sidecar::http::edge::limits::PARK_TIME;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::sleep};

use crate::bytes::{Wired, rest, until};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Writes without a turn for anybody else.
fn write(stream: TcpStream, text: &str) -> TcpStream {
    let mut stream = stream.into_std().unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    TcpStream::from_std(stream).unwrap()
}

/// Connects without a turn for anybody else.
fn connect(address: SocketAddr) -> TcpStream {
    let stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_nonblocking(true).unwrap();
    TcpStream::from_std(stream).unwrap()
}

/// A connection that had an answer so long ago.
async fn used(pod: &Wired, ago: Duration) -> TcpStream {
    let mut stream = pod.connect().await;
    stream.write_all(GET.as_bytes()).await.unwrap();
    assert!(until(&mut stream, "ok").await.starts_with("HTTP/1.1 200 OK"));
    passes(ago).await;
    stream
}

/// Time passes while nobody has anything to do.
async fn passes(time: Duration) {
    tokio::time::pause();
    sleep(time).await;
    tokio::time::resume();
}

async fn is_answered(mut stream: TcpStream) {
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("ok"), "{answer:?}");
}

#[tokio::test]
async fn a_request_that_has_come_on_a_parked_connection_is_answered() {
    let pod = Wired::answering().await;
    let stream = used(&pod, PARK_TIME * 3).await;
    let stream = write(stream, GET);
    pod.end();
    is_answered(stream).await;
}

#[tokio::test]
async fn a_request_that_has_come_on_a_connection_between_two_is_answered() {
    let pod = Wired::answering().await;
    let stream = used(&pod, Duration::from_secs(1)).await;
    let stream = write(stream, GET);
    pod.end();
    is_answered(stream).await;
}

#[tokio::test]
async fn a_request_that_has_come_on_a_new_connection_is_answered() {
    let pod = Wired::answering().await;
    // One that is known, and one that nobody has taken yet.
    let known = pod.connect().await;
    passes(Duration::from_secs(1)).await;
    let streams = [write(known, GET), write(connect(pod.address), GET)];
    pod.end();
    for stream in streams {
        is_answered(stream).await;
    }
}

#[tokio::test]
async fn a_request_of_which_a_part_has_come_is_answered_when_the_rest_comes() {
    let pod = Wired::answering().await;
    let mut streams = Vec::new();
    for stream in [used(&pod, PARK_TIME * 3).await, used(&pod, Duration::ZERO).await, pod.connect().await] {
        streams.push(write(stream, &GET[..20]));
    }
    let record = pod.end();
    passes(Duration::from_millis(1)).await;
    for stream in streams {
        is_answered(write(stream, &GET[20..])).await;
    }
    assert_eq!(record.text().matches("GET /").count(), 5);
}

#[tokio::test]
async fn requests_that_have_come_while_all_places_are_taken_are_answered() {
    let pod = Wired::answering().await;
    // Nothing of the sidecar has run yet.
    pod.front.limit_connections(2);
    let mut taken = Vec::new();
    for _ in 0..2 {
        taken.push(write(pod.connect().await, &GET[..20]));
    }
    passes(Duration::from_millis(1)).await;
    // The first is held by whoever waits for a place for it, the others nobody has taken yet.
    let waiting = [(); 3].map(|()| write(connect(pod.address), GET));
    passes(Duration::from_millis(1)).await;
    let record = pod.end();
    passes(Duration::from_millis(1)).await;
    for stream in taken {
        is_answered(write(stream, &GET[20..])).await;
    }
    for stream in waiting {
        is_answered(stream).await;
    }
    assert_eq!(record.text().matches("GET /").count(), 5);
}

#[tokio::test]
async fn a_connection_on_which_nothing_comes_ends_at_once() {
    let pod = Wired::answering().await;
    let streams = [used(&pod, PARK_TIME * 3).await, used(&pod, Duration::ZERO).await, pod.connect().await];
    pod.end();
    let began = tokio::time::Instant::now();
    for mut stream in streams {
        assert_eq!(rest(&mut stream).await, "");
    }
    assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
}
