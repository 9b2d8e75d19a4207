//! How requests and answers stream to and from the application.

use std::time::Duration;

use bytes::Bytes;
use cachedservice::sidecar::upstream::Timing;
use http::{HeaderMap, Method, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::replicas::{Does, Pieces, Service, TIMING, balancing, until};

const LIMIT: Duration = Duration::from_secs(20);

/// Asks in HTTP/2.
async fn ask_http2<B>(service: &Service, request: Request<B>) -> Response<Incoming>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = TokioIo::new(TcpStream::connect(service.address).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    timeout(LIMIT, sender.send_request(request)).await.expect("an answer in time").unwrap()
}

fn grpc<B>(service: &Service, body: B) -> Request<B> {
    Request::builder()
        .method(Method::POST)
        .uri(format!("http://{}/shop.Shop/List", service.address))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .header("tracestate", "a=b")
        .body(body)
        .unwrap()
}

#[tokio::test]
async fn grpc_streams_both_ways_with_trailers() {
    let service = Service::of(2, balancing()).await;
    for app in &service.apps {
        app.does(Does::Echoes);
    }
    for _ in 0..4 {
        let (send, pieces) = Pieces::new();
        let mut answer = ask_http2(&service, grpc(&service, pieces)).await;
        assert_eq!(answer.headers()["content-type"], "application/grpc");
        for piece in ["a", "b"] {
            send.send(Frame::data(piece.into())).await.unwrap();
            let frame = timeout(LIMIT, answer.body_mut().frame()).await.expect("in time");
            assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), piece, "before the next was sent");
        }
        let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
        send.send(Frame::trailers(trailers.clone())).await.unwrap();
        drop(send);
        let last = timeout(LIMIT, answer.body_mut().frame()).await.expect("in time");
        assert_eq!(last.unwrap().unwrap().into_trailers().unwrap(), trailers);
    }
    assert_eq!(service.counts(), [2, 2]);
    let got = &service.apps[1].got()[0];
    assert_eq!((&got["te"], &got["tracestate"]), (&"trailers".parse().unwrap(), &"a=b".parse().unwrap()));
    assert!(got["traceparent"].to_str().unwrap().ends_with("-b7ad6b7169203331-01"));
    assert_eq!(service.figures(1).in_flight, 0);
}

#[tokio::test]
async fn many_calls_share_a_connection() {
    let service = Service::of(1, balancing()).await;
    service.apps[0].does(Does::Takes(Duration::from_millis(50)));
    let calls = (0..50).map(|_| ask_http2(&service, grpc(&service, Full::new(Bytes::from("x")))));
    let mut calls: Vec<_> = calls.map(Box::pin).collect();
    let mut answered = 0;
    std::future::poll_fn(|context| {
        calls.retain_mut(|call| match call.as_mut().poll(context) {
            std::task::Poll::Ready(answer) => {
                answered += u32::from(answer.status() == 200);
                false
            }
            std::task::Poll::Pending => true,
        });
        if calls.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    assert_eq!(answered, 50);
    assert!(service.apps[0].connections() <= 9, "{} connections", service.apps[0].connections());
}

#[tokio::test]
async fn a_failure_is_told_to_grpc_in_its_own_words() {
    let service = Service::of(1, balancing()).await;
    service.apps[0].end().await;
    let answer = ask_http2(&service, grpc(&service, Full::new(Bytes::from("x")))).await;
    assert_eq!(answer.headers()["grpc-status"], "14");
    assert_eq!(answer.headers()["grpc-message"], "the application does not answer");
}

#[tokio::test]
async fn an_application_of_http1_alone_is_not_taken_for_one_that_fails() {
    let service = Service::of(2, balancing()).await;
    for app in &service.apps {
        app.speaks_http1_alone();
    }
    for _ in 0..20 {
        let answer = ask_http2(&service, grpc(&service, Full::new(Bytes::from("x")))).await;
        assert_eq!(answer.headers()["grpc-status"], "14");
        assert!(answer.headers()["grpc-message"].to_str().unwrap().contains("HTTP/2"));
    }
    assert_eq!([0, 1].map(|app| service.figures(app).failures), [0, 0]);
    let other = Request::builder().uri(format!("http://{}/", service.address));
    let answer = ask_http2(&service, other.body(Full::new(Bytes::new())).unwrap()).await;
    assert_eq!(answer.status(), 200, "what is not gRPC goes in HTTP/1.1");
}

#[tokio::test]
async fn trailers_pass_in_http1_for_who_takes_them() {
    let service = Service::of(1, balancing()).await;
    service.apps[0].does(Does::Echoes);
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    let request = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close, te\r\nTE: trailers\r\n\
                   Transfer-Encoding: chunked\r\nTrailer: grpc-status\r\n\r\n\
                   3\r\nabc\r\n0\r\ngrpc-status: 7\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(LIMIT, stream.read_to_string(&mut answer)).await.expect("in time").unwrap();
    assert!(answer.contains("abc") && answer.ends_with("0\r\ngrpc-status: 7\r\n\r\n"), "{answer}");
    assert_eq!(service.apps[0].got()[0]["te"], "trailers");
}

#[tokio::test]
async fn an_upload_is_taken_no_faster_than_the_application_reads() {
    let service = Service::of(1, balancing()).await;
    service.apps[0].does(Does::Hangs);
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 268435456\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let piece = vec![0; 1 << 20];
    let mut sent = 0;
    // Until nothing has been taken for a while: all buffers are full.
    while timeout(Duration::from_millis(500), stream.write_all(&piece)).await.is_ok() {
        sent += 1;
    }
    assert!(sent < 64, "{sent} MiB were taken that nobody has read");
}

#[tokio::test]
async fn a_slow_upload_is_waited_for() {
    let timing = Timing { first_byte: Duration::from_millis(100), ..TIMING };
    let service = Service::with(1, balancing(), timing).await;
    service.apps[0].does(Does::Measures);
    let (send, pieces) = Pieces::new();
    let request = Request::builder().method(Method::PUT).uri(format!("http://{}/", service.address));
    let request = request.body(pieces).unwrap();
    let sending = async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(350));
        for _ in 0..3 {
            // It is the time that is tested.
            ticks.tick().await;
            send.send(Frame::data(Bytes::from("abc"))).await.unwrap();
        }
    };
    let (answer, ()) = tokio::join!(ask_http2(&service, request), sending);
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "9");
}

#[tokio::test]
async fn an_application_that_does_not_answer_is_told_in_time() {
    let timing = Timing { first_byte: Duration::from_millis(200), ..TIMING };
    let service = Service::with(1, balancing(), timing).await;
    service.apps[0].does(Does::Hangs);
    let answer = service.get().await;
    assert_eq!(answer, (504, "the application does not answer in time".to_owned()));
    assert_eq!(service.counts(), [1], "the only one is not asked twice");
    assert_eq!(service.figures(0).failures, 1);
}

#[tokio::test]
async fn a_client_that_breaks_off_says_nothing_of_the_application() {
    let service = Service::of(1, balancing()).await;
    service.apps[0].does(Does::Measures);
    for _ in 0..6 {
        let mut stream = TcpStream::connect(service.address).await.unwrap();
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc";
        stream.write_all(head.as_bytes()).await.unwrap();
    }
    until("they came and went", || service.counts() == [6] && service.figures(0).in_flight == 0).await;
    assert_eq!(service.figures(0).failures, 0);
}

#[tokio::test]
async fn another_protocol_passes_both_ways() {
    // It takes what it is asked for, and sends back what it gets.
    let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = Service::behind(app.local_addr().unwrap()).await;
    tokio::spawn(async move {
        let (mut stream, _) = app.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(String::from_utf8(head).unwrap().contains("upgrade: echo"));
        let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
        stream.write_all(switch.as_bytes()).await.unwrap();
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    });
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(timeout(LIMIT, stream.read_u8()).await.expect("in time").unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    stream.write_all(b"hello").await.unwrap();
    let mut echo = [0; 5];
    timeout(LIMIT, stream.read_exact(&mut echo)).await.expect("in time").unwrap();
    assert_eq!(&echo, b"hello");
}
