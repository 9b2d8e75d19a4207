//! The sidecars that run, as the watch of pods shows them. PURE.

// The forms of addresses alone: no socket is among them.
use core::net::{IpAddr, SocketAddr};
use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};
use kube::{ResourceExt, runtime::watcher};
use parking_lot::Mutex;

use crate::{
    api::{
        is_of_deployment,
        names::{APP, COMPONENT_LABEL, NAME_LABEL, SIDECAR_ADMIN_PORT, SIDECAR_CONTAINER},
    },
    operator::seen::SeenPod,
};

/// Namespace and name of a CachedService.
pub(super) type ServiceKey = (String, String);

/// Where the sidecar of a pod is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The identity of the pod.
    pub(super) uid: String,
    /// Its admin port.
    pub(super) address: SocketAddr,
}

/// Where the sidecar of each pod is asked, by the name of the pod.
pub(super) type Addresses = BTreeMap<String, Place>;

/// The sidecars that run; pods without one cost nothing.
#[derive(Default)]
pub(super) struct Pods(Mutex<State>);

#[derive(Default)]
struct State {
    running: HashMap<ServiceKey, Addresses>,
    /// A list that is not complete yet: until then, what was known before counts.
    listing: HashMap<ServiceKey, Addresses>,
}

impl Pods {
    /// Those of the CachedService.
    pub(super) fn of(&self, service: &ServiceKey) -> Addresses {
        self.0.lock().running.get(service).cloned().unwrap_or_default()
    }

    /// Takes in an event of the pods' watch and names the CachedServices of which a sidecar has started.
    pub(super) fn observe(&self, event: &watcher::Event<SeenPod>) -> Vec<ServiceKey> {
        let mut guard = self.0.lock();
        let State { running, listing } = &mut *guard;
        match event {
            watcher::Event::Init => listing.clear(),
            watcher::Event::InitApply(pod) => drop(put(listing, pod)),
            watcher::Event::InitDone => {
                *running = std::mem::take(listing);
                return running.keys().cloned().collect();
            }
            watcher::Event::Apply(pod) => return put(running, pod).into_iter().collect(),
            watcher::Event::Delete(pod) => {
                if let Some(service) = service_of(pod) {
                    remove(running, &service, pod);
                }
            }
        }
        Vec::new()
    }
}

/// The CachedService, if the sidecar of the pod runs from now on.
fn put(running: &mut HashMap<ServiceKey, Addresses>, pod: &SeenPod) -> Option<ServiceKey> {
    let service = service_of(pod)?;
    let Some(address) = address(pod) else {
        remove(running, &service, pod);
        return None;
    };
    let place = Place { uid: pod.uid().unwrap_or_default(), address };
    let before = running.entry(service.clone()).or_default().insert(pod.name_any(), place.clone());
    (before != Some(place)).then_some(service)
}

fn remove(running: &mut HashMap<ServiceKey, Addresses>, service: &ServiceKey, pod: &SeenPod) {
    if let Some(addresses) = running.get_mut(service) {
        addresses.remove(&pod.name_any());
        if addresses.is_empty() {
            running.remove(service);
        }
    }
}

/// Where the sidecar of a pod is asked, while it runs and the pod stays.
fn address(pod: &SeenPod) -> Option<SocketAddr> {
    let is_running = |container: &ContainerStatus| {
        container.name == SIDECAR_CONTAINER
            && container.state.as_ref().is_some_and(|state| state.running.is_some())
    };
    let has_sidecar = pod.status.init_container_statuses.iter().flatten().any(is_running);
    let stays = pod.metadata.deletion_timestamp.is_none();
    admin_address(&pod.status).filter(|_| has_sidecar && stays)
}

/// Where the sidecar of a pod is asked, once that has an address.
pub(in crate::operator) fn admin_address(status: &PodStatus) -> Option<SocketAddr> {
    let address: IpAddr = status.pod_ip.as_ref()?.parse().ok()?;
    Some(SocketAddr::new(address, u16::try_from(SIDECAR_ADMIN_PORT).ok()?))
}

/// The CachedService of a pod of an application. Who has its labels alone is handed no token.
fn service_of(pod: &SeenPod) -> Option<ServiceKey> {
    let labels = pod.labels();
    let name = labels.get(NAME_LABEL).filter(|_| labels.get(COMPONENT_LABEL).is_some_and(|of| of == APP))?;
    is_of_deployment(&pod.metadata, name).then_some(())?;
    Some((pod.namespace()?, name.clone()))
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
    use serde_json::{Value, json};

    use super::*;
    use crate::api::names::REDIS;

    fn pod(name: &str, change: fn(&mut Value)) -> SeenPod {
        let mut pod = json!({
            "metadata": {
                "name": name, "namespace": "n", "uid": format!("uid-{name}"),
                "labels": { NAME_LABEL: "shop", COMPONENT_LABEL: APP, "pod-template-hash": "7d4b" },
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-7d4b", "uid": "r", "controller": true,
                }],
            },
            "status": {
                "podIP": "10.0.0.1",
                "initContainerStatuses": [{
                    "name": SIDECAR_CONTAINER, "image": "", "imageID": "", "ready": true, "restartCount": 0,
                    "state": { "running": {} },
                }],
            },
        });
        change(&mut pod);
        serde_json::from_value(pod).unwrap()
    }

    fn shop() -> ServiceKey {
        ("n".to_owned(), "shop".to_owned())
    }

    fn names(pods: &Pods) -> Vec<String> {
        pods.of(&shop()).into_keys().collect()
    }

    #[test]
    fn a_sidecar_counts_from_its_start_to_the_end_of_its_pod() {
        let pods = Pods::default();
        let waiting = |pod: &mut Value| pod["status"]["initContainerStatuses"][0]["state"] = json!({});
        assert!(pods.observe(&Apply(pod("a", waiting))).is_empty());
        assert!(names(&pods).is_empty());
        assert_eq!(pods.observe(&Apply(pod("a", |_| {}))), [shop()]);
        let place = Place { uid: "uid-a".to_owned(), address: "10.0.0.1:9801".parse().unwrap() };
        assert_eq!(pods.of(&shop())["a"], place);
        assert!(pods.observe(&Apply(pod("a", |_| {}))).is_empty(), "it is no news");
        let leaving = |pod: &mut Value| pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        pods.observe(&Apply(pod("a", leaving)));
        assert!(names(&pods).is_empty());
        pods.observe(&Apply(pod("b", |_| {})));
        pods.observe(&Delete(pod("b", |_| {})));
        assert!(names(&pods).is_empty() && pods.0.lock().running.is_empty());
    }

    #[test]
    fn what_has_no_sidecar_or_no_address_is_not_asked() {
        let pods = Pods::default();
        let changes: [fn(&mut Value); 4] = [
            |pod| pod["status"]["initContainerStatuses"][0]["name"] = json!("another"),
            |pod| pod["status"]["podIP"] = json!(null),
            |pod| pod["status"] = json!({}),
            |pod| pod["metadata"]["labels"][COMPONENT_LABEL] = json!(REDIS),
        ];
        for change in changes {
            assert!(pods.observe(&Apply(pod("a", change))).is_empty());
            assert!(names(&pods).is_empty());
        }
    }

    #[test]
    fn a_pod_that_has_the_labels_alone_is_handed_no_token() {
        let pods = Pods::default();
        let changes: [fn(&mut Value); 4] = [
            |pod| pod["metadata"]["ownerReferences"] = json!(null),
            |pod| pod["metadata"]["ownerReferences"][0]["kind"] = json!("Job"),
            |pod| pod["metadata"]["ownerReferences"][0]["name"] = json!("shop-b-7d4b"),
            |pod| pod["metadata"]["labels"]["pod-template-hash"] = json!("another"),
        ];
        for change in changes {
            assert!(pods.observe(&Apply(pod("a", change))).is_empty());
            assert!(names(&pods).is_empty());
        }
    }

    #[test]
    fn a_list_counts_when_it_is_complete_and_leaves_out_what_is_gone() {
        let pods = Pods::default();
        pods.observe(&Apply(pod("a", |_| {})));
        pods.observe(&Init);
        pods.observe(&InitApply(pod("b", |_| {})));
        assert_eq!(names(&pods), ["a"]);
        assert_eq!(pods.observe(&InitDone), [shop()]);
        assert_eq!(names(&pods), ["b"]);
    }
}
