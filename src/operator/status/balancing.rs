//! Whether the sidecars spread requests over the replicas. PURE.

use super::{
    NotInForce, Patience,
    conditions::Verdict,
    sidecars::{LOCAL_ONLY, local_only, readings},
};
use crate::{
    api::condition_type,
    operator::{apply::Applied, observe::Seen, plan::Plan},
};

const BALANCING: &str = "Balancing";
const UNREACHABLE: &str = "SidecarsUnreachable";

/// None while balancing is off.
pub(super) fn verdict(
    seen: &Seen,
    plan: Result<&Plan, NotInForce>,
    applied: Option<&Applied>,
    patience: Patience,
    application: &Verdict,
) -> Option<Verdict> {
    let before = seen.status.conditions.iter().find(|known| known.type_ == condition_type::BALANCING_READY);
    let is_on = match plan {
        Ok(plan) => plan.spec.balancing().is_some(),
        // Of what runs, it is known from the time before.
        Err(_) => before.is_some(),
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
    if !(application.is_true && application.reason == "Available") {
        return Some(application.clone());
    }
    let Some(asked) = &seen.sidecars else {
        // Not asked since the operator has started: what they told one before holds until they are.
        let known = [(BALANCING, true), (LOCAL_ONLY, false), (UNREACHABLE, false)];
        let known = before.and_then(|before| {
            let (reason, is_true) = known.into_iter().find(|(reason, _)| *reason == before.reason)?;
            Some(Verdict { is_true, reason, message: before.message.clone(), on_its_way: false })
        });
        let waits =
            || Verdict::not_yet("AwaitingSidecars", "the sidecars have not been asked yet".to_owned());
        return Some(known.unwrap_or_else(waits));
    };
    if let Some(message) = local_only(asked) {
        return Some(Verdict::no(LOCAL_ONLY, message));
    }
    let silent = asked.iter().find_map(|asked| Some((&asked.pod, asked.told.as_ref().err()?)));
    if let Some((pod, why)) = silent.filter(|_| readings(asked).next().is_none()) {
        let message = format!("no sidecar answers the operator, so nobody knows; pod {pod}: {why}");
        return Some(Verdict::no(UNREACHABLE, message));
    }
    let message = "the sidecars spread requests over all replicas".to_owned();
    Some(Verdict::yes(BALANCING, message))
}
