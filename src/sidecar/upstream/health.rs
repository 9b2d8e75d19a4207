//! Whether a replica is well, by what the checks of it say over time. PURE.

/// How many checks it takes to change one's mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Failures one after the other, and it is not well.
    pub unhealthy_after: u32,
    /// Successes one after the other, and it is well again.
    pub healthy_after: u32,
}

/// What the checks said.
#[derive(Clone, Copy, Debug)]
pub struct Health {
    is_healthy: bool,
    has_ever_passed: bool,
    passed_last: bool,
    /// So many checks one after the other said otherwise than `is_healthy`.
    against: u32,
}

impl Default for Health {
    /// Before the first check it is taken for well: the peers that are found are ready.
    fn default() -> Self {
        Self { is_healthy: true, has_ever_passed: false, passed_last: true, against: 0 }
    }
}

impl Health {
    /// A check has passed or not.
    pub fn note(&mut self, has_passed: bool, patience: Patience) {
        self.passed_last = has_passed;
        self.has_ever_passed |= has_passed;
        if has_passed == self.is_healthy {
            self.against = 0;
            return;
        }
        self.against = self.against.saturating_add(1);
        let enough = match has_passed {
            true => patience.healthy_after,
            // Of one that never was well there is nothing to be patient for.
            false if !self.has_ever_passed => 1,
            false => patience.unhealthy_after,
        };
        if self.against >= enough {
            *self = Self { is_healthy: has_passed, against: 0, ..*self };
        }
    }

    /// Whether it is well.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.is_healthy
    }

    /// Whether the last check has passed.
    #[must_use]
    pub fn passed_last(&self) -> bool {
        self.passed_last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { unhealthy_after: 3, healthy_after: 2 };

    fn after(checks: &[bool]) -> bool {
        let mut health = Health::default();
        for check in checks {
            health.note(*check, PATIENCE);
        }
        assert_eq!(health.passed_last(), checks.last().copied().unwrap_or(true));
        health.is_healthy()
    }

    #[test]
    fn it_takes_several_checks_one_after_the_other_to_change() {
        assert!(after(&[]));
        assert!(after(&[true, false, false, true, false, false]));
        assert!(!after(&[true, false, false, false]));
        assert!(!after(&[true, false, false, false, true, false, true]));
        assert!(after(&[true, false, false, false, true, true]));
    }

    #[test]
    fn one_that_never_was_well_is_not_after_its_first_check() {
        assert!(!after(&[false]));
        assert!(after(&[false, true, true]));
    }
}
