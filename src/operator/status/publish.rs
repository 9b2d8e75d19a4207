//! The one write of the status, and the Events that go with it.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::reflector::ObjectRef,
};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    api::{CachedService, CachedServiceStatus, condition_type, names::STATUS_FIELD_MANAGER},
    operator::{
        apply::{Act, Change},
        context::{Context, FIGURES_PERIOD, PROGRESS_PERIOD, Written, digest_of},
        error::Error,
        events::{EventType, News},
    },
};

/// Writes the status if it says something new, and tells what changed as Events.
/// Returns after which time something that was held back is due; but for figures nothing is, unless
/// it `can_wait`.
///
/// # Errors
/// When the API server does not take the status.
pub async fn publish(
    context: &Context,
    service: &CachedService,
    before: &CachedServiceStatus,
    status: CachedServiceStatus,
    changes: &[Change],
    can_wait: bool,
) -> Result<Option<Duration>, Error> {
    let held_back = write(context, service, before, &status, can_wait).await?;
    // Only what the status says too: an Event of a write that failed would come again with the next try.
    announce(context, service, before, &status, changes).await;
    Ok(held_back)
}

async fn write(
    context: &Context,
    service: &CachedService,
    before: &CachedServiceStatus,
    status: &CachedServiceStatus,
    can_wait: bool,
) -> Result<Option<Duration>, Error> {
    let reference = ObjectRef::from_obj(service);
    if before == status {
        return Ok(None);
    }
    let pause = pause_before(status, before);
    // Figures wait in any case: they come again with the next report.
    let pause = if can_wait || pause == FIGURES_PERIOD { pause } else { Duration::ZERO };
    let written = context.remember(&reference, |memory| memory.status_written);
    let due = written.map(|written| pause.saturating_sub(written.elapsed()));
    if let Some(due) = due.filter(|due| !due.is_zero()) {
        return Ok(Some(due));
    }
    let namespace = service.namespace().unwrap_or_default();
    let api: Api<CachedService> = Api::namespaced(context.client.clone(), &namespace);
    let patch = json!({
        "apiVersion": CachedService::api_version(&()),
        "kind": CachedService::kind(&()),
        "metadata": { "name": service.name_any(), "uid": service.uid() },
        "status": status,
    });
    let parameters = PatchParams::apply(STATUS_FIELD_MANAGER).force();
    // Before it is sent: the watch may show it before the answer is here.
    context.remember(&reference, |memory| memory.told = Some(digest_of(status)));
    match api.patch_status(&service.name_any(), &parameters, &Patch::Apply(&patch)).await {
        Ok(answer) => {
            context.remember(&reference, |memory| {
                memory.status_written = Some(Instant::now());
                memory.written = Some(Box::new(Written::now(answer)));
            });
            Ok(None)
        }
        // It was deleted, or deleted and made anew: the watch tells.
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(None),
        Err(error) => Err(Error::Publish(error)),
    }
}

/// How long after the last write this change is written. PURE.
pub(super) fn pause_before(status: &CachedServiceStatus, before: &CachedServiceStatus) -> Duration {
    let mut with_old_figures = CachedServiceStatus { cpu: before.cpu.clone(), ..status.clone() };
    // The first of the sidecars are awaited.
    if let (Some(now), Some(before)) = (&mut with_old_figures.sidecars, &before.sidecars) {
        now.hit_ratio.clone_from(&before.hit_ratio);
        now.saved_requests = before.saved_requests;
        if let (Some(now), Some(before)) = (&mut now.near_cache, &before.near_cache) {
            now.clone_from(before);
        }
    }
    if with_old_figures == *before {
        FIGURES_PERIOD
    } else if without_progress(status) == without_progress(before) {
        PROGRESS_PERIOD
    } else {
        Duration::ZERO
    }
}

/// The status without what changes with each pod that comes or goes: counts, and the words in which
/// a condition tells them.
fn without_progress(status: &CachedServiceStatus) -> CachedServiceStatus {
    let mut status = CachedServiceStatus {
        cpu: None,
        sidecars: None,
        replicas: 0,
        ready_replicas: 0,
        updated_replicas: 0,
        replicas_ready: None,
        ..status.clone()
    };
    for condition in &mut status.conditions {
        condition.message.clear();
    }
    status
}

/// Events are for people: what they would want to know, once.
async fn announce(
    context: &Context,
    service: &CachedService,
    before: &CachedServiceStatus,
    status: &CachedServiceStatus,
    changes: &[Change],
) {
    let reference = service.object_ref(&());
    for news in news(before, status, changes) {
        context.events.tell(&reference, &news).await;
    }
}

/// What a person would want to know. PURE.
pub(super) fn news(
    before: &CachedServiceStatus,
    status: &CachedServiceStatus,
    changes: &[Change],
) -> Vec<News> {
    let written = [
        (Act::Created, "Created", "Create"),
        (Act::Configured, "Configured", "Apply"),
        (Act::Corrected, "Corrected", "Apply"),
        (Act::Deleted, "Deleted", "Delete"),
    ]
    .into_iter()
    .filter_map(|(act, reason, action)| {
        let objects: Vec<String> =
            changes.iter().filter(|change| change.act == act).map(ToString::to_string).collect();
        let note = objects.join(", ");
        (!objects.is_empty()).then_some(News { type_: EventType::Normal, reason, action, note })
    });
    let turns = [condition_type::READY, condition_type::DEGRADED].into_iter().filter_map(|type_| {
        let now = condition(status, type_)?;
        let was = condition(before, type_);
        let was_true = was.as_ref().is_some_and(|was| was.status == "True");
        let is_true = now.status == "True";
        let is_another = || was.is_some_and(|was| was.reason != now.reason);
        let turned = was_true != is_true || (type_ == condition_type::DEGRADED && is_true && is_another());
        let (event_type, reason) = match (type_, is_true) {
            _ if !turned => return None,
            (condition_type::READY, true) => (EventType::Normal, "Ready"),
            (condition_type::READY, false) => (EventType::Warning, "NotReady"),
            (_, true) => (EventType::Warning, "Degraded"),
            (_, false) => (EventType::Normal, "Recovered"),
        };
        let note = if is_true || type_ == condition_type::READY {
            format!("{}: {}", now.reason, now.message)
        } else {
            now.message
        };
        Some(News { type_: event_type, reason, action: "Observe", note })
    });
    written.chain(turns).chain(pause(before, status)).collect()
}

fn pause(before: &CachedServiceStatus, status: &CachedServiceStatus) -> Option<News> {
    let now = condition(status, condition_type::PAUSED)?;
    let was_true = condition(before, condition_type::PAUSED).is_some_and(|was| was.status == "True");
    let (reason, note) = match (was_true, now.status == "True") {
        (false, true) => ("Paused", now.message),
        (true, false) => ("Resumed", "the objects are kept as the spec wants them again".to_owned()),
        _ => return None,
    };
    Some(News { type_: EventType::Normal, reason, action: "Observe", note })
}

fn condition(status: &CachedServiceStatus, type_: &str) -> Option<Condition> {
    status.conditions.iter().find(|condition| condition.type_ == type_).cloned()
}
