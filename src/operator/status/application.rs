//! Whether enough updated pods of the application are available. PURE.

use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus};

use super::{
    NotInForce, Patience, absent,
    conditions::{Verdict, known_reason},
};
use crate::{
    api::names::APP,
    operator::{
        apply::Applied,
        observe::Seen,
        ordered::Ordered,
        plan::{Plan, Replicas},
        seen::SeenDeployment,
        trouble::Trouble,
    },
};

pub(super) fn verdict(
    seen: &Seen,
    plan: Result<&Plan, NotInForce>,
    applied: Option<&Applied>,
    patience: Patience,
    deployment: Option<&SeenDeployment>,
    ordered: Option<&Ordered>,
) -> Verdict {
    if let Some(applied) = applied {
        let failures = [
            applied.service.as_ref().err(),
            applied.peers_service.as_ref().err(),
            applied.app_policy.as_ref().err(),
            applied.ingress.as_ref().err(),
            applied.http_route.as_ref().err(),
            applied.app_monitor.as_ref().err(),
            applied.digest_key.as_ref().err(),
            applied.service_account.as_ref().err(),
            applied.disruption_budget.as_ref().err(),
            applied.deployment.as_ref().err(),
        ];
        if let Some(verdict) = patience.verdict(&failures) {
            return verdict;
        }
    }
    let Some(deployment) = deployment else {
        return absent(plan, "Deployment");
    };
    let status = &deployment.status;
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let least = plan.map_or(wanted, |plan| plan.replicas.least());
    if wanted == 0 {
        return at_zero(plan, deployment);
    }
    if !Ordered::is_observed(ordered, deployment) {
        return Verdict::not_yet(
            "RollingOut",
            "the Deployment controller has not seen the newest spec yet".to_owned(),
        );
    }
    let updated = updated_available(status);
    let trouble = trouble(seen, deployment);
    let progress = condition(status, "Progressing");
    if let Some(stalled) =
        progress.filter(|condition| condition.reason.as_deref() == Some("ProgressDeadlineExceeded"))
    {
        let words =
            trouble.map_or_else(|| stalled.message.clone().unwrap_or_default(), |t| t.message.clone());
        return Verdict::no(
            "ProgressDeadlineExceeded",
            format!("{updated} of {least} updated pods available; {words}"),
        );
    }
    if updated >= least {
        return Verdict::yes(
            "Available",
            format!("{updated} updated pods available, at least {least} wanted"),
        );
    }
    let count = format!("{updated} of {least} updated pods available");
    if let Some((reason, words)) = hindrance(seen, deployment) {
        return Verdict::no(reason, format!("{count}; {words}"));
    }
    if progress.is_some_and(|condition| condition.reason.as_deref() == Some("DeploymentPaused")) {
        let name = deployment.metadata.name.clone().unwrap_or_default();
        return Verdict::no(
            "Paused",
            format!("{count}; somebody paused the Deployment: kubectl rollout resume deployment {name}"),
        );
    }
    if wanted < least {
        return Verdict::not_yet(
            "ScalingUp",
            format!("{count}; the autoscaler has not raised the Deployment to {least} pods yet"),
        );
    }
    let complete =
        progress.is_some_and(|condition| condition.reason.as_deref() == Some("NewReplicaSetAvailable"));
    // With fewer pods than are needed, more are being made.
    if complete && status.replicas.unwrap_or_default() >= least {
        // Nothing is being rolled out: pods were lost or fail their probe.
        return Verdict::no(
            "TooFewAvailable",
            format!("{count}; see kubectl describe of the pods that are not ready"),
        );
    }
    Verdict::not_yet("RollingOut", count)
}

/// What keeps pods from running that are wanted beyond those the service needs to be ready.
pub(super) fn shortage(seen: &Seen, deployment: &SeenDeployment) -> Option<Verdict> {
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let available = deployment.status.available_replicas.unwrap_or_default();
    let (reason, words) = hindrance(seen, deployment).filter(|_| available < wanted)?;
    Some(Verdict::yes(reason, format!("{available} of {wanted} pods available; {words}")))
}

/// What keeps pods of the present template from running, and why in the words of Kubernetes.
fn hindrance(seen: &Seen, deployment: &SeenDeployment) -> Option<(&'static str, String)> {
    let refused = condition(&deployment.status, "ReplicaFailure")
        .filter(|condition| condition.status.as_deref() == Some("True"));
    if let Some(refused) = refused {
        return Some(("FailedCreate", refused.message.clone().unwrap_or_default()));
    }
    let trouble = trouble(seen, deployment)?;
    Some((known_reason(&trouble.reason).unwrap_or("PodsNotRunning"), trouble.message.clone()))
}

fn trouble<'a>(seen: &'a Seen, deployment: &SeenDeployment) -> Option<&'a Trouble> {
    // A pod of an earlier template may be what was mended just now.
    let is_present = |template: Option<&str>| template.is_none() || template == deployment.template();
    seen.troubles.iter().find(|trouble| trouble.component == APP && is_present(trouble.template.as_deref()))
}

fn at_zero(plan: Result<&Plan, NotInForce>, deployment: &SeenDeployment) -> Verdict {
    let name = deployment.metadata.name.clone().unwrap_or_default();
    match plan.map(|plan| &plan.replicas) {
        Ok(Replicas::Fixed(0)) => Verdict::yes("ScaledToZero", "spec.replicas is 0".to_owned()),
        _ => Verdict::no(
            "ScaledToZero",
            format!(
                "somebody scaled the Deployment to 0, which switches the autoscaler off; kubectl scale deployment {name} --replicas=1 switches it on again"
            ),
        ),
    }
}

/// Pods of the newest template that are available. A Deployment counts available
/// pods of all templates together: as many as possible may be old ones.
pub(super) fn updated_available(status: &DeploymentStatus) -> i32 {
    let old = status.replicas.unwrap_or_default() - status.updated_replicas.unwrap_or_default();
    (status.available_replicas.unwrap_or_default() - old.max(0)).max(0)
}

fn condition<'a>(status: &'a DeploymentStatus, type_: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_.as_deref() == Some(type_))
}
