//! How long things take, counted without a lock: that of `prometheus-client` has one for each observation.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The upper bounds, in microseconds: from a hit in memory to the time that an application has.
const BOUNDS: [u32; 18] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000,
];

/// How many observations are in which bounds, and their sum.
#[derive(Debug, Default)]
pub struct Histogram {
    /// The last is of what is above all bounds.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

/// A histogram at one moment, in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Counted {
    /// Of all.
    pub sum: f64,
    /// How many there are.
    pub count: u64,
    /// Upper bounds, each with how many are above the one before.
    pub buckets: Vec<(f64, u64)>,
}

impl Histogram {
    /// One more.
    pub fn observe(&self, time: Duration) {
        let bound = BOUNDS.iter().position(|bound| time <= Duration::from_micros(u64::from(*bound)));
        if let Some(bucket) = self.buckets.get(bound.unwrap_or(BOUNDS.len())) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.nanoseconds.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What was observed so far.
    #[must_use]
    pub fn counted(&self) -> Counted {
        let bounds = BOUNDS.iter().map(|bound| f64::from(*bound) / 1e6).chain([f64::INFINITY]);
        let counts = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let buckets: Vec<_> = bounds.zip(counts).collect();
        let nanoseconds = Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed));
        Counted {
            sum: nanoseconds.as_secs_f64(),
            count: buckets.iter().map(|(_, count)| count).sum(),
            buckets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_just_at_a_bound_is_within_it() {
        let histogram = Histogram::default();
        for micros in [50, 51, 1_000, 31_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let Counted { sum, count, buckets } = histogram.counted();
        assert!((sum - 31.001_101).abs() < 1e-9, "{sum}");
        assert_eq!(count, 4);
        let filled: Vec<_> = buckets.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.000_05, 1), (0.000_1, 1), (0.001, 1), (f64::INFINITY, 1)]);
    }
}
