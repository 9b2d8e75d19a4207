//! Connections of clients.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use http::{HeaderValue, StatusCode, Version, header::CONNECTION};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore, watch},
    time::{interval, sleep, timeout},
};

use super::{
    Front,
    edge::{
        Client,
        limits::{
            BUFFER, CONNECTION_WINDOW, CONNECTIONS, FIELDS, HEAD, IDLE_TIME, PING_TIME, STALL_TIME,
            STREAM_BUFFER, STREAM_WINDOW, STREAMS,
        },
        streams::{Taken, Verdict},
        wire::{Shared, Wire},
    },
};

/// After an error of the listener, such as too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop` is over, and then until the requests that came are answered, or `grace` is over.
pub async fn serve(
    listener: TcpListener,
    front: Arc<Front>,
    stop: impl Future<Output = ()>,
    grace: Duration,
) {
    let builder = builder();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // Each connection holds a receiver until it ends.
    let (ending, _) = watch::channel(false);
    let mut stop = pin!(stop);
    loop {
        let accept = async {
            // Never closed, so there is a place at some time.
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accept => accepted,
            () = &mut stop => break,
        };
        let Ok((stream, peer)) = accepted else {
            sleep(PAUSE).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let Ok(local) = stream.local_addr() else { continue };
        let client = Client { peer, local, shared: Arc::new(Shared::holding(place.ok())) };
        tokio::spawn(connection(builder.clone(), stream, front.clone(), client, ending.subscribe()));
    }
    drop(listener);
    ending.send_replace(true);
    let _ = timeout(grace, ending.closed()).await;
}

async fn connection(
    builder: auto::Builder<TokioExecutor>,
    stream: TcpStream,
    front: Arc<Front>,
    client: Client,
    mut ending: watch::Receiver<bool>,
) {
    let (last, peer, shared) = (Arc::new(Notify::new()), client.peer, client.shared.clone());
    let wire = Wire::new(stream, client.shared.clone());
    let service = {
        let last = last.clone();
        service_fn(move |request: http::Request<Incoming>| {
            answer(client.clone(), front.clone(), request, last.clone())
        })
    };
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(wire), service));
    let mut is_last = false;
    let mut look = interval(STALL_TIME);
    let ended = loop {
        tokio::select! {
            ended = connection.as_mut() => break ended,
            _ = ending.wait_for(|ending| *ending), if !is_last => {}
            () = last.notified(), if !is_last => {}
            _ = look.tick() => match shared.verdict() {
                Verdict::GoOn => continue,
                Verdict::Idle => {}
                // Ended without a word, which it would not take either.
                Verdict::Stalled => return,
            },
        }
        is_last = true;
        connection.as_mut().graceful_shutdown();
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection has ended");
    }
}

/// The two versions of HTTP, with what a client may take of them.
fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // The wire sees to the time of a head, and hyper to the time between two. Without `pipeline_flush`: with it,
    // the last answer of a connection is lost where more has come than is answered.
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIME)
        .max_headers(FIELDS)
        .max_buf_size(BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(HEAD).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(STREAM_BUFFER)
        .keep_alive_interval(PING_TIME)
        .keep_alive_timeout(PING_TIME);
    builder
}

async fn answer(
    client: Client,
    front: Arc<Front>,
    request: http::Request<Incoming>,
    last: Arc<Notify>,
) -> Result<http::Response<Taken>, std::convert::Infallible> {
    let version = request.version();
    let mut response = client.answer(front.clone(), request).await;
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
