//! `CacheReady`: there while a tier is on.

use super::*;

const CACHE: &str = condition_type::CACHE_READY;

fn cached() -> Situation {
    Situation::all_well().spec(json!({ "cache": { "http": {} } }))
}

fn has_condition(situation: &Situation) -> bool {
    situation.status().conditions.iter().any(|condition| condition.type_ == CACHE)
}

#[test]
fn it_is_there_only_while_a_tier_is_on() {
    assert!(has_condition(&cached()));
    assert!(!has_condition(&Situation::all_well().after(cached().status())));
    assert!(!has_condition(
        &Situation::all_well().spec(json!({ "cache": { "http": { "enabled": false } } }))
    ));
}

#[test]
fn it_is_there_for_each_tier() {
    let near = |enabled: bool| {
        Situation::all_well().spec(json!({ "cache": { "application": { "enabled": enabled } } }))
    };
    near(true).shows(CACHE, "True CacheServing");
    assert!(!has_condition(&near(false)));
}

#[test]
fn it_is_true_once_enough_pods_have_the_sidecar() {
    let message = cached().shows(CACHE, "True CacheServing");
    assert!(message.contains("2 updated pods available"), "{message}");
    let rolling = json!({ "replicas": 3, "updatedReplicas": 1, "readyReplicas": 3, "availableReplicas": 3 });
    cached().deployment(2, &rolling).shows(CACHE, "False RollingOut");
    cached()
        .trouble("app", "ImagePullFailed", "no such image")
        .deployment(2, &pods(0))
        .shows(CACHE, "False ImagePullFailed");
    Situation::new().spec(json!({ "cache": { "http": {} } })).shows(CACHE, "False Creating");
}

#[test]
fn it_tells_of_an_image_that_waits_for_the_next_rollout() {
    let with = |image: &str| {
        let mut situation = cached();
        let mut live = deployment(2, &pods(2));
        let sidecar = json!([{ "name": "sidecar", "image": image }]);
        live.spec.template.spec.init_containers = serde_json::from_value(sidecar).unwrap();
        situation.seen.deployment = ours(live);
        situation.shows(CACHE, "True CacheServing")
    };
    assert!(
        with("old:1").contains("of the image old:1; whatever rolls the pods next brings"),
        "{}",
        with("old:1")
    );
    assert!(!with("cachedservice-sidecar:v1").contains("image"));
}

#[test]
fn a_failure_of_what_the_sidecar_reads_is_told() {
    let fail: [fn(&mut Applied); 2] = [
        |applied| applied.sidecar_secret = foreign("Secret"),
        |applied| applied.sidecar_config = foreign("ConfigMap"),
    ];
    for apply in fail {
        let situation = cached().applying(apply);
        situation.shows(CACHE, "False NameTaken");
        situation.shows(condition_type::DEGRADED, "True NameTaken");
    }
}

#[test]
fn of_a_spec_that_was_not_applied_it_tells_what_runs() {
    let invalid = json!({ "cache": { "http": {} }, "progressDeadline": "soon" });
    assert!(!has_condition(&Situation::all_well().spec(invalid.clone())));
    let before = cached().status_in_generation(2);
    let situation = Situation::all_well().spec(invalid).after(before);
    let status = situation.status();
    assert_eq!(condition(&status, CACHE).observed_generation, Some(2));
    let without = Situation::all_well().spec(json!({ "progressDeadline": "soon" })).after(cached().status());
    assert!(has_condition(&without), "the pods still have it");
}
