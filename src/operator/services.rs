//! The watch of the CachedServices themselves: who is worked on, and who cannot be read.

use std::sync::Arc;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Resource, ResourceExt,
    core::error_boundary::{DeserializeGuard, InvalidObject},
    runtime::{WatchStreamExt, reflector::ObjectRef, watcher},
};
use tokio::sync::mpsc;

use super::{
    context::Context,
    events::{EventType, News},
    interruptions::Pauses,
    readable::{Reading, readable},
    store::{Store, Writer},
};
use crate::api::{CachedService, SWITCHES};

const KIND: &str = "CachedService";
/// So many that cannot be read wait to be told of; what comes on top is in the log alone.
const UNTOLD: usize = 64;

/// Keeps the store as the API server shows it and orders reconciles of what changed.
pub(super) async fn follow(
    events: impl Stream<Item = watcher::Result<watcher::Event<DeserializeGuard<CachedService>>>> + Send,
    writer: Writer<CachedService>,
    context: Arc<Context>,
    services: Store<CachedService>,
) {
    let (unreadable, untold) = mpsc::channel(UNTOLD);
    // Beside each other: where Events are taken slowly, the watch goes on.
    tokio::join!(take_in(events, writer, &context, &services, unreadable), tell_unreadable(&context, untold),);
}

async fn take_in(
    events: impl Stream<Item = watcher::Result<watcher::Event<DeserializeGuard<CachedService>>>> + Send,
    mut writer: Writer<CachedService>,
    context: &Context,
    services: &Store<CachedService>,
    untold: mpsc::Sender<Box<InvalidObject>>,
) {
    let mut events = std::pin::pin!(events.backoff(Pauses::default()).modify(|service| {
        service.meta_mut().managed_fields = None;
        // Those of clients may be as large as the object.
        service.annotations_mut().retain(|name, _| SWITCHES.contains(&name.as_str()));
    }));
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(kind = KIND, %error, "watch interrupted; starting it again");
                if context.watches.interruptions.failed(KIND, &error) {
                    context.triggers.send_all();
                }
                continue;
            }
        };
        if !matches!(event, watcher::Event::Init) && context.watches.interruptions.recovered(KIND) {
            context.triggers.send_all();
        }
        let Reading { event, unreadable } = readable(event, services);
        if let Some(unreadable) = unreadable {
            let InvalidObject { error, metadata } = &*unreadable;
            let (namespace, name) = (&metadata.namespace, &metadata.name);
            tracing::warn!(namespace, name, error, "cannot read a CachedService; it is left as it is");
            // Where the queue is full it is told with its next change, or the next list.
            let _ = untold.try_send(unreadable);
        }
        let Some(event) = event else { continue };
        // What the operator itself has just told is no news to it.
        let is_echo = matches!(&event, watcher::Event::Apply(service)
            if services.get(&ObjectRef::from_obj(service)).is_some_and(|before| context.is_echo(&before, service)));
        writer.apply_watcher_event(&event);
        context.metrics.set_resources(services.len());
        match &event {
            watcher::Event::Apply(_) if is_echo => {}
            watcher::Event::Apply(service) | watcher::Event::InitApply(service) => {
                let reference = ObjectRef::from_obj(service);
                let told = service.status.as_ref().and_then(|status| status.observed_generation);
                // Nothing was made of its present spec yet.
                if told == service.metadata.generation {
                    context.triggers.send(reference);
                } else {
                    context.triggers.send_first(reference);
                }
            }
            watcher::Event::Delete(service) => {
                let reference = ObjectRef::from_obj(service);
                context.forget(&reference);
                // A reconcile that runs now remembers it again; the turn after that forgets it.
                context.triggers.send(reference);
            }
            watcher::Event::InitDone => {
                context.triggers.send_all();
                // What vanished while the watch was broken is in no event: its turn finds it gone.
                for reference in context.remembered() {
                    context.triggers.send(reference);
                }
            }
            watcher::Event::Init => {}
        }
    }
}

/// Its status cannot be told without reading it, so an Event has to.
async fn tell_unreadable(context: &Context, mut untold: mpsc::Receiver<Box<InvalidObject>>) {
    while let Some(unreadable) = untold.recv().await {
        let InvalidObject { error, metadata } = *unreadable;
        let object = ObjectReference {
            api_version: Some(CachedService::api_version(&()).into_owned()),
            kind: Some(CachedService::kind(&()).into_owned()),
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            ..ObjectReference::default()
        };
        let note = format!(
            "this operator cannot read it and leaves everything as it is; upgrade the operator, or write the spec for its version: {error}"
        );
        let news = News { type_: EventType::Warning, reason: "Unreadable", action: "Read", note };
        context.events.tell(&object, &news).await;
    }
}
