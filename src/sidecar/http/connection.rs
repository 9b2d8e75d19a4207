//! One connection of a client, from its first byte to its last.

use std::{io::ErrorKind, mem::MaybeUninit, pin::pin, sync::Arc, time::Duration};

use http::{HeaderValue, Request, Response, StatusCode, Version, header::CONNECTION};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use socket2::SockRef;
use tokio::{
    io::Interest,
    net::TcpStream,
    sync::{Notify, watch},
    time::{interval, timeout},
};

use super::{
    Front,
    edge::{
        Client,
        limits::{
            BUFFER, CONNECTION_WINDOW, FIELDS, HEAD, HEAD_TIME, IDLE_TIME, PARK_TIME, PING_TIME,
            STREAM_BUFFER, STREAM_WINDOW, STREAMS,
        },
        parking::{Parked, Parking},
        streams::{Answers, Verdict},
        wire::Wire,
    },
    tally::{Tallied, Tally},
};

/// Serves both versions of HTTP.
pub(super) type Builder = auto::Builder<Answers>;

/// Why a connection on which nothing happens ends before its time.
pub(super) struct End {
    /// All do.
    pub(super) ending: watch::Receiver<bool>,
    /// Others wait for its place.
    pub(super) crowded: Arc<Notify>,
}

/// The two versions of HTTP, with what a client may take of them.
pub(super) fn builder() -> Builder {
    let mut builder = auto::Builder::new(Answers);
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

/// Serves a connection until its end, or until `ending` and its last answer.
pub(super) async fn serve(
    builder: Arc<Builder>,
    stream: TcpStream,
    front: Arc<Front>,
    client: Client,
    mut end: End,
) {
    let (mut parked, mut time) = (Parked::new(stream), HEAD_TIME);
    while comes(&parked.stream, time, &mut end).await {
        // Apart, so that what is parked does not keep the room for it.
        let Some(next) = Box::pin(active(&builder, parked, &front, &client, &mut end)).await else {
            return;
        };
        (parked, time) = (next, IDLE_TIME);
    }
}

/// Whether something comes in time and before the end. What is there counts, also where nobody has been told yet.
async fn comes(stream: &TcpStream, time: Duration, end: &mut End) -> bool {
    let peek = || SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]);
    let readable = async {
        loop {
            stream.readable().await?;
            match stream.try_io(Interest::READABLE, peek) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                bytes => return bytes,
            }
        }
    };
    let mut readable = pin!(timeout(time, readable));
    tokio::select! {
        biased;
        bytes = readable.as_mut() => return matches!(bytes, Ok(Ok(1..))),
        _ = end.ending.wait_for(|ending| *ending) => {}
        () = end.crowded.notified() => if peek().is_ok() {
            // Another has less to do.
            end.crowded.notify_one();
        },
    }
    // It is told soon what is there already.
    peek().is_ok_and(|bytes| bytes > 0) && matches!(readable.await, Ok(Ok(1..)))
}

/// Serves a connection until its end, or until nothing happens on it any more.
async fn active(
    builder: &Builder,
    parked: Parked<TcpStream>,
    front: &Arc<Front>,
    client: &Client,
    end: &mut End,
) -> Option<Parked<TcpStream>> {
    let last = Arc::new(Notify::new());
    let (parking, shared) = (Parking::default(), &client.shared);
    let wire = Wire::new(parked, shared.clone(), parking.clone());
    let service = {
        let last = last.clone();
        service_fn(move |request| answer(client.clone(), front.clone(), request, last.clone()))
    };
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(wire), service));
    let (mut is_last, mut is_told) = (false, false);
    let mut look = interval(PARK_TIME);
    let ended = loop {
        tokio::select! {
            // What has come is looked at before the end is.
            biased;
            ended = connection.as_mut() => break ended,
            _ = end.ending.wait_for(|ending| *ending), if !is_last && !is_told => {
                is_told = true;
                if shared.is_in_head() {
                    // The rest of it comes soon, or it is refused.
                    continue;
                }
                if shared.is_quiet(Duration::ZERO) {
                    // Not ended before it is looked whether something has come.
                    parking.want();
                }
            }
            () = last.notified(), if !is_last => {}
            // One of HTTP/1 on which nothing happens is parked soon. What holds here is looked at again in a while.
            () = end.crowded.notified(), if !is_last && shared.has_no_stream() => if !shared.has_no_stream() {
                // Another has less to do.
                end.crowded.notify_one();
                continue;
            },
            _ = look.tick() => match shared.verdict() {
                Verdict::GoOn if is_told && !is_last && !shared.is_in_head() => {}
                Verdict::GoOn if !is_last && shared.is_quiet(PARK_TIME) => parking.want(),
                Verdict::GoOn => continue,
                Verdict::Idle => {}
                // Ended without a word, which it would not take either.
                Verdict::Stalled => return None,
            },
        }
        is_last = true;
        connection.as_mut().graceful_shutdown();
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %client.peer, %error, "a connection has ended");
    }
    parking.take()
}

async fn answer(
    client: Client,
    front: Arc<Front>,
    request: Request<Incoming>,
    last: Arc<Notify>,
) -> Result<Response<Tallied>, std::convert::Infallible> {
    let version = request.version();
    let tally = Tally::begin(front.clone(), &client, &request);
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
    Ok(tally.answered(response))
}
