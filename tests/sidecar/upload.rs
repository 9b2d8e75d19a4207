//! Bodies of requests that do not come on, without a network: time passes as soon as nothing else can happen.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use cachedservice::sidecar::{
    http::edge::limits::{STALL_BYTES, STALL_TIME},
    upstream::body::{Lender, Upload},
};
use futures::{StreamExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

/// How many pieces of a body come, when that is over, and whether by an error. Three of them come, of so many bytes,
/// each after a `pause`, and then nothing; it is waited for `limit`.
async fn upload(
    length: usize,
    pause: Duration,
    patience: Option<Duration>,
    limit: Duration,
) -> Option<(usize, Duration, bool)> {
    let (client, server) = tokio::io::duplex(1 << 16);
    let (send, mut came) = mpsc::unbounded_channel();
    let service = service_fn(move |request: Request<Incoming>| {
        let send = send.clone();
        async move {
            let began = Instant::now();
            let mut upload = Upload::Lent(Lender::new(request.into_body(), None, patience));
            let mut pieces = 0;
            let is_error = loop {
                match upload.frame().await {
                    Some(Ok(_)) => pieces += 1,
                    Some(Err(_)) => break true,
                    None => break false,
                }
            };
            let _ = send.send((pieces, began.elapsed(), is_error));
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    tokio::spawn(serving.serve_connection(TokioIo::new(server), service));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection);
    let piece = move |_| async move {
        sleep(pause).await;
        Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'x'; length])))
    };
    let pieces = stream::iter(0..3).then(piece).chain(stream::pending());
    let body = StreamBody::new(Box::pin(pieces));
    let request = Request::post("http://shop/").body(body).unwrap();
    let _answer = tokio::spawn(sender.send_request(request));
    timeout(limit, came.recv()).await.ok().flatten()
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_on_for_long_is_an_error() {
    let pause = STALL_TIME - Duration::from_secs(1);
    let came = upload(STALL_BYTES, pause, Some(STALL_TIME), STALL_TIME * 5).await;
    let (pieces, time, is_error) = came.expect("it is not waited for any more");
    assert_eq!((pieces, time.as_secs(), is_error), (3, (pause * 3 + STALL_TIME).as_secs(), true));
}

#[tokio::test(start_paused = true)]
async fn a_byte_alone_buys_a_body_no_time() {
    let came = upload(1, STALL_TIME / 3 + Duration::from_secs(1), Some(STALL_TIME), STALL_TIME * 5).await;
    let (pieces, time, is_error) = came.expect("it is not waited for any more");
    assert_eq!((pieces, time.as_secs(), is_error), (2, STALL_TIME.as_secs(), true));
}

#[tokio::test(start_paused = true)]
async fn a_body_may_take_any_time_where_that_is_in_its_nature() {
    assert_eq!(upload(1, STALL_TIME * 2, None, STALL_TIME * 100).await, None);
}
