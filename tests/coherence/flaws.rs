//! Histories by hand: what is sound, and each kind of flaw.

use std::time::Duration;

use super::{
    checker::{Bounds, Flaw, Verdict, check},
    history::{By, History, Operation, Seen, Span, What},
};

const MS: u64 = 1_000_000;
const HERE: By = By::Pod(0);
const THERE: By = By::Pod(1);

/// An operation on the one key, in milliseconds.
fn operation(by: By, start: u64, end: u64, what: What) -> Operation {
    Operation {
        session: 0,
        by,
        key: 1,
        span: Span { start: start * MS, end: end * MS },
        what,
        command: "by hand",
    }
}
fn wrote(by: By, start: u64, end: u64, version: u64) -> Operation {
    operation(by, start, end, What::Wrote { version, is_deletion: false })
}
fn deleted(by: By, start: u64, end: u64, version: u64) -> Operation {
    operation(by, start, end, What::Wrote { version, is_deletion: true })
}
fn unresolved(by: By, start: u64, end: u64, version: Option<u64>) -> Operation {
    operation(by, start, end, What::Unresolved { version, is_deletion: false })
}
fn read(by: By, start: u64, end: u64, version: u64) -> Operation {
    operation(by, start, end, What::Read { seen: Seen::Version(version), is_fresh: false })
}
fn fresh(by: By, start: u64, end: u64, version: u64) -> Operation {
    operation(by, start, end, What::Read { seen: Seen::Version(version), is_fresh: true })
}
fn absent(by: By, start: u64, end: u64) -> Operation {
    operation(by, start, end, What::Read { seen: Seen::Absent, is_fresh: false })
}

fn judged(operations: &[Operation]) -> Verdict {
    check(&History { operations: operations.to_vec(), ..History::default() }, Bounds::default())
}

/// The names of the flaws, without those that follow from too few reads for a percentile.
fn flaws(operations: &[Operation]) -> Vec<&'static str> {
    let verdict = judged(operations);
    verdict.flaws.iter().map(name).filter(|name| *name != "too often old").collect()
}

fn name(flaw: &Flaw) -> &'static str {
    match flaw {
        Flaw::NeverWritten { .. } => "never written",
        Flaw::WrittenTwice { .. } => "written twice",
        Flaw::Backwards { .. } => "backwards",
        Flaw::OwnWriteMissed { .. } => "own write missed",
        Flaw::NotFresh { .. } => "not fresh",
        Flaw::TooOld { .. } => "too old",
        Flaw::TooOftenOld { .. } => "too often old",
    }
}

#[test]
fn an_empty_history_is_sound() {
    assert!(judged(&[]).flaws.is_empty());
}

#[test]
fn reads_of_the_newest_version_are_sound() {
    let history = [absent(HERE, 0, 1), wrote(HERE, 2, 3, 1), read(HERE, 4, 5, 1), read(THERE, 4, 5, 1)];
    assert_eq!(flaws(&history), [""; 0]);
}

#[test]
fn a_read_during_a_write_may_see_either_version() {
    let history = [
        wrote(HERE, 0, 1, 1),
        wrote(HERE, 2, 10, 2),
        read(HERE, 3, 4, 1),
        read(HERE, 5, 6, 2),
        fresh(THERE, 3, 4, 1),
    ];
    assert_eq!(flaws(&history), [""; 0]);
}

#[test]
fn a_version_that_nobody_wrote_is_found() {
    assert_eq!(flaws(&[wrote(HERE, 0, 1, 1), read(HERE, 2, 3, 7)]), ["never written"]);
}

#[test]
fn a_read_that_ended_before_its_write_began_is_found() {
    assert_eq!(flaws(&[read(HERE, 0, 1, 1), wrote(HERE, 2, 3, 1)]), ["never written"]);
}

#[test]
fn a_version_whose_reply_was_lost_is_not_one_that_nobody_wrote() {
    assert_eq!(flaws(&[unresolved(HERE, 0, 1, Some(1)), read(THERE, 2, 3, 1)]), [""; 0]);
    assert_eq!(flaws(&[unresolved(HERE, 0, 1, None), read(THERE, 2, 3, 1)]), [""; 0]);
}

#[test]
fn a_write_without_a_reply_need_not_be_seen() {
    assert_eq!(flaws(&[wrote(HERE, 0, 1, 1), unresolved(HERE, 2, 3, Some(2)), read(HERE, 4, 5, 1)]), [""; 0]);
}

#[test]
fn two_writes_of_one_version_are_a_lost_update() {
    assert_eq!(flaws(&[wrote(HERE, 0, 1, 1), wrote(THERE, 0, 1, 1)]), ["written twice"]);
}

#[test]
fn a_pod_that_goes_back_is_found() {
    let history = [wrote(THERE, 0, 1, 1), wrote(THERE, 2, 6, 2), read(HERE, 3, 4, 2), read(HERE, 5, 6, 1)];
    assert_eq!(flaws(&history), ["backwards"]);
}

#[test]
fn reads_at_the_same_time_have_no_order() {
    let history = [wrote(THERE, 0, 1, 1), wrote(THERE, 2, 6, 2), read(HERE, 3, 5, 2), read(HERE, 4, 6, 1)];
    assert_eq!(flaws(&history), [""; 0]);
}

#[test]
fn another_pod_may_be_behind_for_a_while() {
    let history = [wrote(THERE, 0, 1, 1), wrote(THERE, 2, 3, 2), read(THERE, 4, 5, 2), read(HERE, 6, 7, 1)];
    assert_eq!(flaws(&history), [""; 0]);
    assert_eq!(judged(&history).staleness.most, Duration::from_millis(3));
}

#[test]
fn a_pod_that_misses_its_own_write_is_found() {
    assert_eq!(
        flaws(&[wrote(HERE, 0, 1, 1), wrote(HERE, 2, 3, 2), read(HERE, 4, 5, 1)]),
        ["own write missed"]
    );
}

#[test]
fn a_pod_that_misses_its_own_deletion_is_found() {
    assert_eq!(
        flaws(&[wrote(HERE, 0, 1, 1), deleted(HERE, 2, 3, 2), read(HERE, 4, 5, 1)]),
        ["own write missed"]
    );
}

#[test]
fn absence_after_a_write_of_the_same_pod_is_found() {
    assert_eq!(flaws(&[absent(HERE, 0, 1), wrote(HERE, 2, 3, 1), absent(HERE, 4, 5)]), ["own write missed"]);
}

#[test]
fn absence_as_of_any_deletion_that_fits_is_sound() {
    let history = [
        wrote(HERE, 0, 1, 1),
        deleted(THERE, 2, 9, 2),
        absent(HERE, 3, 4),
        wrote(HERE, 10, 11, 3),
        read(HERE, 12, 13, 3),
    ];
    assert_eq!(flaws(&history), [""; 0]);
}

#[test]
fn absence_that_was_seen_binds_what_follows() {
    let history = [
        wrote(THERE, 0, 1, 1),
        read(HERE, 1, 2, 1),
        deleted(THERE, 3, 9, 2),
        absent(HERE, 4, 5),
        read(HERE, 6, 7, 1),
    ];
    assert_eq!(flaws(&history), ["backwards"]);
    // Without the first read it may have been the absence at the beginning.
    assert_eq!(flaws(&[&history[..1], &history[2..]].concat()), [""; 0]);
}

#[test]
fn a_script_or_transaction_that_reads_what_is_old_is_found() {
    assert_eq!(flaws(&[wrote(THERE, 0, 1, 1), wrote(THERE, 2, 3, 2), fresh(HERE, 4, 5, 1)]), ["not fresh"]);
}

#[test]
fn what_is_older_than_a_second_is_found() {
    let history = |end| [wrote(THERE, 0, 1, 1), wrote(THERE, 2, 3, 2), read(HERE, end, end + 1, 1)];
    assert_eq!(flaws(&history(1003)), [""; 0]);
    assert_eq!(flaws(&history(1004)), ["too old"]);
}

#[test]
fn what_expired_more_than_a_second_ago_is_too_old() {
    assert_eq!(
        flaws(&[wrote(HERE, 0, 1, 1), deleted(By::Expiry, 50, 60, 2), read(HERE, 1500, 1501, 1)]),
        ["too old"]
    );
}

#[test]
fn the_age_counts_from_the_first_newer_version_that_was_confirmed() {
    // The second of the newer ones was confirmed first.
    let history =
        [wrote(THERE, 0, 1, 1), wrote(THERE, 2, 900, 2), wrote(THERE, 3, 10, 3), read(HERE, 50, 51, 1)];
    assert_eq!(judged(&history).staleness.most, Duration::from_millis(40));
}

/// A thousand reads after writes from elsewhere, of which so many are 150 ms old.
fn thousand(old: u64) -> Vec<Operation> {
    let mut operations = Vec::new();
    for round in 0..1000 {
        let (start, version) = (round * 1000, round * 2 + 1);
        operations.push(wrote(THERE, start, start + 1, version));
        operations.push(wrote(THERE, start + 2, start + 10, version + 1));
        operations.push(read(
            HERE,
            start + 160,
            start + 161,
            if round < old { version } else { version + 1 },
        ));
    }
    operations
}

#[test]
fn one_old_read_in_a_thousand_is_within_the_bound_and_two_are_not() {
    assert!(judged(&thousand(1)).flaws.is_empty());
    let verdict = judged(&thousand(2));
    assert_eq!(verdict.flaws.iter().map(name).collect::<Vec<_>>(), ["too often old"]);
    assert_eq!(verdict.staleness.p999, Duration::from_millis(150));
    assert_eq!((verdict.staleness.exposed, verdict.staleness.old), (1000, 2));
}

#[test]
fn reads_that_could_not_be_old_do_not_dilute_the_share() {
    let mut operations = thousand(2);
    // Long after any write, and of what only the own pod writes.
    operations.extend((0..100_000).map(|at| read(HERE, 1_100_000 + at * 2, 1_100_001 + at * 2, 2000)));
    assert_eq!(judged(&operations).flaws.iter().map(name).collect::<Vec<_>>(), ["too often old"]);
}

#[test]
fn while_something_is_broken_only_the_wider_bound_holds() {
    let faults = vec![Span { start: 0, end: 2000 * MS }];
    let history = History { operations: thousand(2), faults, ..History::default() };
    assert!(check(&history, Bounds::default()).flaws.is_empty());
    let mut history = history;
    history.operations.push(read(HERE, 2_500_000, 2_500_001, 1));
    let found = check(&history, Bounds::default());
    assert!(found.flaws.iter().any(|flaw| name(flaw) == "too old"), "{found}");
}
