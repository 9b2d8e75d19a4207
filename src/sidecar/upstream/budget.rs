//! How many requests may be repeated. PURE.
//!
//! Repetitions help where one of many replicas fails, and make it worse where all do. So they are bounded
//! by a share of the requests of the last seconds; the times are durations since any fixed point.

use std::time::Duration;

use crate::settings::balancing::RetryBudget;

/// The share is of the requests of so many seconds: a replica that dies gives back all that it had at once.
const SECONDS: usize = 10;

/// What was asked and repeated in the last seconds.
#[derive(Clone, Debug)]
pub struct Budget {
    limits: RetryBudget,
    /// Of each second, the requests and the repetitions among them.
    seconds: [(u32, u32); SECONDS],
    present: u64,
}

impl Budget {
    /// Nothing was asked yet.
    #[must_use]
    pub fn new(limits: RetryBudget) -> Self {
        Self { limits, seconds: [(0, 0); SECONDS], present: 0 }
    }

    /// Other limits from now on.
    pub fn limit(&mut self, limits: RetryBudget) {
        self.limits = limits;
    }

    /// A request has come.
    pub fn asked(&mut self, now: Duration) {
        let (asked, _) = self.second(now);
        *asked = asked.saturating_add(1);
    }

    /// Whether one may be repeated; it is then counted.
    pub fn may_repeat(&mut self, now: Duration) -> bool {
        self.second(now);
        let add = |(asked, repeated), second: &(u32, u32)| {
            (asked + u64::from(second.0), repeated + u64::from(second.1))
        };
        let (asked, repeated) = self.seconds.iter().fold((0, 0), add);
        let least = u64::from(self.limits.least_per_second) * SECONDS as u64;
        let is_within = repeated < asked * u64::from(self.limits.percent) / 100 + least;
        if is_within {
            self.second(now).1 += 1;
        }
        is_within
    }

    fn second(&mut self, now: Duration) -> &mut (u32, u32) {
        let present = now.as_secs().max(self.present);
        let passed = (present - self.present).min(SECONDS as u64);
        for second in 0..passed {
            self.seconds[index(present - second)] = (0, 0);
        }
        self.present = present;
        &mut self.seconds[index(present)]
    }
}

#[allow(clippy::cast_possible_truncation)]
fn index(second: u64) -> usize {
    (second % SECONDS as u64) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn granted(budget: &mut Budget, wanted: u32, now: u64) -> usize {
        (0..wanted).filter(|_| budget.may_repeat(Duration::from_secs(now))).count()
    }

    #[test]
    fn a_share_of_the_requests_and_a_few_in_any_case() {
        let mut budget = Budget::new(RetryBudget { percent: 20, least_per_second: 3 });
        assert_eq!(granted(&mut budget, 1000, 5), 30);
        for _ in 0..1000 {
            budget.asked(Duration::from_secs(6));
        }
        assert_eq!(granted(&mut budget, 1000, 6), 200);
        assert_eq!(granted(&mut budget, 1000, 15), 30, "those of the fifth second are past");
        assert_eq!(granted(&mut budget, 1000, 16), 0, "and with the sixth its requests");
        assert_eq!(granted(&mut budget, 1000, 1000), 30);
    }

    proptest! {
        #[test]
        fn repetitions_are_within_the_share(
            steps in proptest::collection::vec((0_u64..3, 0_u32..50, 0_u32..50), 1..60)
        ) {
            let mut budget = Budget::new(RetryBudget { percent: 20, least_per_second: 1 });
            let (mut now, mut asked, mut repeated) = (0, 0_u64, 0_u64);
            for (passed, requests, wanted) in steps {
                now += passed;
                asked += u64::from(requests);
                for _ in 0..requests {
                    budget.asked(Duration::from_secs(now));
                }
                repeated += granted(&mut budget, wanted, now) as u64;
            }
            // Each window of ten seconds has its least, and so has the one that began before.
            prop_assert!(repeated <= asked / 5 * 2 + 10 * (now / 10 + 2), "{repeated} of {asked} in {now} s");
        }
    }
}
