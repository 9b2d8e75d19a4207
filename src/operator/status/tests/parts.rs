//! `Ready`, `Progressing` and `Degraded`: made from the parts and from what was refused.

use super::*;
use crate::operator::plan::{Reference, ReferenceKind};

const READY: &str = condition_type::READY;
const PROGRESSING: &str = condition_type::PROGRESSING;
const DEGRADED: &str = condition_type::DEGRADED;

#[test]
fn all_is_well() {
    let situation = Situation::all_well();
    situation.shows(READY, "True Serving");
    situation.shows(PROGRESSING, "False Stable");
    situation.shows(DEGRADED, "False AllWell");
}

#[test]
fn a_new_service_is_on_its_way() {
    let situation = Situation::new();
    situation.shows(READY, "False Creating");
    situation.shows(PROGRESSING, "True Creating");
    situation.shows(DEGRADED, "False AllWell");
}

#[test]
fn ready_needs_each_of_its_conditions() {
    let everything = Situation::all_well();
    everything.shows(READY, "True Serving");
    everything.deployment(2, &pods(1)).shows(READY, "False TooFewAvailable");
    Situation::all_well().stateful_set("d1", &silent()).shows(READY, "False Starting");
    Situation::all_well().spec(json!({ "progressDeadline": "soon" })).shows(READY, "False InvalidSpec");
    let every_child: [fn(&mut Applied); 20] = [
        |applied| applied.redis_secret = foreign("Secret"),
        |applied| applied.redis_config = foreign("ConfigMap"),
        |applied| applied.redis_service = foreign("Service"),
        |applied| applied.redis_policy = foreign("NetworkPolicy"),
        |applied| applied.redis_claim = foreign("PersistentVolumeClaim"),
        |applied| applied.redis_monitor = foreign("PodMonitor"),
        |applied| applied.app_policy = foreign("NetworkPolicy"),
        |applied| applied.ingress = foreign("Ingress"),
        |applied| applied.http_route = foreign("HTTPRoute"),
        |applied| applied.app_monitor = foreign("PodMonitor"),
        |applied| applied.stateful_set = foreign("StatefulSet"),
        |applied| applied.service = foreign("Service"),
        |applied| applied.peers_service = foreign("Service"),
        |applied| applied.digest_key = foreign("Secret"),
        |applied| applied.sidecar_secret = foreign("Secret"),
        |applied| applied.sidecar_config = foreign("ConfigMap"),
        |applied| applied.service_account = foreign("ServiceAccount"),
        |applied| applied.disruption_budget = foreign("PodDisruptionBudget"),
        |applied| applied.deployment = foreign("Deployment"),
        |applied| applied.autoscaler = foreign("HorizontalPodAutoscaler"),
    ];
    for apply in every_child {
        let situation = Situation::all_well().after(Situation::all_well().status()).applying(apply);
        situation.shows(READY, "False NameTaken");
        situation.shows(PROGRESSING, "False NameTaken");
        situation.shows(DEGRADED, "True NameTaken");
    }
}

#[test]
fn an_invalid_spec_is_told_with_field_and_remedy() {
    let situation = Situation::all_well().spec(json!({ "progressDeadline": "soon" }));
    let message = situation.shows(DEGRADED, "True InvalidSpec");
    assert!(message.starts_with("spec.progressDeadline: ") && message.contains("10m"), "{message}");
    situation.shows(PROGRESSING, "False InvalidSpec");
}

#[test]
fn of_an_invalid_spec_nothing_is_on_its_way() {
    let situation = Situation::new().spec(json!({ "progressDeadline": "soon" }));
    let types =
        [condition_type::APPLICATION_READY, condition_type::REDIS_READY, condition_type::AUTOSCALING_READY];
    for type_ in types {
        situation.shows(type_, "False InvalidSpec");
    }
}

#[test]
fn a_refusal_is_told_in_the_servers_words() {
    let denied = |apply| Situation::all_well().applying(apply);
    let forbidden = denied(|applied| applied.deployment = refused(403, "exceeded quota: small"));
    let message = forbidden.shows(DEGRADED, "True Forbidden");
    assert_eq!(message, "apply Deployment shop: exceeded quota: small");
    forbidden.shows(condition_type::APPLICATION_READY, "False Forbidden");
    denied(|applied| applied.deployment = refused(422, "port 0 is invalid")).shows(READY, "False Refused");
    denied(|applied| applied.service = refused(422, "port 0 is invalid"))
        .shows(condition_type::APPLICATION_READY, "False Refused");
    denied(|applied| applied.redis_secret = refused(422, "too long"))
        .shows(condition_type::REDIS_READY, "False Refused");
}

#[test]
fn all_refusals_of_the_worst_kind_are_told() {
    let situation = Situation::all_well().applying(|applied| {
        applied.redis_config = refused(409, "not now");
        applied.service = refused(422, "first words");
        applied.deployment = refused(422, "second words");
    });
    let message = situation.shows(DEGRADED, "True Refused");
    assert!(message.contains("first words; ") && message.contains("second words"), "{message}");
    assert!(!message.contains("not now"), "{message}");
}

#[test]
fn a_failure_that_passes_is_progress_first_and_a_degradation_when_it_stays() {
    let failing: [fn(&mut Applied); 3] = [
        |applied| applied.deployment = refused(503, "overloaded"),
        |applied| applied.redis_config = refused(503, "overloaded"),
        |applied| applied.autoscaler = refused(503, "overloaded"),
    ];
    for apply in failing {
        let situation = Situation::new().applying(apply);
        situation.shows(PROGRESSING, "True Retrying");
        situation.shows(DEGRADED, "False AllWell");
        situation.shows(READY, "False Retrying");
        let stuck = situation.attempts(3);
        stuck.shows(PROGRESSING, "False Retrying");
        assert!(stuck.shows(DEGRADED, "True Retrying").ends_with("overloaded"));
    }
}

#[test]
fn a_failure_that_passes_does_not_take_ready_away_from_the_generation_that_serves() {
    let apply = |applied: &mut Applied| applied.deployment = refused(409, "changed meanwhile");
    let situation = Situation::all_well().after(Situation::all_well().status()).applying(apply);
    situation.shows(READY, "True Serving");
    situation.shows(condition_type::APPLICATION_READY, "True Available");
    situation.shows(PROGRESSING, "True Retrying");
    situation.shows(DEGRADED, "False AllWell");
    situation.attempts(3).shows(READY, "False Retrying");
}

#[test]
fn a_new_generation_is_not_ready_before_it_is_applied() {
    let apply = |applied: &mut Applied| applied.deployment = refused(409, "changed meanwhile");
    let situation = Situation::all_well().after(Situation::all_well().status()).applying(apply);
    let status = situation.status_in_generation(4);
    for type_ in [READY, condition_type::APPLICATION_READY] {
        assert_eq!(condition(&status, type_).status, "False", "{type_}");
    }
}

#[test]
fn what_waits_for_another_child_is_no_degradation_of_its_own() {
    let situation = Situation::new().applying(|applied| {
        applied.deployment = Err(ChildError::Waiting {
            kind: "Deployment",
            name: "shop".to_owned(),
            what: "the URL of Redis".to_owned(),
        });
    });
    situation.shows(DEGRADED, "False AllWell");
    let message = situation.shows(PROGRESSING, "True Waiting");
    assert_eq!(message, "Deployment shop waits for the URL of Redis");
}

#[test]
fn a_bug_is_told() {
    let situation = Situation::all_well().applying(|applied| {
        let source = serde_json::from_str::<i32>("x").unwrap_err();
        applied.service = Err(ChildError::Serialise { kind: "Service", name: "shop".to_owned(), source });
    });
    situation.shows(DEGRADED, "True OperatorBug");
}

#[test]
fn of_a_spec_that_was_not_applied_the_parts_keep_the_generation_that_they_are_about() {
    let before = Situation::all_well().status();
    let status = Situation::all_well()
        .spec(json!({ "progressDeadline": "soon" }))
        .after(before)
        .status_in_generation(4);
    let about = |type_| condition(&status, type_).observed_generation;
    assert_eq!(about(READY), Some(4));
    assert_eq!(about(condition_type::APPLICATION_READY), Some(3));
    assert_eq!(about(condition_type::REDIS_READY), Some(3));
    assert_eq!(about(condition_type::AUTOSCALING_READY), Some(3));
}

#[test]
fn what_could_not_be_read_is_told_and_takes_nothing_away() {
    let before = Situation::all_well().status();
    let look = |code: u16, attempts| {
        let answer =
            kube::core::Status { code, message: "words".to_owned(), ..kube::core::Status::default() };
        let source = kube::Error::Api(Box::new(answer));
        let failure = Error::Read { what: "Service shop".to_owned(), source };
        let status = blind(&service(json!({})), &before, &failure, attempts, time("2026-01-01T00:00:00Z"));
        let shown = |type_| {
            let condition = condition(&status, type_);
            format!("{} {}", condition.status, condition.reason)
        };
        assert_eq!(status.replicas, before.replicas);
        [shown(READY), shown(DEGRADED), shown(PROGRESSING)]
    };
    assert_eq!(look(403, 0), ["True Serving", "True Forbidden", "False Forbidden"]);
    assert_eq!(look(503, 0), ["True Serving", "False AllWell", "True Retrying"]);
    assert_eq!(look(503, 3), ["True Serving", "True Retrying", "False Retrying"]);
}

#[test]
fn what_may_be_old_is_told_and_takes_nothing_away() {
    let mut situation = Situation::all_well();
    situation.seen.interrupted = Some("the operator cannot watch: Pod".to_owned());
    situation.shows(READY, "True Serving");
    situation.shows(DEGRADED, "True WatchInterrupted");
}

#[test]
fn what_cannot_be_read_is_told_and_takes_nothing_away() {
    let mut situation = Situation::all_well();
    let settings = Reference { kind: ReferenceKind::ConfigMap, name: "settings".to_owned() };
    situation.seen.references = [(settings, Content::Unreadable("forbidden".to_owned()))].into();
    situation.shows(READY, "True Serving");
    situation.shows(DEGRADED, "True ReferenceUnreadable");
}
