//! What is counted of the requests of clients. Nothing here waits, and nothing is made for a request: each
//! figure is a number in a place of its own.

pub mod histogram;
pub mod made;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use self::{
    histogram::Histogram,
    made::{Made, Side, Source},
};
use super::cache::NotStored;

/// Counters since the start, and the connections of now.
#[derive(Debug, Default)]
pub struct Figures {
    requests: [AtomicU64; Made::ALL.len()],
    not_stored: [AtomicU64; NotStored::ALL.len()],
    sent: [AtomicU64; Source::ALL.len()],
    first_byte: [Histogram; Side::ALL.len()],
    connections: Arc<AtomicU64>,
}

/// A connection of a client, until it is dropped.
#[derive(Debug)]
#[must_use = "the connection counts until this is dropped"]
pub struct Open(Arc<AtomicU64>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What came of the requests of clients, in few numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Answered from the cache, fresh or stale.
    pub hits: u64,
    /// Answered by the application, though they might have been answered from the cache.
    pub misses: u64,
    /// For all of which the application was to be asked.
    pub forwarded: u64,
}

impl Sums {
    /// The part of those that the cache might have answered which it has; none where there were none.
    #[must_use]
    pub fn hit_ratio(&self) -> Option<f64> {
        let all = self.hits + self.misses;
        // Exact up to 2^53.
        #[allow(clippy::cast_precision_loss)]
        (all > 0).then(|| self.hits as f64 / all as f64)
    }

    /// How many requests the application was spared, when `asked` have reached for it. What is stale and
    /// asked for anew meanwhile spares none.
    #[must_use]
    pub fn saved(&self, asked: u64) -> u64 {
        self.hits.saturating_sub(asked.saturating_sub(self.forwarded))
    }
}

impl Figures {
    /// An answer to a request has begun, after so long.
    pub fn answered(&self, made: Made, after: Duration) {
        add(self.requests.get(made.index()), 1);
        if let Some(times) = made.side().and_then(|side| self.first_byte.get(side as usize)) {
            times.observe(after);
        }
    }

    /// A client did not wait for its answer.
    pub fn abandoned(&self) {
        add(self.requests.get(Made::Abandoned.index()), 1);
    }

    /// So much of a body was handed over to a client.
    pub fn sent(&self, source: Source, bytes: u64) {
        if bytes > 0 {
            add(self.sent.get(source as usize), bytes);
        }
    }

    /// A response of the application was not stored.
    pub fn not_stored(&self, why: NotStored) {
        add(self.not_stored.get(why as usize), 1);
    }

    /// A client has connected.
    pub fn connected(&self) -> Open {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Open(self.connections.clone())
    }

    /// How many clients are connected.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Requests by what came of them.
    pub fn requests(&self) -> impl Iterator<Item = (Made, u64)> {
        Made::ALL.into_iter().zip(numbers(&self.requests))
    }

    /// Responses that were not stored, by why.
    pub fn all_not_stored(&self) -> impl Iterator<Item = (NotStored, u64)> {
        NotStored::ALL.into_iter().zip(numbers(&self.not_stored))
    }

    /// Bytes of bodies by where they came from.
    pub fn all_sent(&self) -> impl Iterator<Item = (Source, u64)> {
        Source::ALL.into_iter().zip(numbers(&self.sent))
    }

    /// The times until an answer began, by who made it.
    pub fn first_byte(&self) -> impl Iterator<Item = (Side, &Histogram)> {
        Side::ALL.into_iter().zip(&self.first_byte)
    }

    /// The few numbers.
    #[must_use]
    pub fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for (made, count) in self.requests() {
            match made.side() {
                Some(Side::Cache) => sums.hits += count,
                Some(Side::Application) => {
                    sums.misses += count;
                    sums.forwarded += count;
                }
                Some(Side::Passed) => sums.forwarded += count,
                None if made == Made::Failed => sums.forwarded += count,
                None => {}
            }
        }
        sums
    }
}

fn add(counter: Option<&AtomicU64>, more: u64) {
    if let Some(counter) = counter {
        counter.fetch_add(more, Ordering::Relaxed);
    }
}

fn numbers(counters: &[AtomicU64]) -> impl Iterator<Item = u64> {
    counters.iter().map(|counter| counter.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::cache::cache_status::{Forwarded, Level};

    #[test]
    fn each_place_is_of_one_label() {
        assert_eq!(Made::ALL.map(Made::index), std::array::from_fn(|at| at));
        assert_eq!(NotStored::ALL.map(|why| why as usize), std::array::from_fn(|at| at));
        assert_eq!(Source::ALL.map(|source| source as usize), std::array::from_fn(|at| at));
        assert_eq!(Side::ALL.map(|side| side as usize), std::array::from_fn(|at| at));
        let labels: std::collections::BTreeSet<_> =
            Made::ALL.map(|made| (made.result(), made.detail())).into();
        assert_eq!(labels.len(), Made::ALL.len(), "two have the same labels: {labels:?}");
    }

    #[test]
    fn the_ratio_is_of_what_the_cache_might_have_answered() {
        let figures = Figures::default();
        assert_eq!(figures.sums().hit_ratio(), None);
        for (made, times) in [
            (Made::Fresh(Level::Memory), 2),
            (Made::Stale(Level::Redis), 1),
            (Made::Missed(Forwarded::UriMiss), 1),
            (Made::Passed(Forwarded::Method), 5),
            (Made::Refused, 7),
            (Made::Failed, 1),
        ] {
            for _ in 0..times {
                figures.answered(made, Duration::ZERO);
            }
        }
        let sums = figures.sums();
        assert_eq!(sums, Sums { hits: 3, misses: 1, forwarded: 7 });
        assert_eq!(sums.hit_ratio(), Some(0.75));
        assert_eq!(sums.saved(7), 3);
        assert_eq!(sums.saved(8), 2, "what was stale was asked for anew");
        assert_eq!((sums.saved(6), sums.saved(100)), (3, 0));
    }

    #[test]
    fn a_connection_counts_until_it_ends() {
        let figures = Figures::default();
        let open = [figures.connected(), figures.connected()];
        assert_eq!(figures.connections(), 2);
        drop(open);
        assert_eq!(figures.connections(), 0);
    }
}
