//! What is counted of the near-cache.

use std::sync::atomic::{AtomicU64, Ordering};

use super::by_rule::{ByPrefix, ByRule};

/// Counts up.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub(in crate::sidecar::near_cache) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How far it is.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Begins with 0; how far it was.
    pub(super) fn begin_anew(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// Reads that memory may answer, and that went past it.
#[derive(Debug, Default)]
pub struct Passed {
    /// A rule says so.
    pub rule: Count,
    /// Redis does not tell what changes: it refuses to, it is not reached, or there is no place for the user.
    pub untracked: Count,
    /// What Redis has answered to the same before was more than is taken.
    pub large: Count,
}

/// What is counted.
#[derive(Debug, Default)]
pub struct Figures {
    /// Hits and misses of each rule.
    pub by_prefix: ByPrefix,
    /// Reads that were neither.
    pub passed: Passed,
    /// Replies that were stored.
    pub stored: Count,
    /// Replies that were not: something has happened to their keys meanwhile, they are too large, or end too soon.
    pub refused: Count,
    /// Keys that Redis has told to have changed.
    pub pushes: Count,
    /// How often Redis has told that all have.
    pub flushes: Count,
    /// Connections that were lost with what they covered.
    pub lost: Count,
    /// Reads that were answered with what may have changed, as Redis was not reached.
    pub stale: Count,
    /// Changes that were given a TTL.
    pub lasting: Count,
}

impl Figures {
    /// Reads that were answered from memory, and those that were not and may be the next time, of all rules.
    #[must_use]
    pub fn reads(&self) -> (u64, u64) {
        self.by_prefix.sum()
    }

    /// Those of the rule with this number.
    #[must_use]
    pub fn of_rule(&self, number: u16) -> Option<&ByRule> {
        self.by_prefix.of(number)
    }
}
