//! What is counted of the second level.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the start.
#[derive(Debug, Default)]
pub struct Figures {
    /// Lookups that have brought a response.
    pub hits: AtomicU64,
    /// Lookups that have found nothing.
    pub misses: AtomicU64,
    /// Responses that were purged since they were stored.
    pub refused: AtomicU64,
    /// What was no response of this release.
    pub unreadable: AtomicU64,
    /// Commands that were not answered in time.
    pub timeouts: AtomicU64,
    /// Commands that have failed otherwise.
    pub errors: AtomicU64,
    /// Lookups that were not made, as Redis or its news are not reached.
    pub skipped: AtomicU64,
    /// Responses that were stored.
    pub stored: AtomicU64,
    /// Responses that were not sent, as too much was on its way.
    pub dropped: AtomicU64,
    /// Requests that have waited for what another replica asks for.
    pub waits: AtomicU64,
    /// Messages on the application's channel that were not understood.
    pub misunderstood: AtomicU64,
}

impl Figures {
    /// One more.
    pub fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// How many.
    #[must_use]
    pub fn of(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}
