//! Purges: a `CachePurge` reaches every pod of its CachedService, and tells which have acknowledged it.
//!
//! ```text
//!  watch of CachePurges ─▶ desk ─▶ work, one task for each CachedService with open ones:
//!                           │        deleting ▸ record ▸ pods ▸ sidecars::call ▸ progress ▸ status
//!                           └─▶ those that are complete go when their time is over
//! ```
//!
//! [`record`], [`pods`], [`answer`] and [`progress`] are pure. Where nothing is open and nothing is due, there is no
//! request.

pub mod answer;
mod deleting;
mod desk;
mod keeping;
mod memory;
pub mod pods;
pub mod progress;
pub mod record;
mod standing;
mod telling;
mod work;

pub use standing::{Standing, see_to_record};

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt, Stream, StreamExt};
use jiff::Timestamp;
use kube::{
    Api,
    api::{DeleteParams, Preconditions},
    core::error_boundary::DeserializeGuard,
    runtime::{WatchStreamExt, reflector::ObjectRef, watcher},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use self::{
    desk::{Bell, Desk, Key},
    work::work,
};
use super::{
    context::Context,
    error::in_words,
    interruptions::{Pauses, is_forbidden, is_missing},
    sidecars::call::Caller,
};
use crate::api::{CachePurge, CachedService};

/// How long after a failed deletion, or a panic, it is tried again.
const RETRY: Duration = Duration::from_secs(15);
/// So many purges whose time is over are deleted at a time.
const DELETED_AT_A_TIME: usize = 16;
/// How often it is looked for the kind where the cluster does not have it, or does not let the operator see it.
const MISSING_PERIOD: Duration = Duration::from_mins(1);

/// The purges of all CachedServices.
#[derive(Default)]
pub struct Purges {
    desk: Desk,
    caller: Caller,
}

impl Purges {
    /// How long ago the oldest was ordered that is not complete; nothing without one.
    #[must_use]
    pub fn oldest_open(&self, now: Timestamp) -> Duration {
        let ordered = self.desk.oldest_open();
        ordered.and_then(|ordered| now.duration_since(ordered).try_into().ok()).unwrap_or_default()
    }

    /// A CachedService or something of it has changed: a purge may have waited for that.
    pub fn look_again(&self, service: &ObjectRef<CachedService>) {
        self.desk.look_again(service);
    }
}

/// Carries purges out, for ever.
pub(super) async fn follow(
    events: impl Stream<Item = watcher::Result<watcher::Event<DeserializeGuard<CachePurge>>>> + Send,
    context: Arc<Context>,
) {
    let events = events.backoff(Pauses::default()).then(async |event| {
        if matches!(&event, Err(error) if is_missing(error) || is_forbidden(error)) {
            // Not asked for again before this is over.
            sleep(MISSING_PERIOD).await;
        }
        event
    });
    let mut events = std::pin::pin!(events);
    let (mut working, mut deleting) = (JoinSet::new(), JoinSet::new());
    let mut is_told = false;
    let purges = context.purges.clone();
    loop {
        let room = DELETED_AT_A_TIME.saturating_sub(deleting.len());
        let due = purges.desk.next_due().filter(|_| room > 0);
        tokio::select! {
            event = events.next() => match event {
                None => return,
                Some(Ok(event)) => {
                    is_told = false;
                    if let Some((service, bell)) = take_in(&context, event) {
                        working.spawn(work_on(service, bell, context.clone()));
                    }
                }
                Some(Err(error)) => {
                    if !is_told || !(is_missing(&error) || is_forbidden(&error)) {
                        tracing::warn!(kind = "CachePurge", %error, "watch interrupted; starting it again");
                    }
                    is_told = true;
                }
            },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                for (key, uid) in purges.desk.overdue(Instant::now(), room) {
                    deleting.spawn(delete(key, uid, context.clone()));
                }
            }
            Some(_) = working.join_next() => {}
            Some(_) = deleting.join_next() => {}
        }
    }
}

/// Takes in an event; who is to be worked for from here on.
fn take_in(
    context: &Context,
    event: watcher::Event<DeserializeGuard<CachePurge>>,
) -> Option<(ObjectRef<CachedService>, Arc<Bell>)> {
    let desk = &context.purges.desk;
    match event {
        watcher::Event::Init => desk.begin_list(),
        watcher::Event::InitDone => desk.end_list(),
        watcher::Event::Apply(DeserializeGuard(Ok(mut purge)))
        | watcher::Event::InitApply(DeserializeGuard(Ok(mut purge))) => {
            purge.metadata.managed_fields = None;
            purge.metadata.annotations = None;
            let service = ObjectRef::new(&purge.spec.service_name);
            let service = service.within(purge.metadata.namespace.as_deref().unwrap_or_default());
            return desk.put(purge, context.services.get(&service).is_some());
        }
        watcher::Event::Delete(DeserializeGuard(Ok(purge))) => desk.remove(&purge),
        watcher::Event::Apply(DeserializeGuard(Err(unreadable)))
        | watcher::Event::InitApply(DeserializeGuard(Err(unreadable))) => {
            let (namespace, name) = (&unreadable.metadata.namespace, &unreadable.metadata.name);
            tracing::warn!(
                namespace,
                name,
                error = unreadable.error,
                "cannot read a CachePurge; it is not carried out"
            );
        }
        watcher::Event::Delete(DeserializeGuard(Err(_))) => {}
    }
    None
}

async fn work_on(service: ObjectRef<CachedService>, bell: Arc<Bell>, context: Arc<Context>) {
    loop {
        let work = work(&service, &bell, &context.purges, &context);
        if AssertUnwindSafe(work).catch_unwind().await.is_ok() {
            return;
        }
        tracing::error!(%service, "the work on a purge panicked; please report it with the lines before this one");
        sleep(RETRY).await;
    }
}

async fn delete((namespace, service, name): Key, uid: String, context: Arc<Context>) {
    let api: Api<CachePurge> = Api::namespaced(context.client.clone(), &namespace);
    let preconditions = Preconditions { uid: Some(uid.clone()), resource_version: None };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match api.delete(&name, &parameters).await {
        Ok(_) => {}
        // It is gone, or another.
        Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => {}
        Err(error) => {
            tracing::warn!(
                namespace,
                name,
                error = in_words(&error),
                "cannot delete a purge whose time is over"
            );
            context.purges.desk.postpone(&(namespace, service, name), &uid, RETRY);
        }
    }
}
