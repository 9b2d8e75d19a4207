//! What is told of a purge. PURE.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::pods::Replica;
use crate::api::{COMPLETE, CachePurgeStatus, PendingPod};

/// So many pods that have acknowledged are named, and so many that have not.
const NAMED: usize = 1000;
const NAMED_PENDING: usize = 100;
/// So many of those are named in the message.
const IN_MESSAGE: usize = 3;

/// Why a purge is not yet handed to pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// For programs.
    pub reason: &'static str,
    /// What to do about it.
    pub message: String,
}

/// A purge that was handed to pods.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its number.
    pub epoch: u64,
    /// Who has to acknowledge it.
    pub replicas: &'a [Replica],
    /// Up to which number each pod has acknowledged, by UID.
    pub acknowledged: &'a BTreeMap<String, u64>,
    /// Why a pod did not answer, by UID.
    pub failures: &'a BTreeMap<String, String>,
    /// The tier that it is about, where that is off.
    pub off: Option<&'a str>,
}

/// A purge of which keys are being deleted in Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deleting {
    /// How many were deleted so far.
    pub deleted: u64,
    /// How many were looked at.
    pub searched: u64,
    /// It is over.
    pub is_done: bool,
}

/// The status of a purge that is held up.
#[must_use]
pub fn held(
    before: &CachePurgeStatus,
    generation: Option<i64>,
    held: &Held,
    now: Timestamp,
) -> CachePurgeStatus {
    let condition = (false, held.reason, held.message.clone());
    told(before.clone(), generation, condition, now)
}

/// The status of a purge that was handed to pods.
#[must_use]
pub fn asked(
    before: &CachePurgeStatus,
    generation: Option<i64>,
    asked: &Asked<'_>,
    now: Timestamp,
) -> CachePurgeStatus {
    let has_acknowledged =
        |replica: &&Replica| asked.acknowledged.get(&replica.uid).is_some_and(|epoch| *epoch >= asked.epoch);
    let (done, open): (Vec<_>, Vec<_>) = asked.replicas.iter().partition(has_acknowledged);
    let pending: Vec<_> = open.iter().map(|replica| pending(replica, asked.failures)).collect();
    let progress = format!("{}/{}", done.len(), asked.replicas.len());
    let condition = match asked.off {
        Some(tier) => off(tier),
        None => condition(&done, asked.replicas, &pending),
    };
    let is_complete = condition.0;
    let status = CachePurgeStatus {
        epoch: Some(asked.epoch),
        acknowledged: count(done.len()),
        replicas: count(asked.replicas.len()),
        progress: Some(progress),
        acknowledged_by: done.iter().take(NAMED).map(|replica| replica.name.clone()).collect(),
        pending: pending.into_iter().take(NAMED_PENDING).collect(),
        start_time: before.start_time.clone().or(Some(second(now))),
        completion_time: is_complete.then(|| before.completion_time.clone().unwrap_or(second(now))),
        ..before.clone()
    };
    told(status, generation, condition, now)
}

/// The status of a purge of which keys are being deleted in Redis, or were.
#[must_use]
pub fn deleting(
    before: &CachePurgeStatus,
    generation: Option<i64>,
    progress: &Deleting,
    now: Timestamp,
) -> CachePurgeStatus {
    let Deleting { deleted, searched, is_done } = progress;
    let message = if *is_done {
        format!("{deleted} keys are deleted in Redis; the pods are asked to forget them")
    } else {
        format!("{deleted} keys are deleted in Redis, of about {searched} that were looked at; it goes on")
    };
    let status = CachePurgeStatus {
        deleted_keys: Some(i64::try_from(*deleted).unwrap_or(i64::MAX)),
        deletion_time: is_done.then(|| second(now)),
        start_time: before.start_time.clone().or(Some(second(now))),
        ..before.clone()
    };
    told(status, generation, (false, "Deleting", message), now)
}

/// What becomes of a purge about a tier that is off. It is in the record, for pods that have the tier still, and for
/// what is stored of it where it is on again.
fn off(tier: &str) -> (bool, &'static str, String) {
    let message = format!(
        "{tier} of this CachedService is off, and this purge names something of it; delete the purge and order one without that, or switch {tier} on"
    );
    (false, "TierOff", message)
}

/// Why nothing is deleted in Redis while the near-cache is off.
#[must_use]
pub fn without_near_cache() -> Held {
    let (_, reason, message) = off("cache.application");
    Held { reason, message }
}

fn pending(replica: &Replica, failures: &BTreeMap<String, String>) -> PendingPod {
    let reason = match (replica.address, failures.get(&replica.uid)) {
        (None, _) => "it has no address yet",
        (Some(_), None) => "it was asked a moment ago",
        (Some(_), Some(failure)) => failure,
    };
    PendingPod { pod: replica.name.clone(), reason: reason.to_owned() }
}

fn condition(done: &[&Replica], all: &[Replica], pending: &[PendingPod]) -> (bool, &'static str, String) {
    if all.is_empty() {
        let message = "no pod has a sidecar now; those that start take the purge from the record";
        return (true, "NoPods", message.to_owned());
    }
    let counted = format!("acknowledged by {} of {} pods", done.len(), all.len());
    if pending.is_empty() {
        return (true, "Acknowledged", counted);
    }
    let named = pending.iter().take(IN_MESSAGE).map(|pending| format!("{}: {}", pending.pod, pending.reason));
    let named = named.collect::<Vec<_>>().join("; ");
    let more = match pending.len().saturating_sub(IN_MESSAGE) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    (false, "Waiting", format!("{counted}; the others are asked again and again: {named}{more}"))
}

fn told(
    mut status: CachePurgeStatus,
    generation: Option<i64>,
    (is_complete, reason, message): (bool, &'static str, String),
    now: Timestamp,
) -> CachePurgeStatus {
    let word = if is_complete { "True" } else { "False" };
    let since = status.complete().filter(|before| before.status == word);
    let since = since.map_or_else(|| second(now), |before| before.last_transition_time.clone());
    status.observed_generation = generation;
    status.conditions = vec![Condition {
        type_: COMPLETE.to_owned(),
        status: word.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: since,
    }];
    status
}

/// As the API keeps it: a finer time would come back as another.
fn second(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

fn count(pods: usize) -> i32 {
    i32::try_from(pods).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn replica(name: &str, address: Option<&str>) -> Replica {
        let address = address.map(|text| text.parse().unwrap());
        Replica { name: name.to_owned(), uid: format!("uid-{name}"), address }
    }

    fn of<V: Clone>(entries: &[(&str, V)]) -> BTreeMap<String, V> {
        entries.iter().map(|(name, value)| (format!("uid-{name}"), value.clone())).collect()
    }

    #[test]
    fn who_has_acknowledged_is_counted_and_who_has_not_is_named_with_the_reason() {
        let address = Some("10.0.0.1:9801");
        let replicas =
            [replica("a", address), replica("b", address), replica("c", None), replica("d", address)];
        // An earlier acknowledgement is of an earlier purge.
        let acknowledged = of(&[("a", 9), ("b", 6)]);
        let failures = of(&[("b", "no answer within 1 s".to_owned()), ("c", "old".to_owned())]);
        let progress = Asked {
            epoch: 7,
            replicas: &replicas,
            acknowledged: &acknowledged,
            failures: &failures,
            off: None,
        };
        let status = asked(&CachePurgeStatus::default(), Some(1), &progress, at(10));
        assert_eq!((status.acknowledged, status.replicas, status.epoch), (1, 4, Some(7)));
        assert_eq!(status.progress.as_deref(), Some("1/4"));
        assert_eq!(status.acknowledged_by, ["a"]);
        let pending: Vec<_> =
            status.pending.iter().map(|pod| (pod.pod.as_str(), pod.reason.as_str())).collect();
        assert_eq!(
            pending,
            [
                ("b", "no answer within 1 s"),
                ("c", "it has no address yet"),
                ("d", "it was asked a moment ago")
            ]
        );
        let condition = status.complete().unwrap();
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "Waiting"));
        assert!(condition.message.starts_with("acknowledged by 1 of 4 pods; "), "{}", condition.message);
        assert!(condition.message.contains("b: no answer within 1 s"), "{}", condition.message);
        assert_eq!((&status.start_time, &status.completion_time), (&Some(Time(at(10))), &None));
    }

    #[test]
    fn it_is_complete_when_all_have_acknowledged_or_nobody_is_there() {
        let replicas = [replica("a", None)];
        let acknowledged = of(&[("a", 7), ("gone", 1)]);
        let none = BTreeMap::new();
        let of =
            |replicas| Asked { epoch: 7, replicas, acknowledged: &acknowledged, failures: &none, off: None };
        let before = asked(
            &CachePurgeStatus::default(),
            Some(1),
            &Asked { acknowledged: &BTreeMap::new(), ..of(&replicas) },
            at(10),
        );
        let status = asked(&before, Some(1), &of(&replicas), at(12));
        assert!(status.is_complete() && status.pending.is_empty());
        assert_eq!((&status.start_time, &status.completion_time), (&Some(Time(at(10))), &Some(Time(at(12)))));
        assert_eq!(status.complete().unwrap().last_transition_time, Time(at(12)));
        assert_eq!(status.complete().unwrap().message, "acknowledged by 1 of 1 pods");
        let nobody = asked(&CachePurgeStatus::default(), Some(1), &of(&[]), at(12));
        assert_eq!((nobody.is_complete(), nobody.progress.as_deref()), (true, Some("0/0")));
        assert_eq!(nobody.complete().unwrap().reason, "NoPods");
    }

    #[test]
    fn what_is_about_a_tier_that_is_off_is_not_complete_whoever_acknowledges() {
        let replicas = [replica("a", None)];
        let (acknowledged, none) = (of(&[("a", 7)]), BTreeMap::new());
        for replicas in [&replicas[..], &[]] {
            let off = Some("cache.http");
            let progress = Asked { epoch: 7, replicas, acknowledged: &acknowledged, failures: &none, off };
            let status = asked(&CachePurgeStatus::default(), Some(1), &progress, at(10));
            let condition = status.complete().unwrap();
            assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "TierOff"));
            assert!(condition.message.contains("switch cache.http on"), "{}", condition.message);
            assert_eq!(status.completion_time, None);
        }
    }

    #[test]
    fn a_deletion_tells_how_far_it_is_and_when_it_is_over() {
        let progress = Deleting { deleted: 5, searched: 2000, is_done: false };
        let status = deleting(&CachePurgeStatus::default(), Some(1), &progress, at(10));
        assert_eq!((status.deleted_keys, &status.deletion_time), (Some(5), &None));
        assert_eq!(status.start_time, Some(Time(at(10))));
        let condition = status.complete().unwrap();
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "Deleting"));
        assert!(
            condition.message.starts_with("5 keys are deleted in Redis, of about 2000"),
            "{}",
            condition.message
        );
        let done = Deleting { deleted: 7, is_done: true, ..progress };
        let status = deleting(&status, Some(1), &done, at(12));
        assert_eq!((status.deleted_keys, &status.deletion_time), (Some(7), &Some(Time(at(12)))));
        assert_eq!(status.start_time, Some(Time(at(10))));
    }

    #[test]
    fn a_condition_that_says_the_same_keeps_its_time() {
        let missing = Held { reason: "ServiceNotFound", message: "words".to_owned() };
        let first = held(&CachePurgeStatus::default(), Some(1), &missing, at(10));
        assert_eq!(held(&first, Some(1), &missing, at(20)), first);
        assert_eq!(first.complete().unwrap().status, "False");
        assert_eq!(first.start_time, None);
    }

    #[test]
    fn many_pods_are_counted_and_not_all_named() {
        let replicas: Vec<_> = (0..2000).map(|number| replica(&format!("{number:04}"), None)).collect();
        let acknowledged: BTreeMap<_, _> = replicas[..1500].iter().map(|it| (it.uid.clone(), 7)).collect();
        let none = BTreeMap::new();
        let progress =
            Asked { epoch: 7, replicas: &replicas, acknowledged: &acknowledged, failures: &none, off: None };
        let status = asked(&CachePurgeStatus::default(), Some(1), &progress, at(10));
        assert_eq!((status.acknowledged, status.replicas), (1500, 2000));
        assert_eq!((status.acknowledged_by.len(), status.pending.len()), (NAMED, NAMED_PENDING));
        assert!(status.complete().unwrap().message.ends_with("and 497 more"));
    }
}
