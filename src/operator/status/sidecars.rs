//! What the sidecars tell, and what is wrong with them. PURE.

use super::{NotInForce, conditions::Verdict};
use crate::{
    api::{NearCacheStatus, SidecarsStatus, condition_type},
    operator::{
        observe::Seen,
        plan::Plan,
        seen::SeenDeployment,
        sidecars::reading::{Asked, Reading, Sum, near_sum, sum, two_digits},
    },
    settings::digest,
};

/// Nobody can listen there from another pod.
pub(super) const LOCAL_ONLY: &str = "ApplicationIsLocalOnly";

/// What they tell together; None where none runs.
pub(super) fn told(plan: Result<&Plan, NotInForce>, seen: &Seen) -> Option<SidecarsStatus> {
    let before = seen.status.sidecars.as_ref();
    let (wanted, is_cached, is_near) = match plan {
        Ok(plan) => (
            Some(digest(&plan.sidecar.as_ref()?.settings)),
            plan.spec.http_cache().is_some(),
            plan.spec.near_cache().is_some(),
        ),
        // Of what runs, it is known from the time before: a cache of responses has told what it has saved.
        Err(_) => (
            before.and_then(|before| before.settings.clone()),
            seen.status.conditions.iter().any(|known| known.type_ == condition_type::CACHE_READY)
                && before.is_none_or(|before| before.saved_requests.is_some()),
            true,
        ),
    };
    let Some(asked) = known(seen) else {
        // Who has loaded other settings is not known from before.
        let before = before?;
        let settings_loaded = before.settings_loaded.clone().filter(|_| before.settings == wanted);
        return Some(SidecarsStatus { settings_loaded, settings: wanted, ..before.clone() });
    };
    if asked.is_empty() {
        return None;
    }
    let loaded = wanted.as_ref().map(|wanted| {
        let loaded = readings(asked).filter(|(_, told)| told.settings == *wanted).count();
        format!("{loaded}/{}", asked.len())
    });
    let sum = sum(asked);
    Some(SidecarsStatus {
        hit_ratio: hit_ratio(sum, before.and_then(|before| before.hit_ratio.as_ref())).filter(|_| is_cached),
        saved_requests: is_cached.then(|| rounded(sum.saved)),
        near_cache: near_sum(asked).filter(|_| is_near).map(|sum| near_cache(sum, before)),
        settings_loaded: loaded,
        settings: wanted,
    })
}

/// Those that were asked; None where nobody knows what they would tell, as they were not asked since the operator
/// has started, or none answers.
fn known(seen: &Seen) -> Option<&[Asked]> {
    let asked = seen.sidecars.as_deref()?;
    (asked.is_empty() || readings(asked).next().is_some()).then_some(asked)
}

/// To a point, and what was told before as long as it is less than one off: a figure that trembles is not
/// worth a write.
fn hit_ratio(sum: Sum, before: Option<&String>) -> Option<String> {
    let permille = sum.permille()?;
    let told = before.and_then(|before| before.strip_suffix('%')?.parse::<u64>().ok());
    let steady = told.filter(|told| permille.abs_diff(told.saturating_mul(10)) < 10);
    Some(format!("{}%", steady.unwrap_or((permille + 5) / 10)))
}

fn near_cache(sum: Sum, before: Option<&SidecarsStatus>) -> NearCacheStatus {
    let before = before.and_then(|before| before.near_cache.as_ref()?.hit_ratio.as_ref());
    NearCacheStatus { hit_ratio: hit_ratio(sum, before), saved_reads: rounded(sum.saved) }
}

fn rounded(number: u64) -> i64 {
    i64::try_from(two_digits(number)).unwrap_or(i64::MAX)
}

pub(super) fn readings(asked: &[Asked]) -> impl Iterator<Item = (&str, &Reading)> {
    asked.iter().filter_map(|asked| Some((asked.pod.as_str(), asked.told.as_ref().ok()?)))
}

/// What a person should know of. Of settings, once all pods are of the present template: those of one before
/// cannot take all of them, and leave.
pub(super) fn trouble(
    seen: &Seen,
    application: &Verdict,
    deployment: Option<&SeenDeployment>,
) -> Option<Verdict> {
    let is_settled =
        application.is_true && deployment.is_some_and(|of| of.status.replicas == of.status.updated_replicas);
    let counts = |trouble: &Trouble| is_settled || !trouble.is_of_settings;
    let mut troubles = TROUBLES.iter().filter(|trouble| counts(trouble));
    let Some(asked) = known(seen) else {
        // What was told before holds until they are asked.
        let before = seen
            .status
            .conditions
            .iter()
            .find(|known| known.type_ == condition_type::DEGRADED && known.status == "True")?;
        let trouble = troubles.find(|trouble| trouble.reason == before.reason)?;
        return Some(Verdict::yes(trouble.reason, before.message.clone()));
    };
    troubles.find_map(|trouble| {
        let (pod, _) = readings(asked).find(|(_, told)| (trouble.is_told)(told))?;
        Some(Verdict::yes(trouble.reason, format!("the sidecar of pod {pod} {}", trouble.words)))
    })
}

/// What a sidecar tells that a person should know of. Its own words have the plugin and its log.
struct Trouble {
    reason: &'static str,
    is_of_settings: bool,
    is_told: fn(&Reading) -> bool,
    words: &'static str,
}

/// The worst first.
const TROUBLES: [Trouble; 4] = [
    Trouble {
        reason: "PurgesRefused",
        is_of_settings: false,
        is_told: |told| told.purges_refused,
        words: "does not take the record of purges in the ConfigMap whose name ends in -purges, and pods that start \
                with it do not become ready; `kubectl cachedservice status` and its log say why",
    },
    Trouble {
        reason: "SettingsRefused",
        is_of_settings: true,
        is_told: |told| told.settings_refused,
        words: "does not take its settings, it goes on with those before; `kubectl cachedservice status` and its \
                log say why",
    },
    Trouble {
        reason: "SettingsUnknown",
        is_of_settings: true,
        is_told: |told| told.settings_unknown,
        words: "is of an older version than some of its settings and leaves them out, `kubectl cachedservice \
                status` says which; restart the rollout for one of the present version (`kubectl rollout restart \
                deployment`)",
    },
    Trouble {
        reason: "SettingsReduced",
        is_of_settings: true,
        is_told: |told| told.settings_reduced,
        words: "was made with less room than its settings ask for now and goes by less, `kubectl cachedservice \
                status` says of what; restart the rollout for pods that have it (`kubectl rollout restart deployment`)",
    },
];

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
