//! Whether the pods have the sidecar with the caching tiers. PURE.

use super::{NotInForce, Patience, conditions::Verdict};
use crate::{
    api::{CachedServiceStatus, condition_type},
    operator::{apply::Applied, plan::Plan},
};

/// None while no tier is on.
pub(super) fn verdict(
    before: &CachedServiceStatus,
    plan: Result<&Plan, NotInForce>,
    applied: Option<&Applied>,
    patience: Patience,
    application: &Verdict,
) -> Option<Verdict> {
    let is_on = match plan {
        Ok(plan) => plan.sidecar.is_some(),
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
    if plan.is_ok() && application.is_true && application.reason == "Available" {
        return Some(Verdict::yes("CacheServing", format!("{}, each with a sidecar", application.message)));
    }
    Some(application.clone())
}
