//! The chart's role against what the operator asked of the API server in all other tests, as
//! their audit logs tell it. Runs after them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeSet;

use support::{AuditEntry, Right, audit_logs, granted_by_the_chart};

/// Clusters of the tests that together make the operator do all that it can, with the step of each.
const NEEDED: [(&str, &str); 3] = [("tests", "operator"), ("faults", "faults"), ("full", "e2e")];

/// Rights that no test uses, and why the role has them.
const EXPLAINED: [(&str, &str, &str, &str); 4] = [
    (
        "cachedservice.dev",
        "cachedservices/finalizers",
        "update",
        "asked by the admission plugin OwnerReferencesPermissionEnforcement, for owner references that block deletion",
    ),
    ("gateway.networking.k8s.io", "httproutes", "get", TAKEN),
    ("networking.k8s.io", "ingresses", "get", TAKEN),
    ("monitoring.coreos.com", "podmonitors", "get", TAKEN),
];
const TAKEN: &str =
    "asked where the name of a child is taken; tests take those of other kinds, by the same code";

/// Every request of the operator to a resource, in all clusters that tests have left running.
fn asked() -> Vec<AuditEntry> {
    let logs = audit_logs();
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(cluster, _)| !logs.iter().any(|log| log.cluster == *cluster))
        .map(|(_, step)| *step)
        .collect();
    assert!(
        missing.is_empty(),
        "the audit logs of these steps are missing: {missing:?}; their clusters have to be there still: tests/run {} access",
        missing.join(" "),
    );
    let asked: Vec<AuditEntry> = logs.iter().flat_map(|log| log.of_the_operator()).collect();
    assert!(asked.len() > 1000, "{} requests of the operator are too few to judge by", asked.len());
    asked
}

fn explained() -> BTreeSet<Right> {
    EXPLAINED.iter().map(|(group, resource, verb, _)| Right::new(group, resource, verb)).collect()
}

#[test]
fn every_verb_that_the_role_grants_was_used_or_is_explained() {
    let granted = granted_by_the_chart();
    let used: BTreeSet<Right> =
        asked().iter().filter(|entry| !entry.is_forbidden()).flat_map(AuditEntry::rights).collect();
    println!(
        "{} rights are granted, {} of them were used",
        granted.len(),
        used.intersection(&granted).count()
    );
    let idle: Vec<&Right> = granted.iter().filter(|right| !used.contains(right)).collect();
    // Where an API server does not stream the list that a watch begins with (1.31, 1.33), it is asked for.
    let is_explained = |right: &Right| right.begins_a_watch(&granted) || explained().contains(right);
    let unexplained: Vec<&&Right> = idle.iter().filter(|right| !is_explained(right)).collect();
    assert!(
        unexplained.is_empty(),
        "the role grants what was never used: take it out of templates/rbac.yaml, test what needs it, or explain it here: {unexplained:#?}"
    );
    // One that chance has used is explained all the same.
    let stale: Vec<Right> = explained().into_iter().filter(|right| !granted.contains(right)).collect();
    assert!(stale.is_empty(), "these are not granted, and need no explanation: {stale:#?}");
}

#[test]
fn nothing_was_asked_that_the_role_does_not_grant() {
    let granted = granted_by_the_chart();
    // Where a test takes a right away, the role of the chart grants it all the same.
    let beyond: BTreeSet<Right> =
        asked().iter().flat_map(AuditEntry::rights).filter(|right| !granted.contains(right)).collect();
    assert!(beyond.is_empty(), "the operator asks for what it may not do: {beyond:#?}");
}
