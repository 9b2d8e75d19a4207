//! The requests of an HTTP/2 connection that are under way. The wire sees nothing of them: a client may take all that
//! comes, answer each ping, and leave one stream full, or open none at all.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::rt::Executor;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit},
    time::Instant,
};

use super::{
    super::body::Body,
    limits::{STALL_TIME, STREAM_BUFFER},
    patience::Waited,
    shared::Shared,
};

/// A connection without a request for so long is for others. Clients of gRPC keep one for longer than browsers.
pub const IDLE: Duration = Duration::from_mins(5);

/// Those of a connection.
pub struct Streams(Mutex<Inner>);

struct Inner {
    running: Vec<Weak<Stream>>,
    /// When the last has begun.
    last: Instant,
    /// Since when it has been told to end, as there was none for long.
    idle: Option<Instant>,
}

/// One of them, from its request to the end of its answer.
pub struct Stream {
    /// For how long its client has been to take what was there.
    waits: Mutex<Waited>,
    end: Option<Arc<Notify>>,
    /// Of the streams that there may be on all connections.
    _place: Option<OwnedSemaphorePermit>,
}

tokio::task_local! {
    /// Ends the task.
    static END: Arc<Notify>;
}

/// Runs the answers of a connection, each of which can be ended without the others: its stream is reset then.
#[derive(Clone, Copy, Debug)]
pub struct Answers;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Answers {
    fn execute(&self, answer: F) {
        let end = Arc::new(Notify::new());
        tokio::spawn(END.scope(end.clone(), async move {
            tokio::select! {
                biased;
                () = end.notified() => {}
                () = answer => {}
            }
        }));
    }
}

impl Stream {
    /// Whether its client has taken nothing, or next to nothing, for so long. Then it is ended alone; it stands in
    /// nobody's way.
    fn is_stalled(&self, now: Instant) -> bool {
        let Some(time) = self.waits.lock().time(now) else { return false };
        if let Some(end) = self.end.as_ref().filter(|_| time >= STALL_TIME) {
            end.notify_one();
            return time >= STALL_TIME * 2;
        }
        time >= STALL_TIME
    }
}

/// What is to be done with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    GoOn,
    /// It is told to end, as nothing has come for long.
    Idle,
    /// It ends, as somebody does not take what is there.
    Stalled,
}

impl Default for Streams {
    fn default() -> Self {
        Self(Mutex::new(Inner { running: Vec::new(), last: Instant::now(), idle: None }))
    }
}

impl Streams {
    /// A request has come, and has its place until its answer is over.
    pub fn begin(&self, place: Option<OwnedSemaphorePermit>) -> Arc<Stream> {
        let end = END.try_with(Arc::clone).ok();
        let stream = Arc::new(Stream { waits: Mutex::default(), end, _place: place });
        let mut inner = self.0.lock();
        (inner.last, inner.idle) = (Instant::now(), None);
        if inner.running.len() == inner.running.capacity() {
            // Before it grows.
            inner.running.retain(|running| running.strong_count() > 0);
        }
        inner.running.push(Arc::downgrade(&stream));
        stream
    }

    /// Whether none is under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.lock().running.iter().all(|running| running.strong_count() == 0)
    }

    /// What holds now. Asked for from time to time.
    pub fn verdict(&self) -> Verdict {
        let now = Instant::now();
        let mut inner = self.0.lock();
        inner.running.retain(|running| running.strong_count() > 0);
        let stalled = inner.running.iter().filter_map(Weak::upgrade).filter(|stream| stream.is_stalled(now));
        // All are asked, as each ends by that.
        if stalled.count() > 0 {
            Verdict::Stalled
        } else if inner.running.is_empty() && now - inner.last >= IDLE {
            // One that does not end then has the end of some answer still, which it does not take.
            let is_stalled = now - *inner.idle.get_or_insert(now) >= STALL_TIME;
            if is_stalled { Verdict::Stalled } else { Verdict::Idle }
        } else {
            Verdict::GoOn
        }
    }
}

/// Of what an answer is.
pub enum Of {
    /// A connection that has one at a time, which is told when it is over.
    Http1(Arc<Shared>),
    /// A stream, in which it notes when a piece is handed over, and when the next is asked for.
    Http2(Arc<Stream>),
}

impl Drop for Of {
    fn drop(&mut self) {
        if let Self::Http1(shared) = self {
            shared.end();
        }
    }
}

/// An answer on its way.
pub struct Taken {
    inner: Body,
    of: Of,
    /// The rest of a piece of which HTTP/2 gets a part at a time: what it has got it keeps for as long as it likes.
    rest: Bytes,
    /// The length of what HTTP/2 has got last.
    last: usize,
}

impl Taken {
    /// An answer.
    #[must_use]
    pub fn new(inner: Body, of: Of) -> Self {
        if let Of::Http2(stream) = &of {
            // Also what is never asked for, as the client gives no room from the beginning (RFC 9113 §6.9.1).
            stream.waits.lock().begin(Instant::now());
        }
        Self { inner, of, rest: Bytes::new(), last: 0 }
    }
}

impl HttpBody for Taken {
    type Data = Bytes;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let taken = self.get_mut();
        let stream = match &taken.of {
            Of::Http1(shared) => {
                ready!(shared.unwritten().poll_room(context));
                let frame = ready!(Pin::new(&mut taken.inner).poll_frame(context));
                let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
                shared.unwritten().more(data.map_or(0, Bytes::len));
                return Poll::Ready(frame);
            }
            Of::Http2(stream) => stream,
        };
        // It asks for more when its client has taken that.
        stream.waits.lock().went_on(std::mem::take(&mut taken.last));
        let mut frame = if taken.rest.is_empty() {
            Pin::new(&mut taken.inner).poll_frame(context)
        } else {
            Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut taken.rest)))))
        };
        if let Poll::Ready(Some(Ok(frame))) = &mut frame
            && let Some(data) = frame.data_mut()
        {
            taken.rest = data.split_off(data.len().min(STREAM_BUFFER));
            taken.last = data.len();
        }
        if frame.is_ready() {
            stream.waits.lock().begin(Instant::now());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.inner.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use http_body_util::{BodyExt, Empty};
    use hyper::{body::Incoming, client::conn::http2, service::service_fn};
    use hyper_util::rt::{TokioExecutor, TokioIo};

    use super::{super::limits::STALL_BYTES, *};

    #[tokio::test(start_paused = true)]
    async fn a_stream_of_which_nothing_is_asked_for_after_a_piece_is_stalled() {
        let streams = Streams::default();
        let stream = streams.begin(None);
        // The application may take its time.
        tokio::time::advance(STALL_TIME * 2).await;
        assert_eq!(streams.verdict(), Verdict::GoOn);
        let mut body = Taken::new(Body::from(Bytes::from_static(b"x")), Of::Http2(stream));
        body.frame().await;
        tokio::time::advance(STALL_TIME - Duration::from_secs(1)).await;
        assert_eq!(streams.verdict(), Verdict::GoOn);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(streams.verdict(), Verdict::Stalled);
        drop(body);
        assert_eq!(streams.verdict(), Verdict::GoOn);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_of_which_next_to_nothing_is_taken_is_stalled_however_small_its_pieces_are() {
        let piece = |length| Body::from(Bytes::from(vec![b'x'; length]));
        for (length, verdict) in [(STALL_BYTES / 4, Verdict::Stalled), (STALL_BYTES, Verdict::GoOn)] {
            let streams = Streams::default();
            let mut body = Taken::new(piece(length), Of::Http2(streams.begin(None)));
            for _ in 0..3 {
                body.inner = piece(length);
                body.frame().await;
                assert_eq!(streams.verdict(), Verdict::GoOn);
                tokio::time::advance(STALL_TIME * 2 / 5).await;
            }
            assert_eq!(streams.verdict(), verdict, "{length}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_of_whose_answer_nothing_is_ever_asked_for_is_stalled() {
        let streams = Streams::default();
        // hyper asks for nothing while the client gives no room (RFC 9113 §6.9.1).
        let body = Taken::new(Body::from(Bytes::from_static(b"x")), Of::Http2(streams.begin(None)));
        tokio::time::advance(STALL_TIME).await;
        assert_eq!(streams.verdict(), Verdict::Stalled);
        drop(body);
        assert_eq!(streams.verdict(), Verdict::GoOn);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_when_its_last_request_is_over_for_long() {
        let streams = Streams::default();
        let stream = streams.begin(None);
        tokio::time::advance(IDLE).await;
        assert_eq!(streams.verdict(), Verdict::GoOn, "one is under way");
        drop(stream);
        assert_eq!(streams.verdict(), Verdict::Idle);
        tokio::time::advance(STALL_TIME).await;
        assert_eq!(streams.verdict(), Verdict::Stalled, "it does not end by itself");
        drop(streams.begin(None));
        assert_eq!(streams.verdict(), Verdict::GoOn);
    }

    /// A connection of HTTP/2 in memory, of which each answer is more than its client takes without reading.
    async fn connection(streams: &Arc<Streams>) -> http2::SendRequest<Empty<Bytes>> {
        let (client, server) = tokio::io::duplex(1 << 16);
        let streams = streams.clone();
        let service = service_fn(move |_: Request<Incoming>| {
            let streams = streams.clone();
            async move {
                let of = Of::Http2(streams.begin(None));
                let body = Taken::new(Body::from(Bytes::from(vec![b'x'; 1 << 20])), of);
                Ok::<_, std::convert::Infallible>(Response::new(body))
            }
        });
        let serving = hyper::server::conn::http2::Builder::new(Answers);
        tokio::spawn(serving.serve_connection(TokioIo::new(server), service));
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(1 << 16).initial_connection_window_size(1 << 24);
        let (sender, connection) = builder.handshake(TokioIo::new(client)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_not_taken_is_ended_and_the_others_of_its_connection_go_on() {
        let streams = Arc::new(Streams::default());
        let mut sender = connection(&streams).await;
        let ask = || Request::get("http://shop/").body(Empty::new()).unwrap();
        let unread = sender.send_request(ask()).await.unwrap();
        tokio::time::sleep(STALL_TIME + Duration::from_secs(1)).await;
        let read = sender.send_request(ask()).await.unwrap();
        assert_eq!(streams.verdict(), Verdict::GoOn, "the connection is for others, too");
        assert_eq!(read.into_body().collect().await.unwrap().to_bytes().len(), 1 << 20);
        assert!(unread.into_body().collect().await.is_err());
        assert_eq!(streams.0.lock().running.iter().filter(|stream| stream.strong_count() > 0).count(), 0);
        let next = sender.send_request(ask()).await.unwrap();
        assert_eq!(next.into_body().collect().await.unwrap().to_bytes().len(), 1 << 20);
    }

    #[test]
    fn what_is_over_takes_no_room() {
        let streams = Streams::default();
        for _ in 0..10_000 {
            drop(streams.begin(None));
        }
        assert!(streams.0.lock().running.capacity() < 16);
    }
}
