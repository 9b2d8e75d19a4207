//! The objects of a CachedService, read from the API server.

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    autoscaling::v2::HorizontalPodAutoscaler,
    core::v1::{Pod, Service},
};
use kube::{Api, Client, api::ListParams};

use super::CommandError;
use crate::api::{
    CachedService, is_of_deployment,
    names::{APP, COMPONENT_LABEL, NAME_LABEL, redis_name},
};

/// A CachedService and what belongs to it. What does not exist is `None` or empty.
#[derive(Clone, Debug)]
pub struct Children {
    /// The resource.
    pub service: CachedService,
    /// The application.
    pub deployment: Option<Deployment>,
    /// Its pods.
    pub pods: Vec<Pod>,
    /// The autoscaler.
    pub autoscaler: Option<HorizontalPodAutoscaler>,
    /// The Service in front of the application.
    pub front: Option<Service>,
    /// The Redis of the operator's.
    pub redis: Option<StatefulSet>,
}

/// Reads them.
///
/// # Errors
/// When there is no such CachedService, or something cannot be read.
pub async fn children(client: &Client, namespace: &str, name: &str) -> Result<Children, CommandError> {
    let services: Api<CachedService> = Api::namespaced(client.clone(), namespace);
    let service = services.get_opt(name).await.map_err(CommandError::api("cannot read the CachedService"))?;
    let service = service.ok_or_else(|| {
        CommandError::Wrong(format!(
            "there is no CachedService {name} in the namespace {namespace}; `kubectl get cachedservices -A` lists all"
        ))
    })?;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), namespace);
    let fronts: Api<Service> = Api::namespaced(client.clone(), namespace);
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let of_the_application =
        ListParams::default().labels(&format!("{NAME_LABEL}={name},{COMPONENT_LABEL}={APP}"));
    let redis = redis_name(name);
    let (deployment, pods, autoscaler, front, redis) = tokio::try_join!(
        deployments.get_opt(name),
        pods.list(&of_the_application),
        autoscalers.get_opt(name),
        fronts.get_opt(name),
        sets.get_opt(&redis),
    )
    .map_err(CommandError::api("cannot read what belongs to the CachedService"))?;
    Ok(Children { service, deployment, pods: own(pods.items, name), autoscaler, front, redis })
}

/// Without those that have the labels alone: they would be handed the token of the sidecars.
fn own(mut pods: Vec<Pod>, name: &str) -> Vec<Pod> {
    pods.retain(|pod| is_of_deployment(&pod.metadata, name));
    pods
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_that_has_the_labels_alone_is_not_asked() {
        let pod = |name: &str, owner: &str| -> Pod {
            let owner = json!({
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": "r", "controller": true,
            });
            let labels = json!({ NAME_LABEL: "shop", COMPONENT_LABEL: APP, "pod-template-hash": "7d4b" });
            let metadata = json!({ "name": name, "labels": labels, "ownerReferences": [owner] });
            serde_json::from_value(json!({ "metadata": metadata })).unwrap()
        };
        let mut stray = pod("c", "shop-7d4b");
        stray.metadata.owner_references = None;
        let own = own(vec![pod("a", "shop-7d4b"), pod("b", "shop-b-7d4b"), stray], "shop");
        assert_eq!(own.iter().map(|pod| pod.metadata.name.as_deref()).collect::<Vec<_>>(), [Some("a")]);
    }
}
