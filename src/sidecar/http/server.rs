//! Connections of clients.

use std::{future::Future, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use http::{HeaderValue, StatusCode, Version, header::CONNECTION};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use super::Front;

/// How soon the head of a request has to be there.
const HEAD: Duration = Duration::from_secs(10);
/// After an error of the listener, such as too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop` is over, and then until the requests that came are answered, or `grace` is over.
pub async fn serve(
    listener: TcpListener,
    front: Arc<Front>,
    stop: impl Future<Output = ()>,
    grace: Duration,
) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD).pipeline_flush(true);
    builder.http2().timer(TokioTimer::new());
    // Each connection holds a receiver until it ends.
    let (ending, _) = watch::channel(false);
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let Ok((stream, peer)) = accepted else {
            sleep(PAUSE).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        tokio::spawn(connection(builder.clone(), stream, front.clone(), peer, ending.subscribe()));
    }
    drop(listener);
    ending.send_replace(true);
    let _ = timeout(grace, ending.closed()).await;
}

async fn connection(
    builder: auto::Builder<TokioExecutor>,
    stream: TcpStream,
    front: Arc<Front>,
    peer: SocketAddr,
    mut ending: watch::Receiver<bool>,
) {
    let last = Arc::new(Notify::new());
    let service = {
        let last = last.clone();
        service_fn(move |request: http::Request<Incoming>| answer(front.clone(), request, peer, last.clone()))
    };
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let mut is_last = false;
    let ended = loop {
        tokio::select! {
            ended = connection.as_mut() => break ended,
            _ = ending.wait_for(|ending| *ending), if !is_last => {}
            () = last.notified(), if !is_last => {}
        }
        is_last = true;
        connection.as_mut().graceful_shutdown();
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection has ended");
    }
}

async fn answer(
    front: Arc<Front>,
    request: http::Request<Incoming>,
    peer: SocketAddr,
    last: Arc<Notify>,
) -> Result<http::Response<super::body::Body>, std::convert::Infallible> {
    let version = request.version();
    let mut response = front.answer(request, peer.ip()).await;
    if front.is_draining() {
        if version == Version::HTTP_2 {
            // GOAWAY: what was begun ends, and nothing begins (RFC 9113 §6.8).
            last.notify_one();
        } else if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // RFC 9112 §9.6.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
    Ok(response)
}
