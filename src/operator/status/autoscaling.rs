//! Whether the autoscaler works, and its figures. PURE.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerStatus;

use super::{
    NotInForce, Patience, absent,
    conditions::{Verdict, known_reason},
};
use crate::{
    api::{condition_type, names::APP_CONTAINER},
    operator::{
        apply::Applied,
        observe::Seen,
        plan::{Invalid, Plan, Replicas},
        seen::{SeenAutoscaler, SeenDeployment},
    },
};

/// There are no figures yet, which is nobody's fault.
const AWAITING: &str = "AwaitingFigures";
/// That figures of pods are missing, in the autoscaler's words.
const MISSING: [&str; 3] =
    ["FailedGetContainerResourceMetric", "FailedGetPodsMetric", "FailedGetResourceMetric"];

pub(super) fn verdict(
    seen: &Seen,
    plan: Result<&Plan, NotInForce>,
    applied: Option<&Applied>,
    patience: Patience,
    application: &Verdict,
    deployment: Option<&SeenDeployment>,
) -> Verdict {
    let failure = applied.and_then(|applied| applied.autoscaler.as_ref().err());
    if let Some(verdict) = patience.verdict(&[failure]) {
        return verdict;
    }
    if let Ok(Replicas::Fixed(replicas)) = plan.map(|plan| &plan.replicas) {
        return Verdict::yes("SwitchedOff", format!("autoscaling is off; {replicas} pods are wanted"));
    }
    let Some(autoscaler) = autoscaler(seen, applied) else {
        return absent(plan, "HorizontalPodAutoscaler");
    };
    if deployment.and_then(|deployment| deployment.spec.replicas) == Some(0) {
        return Verdict::no(
            "ScaledToZero",
            "the Deployment is scaled to 0, which switches the autoscaler off".to_owned(),
        );
    }
    let status = &autoscaler.status;
    let awaits = Verdict::not_yet(AWAITING, "the autoscaler has no CPU figures yet".to_owned());
    // A creation is not told of what comes with the pods.
    let comes_with_pods = !application.is_true && was_awaited(seen);
    for type_ in ["AbleToScale", "ScalingActive"] {
        if let Some(condition) = condition(status, type_).filter(|condition| condition.status == "False") {
            let reason = condition.reason.as_deref().and_then(known_reason).unwrap_or("NotScaling");
            if comes_with_pods && MISSING.contains(&reason) {
                return awaits;
            }
            return Verdict::no(reason, condition.message.clone().unwrap_or_default());
        }
    }
    if condition(status, "ScalingActive").is_none() {
        return awaits;
    }
    let at_maximum = condition(status, "ScalingLimited").is_some_and(|condition| {
        condition.status == "True" && condition.reason.as_deref() == Some("TooManyReplicas")
    });
    if at_maximum {
        return Verdict::yes(
            "AtMaximum",
            "more pods are wanted than autoscaling.maxReplicas allows".to_owned(),
        );
    }
    Verdict::yes("Active", "the autoscaler follows the load".to_owned())
}

/// Whether nothing but that they are awaited was told of figures so far.
fn was_awaited(seen: &Seen) -> bool {
    let mut told = seen.status.conditions.iter();
    told.find(|told| told.type_ == condition_type::AUTOSCALING_READY)
        .is_none_or(|told| ["Creating", AWAITING].contains(&told.reason.as_str()))
}

/// CPU and its target, both in percent, such as `35%/70%`.
pub(super) fn cpu(plan: &Result<Plan, Invalid>, seen: &Seen, applied: Option<&Applied>) -> Option<String> {
    let Replicas::Autoscaled { autoscaling, .. } = &plan.as_ref().ok()?.replicas else { return None };
    let target = autoscaling.target_cpu_utilization;
    let utilization = autoscaler(seen, applied).and_then(|autoscaler| utilization(&autoscaler.status));
    let before = seen.status.cpu.as_deref();
    let figure = utilization.map_or_else(|| "?".to_owned(), |cpu| format!("{}%", steadied(cpu, before)));
    Some(format!("{figure}/{target}%"))
}

fn autoscaler<'a>(seen: &'a Seen, applied: Option<&'a Applied>) -> Option<&'a SeenAutoscaler> {
    match applied.map(|applied| &applied.autoscaler) {
        Some(Ok(Some(autoscaler))) => Some(autoscaler),
        _ => seen.autoscaler.ours(),
    }
}

fn utilization(status: &HorizontalPodAutoscalerStatus) -> Option<i32> {
    status
        .current_metrics
        .iter()
        .flatten()
        .filter_map(|metric| metric.container_resource.as_ref())
        .find(|metric| metric.name == "cpu" && metric.container == APP_CONTAINER)
        .and_then(|metric| metric.current.average_utilization)
}

/// To 5 points, and what was told `before` as long as it is not more than 4 points off: a
/// figure that trembles is not worth a write, not even on the edge between two of them.
fn steadied(percent: i32, before: Option<&str>) -> i32 {
    let told = before.and_then(|figure| figure.split_once('%')?.0.parse::<i32>().ok());
    told.filter(|told| percent.abs_diff(*told) <= 4)
        .unwrap_or_else(|| percent.max(0).saturating_add(2) / 5 * 5)
}

fn condition<'a>(
    status: &'a HorizontalPodAutoscalerStatus,
    type_: &str,
) -> Option<&'a k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == type_)
}
