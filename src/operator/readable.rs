//! Tells CachedServices that this operator can read from those that it cannot:
//! while it is upgraded, a newer CRD may already let through more than it knows.
//! One of those must not hold up the others. PURE.

use kube::{
    core::error_boundary::{DeserializeGuard, InvalidObject},
    runtime::{
        reflector::{ObjectRef, Store},
        watcher::Event,
    },
};

use crate::api::CachedService;

/// What an event means for the store; nothing, where it holds no such object.
/// An object that was readable before goes on as it was.
///
/// # Errors
/// The object that cannot be read.
pub fn readable(
    event: Event<DeserializeGuard<CachedService>>,
    known: &Store<CachedService>,
) -> Result<Option<Event<CachedService>>, Box<InvalidObject>> {
    Ok(Some(match event {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::InitApply(DeserializeGuard(service)) => Event::InitApply(service?),
        Event::Apply(DeserializeGuard(service)) => Event::Apply(service?),
        Event::Delete(DeserializeGuard(Ok(service))) => Event::Delete(service),
        Event::Delete(DeserializeGuard(Err(unreadable))) => {
            let name = unreadable.metadata.name.unwrap_or_default();
            let namespace = unreadable.metadata.namespace.unwrap_or_default();
            return Ok(known
                .get(&ObjectRef::new(&name).within(&namespace))
                .map(|service| Event::Delete((*service).clone())));
        }
    }))
}

#[cfg(test)]
mod tests {
    use kube::{ResourceExt, runtime::reflector};
    use serde_json::{Value, json};

    use super::*;

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
        let (store, _writer) = reflector::store();
        for event in [Event::Apply(from_the_future()), Event::InitApply(from_the_future())] {
            let unreadable = readable(event, &store).unwrap_err();
            assert_eq!(unreadable.metadata.name.as_deref(), Some("shop"));
            assert!(unreadable.to_string().contains("Clustered"), "{unreadable}");
        }
    }

    #[test]
    fn a_field_of_a_newer_crd_is_passed_over() {
        let (store, _writer) = reflector::store();
        let event = Event::Apply(guarded(&json!({ "image": "a", "balancing": {} })));
        assert!(
            matches!(readable(event, &store), Ok(Some(Event::Apply(service))) if service.name_any() == "shop")
        );
    }

    #[test]
    fn what_became_unreadable_leaves_the_store_when_it_is_deleted() {
        let (store, mut writer) = reflector::store();
        assert!(readable(Event::Delete(from_the_future()), &store).unwrap().is_none());
        let service = guarded(&json!({ "image": "a" })).0.unwrap();
        writer.apply_watcher_event(&Event::Apply(service));
        let event = readable(Event::Delete(from_the_future()), &store).unwrap().unwrap();
        writer.apply_watcher_event(&event);
        assert!(store.is_empty());
    }
}
