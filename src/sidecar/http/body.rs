//! The body of a response on its way to a client.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;

use super::kept::Kept;
use crate::sidecar::upstream::body::Answer;

/// A body as it goes to a client.
pub enum Body {
    /// One piece, from the cache or made here.
    Whole(Option<Bytes>),
    /// As the application sends it.
    Streamed(Answer),
    /// One that is kept on its way.
    Kept(Kept),
}

impl Body {
    /// Takes it for nobody: to its end, if it is kept until then.
    pub async fn take_while_kept(self) {
        let Self::Kept(mut kept) = self else { return };
        while kept.is_kept() && matches!(kept.frame().await, Some(Ok(_))) {}
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
            Self::Kept(kept) => Pin::new(kept).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Streamed(inner) => inner.is_end_stream(),
            Self::Kept(kept) => kept.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Streamed(inner) => inner.size_hint(),
            Self::Kept(kept) => kept.size_hint(),
        }
    }
}
