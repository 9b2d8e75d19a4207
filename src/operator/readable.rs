//! Tells CachedServices that this operator can read from those that it cannot:
//! while it is upgraded, a newer CRD may already let through more than it knows.
//! One of those must not hold up the others. PURE.

use kube::{
    core::error_boundary::{DeserializeGuard, InvalidObject},
    runtime::{reflector::ObjectRef, watcher::Event},
};

use super::store::Store;
use crate::api::CachedService;

/// An event as far as it can be read.
#[derive(Debug, Default)]
pub struct Reading {
    /// What it means for the store, if anything.
    pub event: Option<Event<CachedService>>,
    /// What cannot be read.
    pub unreadable: Option<Box<InvalidObject>>,
}

/// Reads an event.
///
/// An object that was readable before leaves the store when it is so no more,
/// with a change as with a new list: what was wanted of it once would be set
/// back otherwise. Without it nothing of its children is changed or deleted.
#[must_use]
pub fn readable(event: Event<DeserializeGuard<CachedService>>, known: &Store<CachedService>) -> Reading {
    let (read, unreadable) = match event {
        Event::Init => (Some(Event::Init), None),
        Event::InitDone => (Some(Event::InitDone), None),
        Event::InitApply(DeserializeGuard(Ok(service))) => (Some(Event::InitApply(service)), None),
        Event::Apply(DeserializeGuard(Ok(service))) => (Some(Event::Apply(service)), None),
        Event::Delete(DeserializeGuard(Ok(service))) => (Some(Event::Delete(service)), None),
        // The store drops what a list leaves out.
        Event::InitApply(DeserializeGuard(Err(unreadable))) => (None, Some(Box::new(unreadable))),
        Event::Apply(DeserializeGuard(Err(unreadable))) => {
            (departure(&unreadable, known), Some(Box::new(unreadable)))
        }
        Event::Delete(DeserializeGuard(Err(unreadable))) => (departure(&unreadable, known), None),
    };
    Reading { event: read, unreadable }
}

fn departure(unreadable: &InvalidObject, known: &Store<CachedService>) -> Option<Event<CachedService>> {
    let InvalidObject { metadata, .. } = unreadable;
    let name = metadata.name.as_deref()?;
    let reference = ObjectRef::new(name).within(metadata.namespace.as_deref()?);
    known.get(&reference).map(|service| Event::Delete((*service).clone()))
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt;
    use serde_json::{Value, json};

    use super::*;
    use crate::operator::store::store;

    fn guarded(spec: &Value) -> DeserializeGuard<CachedService> {
        serde_json::from_value(json!({
            "apiVersion": "cachedservice.dev/v1alpha1",
            "kind": "CachedService",
            "metadata": { "name": "shop", "namespace": "prod", "uid": "0-1" },
            "spec": spec,
        }))
        .unwrap()
    }

    fn from_the_future() -> DeserializeGuard<CachedService> {
        guarded(&json!({ "image": "a", "redis": { "mode": "Clustered" } }))
    }

    #[test]
    fn what_cannot_be_read_is_named_with_the_reason() {
        let (store, _writer) = store();
        for event in [Event::Apply(from_the_future()), Event::InitApply(from_the_future())] {
            let Reading { event, unreadable } = readable(event, &store);
            assert!(event.is_none(), "{event:?}");
            let unreadable = unreadable.unwrap();
            assert_eq!(unreadable.metadata.name.as_deref(), Some("shop"));
            assert!(unreadable.to_string().contains("Clustered"), "{unreadable}");
        }
    }

    #[test]
    fn a_field_of_a_newer_crd_is_passed_over() {
        let (store, _writer) = store();
        let event = Event::Apply(guarded(&json!({ "image": "a", "balancing": {} })));
        let read = readable(event, &store);
        assert!(read.unreadable.is_none());
        assert!(matches!(read.event, Some(Event::Apply(service)) if service.name_any() == "shop"));
    }

    #[test]
    fn what_becomes_unreadable_leaves_the_store_with_its_change_or_its_end() {
        for (event, is_told) in
            [(Event::Apply(from_the_future()), true), (Event::Delete(from_the_future()), false)]
        {
            let (store, mut writer) = store();
            let service = guarded(&json!({ "image": "a" })).0.unwrap();
            writer.apply_watcher_event(&Event::Apply(service));
            let read = readable(event, &store);
            assert_eq!(read.unreadable.is_some(), is_told);
            writer.apply_watcher_event(&read.event.unwrap());
            assert!(store.is_empty());
        }
    }

    #[test]
    fn what_becomes_unreadable_leaves_the_store_with_a_new_list() {
        let (store, mut writer) = store();
        writer.apply_watcher_event(&Event::Apply(guarded(&json!({ "image": "a" })).0.unwrap()));
        for event in [Event::Init, Event::InitApply(from_the_future()), Event::InitDone] {
            if let Some(event) = readable(event, &store).event {
                writer.apply_watcher_event(&event);
            }
        }
        assert!(store.is_empty());
    }
}
