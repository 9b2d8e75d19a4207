//! `ApplicationReady`: enough updated pods are available.

use super::*;

const TYPE: &str = condition_type::APPLICATION_READY;

#[test]
fn enough_available_pods_make_the_application_ready() {
    let message = Situation::all_well().shows(TYPE, "True Available");
    assert_eq!(message, "2 updated pods available, at least 2 wanted");
}

#[test]
fn without_a_deployment_it_is_being_created() {
    Situation::new().shows(TYPE, "False Creating");
}

#[test]
fn a_spec_that_the_deployment_controller_has_not_seen_is_rolling_out() {
    let mut status = pods(2);
    status["observedGeneration"] = json!(1);
    Situation::all_well().deployment(2, &status).shows(TYPE, "False RollingOut");
}

#[test]
fn a_number_of_pods_that_the_deployment_controller_has_not_seen_takes_nothing_away() {
    let fixed = json!({ "autoscaling": { "enabled": false }, "replicas": 2 });
    for spec in [json!({}), fixed] {
        for replicas in [1, 5] {
            let situation = Situation::all_well().spec(spec.clone()).just_scaled_to(replicas);
            situation.shows(TYPE, "True Available");
            situation.shows(condition_type::READY, "True Serving");
            situation.shows(condition_type::PROGRESSING, "False Stable");
        }
    }
}

#[test]
fn what_was_wrong_before_the_deployment_controller_has_seen_another_number_of_pods_is_so_still() {
    let lost = Situation::all_well().deployment(2, &pods(1)).just_scaled_to(5);
    lost.shows(TYPE, "False TooFewAvailable");
    lost.shows(condition_type::DEGRADED, "True TooFewAvailable");
}

#[test]
fn pods_that_a_raised_minimum_brings_are_not_lost_before_they_are_made() {
    let raised = json!({ "autoscaling": { "minReplicas": 4 } });
    let situation = Situation::all_well().spec(raised).just_scaled_to(4);
    situation.shows(TYPE, "False RollingOut");
    situation.shows(condition_type::DEGRADED, "False AllWell");
}

#[test]
fn available_pods_of_the_old_template_do_not_count() {
    let rolling = json!({
        "replicas": 3, "updatedReplicas": 1, "readyReplicas": 3, "availableReplicas": 3,
        "conditions": [{ "type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated" }],
    });
    let message = Situation::all_well().deployment(2, &rolling).shows(TYPE, "False RollingOut");
    assert_eq!(message, "1 of 2 updated pods available");
}

#[test]
fn updated_pods_are_counted_as_if_all_available_ones_were_old_as_far_as_possible() {
    let count = |replicas, updated, available| {
        crate::operator::status::application::updated_available(
            &serde_json::from_value(json!({
                "replicas": replicas, "updatedReplicas": updated, "availableReplicas": available,
            }))
            .unwrap(),
        )
    };
    assert_eq!(count(3, 3, 3), 3);
    assert_eq!(count(3, 3, 1), 1);
    assert_eq!(count(4, 2, 3), 1);
    assert_eq!(count(4, 1, 2), 0);
    // The controller counts at slightly different times.
    assert_eq!(count(2, 3, 2), 2);
    assert_eq!(count(0, 0, 0), 0);
}

#[test]
fn a_rollout_past_its_deadline_is_degraded_even_while_old_pods_serve() {
    let stalled = json!({
        "replicas": 3, "updatedReplicas": 1, "availableReplicas": 2,
        "conditions": [{
            "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
            "message": "ReplicaSet \"shop-7\" has timed out progressing.",
        }],
    });
    let situation = Situation::all_well().deployment(2, &stalled);
    let message = situation.shows(TYPE, "False ProgressDeadlineExceeded");
    assert!(message.contains("timed out progressing"), "{message}");
    situation.shows(condition_type::READY, "False ProgressDeadlineExceeded");
    situation.shows(condition_type::DEGRADED, "True ProgressDeadlineExceeded");
    situation.shows(condition_type::PROGRESSING, "False Blocked");
    // Why a pod does not run says more than that time is up.
    let message = situation
        .trouble("app", "ImagePullFailed", "pod shop-7: no such image")
        .shows(TYPE, "False ProgressDeadlineExceeded");
    assert!(message.ends_with("no such image"), "{message}");
}

#[test]
fn a_deadline_that_passed_takes_ready_away_though_enough_updated_pods_are_available() {
    let mut stalled = pods(2);
    stalled["conditions"][0]["reason"] = json!("ProgressDeadlineExceeded");
    Situation::all_well().deployment(3, &stalled).shows(TYPE, "False ProgressDeadlineExceeded");
}

#[test]
fn a_refused_pod_is_told_in_the_servers_words() {
    let refused = json!({
        "replicas": 0,
        "conditions": [{
            "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
            "message": "pods \"shop-7\" is forbidden: exceeded quota: small",
        }],
    });
    let situation = Situation::all_well().deployment(2, &refused);
    let message = situation.shows(TYPE, "False FailedCreate");
    assert!(message.starts_with("0 of 2") && message.ends_with("exceeded quota: small"), "{message}");
    situation.shows(condition_type::DEGRADED, "True FailedCreate");
}

#[test]
fn a_refusal_that_is_over_does_not_count() {
    let over = json!({ "replicas": 0, "conditions": [{ "type": "ReplicaFailure", "status": "False" }] });
    Situation::all_well().deployment(2, &over).shows(TYPE, "False RollingOut");
}

#[test]
fn what_keeps_a_pod_from_running_is_told_in_the_kubelets_words() {
    let rolling = json!({ "replicas": 2, "updatedReplicas": 2 });
    let situation = Situation::all_well().deployment(2, &rolling).trouble(
        "app",
        "CrashLoopBackOff",
        "pod shop-7, container app: back-off",
    );
    let message = situation.shows(TYPE, "False CrashLoopBackOff");
    assert_eq!(message, "0 of 2 updated pods available; pod shop-7, container app: back-off");
    situation.shows(condition_type::DEGRADED, "True CrashLoopBackOff");
}

#[test]
fn a_reason_that_is_not_known_gets_a_general_one() {
    let rolling = json!({ "replicas": 2, "updatedReplicas": 2 });
    Situation::all_well()
        .deployment(2, &rolling)
        .trouble("app", "BrandNewReason", "words")
        .shows(TYPE, "False PodsNotRunning");
}

#[test]
fn a_pod_too_many_in_trouble_does_not_take_ready_away() {
    let situation = Situation::all_well().trouble("app", "CrashLoopBackOff", "words");
    situation.shows(TYPE, "True Available");
    // As many as are wanted are available.
    situation.shows(condition_type::DEGRADED, "False AllWell");
}

#[test]
fn pods_that_the_autoscaler_wants_and_cannot_get_are_a_degradation_of_a_service_that_is_ready() {
    let mut status = pods(2);
    status["conditions"].as_array_mut().unwrap().push(json!({
        "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
        "message": "pods \"shop-9\" is forbidden: exceeded quota: small",
    }));
    let situation = Situation::all_well().deployment(8, &status);
    situation.shows(condition_type::READY, "True Serving");
    let message = situation.shows(condition_type::DEGRADED, "True FailedCreate");
    assert_eq!(message, "2 of 8 pods available; pods \"shop-9\" is forbidden: exceeded quota: small");

    let full =
        Situation::all_well().deployment(8, &pods(2)).trouble("app", "Unschedulable", "no node has room");
    full.shows(condition_type::READY, "True Serving");
    full.shows(condition_type::DEGRADED, "True Unschedulable");
}

#[test]
fn what_hinders_pods_that_the_controller_has_not_judged_yet_is_no_degradation() {
    let mut status = pods(0);
    status["observedGeneration"] = json!(1);
    let situation = Situation::all_well().deployment(2, &status).trouble("app", "Unschedulable", "words");
    situation.shows(TYPE, "False RollingOut");
    situation.shows(condition_type::DEGRADED, "False AllWell");
}

#[test]
fn a_paused_rollout_says_how_to_resume_it() {
    let paused = json!({
        "replicas": 2, "updatedReplicas": 0, "availableReplicas": 2,
        "conditions": [{ "type": "Progressing", "status": "Unknown", "reason": "DeploymentPaused" }],
    });
    let message = Situation::all_well().deployment(2, &paused).shows(TYPE, "False Paused");
    assert!(message.contains("kubectl rollout resume deployment shop"), "{message}");
}

#[test]
fn trouble_of_a_pod_that_is_being_replaced_is_not_told_any_more() {
    let rolling = json!({ "replicas": 3, "updatedReplicas": 1 });
    let of = |template| {
        Situation::all_well().deployment(2, &rolling).trouble_of_template(
            Some(template),
            "app",
            "ImagePullFailed",
            "no such image",
        )
    };
    of(crate::operator::sample::TEMPLATE).shows(TYPE, "False ImagePullFailed");
    of("of-before").shows(TYPE, "False RollingOut");
}

#[test]
fn trouble_of_redis_is_not_the_applications() {
    Situation::all_well()
        .deployment(2, &json!({ "replicas": 2, "updatedReplicas": 2 }))
        .trouble("redis", "CrashLoopBackOff", "words")
        .shows(TYPE, "False RollingOut");
}

#[test]
fn lost_pods_outside_a_rollout_are_a_degradation() {
    let situation = Situation::all_well().deployment(2, &pods(1));
    let message = situation.shows(TYPE, "False TooFewAvailable");
    assert!(message.starts_with("1 of 2"), "{message}");
    situation.shows(condition_type::DEGRADED, "True TooFewAvailable");
    situation.shows(condition_type::READY, "False TooFewAvailable");
}

#[test]
fn a_raised_minimum_waits_for_the_autoscaler_and_blames_no_pod() {
    let situation = Situation::all_well().spec(json!({ "autoscaling": { "minReplicas": 4 } }));
    let message = situation.shows(TYPE, "False ScalingUp");
    assert!(message.starts_with("2 of 4"), "{message}");
    situation.shows(condition_type::DEGRADED, "False AllWell");
    situation.shows(condition_type::PROGRESSING, "True ScalingUp");
}

#[test]
fn a_fixed_number_of_zero_is_ready() {
    let stopped = json!({ "autoscaling": { "enabled": false }, "replicas": 0 });
    let situation = Situation::all_well().spec(stopped).deployment(0, &json!({}));
    situation.shows(TYPE, "True ScaledToZero");
    situation.shows(condition_type::READY, "True Serving");
}

#[test]
fn a_deployment_that_somebody_scaled_to_zero_says_how_to_go_on() {
    let situation = Situation::all_well().deployment(0, &json!({}));
    let message = situation.shows(TYPE, "False ScaledToZero");
    assert!(message.contains("kubectl scale deployment shop --replicas=1"), "{message}");
    situation.shows(condition_type::DEGRADED, "True ScaledToZero");
    situation.shows(condition_type::AUTOSCALING_READY, "False ScaledToZero");
}
