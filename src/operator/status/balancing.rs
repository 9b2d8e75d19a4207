//! Whether the sidecars spread requests over the replicas. PURE.

use super::{
    NotInForce, Patience,
    conditions::Verdict,
    sidecars::{LOCAL_ONLY, local_only, readings},
};
use crate::{
    api::{condition_type, names::SIDECAR_ADMIN_PORT},
    operator::{
        apply::Applied,
        observe::Seen,
        plan::Plan,
        sidecars::reading::{APART, Asked, HOLDS, Peers},
    },
};

const BALANCING: &str = "Balancing";
const UNREACHABLE: &str = "SidecarsUnreachable";
const NOT_PROVEN: &str = "PeersNotProven";
const NOT_TOLD: &str = "PeersNotTold";

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
    // What they told one before holds until they are asked, or until it is sure that it does not.
    let as_before = |known: &[Known], waits: &str| {
        let known = before.and_then(|before| {
            let known = known.iter().find(|known| known.reason == before.reason)?;
            Some((known.verdict)(known.reason, before.message.clone()))
        });
        Some(known.unwrap_or_else(|| Verdict::not_yet("AwaitingSidecars", waits.to_owned())))
    };
    let asked = seen.sidecars.as_deref().unwrap_or_default();
    if asked.is_empty() {
        return as_before(&KNOWN, "the sidecars have not been asked yet");
    }
    if let Some(message) = local_only(asked) {
        return Some(Verdict::no(LOCAL_ONLY, message));
    }
    if readings(asked).next().is_none() {
        let mut silent = asked.iter().filter(|asked| asked.missed >= HOLDS);
        let silent = silent.find_map(|asked| Some((&asked.pod, asked.told.as_ref().err()?)));
        let Some((pod, why)) = silent else {
            return as_before(&KNOWN, "no sidecar has answered yet");
        };
        let message = format!("no sidecar answers the operator, so nobody knows; pod {pod}: {why}");
        return Some(Verdict::no(UNREACHABLE, message));
    }
    if let Some(verdict) = apart(asked) {
        return Some(verdict);
    }
    if readings(asked).any(|(_, told)| told.upstream.peers.is_none_or(Peers::is_one_missing)) {
        let waits = "the sidecars have not all proven to each other yet that they are of this service";
        return as_before(&KNOWN[..3], waits);
    }
    let message = "the sidecars spread requests over all replicas".to_owned();
    Some(Verdict::yes(BALANCING, message))
}

/// What sidecars may have told before, and what came of it.
struct Known {
    reason: &'static str,
    verdict: fn(&'static str, String) -> Verdict,
}

/// First what is about others.
const KNOWN: [Known; 5] = [
    Known { reason: BALANCING, verdict: Verdict::yes },
    Known { reason: NOT_PROVEN, verdict: Verdict::no },
    Known { reason: NOT_TOLD, verdict: Verdict::unknown },
    Known { reason: LOCAL_ONLY, verdict: Verdict::no },
    Known { reason: UNREACHABLE, verdict: Verdict::no },
];

/// A sidecar that has not found the others for long, or does not tell.
fn apart(asked: &[Asked]) -> Option<Verdict> {
    let apart = || asked.iter().filter(|asked| asked.apart >= APART);
    let peers = |asked: &Asked| asked.told.as_ref().ok().map(|told| told.upstream.peers);
    let missing = apart()
        .find_map(|asked| Some((&asked.pod, peers(asked)??)).filter(|(_, peers)| peers.is_one_missing()));
    if let Some((pod, Peers { named, proven, leaving })) = missing {
        let of = named.saturating_sub(leaving);
        let message = format!(
            "of {of} other pods that DNS names, {proven} have proven to the sidecar of pod {pod} that they are of this service; the others get no requests from there. Does a NetworkPolicy let the pods reach each other, at port {SIDECAR_ADMIN_PORT} too? `kubectl cachedservice status` and the sidecar's log say what is wrong"
        );
        return Some(Verdict::no(NOT_PROVEN, message));
    }
    let untold = apart().find(|asked| peers(asked) == Some(None))?;
    let message = format!(
        "the sidecar of pod {} does not tell whether it has found the others, as one of an older version does; restart the rollout for one of the present version (`kubectl rollout restart deployment`)",
        untold.pod
    );
    Some(Verdict::unknown(NOT_TOLD, message))
}
