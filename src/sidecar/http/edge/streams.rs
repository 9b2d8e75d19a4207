//! The requests of an HTTP/2 connection that are under way. The wire sees nothing of them: a client may take all that
//! comes, answer each ping, and leave one stream full, or open none at all.

use std::{
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{super::body::Body, limits::STALL_TIME, wire::Shared};

/// A connection without a request for so long is for others. Clients of gRPC keep one for longer than browsers.
pub const IDLE: Duration = Duration::from_mins(5);

/// Those of a connection.
pub struct Streams(Mutex<Inner>);

struct Inner {
    running: Vec<Weak<Stream>>,
    /// When the last has begun.
    last: Instant,
}

/// One of them, from its request to the end of its answer.
#[derive(Default)]
pub struct Stream(Mutex<Option<Instant>>);

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
        Self(Mutex::new(Inner { running: Vec::new(), last: Instant::now() }))
    }
}

impl Streams {
    /// A request has come.
    pub fn begin(&self) -> Arc<Stream> {
        let stream = Arc::<Stream>::default();
        let mut inner = self.0.lock();
        inner.last = Instant::now();
        if inner.running.len() == inner.running.capacity() {
            // Before it grows.
            inner.running.retain(|running| running.strong_count() > 0);
        }
        inner.running.push(Arc::downgrade(&stream));
        stream
    }

    /// What holds now. Asked for from time to time.
    pub fn verdict(&self) -> Verdict {
        let now = Instant::now();
        let mut inner = self.0.lock();
        inner.running.retain(|running| running.strong_count() > 0);
        let is_stalled =
            |stream: &Arc<Stream>| stream.0.lock().is_some_and(|since| now - since >= STALL_TIME);
        if inner.running.iter().filter_map(Weak::upgrade).any(|stream| is_stalled(&stream)) {
            Verdict::Stalled
        } else if inner.running.is_empty() && now - inner.last >= IDLE {
            Verdict::Idle
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
}

impl Taken {
    /// An answer.
    #[must_use]
    pub fn new(inner: Body, of: Of) -> Self {
        if let Of::Http2(stream) = &of {
            // Also what is never asked for, as the client gives no room from the beginning (RFC 9113 §6.9.1).
            *stream.0.lock() = Some(Instant::now());
        }
        Self { inner, of }
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
        let frame = Pin::new(&mut taken.inner).poll_frame(context);
        if let Of::Http2(stream) = &taken.of {
            *stream.0.lock() = frame.is_ready().then(Instant::now);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_of_which_nothing_is_asked_for_after_a_piece_is_stalled() {
        let streams = Streams::default();
        let stream = streams.begin();
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
    async fn a_stream_of_whose_answer_nothing_is_ever_asked_for_is_stalled() {
        let streams = Streams::default();
        // hyper asks for nothing while the client gives no room (RFC 9113 §6.9.1).
        let body = Taken::new(Body::from(Bytes::from_static(b"x")), Of::Http2(streams.begin()));
        tokio::time::advance(STALL_TIME).await;
        assert_eq!(streams.verdict(), Verdict::Stalled);
        drop(body);
        assert_eq!(streams.verdict(), Verdict::GoOn);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_when_its_last_request_is_over_for_long() {
        let streams = Streams::default();
        let stream = streams.begin();
        tokio::time::advance(IDLE).await;
        assert_eq!(streams.verdict(), Verdict::GoOn, "one is under way");
        drop(stream);
        assert_eq!(streams.verdict(), Verdict::Idle);
        drop(streams.begin());
        assert_eq!(streams.verdict(), Verdict::GoOn);
    }

    #[test]
    fn what_is_over_takes_no_room() {
        let streams = Streams::default();
        for _ in 0..10_000 {
            drop(streams.begin());
        }
        assert!(streams.0.lock().running.capacity() < 16);
    }
}
