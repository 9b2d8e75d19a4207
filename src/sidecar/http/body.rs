//! The body of a response on its way to a client.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::sidecar::upstream::body::Answer;

/// A body as it goes to a client.
pub enum Body {
    /// One piece, from the cache or made here.
    Whole(Option<Bytes>),
    /// As the application sends it.
    Streamed(Answer),
    /// As the application sends it, and kept.
    Kept(Kept),
}

/// What is done with a body that came whole, and where it is too large instead.
type Done = Box<dyn FnOnce(Option<Bytes>) + Send>;

/// A body of which a copy is made while it passes. A client that goes away ends it, and nothing is kept.
pub struct Kept {
    inner: Answer,
    copy: BytesMut,
    most: usize,
    done: Option<Done>,
}

impl Kept {
    /// `done` is called when `inner` has come to its end, with no more than `most` bytes and no trailers;
    /// `too_large` where there are more.
    pub fn new(
        inner: Answer,
        most: usize,
        done: impl FnOnce(Bytes) + Send + 'static,
        too_large: impl FnOnce() + Send + 'static,
    ) -> Self {
        let came = move |body: Option<Bytes>| {
            let Some(body) = body else {
                // Others that wait for it go on.
                drop(done);
                return too_large();
            };
            done(body);
        };
        let mut kept = Self { inner, copy: BytesMut::new(), most, done: Some(Box::new(came)) };
        // Of an empty body no frame is ever asked for.
        kept.end_if_over();
        kept
    }

    fn note(&mut self, frame: &Frame<Bytes>) {
        let is_small = frame.data_ref().is_some_and(|data| self.copy.len() + data.len() <= self.most);
        if let Some(data) = frame.data_ref().filter(|_| is_small && self.done.is_some()) {
            self.copy.extend_from_slice(data);
        } else {
            let done = self.done.take();
            if let Some(done) = done.filter(|_| frame.is_data()) {
                done(None);
            }
            self.copy = BytesMut::new();
        }
        self.end_if_over();
    }

    fn end_if_over(&mut self) {
        if self.inner.is_end_stream() {
            self.end();
        }
    }

    fn end(&mut self) {
        if let Some(done) = self.done.take() {
            done(Some(std::mem::take(&mut self.copy).freeze()));
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streamed(inner) => Pin::new(inner).poll_frame(context),
            Self::Kept(kept) => {
                let frame = ready!(Pin::new(&mut kept.inner).poll_frame(context));
                match &frame {
                    Some(Ok(frame)) => kept.note(frame),
                    Some(Err(_)) => kept.done = None,
                    None => kept.end(),
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Streamed(inner) => inner.is_end_stream(),
            Self::Kept(kept) => kept.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Streamed(inner) => inner.size_hint(),
            Self::Kept(kept) => kept.inner.size_hint(),
        }
    }
}
