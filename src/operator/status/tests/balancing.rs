//! `BalancingReady`: there while balancing is on.

use super::{news::told as news, *};

const BALANCING: &str = condition_type::BALANCING_READY;

fn balanced(asked: Option<Vec<Asked>>) -> Situation {
    Situation::all_well().spec(json!({ "balancing": {} })).asked(asked)
}

fn well(pod: &str) -> Asked {
    told(pod, Reading::default())
}

fn local_only(pod: &str) -> Asked {
    told(pod, Reading { upstream: Upstream { local_only: true }, ..Reading::default() })
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
fn after_a_restart_of_the_operator_it_stays_until_they_are_asked() {
    for asked in [well("a"), local_only("a"), silent_sidecar("a")] {
        let before = balanced(Some(vec![asked])).status();
        assert_eq!(balanced(None).after(before.clone()).status(), before);
    }
}

#[test]
fn a_failure_of_what_the_sidecar_reads_is_told() {
    let situation = balanced(None).applying(|applied| applied.sidecar_config = foreign("ConfigMap"));
    situation.shows(BALANCING, "False NameTaken");
}
