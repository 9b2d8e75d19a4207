//! Connections of clients.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::{
    net::TcpListener,
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
    let connections = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
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
        let service = {
            let front = front.clone();
            service_fn(move |request: http::Request<Incoming>| answer(front.clone(), request, peer))
        };
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%peer, %error, "a connection has ended");
            }
        });
    }
    drop(listener);
    let _ = timeout(grace, connections.shutdown()).await;
}

async fn answer(
    front: Arc<Front>,
    request: http::Request<Incoming>,
    peer: SocketAddr,
) -> Result<http::Response<super::body::Body>, std::convert::Infallible> {
    Ok(front.answer(request, peer.ip()).await)
}
