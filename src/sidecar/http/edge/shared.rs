//! What the wire of a connection and the service of its requests tell each other.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    task::{Context, Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{
    refusal::Refusal,
    streams::{Streams, Verdict},
    unwritten::Unwritten,
};
use crate::sidecar::figures::Open;

/// Of the connections that there may be, and of those that are counted.
pub type Place = ([OwnedSemaphorePermit; 2], Open);

/// What the connection and the service of its requests tell each other.
pub struct Shared {
    told: Mutex<Told>,
    streams: Streams,
    pub(super) unwritten: Unwritten,
    pub(super) is_http2: AtomicBool,
    /// How many heads have passed, if nothing came since the end of the last request; else none.
    pub(super) heads_between: AtomicUsize,
    /// A part of a head has come.
    pub(super) is_in_head: AtomicBool,
    /// Something waits for the client to take it.
    pub(super) is_writing: AtomicBool,
    /// Of the connections that there may be. A connection that has changed its protocol still has it.
    _place: Option<Place>,
}

#[derive(Default)]
pub(super) struct Told {
    /// How many requests have reached the service.
    pub(super) begun: usize,
    /// Of how many the answer is over, and when that of the last was.
    over: usize,
    last: Option<Instant>,
    /// Whether the last that asked for another protocol got it.
    pub(super) is_granted: Option<bool>,
    /// Of the connection, which waits for one of these.
    waker: Option<Waker>,
    /// Why nothing more is read.
    pub(super) refusal: Option<Refusal>,
    /// It is for the body of the request that the service has.
    pub(super) is_in_body: bool,
}

impl Shared {
    /// With a place among the connections.
    #[must_use]
    pub fn holding(place: Option<Place>) -> Self {
        Self {
            told: Mutex::default(),
            streams: Streams::default(),
            unwritten: Unwritten::default(),
            is_http2: AtomicBool::new(false),
            heads_between: AtomicUsize::new(0),
            is_in_head: AtomicBool::new(false),
            is_writing: AtomicBool::new(false),
            _place: place,
        }
    }

    /// The requests that are under way, if they are of HTTP/2.
    #[must_use]
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// What hyper has of an answer of HTTP/1 and has not written.
    #[must_use]
    pub fn unwritten(&self) -> &Unwritten {
        &self.unwritten
    }

    /// What is to be done with the connection. That of HTTP/1 is seen to by the wire and by hyper.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.is_http2.load(Ordering::Relaxed) { self.streams.verdict() } else { Verdict::GoOn }
    }

    /// Whether it is one of HTTP/2 with no request under way.
    #[must_use]
    pub fn has_no_stream(&self) -> bool {
        self.is_http2.load(Ordering::Relaxed) && self.streams.is_empty()
    }

    /// The service has a request.
    pub fn begin(&self) {
        self.tell(|told| told.begun += 1);
    }

    /// An answer is over.
    pub fn end(&self) {
        let mut told = self.told.lock();
        told.over += 1;
        told.last = Some(Instant::now());
    }

    /// Whether all requests of HTTP/1 that came are answered for so long, and nothing has come since.
    #[must_use]
    pub fn is_quiet(&self, time: Duration) -> bool {
        let heads = self.heads_between.load(Ordering::Relaxed);
        let told = self.told.lock();
        heads > 0
            && told.begun == heads
            && told.over == heads
            && told.last.is_some_and(|last| last.elapsed() >= time)
            && !self.is_writing.load(Ordering::Relaxed)
    }

    /// Whether a request has begun to come and is not there yet.
    #[must_use]
    pub fn is_in_head(&self) -> bool {
        self.is_in_head.load(Ordering::Relaxed)
    }

    /// A request that asked for another protocol has been answered.
    pub fn decide(&self, is_granted: bool) {
        self.tell(|told| told.is_granted = Some(is_granted));
    }

    /// Why the request that stands for a refused one is refused.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        self.told.lock().refusal.unwrap_or(Refusal::bad("the method is not known"))
    }

    /// Why the body of the request that the service has is refused.
    #[must_use]
    pub fn refusal_of_body(&self) -> Option<Refusal> {
        let told = self.told.lock();
        told.refusal.filter(|_| told.is_in_body)
    }

    pub(super) fn tell(&self, what: impl FnOnce(&mut Told)) {
        let mut told = self.told.lock();
        what(&mut told);
        if let Some(waker) = told.waker.take() {
            waker.wake();
        }
    }

    /// Waits until something is told that this finds what it looks for in.
    pub(super) fn poll<T>(
        &self,
        context: &Context<'_>,
        found: impl FnOnce(&mut Told) -> Option<T>,
    ) -> Poll<T> {
        let mut told = self.told.lock();
        if let Some(found) = found(&mut told) {
            return Poll::Ready(found);
        }
        told.waker = Some(context.waker().clone());
        Poll::Pending
    }
}
