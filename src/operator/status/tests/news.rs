//! Events: what a person would want to know, once.

use super::{super::publish::news, *};
use crate::operator::apply::{Act, Change};

pub(super) fn told(
    before: &CachedServiceStatus,
    status: &CachedServiceStatus,
    changes: &[Change],
) -> Vec<String> {
    news(before, status, changes)
        .into_iter()
        .map(|news| format!("{} {}: {}", news.type_.as_str(), news.reason, news.note))
        .collect()
}

fn change(act: Act, kind: &'static str) -> Change {
    Change { act, kind, name: "shop".to_owned() }
}

#[test]
fn nothing_new_is_no_news() {
    let status = Situation::all_well().status();
    assert!(told(&status, &status, &[]).is_empty());
}

#[test]
fn a_new_service_that_is_not_ready_yet_is_no_news() {
    assert!(told(&CachedServiceStatus::default(), &Situation::new().status(), &[]).is_empty());
}

#[test]
fn writes_are_told_by_what_was_done() {
    let status = Situation::all_well().status();
    let changes = [
        change(Act::Created, "Deployment"),
        change(Act::Configured, "Secret"),
        change(Act::Corrected, "Service"),
        change(Act::Deleted, "StatefulSet"),
        change(Act::Created, "ConfigMap"),
    ];
    assert_eq!(
        told(&status, &status, &changes),
        [
            "Normal Created: Deployment shop, ConfigMap shop",
            "Normal Configured: Secret shop",
            "Normal Corrected: Service shop",
            "Normal Deleted: StatefulSet shop",
        ]
    );
}

#[test]
fn ready_is_told_when_it_turns() {
    let (before, after) = (Situation::new().status(), Situation::all_well().status());
    assert_eq!(
        told(&before, &after, &[]),
        ["Normal Ready: Serving: 2 updated pods available, at least 2 wanted"]
    );
    let lost = Situation::all_well().deployment(2, &pods(1)).status();
    let told = told(&after, &lost, &[]);
    assert!(told[0].starts_with("Warning NotReady: TooFewAvailable: 1 of 2"), "{told:?}");
    assert!(told[1].starts_with("Warning Degraded: TooFewAvailable: "), "{told:?}");
}

#[test]
fn degraded_is_told_when_it_turns_and_when_its_reason_changes() {
    let well = Situation::all_well().status();
    let bad = |reason, message| {
        Situation::all_well()
            .after(well.clone())
            .stateful_set("d1", &silent())
            .trouble("redis", reason, message)
            .status()
    };
    let (crashing, other_words, evicted) =
        (bad("CrashLoopBackOff", "a"), bad("CrashLoopBackOff", "b"), bad("Evicted", "c"));
    assert_eq!(told(&well, &crashing, &[]), ["Warning Degraded: CrashLoopBackOff: a"]);
    assert!(told(&crashing, &other_words, &[]).is_empty());
    assert_eq!(told(&crashing, &evicted, &[]), ["Warning Degraded: Evicted: c"]);
    assert_eq!(told(&evicted, &well, &[]), ["Normal Recovered: nothing is wrong"]);
}
