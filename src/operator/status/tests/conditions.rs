//! What holds for every condition.

use super::*;

#[test]
fn every_condition_is_there_once_and_names_the_generation() {
    for situation in [Situation::all_well(), Situation::new()] {
        let status = situation.status_in_generation(7);
        assert_eq!(status.observed_generation, Some(7));
        let types: Vec<&str> = status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
        assert_eq!(
            types,
            [
                "Ready",
                "Progressing",
                "Degraded",
                "ApplicationReady",
                "RedisReady",
                "AutoscalingReady",
                "Paused",
                "UpToDate"
            ]
        );
        assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(7)));
    }
}

#[test]
fn a_transition_time_stays_until_the_status_of_the_condition_changes() {
    let mut first = Situation::new();
    first.now = time("2026-01-01T00:00:00.75Z");
    let before = first.status();
    let ready = condition(&before, condition_type::READY);
    // Whole seconds, as it is stored.
    assert_eq!(ready.last_transition_time.0, time("2026-01-01T00:00:00Z"));

    let mut later = Situation::all_well().stateful_set("d1", &silent()).after(before);
    later.now = time("2026-01-01T00:01:00Z");
    let other_reason = later.status();
    let still_not_ready = condition(&other_reason, condition_type::READY);
    assert_eq!(still_not_ready.reason, "Starting");
    assert_eq!(still_not_ready.last_transition_time.0, time("2026-01-01T00:00:00Z"));

    let turned = later.stateful_set("d1", &answering()).status();
    let ready = condition(&turned, condition_type::READY);
    assert_eq!(ready.last_transition_time.0, time("2026-01-01T00:01:00Z"));
}

#[test]
fn nothing_new_yields_an_equal_status() {
    let first = Situation::all_well().status();
    let mut later = Situation::all_well().after(first.clone());
    later.now = time("2027-01-01T00:00:00Z");
    assert_eq!(later.status(), first);
}

#[test]
fn a_long_message_is_cut_at_a_character() {
    let long = "é".repeat(3000);
    let situation = Situation::all_well().stateful_set("d1", &silent()).trouble("redis", "Evicted", &long);
    let message = situation.shows(condition_type::REDIS_READY, "False Evicted");
    assert!(message.len() < 1100 && message.ends_with('…'), "{}", message.len());
}

#[test]
fn figures_and_addresses_are_reported() {
    let rolling = json!({ "replicas": 4, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3 });
    let status = Situation::all_well().deployment(5, &rolling).status();
    assert_eq!((status.replicas, status.desired_replicas), (4, 5));
    assert_eq!((status.ready_replicas, status.updated_replicas), (3, 2));
    assert_eq!(status.replicas_ready.as_deref(), Some("3/5"));
    assert_eq!(status.replicas_range.as_deref(), Some("2-10"));
    assert_eq!(status.cpu.as_deref(), Some("35%/70%"));
    assert_eq!(status.address.as_deref(), Some("shop.prod.svc:80"));
}

#[test]
fn an_invalid_spec_keeps_the_figures_of_what_runs() {
    let before = Situation::all_well().status();
    let invalid = Situation::all_well().spec(json!({ "progressDeadline": "soon" })).after(before.clone());
    let status = invalid.status();
    assert_eq!(status.replicas_range, before.replicas_range);
    assert_eq!(status.address, before.address);
    assert_eq!(status.replicas_ready, before.replicas_ready);
    assert_eq!(status.redis.unwrap().answered, before.redis.unwrap().answered);
}

#[test]
fn reasons_and_messages_have_the_form_that_the_api_asks_for() {
    let situations = [
        Situation::all_well(),
        Situation::new(),
        Situation::all_well().spec(json!({ "progressDeadline": "soon" })),
        Situation::all_well().deployment(0, &json!({})),
        Situation::all_well().stateful_set("d1", &silent()),
    ];
    for situation in situations {
        for condition in situation.status().conditions {
            assert!(condition.reason.chars().all(|c| c.is_ascii_alphanumeric()), "{condition:?}");
            assert!(!condition.reason.is_empty() && !condition.message.is_empty(), "{condition:?}");
        }
    }
}
