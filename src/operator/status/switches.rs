//! What the annotations of a CachedService order, and what has become of it. PURE.

use kube::ResourceExt;

use super::{Patience, Refusal, conditions::Verdict};
use crate::{
    api::{CachedService, Pause, names::PAUSED_ANNOTATION},
    operator::{
        apply::{Act, Applied},
        error::{ChildError, Class},
        observe::{Look, Seen},
    },
};

/// The reason of what is as it is because of a pause.
pub(super) const PAUSED: &str = "PausedByAnnotation";

/// Whether the operator leaves the children as they are, and what it would do otherwise.
pub(super) fn paused(service: &CachedService, applied: Option<&Applied>) -> Verdict {
    let held = "nothing is created, changed or deleted";
    let (reason, meaning) = match service.pause() {
        Pause::Off => return Verdict::no("NotPaused", "the operator is at work on it".to_owned()),
        Pause::On => (PAUSED, format!("{PAUSED_ANNOTATION} is \"true\": {held}")),
        Pause::Unclear(value) => {
            let value: String = value.chars().take(64).collect();
            let counts = format!("counts as \"true\"; write \"true\" or \"false\": {held}");
            ("InvalidAnnotation", format!("{PAUSED_ANNOTATION} is {value:?}, which {counts}"))
        }
    };
    Verdict::yes(reason, told(service, &meaning, applied))
}

fn told(service: &CachedService, meaning: &str, applied: Option<&Applied>) -> String {
    let (name, namespace) = (service.name_any(), service.namespace().unwrap_or_default());
    let go_on = format!("kubectl annotate cachedservice {name} --namespace {namespace} {PAUSED_ANNOTATION}-");
    let pending: Vec<String> = held_back(applied).map(ToString::to_string).collect();
    let state = match applied {
        Some(_) if !pending.is_empty() => format!("; held back: {}", pending.join(", ")),
        Some(applied) if applied.failures().is_empty() => {
            "; all objects are as the spec wants them".to_owned()
        }
        // What else is in the way is told by the other conditions.
        _ => String::new(),
    };
    format!("{meaning}; to go on: {go_on}{state}")
}

/// What stops this generation from being applied, if a pause does. What somebody changed by hand
/// since it was applied does not: that is what one pauses for.
pub(super) fn hindrance(
    service: &CachedService,
    applied: Option<&Applied>,
    patience: Patience,
) -> Option<Refusal> {
    let counts = |failure: &ChildError| match failure {
        ChildError::Paused { act: Act::Created, .. } => true,
        ChildError::Paused { act: Act::Configured | Act::Deleted, .. } => !patience.was_ready,
        _ => false,
    };
    held_back(applied).any(counts).then(|| Refusal {
        reason: PAUSED,
        message: paused(service, applied).message,
        passing: false,
        waiting: false,
        by_choice: true,
    })
}

fn held_back(applied: Option<&Applied>) -> impl Iterator<Item = &ChildError> {
    applied.map(Applied::failures).unwrap_or_default().into_iter().filter(|failure| failure.is_paused())
}

/// The order to reconcile that was carried out last: every name was looked at, and every child
/// applied anew or refused for a reason that stays and is told.
pub(super) fn handled(service: &CachedService, seen: &Seen, applied: Option<&Applied>) -> Option<String> {
    let before = seen.status.last_handled_reconcile_at.clone();
    let Some(applied) = applied.filter(|_| !service.pause().holds()) else { return before };
    let is_new = seen.status.observed_generation.is_none();
    let passes = |failure: &&ChildError| matches!(failure.class(), Class::Transient | Class::Bug);
    let is_done = is_new || (seen.look == Look::Anew && !applied.failures().iter().any(passes));
    service.reconcile_at().filter(|_| is_done).or(before)
}
