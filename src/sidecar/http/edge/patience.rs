//! How long a client is waited for. The time of the application does not count; and a byte alone buys none: else whoever
//! sends or takes one a minute has its place for ever.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::limits::STALL_BYTES;

/// For how long a client has been waited for since so much as counts has come or gone.
#[derive(Debug, Default)]
pub struct Waited {
    /// Since when it is waited for now; None while it is not.
    since: Option<Instant>,
    /// For how long it was before.
    before: Duration,
    /// What has come or gone meanwhile.
    bytes: usize,
}

impl Waited {
    /// From here on it is waited for.
    pub fn begin(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// So many bytes have come or gone, and it is not waited for.
    pub fn went_on(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes >= STALL_BYTES {
            *self = Self::default();
        } else if let Some(since) = self.since.take() {
            self.before += since.elapsed();
        }
    }

    /// For how long in all, if it is waited for.
    #[must_use]
    pub fn time(&self, now: Instant) -> Option<Duration> {
        self.since.map(|since| self.before + (now - since))
    }
}

/// A time in which something has to come or go. It costs little while nothing is waited for.
#[derive(Debug, Default)]
pub struct Patience {
    waited: Waited,
    end: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// Ready when it has been waited for this for so long in all.
    pub fn poll_over(&mut self, context: &mut Context<'_>, time: Duration) -> Poll<()> {
        let Self { waited, end } = self;
        let end = end.get_or_insert_with(|| {
            let now = Instant::now();
            waited.begin(now);
            Box::pin(sleep_until(now + time.saturating_sub(waited.before)))
        });
        end.as_mut().poll(context)
    }

    /// So many bytes have come or gone. What was waited before still counts if they are few.
    pub fn went_on(&mut self, bytes: usize) {
        self.end = None;
        self.waited.went_on(bytes);
    }

    /// What comes next has all the time.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
