//! `AutoscalingReady`, and the column of CPU figures.

use super::*;

const TYPE: &str = condition_type::AUTOSCALING_READY;

fn with_condition(type_: &str, status: &str, reason: &str) -> Situation {
    let mut all = following(34);
    let conditions = all["conditions"].as_array_mut().unwrap();
    conditions.retain(|condition| condition["type"] != type_);
    conditions.push(json!({ "type": type_, "status": status, "reason": reason, "message": "words" }));
    Situation::all_well().autoscaler(&all)
}

#[test]
fn an_autoscaler_with_figures_is_active() {
    Situation::all_well().shows(TYPE, "True Active");
}

#[test]
fn before_the_autoscaler_it_is_being_created() {
    Situation::new().shows(TYPE, "False Creating");
}

#[test]
fn an_autoscaler_without_conditions_awaits_figures_and_leaves_ready() {
    let situation = Situation::all_well().autoscaler(&json!({}));
    situation.shows(TYPE, "False AwaitingFigures");
    situation.shows(condition_type::READY, "True Serving");
    situation.shows(condition_type::DEGRADED, "False AllWell");
}

#[test]
fn missing_figures_are_told_in_the_autoscalers_words_and_leave_ready() {
    let situation = with_condition("ScalingActive", "False", "FailedGetContainerResourceMetric");
    assert_eq!(situation.shows(TYPE, "False FailedGetContainerResourceMetric"), "words");
    situation.shows(condition_type::READY, "True Serving");
}

#[test]
fn figures_that_a_creation_misses_are_awaited_until_its_pods_are_there() {
    let reason = "FailedGetContainerResourceMetric";
    let creation = || with_condition("ScalingActive", "False", reason).deployment(2, &rolling());
    let first = creation().status();
    let told = condition(&first, TYPE);
    assert_eq!((told.status.as_str(), told.reason.as_str()), ("False", "AwaitingFigures"));
    creation().after(first.clone()).shows(TYPE, "False AwaitingFigures");
    let with_pods = with_condition("ScalingActive", "False", reason).after(first);
    assert_eq!(with_pods.shows(TYPE, "False FailedGetContainerResourceMetric"), "words");
    // From then on a rollout hides nothing, and nothing else is ever hidden.
    creation().after(with_pods.status()).shows(TYPE, "False FailedGetContainerResourceMetric");
    let wrong = with_condition("ScalingActive", "False", "AmbiguousSelector").deployment(2, &rolling());
    wrong.shows(TYPE, "False AmbiguousSelector");
}

/// The status of a Deployment whose pods are not there yet.
fn rolling() -> Value {
    json!({ "replicas": 2, "updatedReplicas": 2 })
}

#[test]
fn a_scale_that_fails_comes_before_missing_figures() {
    let mut situation = with_condition("AbleToScale", "False", "FailedUpdateScale");
    situation.shows(TYPE, "False FailedUpdateScale");
    situation = with_condition("AbleToScale", "False", "");
    situation.shows(TYPE, "False NotScaling");
}

#[test]
fn pods_that_two_autoscalers_select_are_no_pods_that_do_not_run() {
    with_condition("ScalingActive", "False", "AmbiguousSelector").shows(TYPE, "False AmbiguousSelector");
    with_condition("ScalingActive", "False", "BrandNewReason").shows(TYPE, "False NotScaling");
}

#[test]
fn the_maximum_is_told_and_is_no_failure() {
    with_condition("ScalingLimited", "True", "TooManyReplicas").shows(TYPE, "True AtMaximum");
    with_condition("ScalingLimited", "True", "TooFewReplicas").shows(TYPE, "True Active");
}

#[test]
fn autoscaling_that_is_off_is_ready() {
    let off = json!({ "autoscaling": { "enabled": false }, "replicas": 3 });
    let situation = Situation::all_well().spec(off);
    assert_eq!(situation.shows(TYPE, "True SwitchedOff"), "autoscaling is off; 3 pods are wanted");
    assert_eq!(situation.status().cpu, None);
    assert_eq!(situation.status().replicas_range.as_deref(), Some("3"));
}

#[test]
fn a_refused_autoscaler_is_told_in_the_servers_words() {
    let situation =
        Situation::all_well().applying(|applied| applied.autoscaler = refused(422, "no such metric"));
    assert!(situation.shows(TYPE, "False Refused").ends_with("no such metric"));
    situation.shows(condition_type::APPLICATION_READY, "True Available");
    situation.shows(condition_type::READY, "False Refused");
}

#[test]
fn cpu_is_shown_against_its_target_to_five_points() {
    let cpu = |percent| Situation::all_well().autoscaler(&following(percent)).status().cpu.unwrap();
    for (percent, shown) in [(0, 0), (2, 0), (3, 5), (32, 30), (33, 35), (70, 70), (248, 250), (-7, 0)] {
        assert_eq!(cpu(percent), format!("{shown}%/70%"), "{percent}");
    }
    assert!(cpu(i32::MAX).starts_with("2147483645%"));
}

#[test]
fn cpu_without_figures_is_unknown() {
    let mut without = following(1);
    without["currentMetrics"] = json!([]);
    let situation = Situation::all_well()
        .spec(json!({ "autoscaling": { "targetCPUUtilization": 55 } }))
        .autoscaler(&without);
    assert_eq!(situation.status().cpu.as_deref(), Some("?/55%"));
}

#[test]
fn memory_figures_are_not_taken_for_cpu() {
    let mut both = following(40);
    let memory = json!({ "type": "ContainerResource", "containerResource": {
        "name": "memory", "container": "app", "current": { "averageUtilization": 90 },
    } });
    both["currentMetrics"].as_array_mut().unwrap().insert(0, memory);
    assert_eq!(Situation::all_well().autoscaler(&both).status().cpu.as_deref(), Some("40%/70%"));
}

#[test]
fn a_figure_on_the_edge_between_two_is_not_told_again_and_again() {
    let told = |cpu, before: Situation| {
        let situation = Situation::all_well().autoscaler(&following(cpu)).after(before.status());
        situation.status().cpu.unwrap()
    };
    let at = |cpu| Situation::all_well().autoscaler(&following(cpu));
    assert_eq!(told(3, at(2)), "0%/70%");
    assert_eq!(told(2, at(3)), "5%/70%");
    assert_eq!(told(9, at(3)), "5%/70%");
    assert_eq!(told(10, at(3)), "10%/70%");
}
