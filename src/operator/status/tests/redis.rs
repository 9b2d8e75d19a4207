//! `RedisReady`: Redis answers; and whether it ever has, which `Ready` needs.

use super::*;
use crate::operator::{external::ExternalState, sample::credentials};

const TYPE: &str = condition_type::REDIS_READY;

/// Redis has answered, and does not now.
fn outage() -> Situation {
    Situation::all_well().after(Situation::all_well().status()).stateful_set("d1", &silent())
}

#[test]
fn a_ready_pod_of_the_newest_template_answers() {
    let situation = Situation::all_well();
    situation.shows(TYPE, "True Available");
    let redis = situation.status().redis.unwrap();
    assert_eq!(redis.endpoint.as_deref(), Some("shop-redis.prod.svc:6379"));
    assert_eq!(redis.answered.as_deref(), Some("d1"));
    assert_eq!(redis.credentials, Some(credentials("first").revision()));
}

#[test]
fn before_its_stateful_set_redis_is_being_created() {
    Situation::new().shows(TYPE, "False Creating");
}

#[test]
fn a_new_redis_is_starting_until_its_first_answer() {
    let situation = Situation::all_well().stateful_set("d1", &silent());
    situation.shows(TYPE, "False Starting");
    situation.shows(condition_type::READY, "False Starting");
    situation.shows(condition_type::PROGRESSING, "True Starting");
    situation.shows(condition_type::DEGRADED, "False AllWell");
}

#[test]
fn a_redis_that_has_answered_and_does_not_now_is_a_degradation_and_leaves_ready() {
    let situation = outage();
    situation.shows(TYPE, "False NotAnswering");
    situation.shows(condition_type::DEGRADED, "True NotAnswering");
    situation.shows(condition_type::READY, "True Serving");
    assert_eq!(situation.status().redis.unwrap().answered.as_deref(), Some("d1"));
}

#[test]
fn another_redis_has_to_answer_anew() {
    let rolled = outage().stateful_set("d2", &silent());
    rolled.shows(TYPE, "False RollingOut");
    rolled.shows(condition_type::READY, "False RollingOut");
}

#[test]
fn the_old_pod_does_not_answer_for_the_new_configuration() {
    for old in [
        json!({ "replicas": 1, "readyReplicas": 1, "updatedReplicas": 1, "observedGeneration": 1,
                "currentRevision": "a", "updateRevision": "a" }),
        json!({ "replicas": 1, "readyReplicas": 1, "updatedReplicas": 0,
                "currentRevision": "a", "updateRevision": "b" }),
        json!({ "replicas": 1, "readyReplicas": 1, "updatedReplicas": 1,
                "currentRevision": "a", "updateRevision": "b" }),
    ] {
        outage().stateful_set("d2", &old).shows(TYPE, "False RollingOut");
    }
}

#[test]
fn a_new_password_is_told_while_it_is_rolled_out() {
    let mut situation = outage().stateful_set("d2", &silent());
    situation.seen.credentials = credentials("second");
    situation.shows(TYPE, "False RotatingPassword");
    let done = situation.stateful_set("d2", &answering());
    done.shows(TYPE, "True Available");
    assert_eq!(done.status().redis.unwrap().credentials, Some(credentials("second").revision()));
}

#[test]
fn auth_switched_off_is_no_new_password() {
    let off = json!({ "redis": { "auth": { "enabled": false } } });
    outage().spec(off).stateful_set("d2", &silent()).shows(TYPE, "False RollingOut");
}

#[test]
fn what_keeps_redis_from_running_is_told_in_the_kubelets_words() {
    let situation = Situation::all_well()
        .stateful_set("d1", &silent())
        .trouble("app", "Unschedulable", "not this")
        .trouble("redis", "ImagePullFailed", "pod shop-redis-0: no such image");
    let message = situation.shows(TYPE, "False ImagePullFailed");
    assert_eq!(message, "pod shop-redis-0: no such image");
    situation.shows(condition_type::READY, "False ImagePullFailed");
    situation.shows(condition_type::DEGRADED, "True ImagePullFailed");
}

#[test]
fn a_refused_pod_is_told_in_the_servers_words_as_long_as_there_is_none() {
    let mut situation = Situation::all_well().stateful_set("d1", &json!({ "replicas": 0 }));
    situation.seen.redis_refusal = Some("exceeded quota".to_owned());
    assert_eq!(situation.shows(TYPE, "False FailedCreate"), "exceeded quota");
    situation.stateful_set("d1", &silent()).shows(TYPE, "False Starting");
}

#[test]
fn a_stateful_set_that_was_deleted_does_not_make_redis_unheard_of() {
    let mut situation = outage();
    situation.seen.stateful_set = crate::operator::seen::Sighting::Absent;
    situation = situation.applying(|applied| {
        applied.stateful_set = Ok(Some(std::sync::Arc::new(stateful_set("d1", &json!({})))));
    });
    situation.shows(condition_type::READY, "True Serving");
}

fn external(state: Option<ExternalState>) -> Situation {
    let spec =
        json!({ "redis": { "mode": "External", "external": { "urlSecretRef": { "name": "cache" } } } });
    let mut situation = Situation::all_well().spec(spec);
    situation.seen.external = state;
    situation
}

fn answered() -> ExternalState {
    ExternalState::Answered { revision: "r1".to_owned(), endpoint: "cache:7000".to_owned() }
}

fn unreachable(revision: &str) -> ExternalState {
    ExternalState::Unreachable {
        revision: revision.to_owned(),
        endpoint: "cache:7000".to_owned(),
        message: "connection refused".to_owned(),
    }
}

#[test]
fn an_external_redis_is_ready_once_it_has_answered() {
    let situation = external(Some(answered()));
    situation.shows(TYPE, "True External");
    situation.shows(condition_type::READY, "True Serving");
    let redis = situation.status().redis.unwrap();
    assert_eq!(redis.endpoint.as_deref(), Some("cache:7000"));
    assert_eq!(redis.answered.as_deref(), Some("r1"));
}

#[test]
fn an_external_redis_is_waited_for() {
    external(Some(ExternalState::Connecting { revision: "r1".to_owned() })).shows(TYPE, "False Connecting");
    external(Some(ExternalState::Unknown)).shows(TYPE, "False ReadingSecret");
    external(None).shows(TYPE, "False ReadingSecret");
    let situation = external(Some(ExternalState::Connecting { revision: "r1".to_owned() }));
    situation.shows(condition_type::READY, "False Connecting");
    situation.shows(condition_type::PROGRESSING, "True Connecting");
}

#[test]
fn an_unreachable_external_redis_is_told_with_its_address_and_the_error() {
    let situation = external(Some(unreachable("r1")));
    let message = situation.shows(TYPE, "False Unreachable");
    assert_eq!(message, "cache:7000 does not answer: connection refused");
    situation.shows(condition_type::READY, "False Unreachable");
    situation.shows(condition_type::DEGRADED, "True Unreachable");
}

#[test]
fn an_external_redis_that_has_answered_keeps_ready() {
    let before = external(Some(answered())).status();
    let again = |state| external(Some(state)).after(before.clone());
    again(unreachable("r1")).shows(condition_type::READY, "True Serving");
    again(unreachable("r2")).shows(condition_type::READY, "False Unreachable");
    let connecting = |revision: &str| ExternalState::Connecting { revision: revision.to_owned() };
    again(connecting("r1")).shows(condition_type::READY, "True Serving");
    again(connecting("r2")).shows(condition_type::READY, "False Connecting");
    // A new leader that has not read the Secret yet.
    again(ExternalState::Unknown).shows(condition_type::READY, "True Serving");
}

#[test]
fn a_missing_url_is_told_with_its_remedy() {
    let missing = ExternalState::NoUrl { reason: "SecretMissing", message: "create it".to_owned() };
    let situation = external(Some(missing)).after(external(Some(answered())).status());
    assert_eq!(situation.shows(TYPE, "False SecretMissing"), "create it");
    situation.shows(condition_type::READY, "False SecretMissing");
    situation.shows(condition_type::DEGRADED, "True SecretMissing");
}
