//! What is counted of the near-cache.

use std::sync::atomic::{AtomicU64, Ordering};

/// So many rules are counted apart; further ones with the last.
const RULES: usize = 256;

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
}

/// Of the keys of a rule.
#[derive(Debug, Default)]
pub struct ByRule {
    /// Reads that were answered from memory.
    pub hits: Count,
    /// Reads that were not, and may be the next time.
    pub misses: Count,
}

/// What is counted.
#[derive(Debug)]
pub struct Figures {
    by_rule: Box<[ByRule]>,
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

impl Default for Figures {
    fn default() -> Self {
        Self {
            by_rule: (0..RULES).map(|_| ByRule::default()).collect(),
            stored: Count::default(),
            refused: Count::default(),
            pushes: Count::default(),
            flushes: Count::default(),
            lost: Count::default(),
            stale: Count::default(),
            lasting: Count::default(),
        }
    }
}

impl Figures {
    /// Reads that were answered from memory, and those that were not and may be the next time, of all rules.
    #[must_use]
    pub fn reads(&self) -> (u64, u64) {
        let sums = |(hits, misses), rule: &ByRule| (hits + rule.hits.get(), misses + rule.misses.get());
        self.by_rule.iter().fold((0, 0), sums)
    }

    /// Those of the rule with this number.
    #[must_use]
    pub fn of_rule(&self, number: u16) -> Option<&ByRule> {
        self.by_rule.get(usize::from(number).min(RULES - 1))
    }
}
