//! Which pods have to acknowledge a purge. PURE.

// The forms of addresses alone: no socket is among them.
use core::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;

use crate::api::names::{SIDECAR_ADMIN_PORT, SIDECAR_CONTAINER};

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

/// The pods among these that have a sidecar and have not ended, Ready or not: any of them may answer a
/// request. By name.
#[must_use]
pub fn replicas(pods: &[Pod]) -> Vec<Replica> {
    let mut replicas: Vec<_> = pods
        .iter()
        .filter(|pod| has_sidecar(pod) && !has_ended(pod))
        .map(|pod| Replica {
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            address: address(pod),
        })
        .collect();
    replicas.sort_by(|left, right| left.name.cmp(&right.name));
    replicas
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

fn address(pod: &Pod) -> Option<SocketAddr> {
    let address: IpAddr = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
    Some(SocketAddr::new(address, u16::try_from(SIDECAR_ADMIN_PORT).ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, leaving: bool, status: &Value) -> Pod {
        let deletion = leaving.then_some("2026-01-01T00:00:00Z");
        serde_json::from_value(json!({
            "metadata": { "name": name, "uid": format!("uid-{name}"), "deletionTimestamp": deletion },
            "spec": {
                "containers": [{ "name": "app" }],
                "initContainers": [{ "name": SIDECAR_CONTAINER, "restartPolicy": "Always" }],
            },
            "status": status,
        }))
        .unwrap()
    }

    fn names(pods: &[Pod]) -> Vec<String> {
        replicas(pods).into_iter().map(|replica| replica.name).collect()
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
        let addresses: Vec<_> = replicas(&pods).into_iter().map(|replica| replica.address).collect();
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
