//! Which pods are an application's own. PURE.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The label with the hash that a Deployment's controller gives the pods of each ReplicaSet.
const TEMPLATE_HASH_LABEL: &str = "pod-template-hash";

/// Whether a ReplicaSet of the service's Deployment controls the pod, as that names them. Anybody's pod may have
/// the labels; to such a one the token of the sidecars is not handed.
#[must_use]
pub fn is_of_deployment(pod: &ObjectMeta, service: &str) -> bool {
    let hash = pod.labels.as_ref().and_then(|labels| labels.get(TEMPLATE_HASH_LABEL));
    let mut owners = pod.owner_references.iter().flatten();
    let controller = owners.find(|owner| owner.controller == Some(true));
    hash.zip(controller).is_some_and(|(hash, owner)| {
        owner.kind == "ReplicaSet"
            && owner.api_version == "apps/v1"
            && owner.name.strip_prefix(service).and_then(|rest| rest.strip_prefix('-')) == Some(hash)
    })
}
