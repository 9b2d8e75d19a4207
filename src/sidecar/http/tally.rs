//! A request from its first byte to the last of its answer, as it is counted and written down.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use super::{
    Front,
    edge::{Client, streams::Taken},
};
use crate::sidecar::{
    access_log::{End, Line},
    figures::made::Made,
};

/// A request that is counted when it is over, whatever comes of it.
pub struct Tally {
    front: Arc<Front>,
    began: Instant,
    made: Made,
    bytes: u64,
    /// For the access log, while there is one.
    line: Option<Box<Line>>,
}

impl Tally {
    /// A request has come.
    #[must_use]
    pub fn begin(front: Arc<Front>, client: &Client, request: &Request<Incoming>) -> Self {
        let line = front.access_log().is_on().then(|| Box::new(Line::of(request, client.peer.ip())));
        Self { front, began: Instant::now(), made: Made::Abandoned, bytes: 0, line }
    }

    /// Its answer has begun.
    #[must_use]
    pub fn answered(mut self, answer: Response<Taken>) -> Response<Tallied> {
        self.made = Made::of(answer.status(), answer.headers());
        self.front.figures().answered(self.made, self.began.elapsed());
        if let Some(line) = &mut self.line {
            line.status = Some(answer.status());
        }
        answer.map(|body| Tallied { body, tally: self })
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let figures = self.front.figures();
        match self.made {
            Made::Abandoned => figures.abandoned(),
            made => figures.sent(made.source(), self.bytes),
        }
        if let Some(line) = self.line.take() {
            let end = End { made: self.made, bytes: self.bytes, took: self.began.elapsed() };
            self.front.access_log().write(&line, &end);
        }
    }
}

/// An answer on its way, of which the bytes are counted.
pub struct Tallied {
    body: Taken,
    tally: Tally,
}

impl HttpBody for Tallied {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self { body, tally } = self.get_mut();
        let frame = Pin::new(body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            tally.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
