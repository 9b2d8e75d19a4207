//! What is told of purges: in their statuses, and by Events.

use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{
    Purges,
    desk::Orders,
    memory::{Memory, Outcome, Status},
    progress::{Held, held},
};
use crate::{
    api::{CachePurge, CachePurgeStatus, names::STATUS_FIELD_MANAGER},
    operator::{
        context::Context,
        error::in_words,
        events::{EventType, News},
    },
};

/// A pod that has not acknowledged after this time is told of by an Event.
const SLOW: Duration = Duration::from_secs(5);
/// So many statuses are written at a time.
const AT_A_TIME: usize = 16;

/// Tells of purges for which something is missing. Whether all were told.
pub(super) async fn tell_held(context: &Context, orders: &Orders, memory: &mut Memory, why: &Held) -> bool {
    let now = Timestamp::now();
    let statuses = memory.changed(orders, |purge, before| held(before, purge.metadata.generation, why, now));
    let wanted = statuses.len();
    let told = tell_all(context, statuses).await;
    let all = told.iter().filter(|(_, _, result)| result.is_ok()).count() == wanted;
    memory.note(told);
    all
}

/// Writes statuses.
pub(super) async fn tell_all(context: &Context, statuses: Vec<Status>) -> Vec<Outcome> {
    let telling = stream::iter(statuses).map(async |(purge, status)| {
        let result = tell(context, &purge, &status).await;
        (purge, status, result)
    });
    telling.buffer_unordered(AT_A_TIME).collect().await
}

async fn tell(context: &Context, purge: &CachePurge, status: &CachePurgeStatus) -> kube::Result<()> {
    let (namespace, name) = (purge.namespace().unwrap_or_default(), purge.name_any());
    let api: Api<CachePurge> = Api::namespaced(context.client.clone(), &namespace);
    let patch = json!({
        "apiVersion": CachePurge::api_version(&()),
        "kind": CachePurge::kind(&()),
        "metadata": { "name": name, "uid": purge.uid() },
        "status": status,
    });
    let parameters = PatchParams::apply(STATUS_FIELD_MANAGER).force();
    match api.patch_status(&name, &parameters, &Patch::Apply(&patch)).await {
        Ok(_) => Ok(()),
        // It was deleted, or deleted and made anew: the watch tells.
        Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => Ok(()),
        Err(error) => {
            tracing::warn!(namespace, name, error = in_words(&error), "cannot write the status of a purge");
            Err(error)
        }
    }
}

/// Notes what was told, and takes what is complete from the desk. Whether something was.
pub(super) async fn finish(
    context: &Context,
    purges: &Purges,
    memory: &mut Memory,
    told: Vec<Outcome>,
) -> bool {
    let complete: Vec<_> = told
        .iter()
        .filter(|(_, status, result)| status.is_complete() && result.is_ok())
        .map(|(purge, status, _)| CachePurge { status: Some(status.clone()), ..CachePurge::clone(purge) })
        .collect();
    memory.note(told);
    for purge in complete.iter().filter(|purge| purges.desk.complete(purge)).collect::<Vec<_>>() {
        let note = purge.status.iter().filter_map(CachePurgeStatus::complete).map(|it| it.message.clone());
        let note = note.collect();
        let news = News { type_: EventType::Normal, reason: "Purged", action: "Purge", note };
        context.events.tell(&purge.object_ref(&()), &news).await;
    }
    !complete.is_empty()
}

/// Tells once of each purge for which a pod does not answer.
pub(super) async fn tell_slow(context: &Context, orders: &Orders, memory: &mut Memory) {
    for purge in &orders.open {
        let told = purge.uid().and_then(|uid| memory.told.get_mut(&uid));
        let Some(told) = told.filter(|told| !told.is_slow && !told.status.is_complete()) else { continue };
        if told.first.elapsed() < SLOW || told.status.pending.is_empty() {
            continue;
        }
        told.is_slow = true;
        let note = told.status.complete().map(|condition| condition.message.clone()).unwrap_or_default();
        let news = News { type_: EventType::Warning, reason: "NotAcknowledged", action: "Purge", note };
        context.events.tell(&purge.object_ref(&()), &news).await;
    }
}
