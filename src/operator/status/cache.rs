//! Whether the pods have the sidecar with the caching tiers. PURE.

use super::{NotInForce, Patience, conditions::Verdict};
use crate::{
    api::{CachedServiceStatus, condition_type},
    operator::{apply::Applied, plan::Plan, seen::SeenDeployment},
};

/// None while no tier is on.
pub(super) fn verdict(
    before: &CachedServiceStatus,
    plan: Result<&Plan, NotInForce>,
    applied: Option<&Applied>,
    patience: Patience,
    application: &Verdict,
    deployment: Option<&SeenDeployment>,
) -> Option<Verdict> {
    let is_on = match plan {
        Ok(plan) => plan.spec.has_cache(),
        // Of what runs, it is known from the time before.
        Err(_) => before.conditions.iter().any(|known| known.type_ == condition_type::CACHE_READY),
    };
    if !is_on {
        return None;
    }
    if let Some(applied) = applied {
        let failures = [applied.sidecar_secret.as_ref().err(), applied.sidecar_config.as_ref().err()];
        if let Some(verdict) = patience.verdict(&failures) {
            return Some(verdict);
        }
    }
    // The pods of the present template have it, and are not there without it.
    if let Ok(plan) = plan
        && application.is_true
        && application.reason == "Available"
    {
        let message = format!("{}, each with a sidecar{}", application.message, later(plan, deployment));
        return Some(Verdict::yes("CacheServing", message));
    }
    Some(application.clone())
}

/// What the next rollout brings, where an upgrade of the operator has brought another image.
fn later(plan: &Plan, deployment: Option<&SeenDeployment>) -> String {
    let image = plan.sidecar.as_ref().map(|sidecar| sidecar.image.as_str());
    let runs = deployment.and_then(SeenDeployment::sidecar_image);
    match (image, runs) {
        (Some(image), Some(runs)) if image != runs => {
            format!(" of the image {runs}; whatever rolls the pods next brings {image}")
        }
        _ => String::new(),
    }
}
