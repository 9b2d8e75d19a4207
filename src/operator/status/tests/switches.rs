//! Pauses and orders to reconcile, and what the status makes of them.

use super::*;
use crate::{
    api::names::{PAUSED_ANNOTATION, RECONCILE_AT_ANNOTATION},
    operator::{apply::Act, observe::Look, seen::Sighting, status::tests::news::told},
};

fn paused(value: &str) -> Situation {
    Situation::all_well().annotated(PAUSED_ANNOTATION, value)
}

fn held_back<K>(act: Act, kind: &'static str) -> Outcome<K> {
    Err(ChildError::Paused { act, kind, name: "shop".to_owned() })
}

#[test]
fn a_service_that_is_not_paused_says_so() {
    Situation::all_well().shows("Paused", "False NotPaused");
    paused("false").shows("Paused", "False NotPaused");
}

#[test]
fn a_pause_shows_in_the_first_line_and_tells_how_to_go_on() {
    let paused = paused("true");
    let message = paused.shows("Ready", "True PausedByAnnotation");
    assert!(message.starts_with("2 updated pods available"), "{message}");
    let message = paused.shows("Paused", "True PausedByAnnotation");
    let command = "kubectl annotate cachedservice shop --namespace prod cachedservice.dev/paused-";
    assert!(message.contains(command), "{message}");
    assert!(message.ends_with("all objects are as the spec wants them"), "{message}");
    paused.shows("Progressing", "False Stable");
    paused.shows("Degraded", "False AllWell");
}

#[test]
fn a_value_that_is_none_holds_and_is_told() {
    for value in ["", "yes", "True", "\n"] {
        let message = paused(value).shows("Paused", "True InvalidAnnotation");
        assert!(message.contains(&format!("is {value:?}, which counts as \"true\"")), "{message}");
    }
}

#[test]
fn a_spec_that_is_held_back_is_not_ready_and_what_runs_is_told_of_the_generation_before() {
    let before = Situation::all_well().status_in_generation(2);
    let situation = paused("true")
        .after(before)
        .applying(|applied| applied.deployment = held_back(Act::Configured, "Deployment"));
    let message = situation.shows("Ready", "False PausedByAnnotation");
    assert!(message.ends_with("held back: Deployment shop would be changed"), "{message}");
    situation.shows("Progressing", "False PausedByAnnotation");
    situation.shows("Degraded", "False AllWell");
    situation.shows("ApplicationReady", "True Available");
    let status = situation.status();
    assert_eq!(condition(&status, "Ready").observed_generation, Some(3));
    assert_eq!(condition(&status, "ApplicationReady").observed_generation, Some(2));
}

#[test]
fn what_was_ready_stays_so_until_an_object_is_missing() {
    let before = Situation::all_well().status();
    let by_hand = |act: fn(&mut Applied)| paused("true").after(before.clone()).applying(act);
    by_hand(|applied| applied.deployment = held_back(Act::Corrected, "Deployment"))
        .shows("Ready", "True PausedByAnnotation");
    by_hand(|applied| applied.deployment = held_back(Act::Configured, "Deployment"))
        .shows("Ready", "True PausedByAnnotation");
    by_hand(|applied| applied.service = held_back(Act::Created, "Service"))
        .shows("Ready", "False PausedByAnnotation");
}

#[test]
fn a_new_service_that_is_paused_is_not_degraded() {
    let situation = Situation::new().annotated(PAUSED_ANNOTATION, "true").applying(|applied| {
        applied.deployment = held_back(Act::Created, "Deployment");
        applied.stateful_set = held_back(Act::Created, "StatefulSet");
    });
    situation.shows("Ready", "False PausedByAnnotation");
    situation.shows("ApplicationReady", "False PausedByAnnotation");
    situation.shows("RedisReady", "False PausedByAnnotation");
    situation.shows("Progressing", "False PausedByAnnotation");
    situation.shows("Degraded", "False AllWell");
}

#[test]
fn what_goes_wrong_during_a_pause_is_told() {
    let situation = paused("true").deployment(2, &pods(0)).trouble("app", "CrashLoopBackOff", "exit code 1");
    situation.shows("Ready", "False CrashLoopBackOff");
    situation.shows("Degraded", "True CrashLoopBackOff");
    let taken = paused("true").applying(|applied| applied.service = foreign("Service"));
    taken.shows("Ready", "False NameTaken");
    let message = taken.shows("Paused", "True PausedByAnnotation");
    assert!(message.ends_with("cachedservice.dev/paused-"), "{message}");
}

#[test]
fn the_begin_and_the_end_of_a_pause_are_told_once() {
    let (running, paused) = (Situation::all_well().status(), paused("true").status());
    let begun = told(&running, &paused, &[]);
    assert!(
        begun.len() == 1 && begun[0].starts_with("Normal Paused: cachedservice.dev/paused is"),
        "{begun:?}"
    );
    assert!(told(&paused, &paused, &[]).is_empty());
    let ended = told(&paused, &running, &[]);
    assert!(ended.len() == 1 && ended[0].starts_with("Normal Resumed: "), "{ended:?}");
}

fn ordered(look: Look) -> Situation {
    let mut situation =
        Situation::all_well().annotated(RECONCILE_AT_ANNOTATION, "now").after(Situation::all_well().status());
    situation.seen.look = look;
    situation
}

fn handled(situation: &Situation) -> Option<String> {
    situation.status().last_handled_reconcile_at
}

#[test]
fn an_order_is_handled_when_every_child_was_looked_at_and_applied() {
    assert_eq!(handled(&ordered(Look::Watches)), None);
    assert_eq!(handled(&ordered(Look::Names)), None);
    assert_eq!(handled(&ordered(Look::Anew)).as_deref(), Some("now"));
}

#[test]
fn a_failure_that_passes_leaves_an_order_open_and_one_that_stays_does_not() {
    let refusing = |apply| ordered(Look::Anew).applying(apply);
    assert_eq!(handled(&refusing(|applied| applied.deployment = refused(503, "busy"))), None);
    let denied = refusing(|applied| applied.deployment = refused(403, "quota"));
    assert_eq!(handled(&denied).as_deref(), Some("now"));
}

#[test]
fn an_order_waits_for_a_valid_spec_and_the_end_of_a_pause() {
    assert_eq!(handled(&ordered(Look::Anew).spec(json!({ "template": { "spec": 1 } }))), None);
    assert_eq!(handled(&ordered(Look::Anew).annotated(PAUSED_ANNOTATION, "true")), None);
}

#[test]
fn a_new_service_has_nothing_to_be_applied_anew() {
    let new = Situation::new().annotated(RECONCILE_AT_ANNOTATION, "now");
    assert!(matches!(new.seen.deployment, Sighting::Absent));
    assert_eq!(handled(&new).as_deref(), Some("now"));
}

#[test]
fn a_long_order_is_shortened() {
    let long = ordered(Look::Anew).annotated(RECONCILE_AT_ANNOTATION, &"ä".repeat(1000));
    assert_eq!(handled(&long), Some("ä".repeat(64)));
}
