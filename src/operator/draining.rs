//! Pods of applications that are on their way out, and still serve meanwhile. PURE.
//!
//! From Kubernetes 1.35 on, a Deployment's status counts them
//! (`status.terminatingReplicas`); before, only the pods themselves tell.

use std::collections::{BTreeSet, HashMap};

use kube::{ResourceExt, runtime::watcher};
use parking_lot::Mutex;

use super::seen::SeenPod;
use crate::api::names::{APP, COMPONENT_LABEL, NAME_LABEL};

/// Namespace and name of a CachedService.
type ServiceKey = (String, String);

/// The names of the pods, by CachedService.
type Pods = HashMap<ServiceKey, BTreeSet<String>>;

/// The pods of applications that are on their way out; all others cost nothing.
#[derive(Default)]
pub struct Draining(Mutex<State>);

#[derive(Default)]
struct State {
    pods: Pods,
    /// A list that is not complete yet: until then, what was known before counts.
    listing: Pods,
    /// A list was complete.
    is_known: bool,
}

impl Draining {
    /// Whether the CachedService `name` in `namespace` has such pods, or may have: before the first
    /// list is there, nobody knows.
    pub fn has(&self, namespace: &str, name: &str) -> bool {
        let state = self.0.lock();
        !state.is_known || state.pods.contains_key(&(namespace.to_owned(), name.to_owned()))
    }

    /// Whether pods were ever listed.
    pub fn is_known(&self) -> bool {
        self.0.lock().is_known
    }

    /// Takes in an event of the pods' watch and names the CachedServices whose last such pod is gone.
    pub fn observe(&self, event: &watcher::Event<SeenPod>) -> Vec<ServiceKey> {
        let mut guard = self.0.lock();
        let State { pods, listing, is_known } = &mut *guard;
        match event {
            watcher::Event::Init => listing.clear(),
            watcher::Event::InitApply(pod) => put(listing, pod),
            watcher::Event::InitDone => {
                *is_known = true;
                let before = std::mem::replace(pods, std::mem::take(listing));
                return before.into_keys().filter(|service| !pods.contains_key(service)).collect();
            }
            watcher::Event::Apply(pod) => put(pods, pod),
            watcher::Event::Delete(pod) => {
                if let Some(service) = service_of(pod)
                    && let Some(names) = pods.get_mut(&service)
                {
                    names.remove(&pod.name_any());
                    if names.is_empty() {
                        pods.remove(&service);
                        return vec![service];
                    }
                }
            }
        }
        Vec::new()
    }
}

/// What is on its way out stays so.
fn put(pods: &mut Pods, pod: &SeenPod) {
    if let Some(service) = service_of(pod).filter(|_| pod.metadata.deletion_timestamp.is_some()) {
        pods.entry(service).or_default().insert(pod.name_any());
    }
}

/// The CachedService of a pod of an application.
fn service_of(pod: &SeenPod) -> Option<ServiceKey> {
    let labels = pod.labels();
    let name = labels.get(NAME_LABEL).filter(|_| labels.get(COMPONENT_LABEL).is_some_and(|of| of == APP))?;
    Some((pod.namespace()?, name.clone()))
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
    use serde_json::json;

    use super::*;
    use crate::api::names::REDIS;

    fn pod(name: &str, component: &str, is_draining: bool) -> SeenPod {
        let since = is_draining.then_some("2026-01-01T00:00:00Z");
        let labels = json!({ NAME_LABEL: "shop", COMPONENT_LABEL: component });
        serde_json::from_value(json!({
            "metadata": { "name": name, "namespace": "n", "labels": labels, "deletionTimestamp": since },
        }))
        .unwrap()
    }

    fn listed() -> Draining {
        let draining = Draining::default();
        draining.observe(&Init);
        draining.observe(&InitDone);
        draining
    }

    fn shop() -> Vec<ServiceKey> {
        vec![("n".to_owned(), "shop".to_owned())]
    }

    #[test]
    fn before_the_first_list_nobody_knows() {
        let draining = Draining::default();
        assert!(draining.has("n", "shop"));
        draining.observe(&Init);
        draining.observe(&InitDone);
        assert!(!draining.has("n", "shop"));
    }

    #[test]
    fn the_last_one_that_goes_is_told() {
        let draining = listed();
        for name in ["a", "b"] {
            draining.observe(&Apply(pod(name, APP, false)));
            assert!(!draining.has("n", "shop") || name == "b");
            draining.observe(&Apply(pod(name, APP, true)));
            assert!(draining.has("n", "shop") && !draining.has("n", "other"));
        }
        assert!(draining.observe(&Delete(pod("a", APP, true))).is_empty());
        assert!(draining.has("n", "shop"));
        assert_eq!(draining.observe(&Delete(pod("b", APP, true))), shop());
        assert!(!draining.has("n", "shop"));
    }

    #[test]
    fn what_went_while_nobody_watched_is_told_by_the_next_list() {
        let draining = Draining::default();
        draining.observe(&Apply(pod("a", APP, true)));
        draining.observe(&Init);
        draining.observe(&InitApply(pod("b", APP, false)));
        assert!(draining.has("n", "shop"), "the list is not complete");
        assert_eq!(draining.observe(&InitDone), shop());
        assert!(!draining.has("n", "shop"));
    }

    #[test]
    fn a_pod_of_redis_does_not_count() {
        let draining = listed();
        draining.observe(&Apply(pod("a", REDIS, true)));
        assert!(!draining.has("n", "shop"));
    }
}
