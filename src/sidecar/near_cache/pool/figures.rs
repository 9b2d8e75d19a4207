//! How many connections there are, and what they do.

use super::Pool;
use crate::sidecar::near_cache::near::figures::Count;

/// What is counted of the pool.
#[derive(Debug, Default)]
pub struct Figures {
    /// Commands that have waited until a connection was there.
    pub waits: Count,
    /// Connections that were not made, as all were in use for others until the time for that was over.
    pub refused: Count,
}

/// How many connections there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// Those on which a reply is outstanding.
    pub used: usize,
    /// Those with nothing to do.
    pub idle: usize,
    /// Those that are being made.
    pub opening: usize,
    /// So many there may be, with those that fill the memory.
    pub most: u32,
    /// So many there may be beside that are one client's alone.
    pub most_pinned: u32,
}

impl Pool {
    /// What is counted.
    #[must_use]
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// How many connections there are.
    #[must_use]
    pub fn told(&self) -> Lines {
        let limits = *self.limits.read();
        let lines = self.lines.lock();
        let all = || lines.of.values().flat_map(|group| &group.lines);
        let used = all().filter(|kept| kept.line.outstanding() > 0).count();
        let there = all().count();
        Lines {
            used,
            idle: there - used,
            opening: lines.count.saturating_sub(there),
            most: limits.max,
            most_pinned: limits.max_pinned,
        }
    }
}
