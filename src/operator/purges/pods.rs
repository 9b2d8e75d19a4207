//! Which pods have to acknowledge a purge. PURE.

// The forms of addresses alone: no socket is among them.
use core::net::SocketAddr;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;

use crate::{
    api::{is_of_deployment, names::SIDECAR_CONTAINER},
    operator::sidecars::pods::admin_address,
};

/// A pod that has to acknowledge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uid: String,
    /// Where its sidecar takes purges, once it has an address.
    pub address: Option<SocketAddr>,
}

/// The pods of a CachedService among these that have a sidecar, are on a node and have not ended, Ready
/// or not: any of them may answer a request. By name.
#[must_use]
pub fn replicas(pods: &[Pod], service: &str) -> Vec<Replica> {
    let mut replicas: Vec<_> = pods
        .iter()
        .filter(|pod| is_of_deployment(&pod.metadata, service) && has_sidecar(pod))
        .filter(|pod| is_on_a_node(pod) && !has_ended(pod))
        .map(|pod| Replica {
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            address: pod.status.as_ref().and_then(admin_address),
        })
        .collect();
    replicas.sort_by(|left, right| left.name.cmp(&right.name));
    replicas
}

/// Before that nothing of it has started, and what starts reads the record before it is Ready.
fn is_on_a_node(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()).is_some_and(|node| !node.is_empty())
}

fn has_sidecar(pod: &Pod) -> bool {
    let containers = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    containers.into_iter().any(|container| container.name == SIDECAR_CONTAINER)
}

fn has_ended(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return true;
    }
    // In a pod on its way out, nothing that has ended is started again.
    let sidecar = status.init_container_statuses.iter().flatten().find(|it| it.name == SIDECAR_CONTAINER);
    pod.metadata.deletion_timestamp.is_some() && sidecar.is_some_and(is_terminated)
}

fn is_terminated(container: &ContainerStatus) -> bool {
    container.state.as_ref().is_some_and(|state| state.terminated.is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, leaving: bool, status: &Value) -> Pod {
        let deletion = leaving.then_some("2026-01-01T00:00:00Z");
        serde_json::from_value(json!({
            "metadata": {
                "name": name,
                "uid": format!("uid-{name}"),
                "deletionTimestamp": deletion,
                "labels": { "pod-template-hash": "7d4b" },
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-7d4b", "uid": "r", "controller": true,
                }],
            },
            "spec": {
                "nodeName": "n",
                "containers": [{ "name": "app" }],
                "initContainers": [{ "name": SIDECAR_CONTAINER, "restartPolicy": "Always" }],
            },
            "status": status,
        }))
        .unwrap()
    }

    fn names(pods: &[Pod]) -> Vec<String> {
        replicas(pods, "shop").into_iter().map(|replica| replica.name).collect()
    }

    #[test]
    fn all_that_have_not_ended_count_also_without_an_address_and_on_their_way_out() {
        let pods = [
            pod("c", false, &json!({ "phase": "Pending" })),
            pod("b", true, &json!({ "phase": "Running", "podIP": "10.0.0.2" })),
            pod("a", false, &json!({ "phase": "Running", "podIP": "fd00::1" })),
            pod("e", false, &json!({ "phase": "Failed", "podIP": "10.0.0.4" })),
            pod("d", false, &json!({ "phase": "Succeeded" })),
        ];
        assert_eq!(names(&pods), ["a", "b", "c"]);
        let addresses: Vec<_> = replicas(&pods, "shop").into_iter().map(|replica| replica.address).collect();
        let at = |text: &str| Some(text.parse().unwrap());
        assert_eq!(addresses, [at("[fd00::1]:9801"), at("10.0.0.2:9801"), None]);
    }

    #[test]
    fn a_pod_without_a_sidecar_has_nothing_to_forget() {
        let mut without = pod("a", false, &json!({ "phase": "Running" }));
        without.spec.as_mut().unwrap().init_containers = None;
        assert!(names(&[without]).is_empty());
    }

    #[test]
    fn a_pod_that_is_on_no_node_has_nothing_yet_and_reads_the_record() {
        let mut waiting = pod("a", false, &json!({ "phase": "Pending" }));
        waiting.spec.as_mut().unwrap().node_name = None;
        assert!(names(&[waiting]).is_empty());
    }

    #[test]
    fn only_pods_of_the_deployment_are_asked_whoever_has_the_labels() {
        let of = |change: fn(&mut Pod)| {
            let mut pod = pod("a", false, &json!({ "phase": "Running", "podIP": "10.0.0.2" }));
            change(&mut pod);
            replicas(&[pod], "shop").len()
        };
        assert_eq!(of(|_| {}), 1);
        assert_eq!(of(|pod| pod.metadata.owner_references = None), 0);
        assert_eq!(of(|pod| pod.metadata.owner_references.as_mut().unwrap()[0].controller = None), 0);
        assert_eq!(of(|pod| pod.metadata.owner_references.as_mut().unwrap()[0].kind = "Job".to_owned()), 0);
        assert_eq!(of(|pod| pod.metadata.labels = None), 0);
        // Of a Deployment whose name begins so.
        let of_another = |pod: &mut Pod| {
            pod.metadata.owner_references.as_mut().unwrap()[0].name = "shop-b-7d4b".to_owned();
        };
        assert_eq!(of(of_another), 0);
    }

    #[test]
    fn a_sidecar_that_has_ended_counts_as_long_as_it_may_be_started_again() {
        let ended = json!({
            "phase": "Running",
            "podIP": "10.0.0.2",
            "initContainerStatuses": [{
                "name": SIDECAR_CONTAINER, "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": { "terminated": { "exitCode": 0 } },
            }],
        });
        assert_eq!(names(&[pod("a", false, &ended), pod("b", true, &ended)]), ["a"]);
    }
}
