//! `BalancingReady`: there while balancing is on.

use super::{news::told as news, *};

const BALANCING: &str = condition_type::BALANCING_READY;

fn balanced(asked: Option<Vec<Asked>>) -> Situation {
    Situation::all_well().spec(json!({ "balancing": {} })).asked(asked)
}

/// Both of the others are there, or leave.
const ALL: Option<Peers> = Some(Peers { named: 2, proven: 1, leaving: 1 });
const MISSING: Option<Peers> = Some(Peers { named: 2, proven: 1, leaving: 0 });

fn reading(peers: Option<Peers>) -> Reading {
    Reading { upstream: Upstream { local_only: false, peers }, ..Reading::default() }
}

fn well(pod: &str) -> Asked {
    told(pod, reading(ALL))
}

/// A sidecar that told the same in so many rounds.
fn for_rounds(pod: &str, peers: Option<Peers>, rounds: u32) -> Asked {
    let first = told(pod, reading(peers));
    (1..rounds).fold(first, |before, _| Asked::after(Some(&before), pod.to_owned(), Ok(reading(peers))))
}

fn local_only(pod: &str) -> Asked {
    told(pod, Reading { upstream: Upstream { local_only: true, peers: ALL }, ..Reading::default() })
}

fn has_condition(situation: &Situation) -> bool {
    situation.status().conditions.iter().any(|condition| condition.type_ == BALANCING)
}

#[test]
fn it_is_there_only_while_balancing_is_on() {
    let on = balanced(Some(vec![well("a")]));
    assert!(has_condition(&on));
    assert!(!has_condition(&Situation::all_well().after(on.status())));
    let invalid = Situation::all_well().spec(json!({ "progressDeadline": "soon" }));
    assert!(has_condition(&invalid.after(on.status())), "the pods still do it");
}

#[test]
fn it_is_true_once_sidecars_have_told_that_they_reach_the_replicas() {
    balanced(None).shows(BALANCING, "False AwaitingSidecars");
    let situation = balanced(Some(vec![well("a"), silent_sidecar("b")]));
    situation.shows(BALANCING, "True Balancing");
    situation.shows(condition_type::DEGRADED, "False AllWell");
    balanced(Some(vec![well("a")])).deployment(2, &pods(0)).shows(BALANCING, "False TooFewAvailable");
}

#[test]
fn an_application_on_localhost_alone_is_told_with_its_pods_and_as_an_event() {
    let situation = balanced(Some(vec![local_only("shop-a"), well("shop-b"), local_only("shop-c")]));
    let message = situation.shows(BALANCING, "False ApplicationIsLocalOnly");
    assert!(
        message.contains("listen on the pod's address") && message.ends_with("in shop-a, shop-c"),
        "{message}"
    );
    assert_eq!(situation.shows(condition_type::DEGRADED, "True ApplicationIsLocalOnly"), message);
    situation.shows(condition_type::READY, "True Serving");
    let before = balanced(Some(vec![well("shop-a")])).status();
    let events = news(&before, &situation.status(), &[]);
    assert_eq!(events, [format!("Warning Degraded: ApplicationIsLocalOnly: {message}")]);
}

#[test]
fn where_no_sidecar_answers_nobody_knows() {
    let situation = balanced(Some(vec![silent_sidecar("shop-a")]));
    let message = situation.shows(BALANCING, "False SidecarsUnreachable");
    assert!(message.contains("pod shop-a: no answer within 1 s"), "{message}");
    situation.shows(condition_type::DEGRADED, "False AllWell");
}

#[test]
fn one_round_without_an_answer_takes_nothing_away() {
    let once = || Asked::after(None, "shop-a".to_owned(), Err("no answer".to_owned()));
    balanced(Some(vec![once()])).shows(BALANCING, "False AwaitingSidecars");
    let before = balanced(Some(vec![well("shop-a")])).status();
    assert_eq!(balanced(Some(vec![once()])).after(before.clone()).status(), before);
}

#[test]
fn others_that_have_not_proven_who_they_are_for_rounds_are_told_with_what_to_look_at() {
    let message = balanced(Some(vec![well("shop-a"), for_rounds("shop-b", MISSING, 3)]))
        .shows(BALANCING, "False PeersNotProven");
    assert!(message.starts_with("of 2 other pods that DNS names, 1 have proven"), "{message}");
    assert!(message.contains("pod shop-b") && message.contains("NetworkPolicy"), "{message}");
    let once = || balanced(Some(vec![well("shop-a"), for_rounds("shop-b", MISSING, 1)]));
    once().shows(BALANCING, "False AwaitingSidecars");
    let before = balanced(Some(vec![well("shop-a")])).status();
    once().after(before).shows(BALANCING, "True Balancing");
}

#[test]
fn where_older_sidecars_do_not_tell_of_others_nobody_knows() {
    let message = balanced(Some(vec![well("shop-a"), for_rounds("shop-b", None, 3)]))
        .shows(BALANCING, "Unknown PeersNotTold");
    assert!(message.contains("pod shop-b") && message.contains("rollout restart"), "{message}");
}

#[test]
fn after_a_restart_of_the_operator_it_stays_until_they_are_asked() {
    let apart = [for_rounds("a", MISSING, 3), for_rounds("a", None, 3)];
    for asked in [well("a"), local_only("a"), silent_sidecar("a")].into_iter().chain(apart) {
        let before = balanced(Some(vec![asked])).status();
        assert_eq!(balanced(None).after(before.clone()).status(), before);
    }
}

#[test]
fn a_failure_of_what_the_sidecar_reads_is_told() {
    let situation = balanced(None).applying(|applied| applied.sidecar_config = foreign("ConfigMap"));
    situation.shows(BALANCING, "False NameTaken");
}
