//! The bodies of requests on their way to the application, and of its answers.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use thiserror::Error;

use super::alone::Alone;
use super::expectation::Gate;
use super::replica::{Replica, Slot};
use crate::sidecar::http::edge::{patience::Patience, unwritten::Unwritten};

/// The body of a request as it is sent.
pub enum Upload {
    /// There is none.
    Nothing,
    /// It comes from the client.
    Lent(Arc<Lender>),
}

/// Why the body of a request does not come to its end.
#[derive(Debug, Error)]
pub enum BrokenOff {
    /// As the client's side tells.
    #[error(transparent)]
    Told(#[from] hyper::Error),
    /// Little more has come for long, or nothing.
    #[error("little more of the body has come for long, or nothing")]
    Stalled,
}

/// The body of a client's request. A try that came to nothing before it read of it leaves it to the next.
pub struct Lender {
    body: Mutex<Incoming>,
    gate: Option<Arc<Gate>>,
    size: SizeHint,
    is_touched: AtomicBool,
    /// Whether it is the client that has to send more.
    waits_for_client: AtomicBool,
    /// How many pieces have passed.
    passed: AtomicU64,
    /// For how long the client may be waited for.
    limit: Option<Duration>,
    patience: Mutex<Patience>,
    /// Of the connection of HTTP/1 that it goes to.
    unwritten: Mutex<Option<Arc<Unwritten>>>,
}

impl Lender {
    /// Of a body, which is held back by a gate or not. For each [`STALL_BYTES`] of it, and
    /// for its rest, the client is waited for no longer than `limit`.
    ///
    /// [`STALL_BYTES`]: crate::sidecar::http::edge::limits::STALL_BYTES
    #[must_use]
    pub fn new(body: Incoming, gate: Option<Arc<Gate>>, limit: Option<Duration>) -> Arc<Self> {
        let size = body.size_hint();
        Arc::new(Self {
            body: Mutex::new(body),
            gate,
            size,
            is_touched: AtomicBool::new(false),
            waits_for_client: AtomicBool::new(false),
            passed: AtomicU64::new(0),
            limit,
            patience: Mutex::default(),
            unwritten: Mutex::default(),
        })
    }

    /// From here on it goes to this connection, of HTTP/1, as it is written there.
    pub fn goes_to(&self, unwritten: Arc<Unwritten>) {
        *self.unwritten.lock() = Some(unwritten);
    }

    /// Ready when the client has been waited for too long.
    fn poll_stalled(&self, context: &mut Context<'_>) -> Poll<()> {
        let Some(limit) = self.limit else { return Poll::Pending };
        self.patience.lock().poll_over(context, limit)
    }

    /// What holds it back.
    #[must_use]
    pub fn gate(&self) -> Option<&Arc<Gate>> {
        self.gate.as_ref()
    }

    /// How long it was at its beginning.
    #[must_use]
    pub fn size(&self) -> SizeHint {
        self.size
    }

    /// Whether something of it was read.
    #[must_use]
    pub fn is_touched(&self) -> bool {
        self.is_touched.load(Ordering::Acquire)
    }

    /// Whether the application can do nothing yet, as the client has not sent all.
    #[must_use]
    pub fn waits_for_client(&self) -> bool {
        self.waits_for_client.load(Ordering::Acquire)
    }

    /// How many pieces have passed.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Acquire)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let Self::Lent(lender) = self.get_mut() else { return Poll::Ready(None) };
        if let Some(gate) = &lender.gate {
            ready!(gate.poll(context));
        }
        let unwritten = lender.unwritten.lock().clone();
        if let Some(unwritten) = &unwritten {
            ready!(unwritten.poll_room(context));
        }
        // That it was asked for is no harm yet: only what was read is gone.
        let frame = Pin::new(&mut *lender.body.lock()).poll_frame(context);
        lender.waits_for_client.store(frame.is_pending(), Ordering::Release);
        let Poll::Ready(frame) = frame else {
            ready!(lender.poll_stalled(context));
            return Poll::Ready(Some(Err(BrokenOff::Stalled)));
        };
        let length = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
        lender.patience.lock().went_on(length);
        if let Some(unwritten) = unwritten {
            unwritten.more(length);
        }
        lender.is_touched.store(true, Ordering::Release);
        lender.passed.fetch_add(1, Ordering::AcqRel);
        Poll::Ready(frame.map(|frame| frame.map_err(BrokenOff::Told)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Lent(lender) => lender.body.lock().is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Nothing => SizeHint::with_exact(0),
            Self::Lent(lender) if lender.is_touched() => lender.body.lock().size_hint(),
            Self::Lent(lender) => lender.size,
        }
    }
}

/// The body of an answer. The connection it comes on is used again when it has come to its end.
pub struct Answer {
    inner: Incoming,
    /// What ended it, which is told when what came before is on its way.
    broken: Option<hyper::Error>,
    held: Option<Held>,
}

/// What an answer holds until its end.
pub struct Held {
    /// A place among the requests that a replica has at once.
    pub slot: Slot,
    /// Whose answer it is.
    pub replica: Arc<Replica>,
    /// On which connection.
    pub line: Line,
}

/// The connection of an answer.
pub enum Line {
    /// Of HTTP/1: it is for one request at a time.
    Alone(Alone),
    /// Of HTTP/2: a share of it.
    Shared(Arc<()>),
    /// It is for another protocol from here on.
    Switched,
}

impl Answer {
    /// Of a body.
    #[must_use]
    pub fn new(inner: Incoming, held: Held) -> Self {
        let mut answer = Self { inner, broken: None, held: Some(held) };
        answer.end_if_over();
        answer
    }

    /// A part of it, or its end.
    fn poll_inner(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let come = Pin::new(&mut self.inner).poll_frame(context);
        let Some(Held { line: Line::Alone(connection), .. }) = &mut self.held else { return come };
        if come.is_ready() {
            return come;
        }
        connection.drive(context);
        match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
            Some(Err(error)) => {
                // Who gets an error writes nothing any more, and may have got the last part just now.
                self.broken = Some(error);
                context.waker().wake_by_ref();
                Poll::Pending
            }
            come => Poll::Ready(come),
        }
    }

    fn end_if_over(&mut self) {
        if self.inner.is_end_stream() {
            self.end();
        }
    }

    fn end(&mut self) {
        if let Some(Held { slot, replica, line }) = self.held.take() {
            if let Line::Alone(connection) = line {
                replica.connections().put_back(connection);
            }
            // Only now, so that who waits for the place finds the connection.
            drop(slot);
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let answer = self.get_mut();
        let frame = ready!(answer.poll_inner(context));
        match &frame {
            Some(Ok(_)) => answer.end_if_over(),
            Some(Err(_)) => {
                if let Some(held) = answer.held.take() {
                    held.replica.broke_off();
                }
            }
            None => answer.end(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
