//! PURE: what the record in a Lease asks of this candidate, and what it writes.
//!
//! The times in a Lease are the clocks of other machines. They are written for
//! people and never read here: a candidate watches with its own monotonic clock
//! for how long the record has not changed.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{api::coordination::v1::LeaseSpec, apimachinery::pkg::apis::meta::v1::MicroTime};
use tokio::time::Instant;

use super::LeaseConfig;

/// The last record seen, and since when it has been seen unchanged.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    spec: LeaseSpec,
    since: Instant,
}

impl Observed {
    /// The same record keeps its first instant; a changed one starts anew.
    pub(super) fn next(before: Option<Self>, spec: &LeaseSpec, now: Instant) -> Self {
        match before {
            Some(before) if before.spec == *spec => before,
            _ => Self { spec: spec.clone(), since: now },
        }
    }
}

/// What to do about a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It bears our identity: renew it. That includes a record which this
    /// identity wrote before a restart of the process.
    Renew,
    /// Nobody holds it, or its holder has been silent for the whole duration.
    Acquire,
    /// Somebody else holds it, at least until the given instant.
    Wait { holder: String, until: Instant },
}

/// Decides about the record seen last.
pub(super) fn decide(seen: &Observed, now: Instant, config: &LeaseConfig) -> Decision {
    let Some(holder) = seen.spec.holder_identity.as_deref().filter(|holder| !holder.is_empty()) else {
        return Decision::Acquire;
    };
    if holder == config.identity {
        return Decision::Renew;
    }
    // The holder counts on the duration that it wrote, not on ours.
    let promised = seen.spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let until = seen.since + promised.map_or(config.duration, Duration::from_secs);
    if now < until { Decision::Wait { holder: holder.to_owned(), until } } else { Decision::Acquire }
}

/// The record of a new holder: everything but the count of transitions begins
/// anew.
pub(super) fn acquired(before: Option<LeaseSpec>, config: &LeaseConfig, clock: Timestamp) -> LeaseSpec {
    let lease_transitions = match &before {
        None => 0,
        Some(before) => before.lease_transitions.unwrap_or(0).saturating_add(1),
    };
    LeaseSpec {
        acquire_time: Some(MicroTime(clock)),
        lease_transitions: Some(lease_transitions),
        ..renewed(before.unwrap_or_default(), config, clock)
    }
}

/// The record of the same holder, later. Fields of others (a strategy, a
/// preferred holder) stay as they are.
pub(super) fn renewed(before: LeaseSpec, config: &LeaseConfig, clock: Timestamp) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(config.identity.clone()),
        lease_duration_seconds: Some(whole_seconds(config.duration)),
        renew_time: Some(MicroTime(clock)),
        ..before
    }
}

/// The record that the next candidate takes at once.
pub(super) fn released(before: LeaseSpec, clock: Timestamp) -> LeaseSpec {
    LeaseSpec { holder_identity: None, renew_time: Some(MicroTime(clock)), ..before }
}

/// Rounded up: others must wait for as long as we count on, or longer.
fn whole_seconds(duration: Duration) -> i32 {
    let seconds = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0));
    i32::try_from(seconds).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> LeaseConfig {
        LeaseConfig {
            namespace: "system".to_owned(),
            name: "operator".to_owned(),
            identity: "me".to_owned(),
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }

    fn held_by(holder: &str) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(20),
            lease_transitions: Some(4),
            acquire_time: Some(MicroTime(Timestamp::UNIX_EPOCH)),
            renew_time: Some(MicroTime(Timestamp::UNIX_EPOCH)),
            ..LeaseSpec::default()
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_record_without_a_holder_is_acquired() {
        let now = Instant::now();
        for spec in [LeaseSpec::default(), held_by("")] {
            assert_eq!(decide(&Observed::next(None, &spec, now), now, &config()), Decision::Acquire);
        }
    }

    #[test]
    fn a_released_record_is_acquired_at_once() {
        let now = Instant::now();
        let record = released(held_by("other"), Timestamp::now());
        assert_eq!(decide(&Observed::next(None, &record, now), now, &config()), Decision::Acquire);
    }

    #[test]
    fn another_holder_has_the_whole_duration_that_it_wrote() {
        let seen_at = Instant::now();
        let seen = Observed::next(None, &held_by("other"), seen_at);
        let until = seen_at + seconds(20);
        let wait = Decision::Wait { holder: "other".to_owned(), until };
        assert_eq!(decide(&seen, seen_at, &config()), wait);
        assert_eq!(decide(&seen, until - Duration::from_nanos(1), &config()), wait);
        assert_eq!(decide(&seen, until, &config()), Decision::Acquire);
    }

    #[test]
    fn a_holder_that_wrote_no_duration_has_ours() {
        let seen_at = Instant::now();
        let record = LeaseSpec { lease_duration_seconds: None, ..held_by("other") };
        let seen = Observed::next(None, &record, seen_at);
        assert!(matches!(decide(&seen, seen_at + seconds(14), &config()), Decision::Wait { .. }));
        assert_eq!(decide(&seen, seen_at + seconds(15), &config()), Decision::Acquire);
    }

    #[test]
    fn any_change_of_the_record_starts_the_wait_anew() {
        let start = Instant::now();
        let before = Observed::next(None, &held_by("other"), start);
        let same = Observed::next(Some(before.clone()), &held_by("other"), start + seconds(19));
        assert_eq!(same.since, start);

        let renewed = LeaseSpec { renew_time: Some(MicroTime(Timestamp::MIN)), ..held_by("other") };
        let after = Observed::next(Some(before), &renewed, start + seconds(19));
        assert!(matches!(decide(&after, start + seconds(38), &config()), Decision::Wait { .. }));
        assert_eq!(decide(&after, start + seconds(39), &config()), Decision::Acquire);
    }

    #[test]
    fn the_clock_of_another_machine_decides_nothing() {
        let now = Instant::now();
        for clock in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
            let record = LeaseSpec {
                acquire_time: Some(MicroTime(clock)),
                renew_time: Some(MicroTime(clock)),
                ..held_by("other")
            };
            let seen = Observed::next(None, &record, now);
            assert!(matches!(decide(&seen, now + seconds(19), &config()), Decision::Wait { .. }), "{clock}");
            assert_eq!(decide(&seen, now + seconds(20), &config()), Decision::Acquire, "{clock}");
        }
    }

    #[test]
    fn our_own_record_is_renewed_after_a_restart() {
        let now = Instant::now();
        let seen = Observed::next(None, &held_by("me"), now);
        assert_eq!(decide(&seen, now, &config()), Decision::Renew);
    }

    #[test]
    fn a_renewal_changes_the_renew_time_and_no_more() {
        let clock = Timestamp::now();
        let record = renewed(held_by("me"), &config(), clock);
        let expected = LeaseSpec {
            renew_time: Some(MicroTime(clock)),
            lease_duration_seconds: Some(15),
            ..held_by("me")
        };
        assert_eq!(record, expected);
    }

    #[test]
    fn an_acquisition_counts_one_transition_and_keeps_the_fields_of_others() {
        let clock = Timestamp::now();
        let before = LeaseSpec { strategy: Some("theirs".to_owned()), ..held_by("other") };
        let record = acquired(Some(before), &config(), clock);
        assert_eq!(record.holder_identity.as_deref(), Some("me"));
        assert_eq!(record.lease_transitions, Some(5));
        assert_eq!(
            (record.acquire_time, record.renew_time),
            (Some(MicroTime(clock)), Some(MicroTime(clock)))
        );
        assert_eq!(record.strategy.as_deref(), Some("theirs"));

        assert_eq!(acquired(None, &config(), clock).lease_transitions, Some(0), "the first holder");
    }

    #[test]
    fn others_are_never_promised_less_than_we_count_on() {
        assert_eq!(whole_seconds(Duration::from_millis(1500)), 2);
        assert_eq!(whole_seconds(seconds(15)), 15);
        assert_eq!(whole_seconds(Duration::MAX), i32::MAX);
    }
}
