//! What the sidecars tell, and what is wrong with them. PURE.

use super::{NotInForce, conditions::Verdict};
use crate::{
    api::SidecarsStatus,
    operator::{
        observe::Seen,
        plan::Plan,
        seen::SeenDeployment,
        sidecars::reading::{Asked, Reading, Sum, sum, two_digits},
    },
    settings::digest,
};

/// Nobody can listen there from another pod.
pub(super) const LOCAL_ONLY: &str = "ApplicationIsLocalOnly";

/// What they tell together; None where none runs.
pub(super) fn told(plan: Result<&Plan, NotInForce>, seen: &Seen) -> Option<SidecarsStatus> {
    let before = seen.status.sidecars.as_ref();
    // Of what runs, it is known from the time before.
    let Ok(plan) = plan else { return before.cloned() };
    let wanted = digest(&plan.sidecar.as_ref()?.settings);
    let Some(asked) = &seen.sidecars else {
        // Not asked since the operator has started. Who has loaded other settings is not known from before.
        let loaded = |before: &SidecarsStatus| {
            before.settings_loaded.clone().filter(|_| before.settings.as_ref() == Some(&wanted))
        };
        return before
            .map(|before| SidecarsStatus { settings_loaded: loaded(before), ..before.clone() })
            .map(|before| SidecarsStatus { settings: Some(wanted.clone()), ..before });
    };
    if asked.is_empty() {
        return None;
    }
    let loaded = readings(asked).filter(|(_, told)| told.settings == wanted).count();
    let sum = sum(asked);
    let is_cached = plan.spec.http_cache().is_some();
    Some(SidecarsStatus {
        hit_ratio: hit_ratio(sum, before).filter(|_| is_cached),
        saved_requests: is_cached.then(|| i64::try_from(two_digits(sum.saved)).unwrap_or(i64::MAX)),
        settings_loaded: Some(format!("{loaded}/{}", asked.len())),
        settings: Some(wanted),
    })
}

/// To a point, and what was told before as long as it is less than one off: a figure that trembles is not
/// worth a write.
fn hit_ratio(sum: Sum, before: Option<&SidecarsStatus>) -> Option<String> {
    let permille = sum.permille()?;
    let told = before.and_then(|before| before.hit_ratio.as_ref()?.strip_suffix('%')?.parse::<u64>().ok());
    let steady = told.filter(|told| permille.abs_diff(told.saturating_mul(10)) < 10);
    Some(format!("{}%", steady.unwrap_or((permille + 5) / 10)))
}

pub(super) fn readings(asked: &[Asked]) -> impl Iterator<Item = (&str, &Reading)> {
    asked.iter().filter_map(|asked| Some((asked.pod.as_str(), asked.told.as_ref().ok()?)))
}

/// What a person should know of, once all pods are of the present template: those of one before cannot take
/// all settings, and leave.
pub(super) fn trouble(
    seen: &Seen,
    application: &Verdict,
    deployment: Option<&SeenDeployment>,
) -> Option<Verdict> {
    let asked = seen.sidecars.as_ref()?;
    let counts = &deployment?.status;
    if !application.is_true || counts.replicas != counts.updated_replicas {
        return None;
    }
    let refused = readings(asked).find_map(|(pod, told)| Some((pod, told.settings_refused.as_ref()?)));
    refused.map(|(pod, why)| {
        let meaning = "it goes on with those before";
        Verdict::yes(
            "SettingsRefused",
            format!("the sidecar of pod {pod} does not take its settings, {meaning}: {why}"),
        )
    })
}

/// The pods whose applications no other pod can reach, in words.
pub(super) fn local_only(asked: &[Asked]) -> Option<String> {
    let pods: Vec<_> =
        readings(asked).filter(|(_, told)| told.upstream.local_only).map(|(pod, _)| pod).collect();
    let message = || {
        format!(
            "the application listens on localhost alone, so each pod's requests stay with it; have it listen on the pod's address too (0.0.0.0 or [::]); in {}",
            pods.join(", ")
        )
    };
    (!pods.is_empty()).then(message)
}
