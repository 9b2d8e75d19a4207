//! How a watch is followed: what it shows goes into a store, orders reconciles,
//! and is told when it fails.

use std::sync::Arc;

use futures::{Stream, StreamExt};
use kube::{
    Resource,
    api::ObjectMeta,
    runtime::{reflector::ObjectRef, watcher},
};
use tokio::sync::watch;

use crate::{
    api::{
        CachedService,
        names::{APPLIED_ANNOTATION, COMPONENT_LABEL, FIELD_MANAGER, NAME_LABEL, RETAINED_LABEL},
    },
    operator::{
        interruptions::Interruptions,
        store::Writer,
        triggers::Triggers,
        watched::{Child, Watched},
    },
};

/// Notes when a watch fails and when it works, and has all told of it.
#[derive(Clone)]
pub(super) struct Guard {
    pub(super) interruptions: Arc<Interruptions>,
    pub(super) triggers: Triggers,
}

impl Guard {
    pub(super) fn failed(&self, kind: &str, error: &watcher::Error) {
        // The stream goes on by itself, after a pause.
        tracing::warn!(kind, %error, "watch interrupted; starting it again");
        if self.interruptions.failed(kind, error) {
            self.triggers.send_all();
        }
    }

    pub(super) fn handle<K>(
        &self,
        kind: &str,
        event: watcher::Event<K>,
        handle: &mut impl FnMut(watcher::Event<K>),
    ) {
        // A list is begun before it is asked for.
        if !matches!(event, watcher::Event::Init) {
            self.works(kind);
        }
        handle(event);
    }

    fn works(&self, kind: &str) {
        if self.interruptions.recovered(kind) {
            self.triggers.send_all();
        }
    }
}

pub(super) fn order_all(triggers: &Triggers, services: Vec<(String, String)>) {
    for (namespace, name) in services {
        triggers.send(ObjectRef::new(&name).within(&namespace));
    }
}

pub(super) async fn follow_children<K: Child>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send,
    watched: Arc<Watched<K>>,
    writer: Writer<K>,
    guard: Guard,
) {
    let handle = child_events(watched, writer, guard.triggers.clone());
    follow(events, &K::kind(&()), guard, handle).await;
}

/// Keeps the store of children, and orders reconciles of those they belong to.
pub(super) fn child_events<K: Child>(
    watched: Arc<Watched<K>>,
    mut writer: Writer<K>,
    triggers: Triggers,
) -> impl FnMut(watcher::Event<K>) + Send {
    let mut listed_before = false;
    move |event| {
        writer.apply_watcher_event(&event);
        watched.observe(&event);
        match &event {
            watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
                if let Some(service) = service_of(object) {
                    triggers.send(service);
                }
            }
            watcher::Event::Delete(object) => {
                if let Some(service) = service_of(object) {
                    triggers.send_first(service);
                }
            }
            // What vanished while the watch was broken is in no event.
            watcher::Event::InitDone if listed_before => triggers.send_all(),
            watcher::Event::InitDone => listed_before = true,
            watcher::Event::Init => {}
        }
    }
}

/// Follows a watch that fills no store, and tells when its first list is complete.
pub(super) async fn follow_lists<K>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send,
    kind: &str,
    guard: Guard,
    listed: watch::Sender<bool>,
    mut handle: impl FnMut(watcher::Event<K>) + Send,
) {
    follow(events, kind, guard, move |event| {
        let is_complete = matches!(event, watcher::Event::InitDone);
        handle(event);
        if is_complete {
            listed.send_replace(true);
        }
    })
    .await;
}

async fn follow<K>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send,
    kind: &str,
    guard: Guard,
    mut handle: impl FnMut(watcher::Event<K>) + Send,
) {
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => guard.handle(kind, event, &mut handle),
            Err(error) => guard.failed(kind, &error),
        }
    }
}

/// The CachedService that an object belongs to: its controller, or what its label says.
pub(super) fn service_of<K: Resource>(object: &K) -> Option<ObjectRef<CachedService>> {
    let meta = object.meta();
    let controller = meta
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true) && owner.kind == CachedService::kind(&()))
        .map(|owner| owner.name.as_str());
    let label = meta.labels.as_ref().and_then(|labels| labels.get(NAME_LABEL)).map(String::as_str);
    let name = controller.or(label)?;
    Some(ObjectRef::new(name).within(meta.namespace.as_deref()?))
}

/// Drops what is never read: most of an object's metadata is about other writers.
pub(super) fn trim(meta: &mut ObjectMeta) {
    if let Some(entries) = &mut meta.managed_fields {
        entries.retain(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER));
    }
    if let Some(annotations) = &mut meta.annotations {
        annotations.retain(|key, _| key == APPLIED_ANNOTATION);
    }
    if let Some(labels) = &mut meta.labels {
        labels.retain(|key, _| [NAME_LABEL, COMPONENT_LABEL, RETAINED_LABEL].contains(&key.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

    use super::*;
    use crate::operator::seen::SeenService;

    #[test]
    fn an_object_belongs_to_its_controller_before_its_label() {
        let mut object = SeenService::default();
        object.metadata.namespace = Some("n".to_owned());
        object.metadata.labels = Some([(NAME_LABEL.to_owned(), "labelled".to_owned())].into());
        assert_eq!(service_of(&object).unwrap().name, "labelled");
        object.metadata.owner_references = Some(vec![OwnerReference {
            kind: "CachedService".to_owned(),
            name: "owner".to_owned(),
            controller: Some(true),
            ..OwnerReference::default()
        }]);
        assert_eq!(service_of(&object).unwrap().name, "owner");
    }
}
