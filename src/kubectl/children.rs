//! The objects of a CachedService, read from the API server.

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    autoscaling::v2::HorizontalPodAutoscaler,
    core::v1::{Pod, Service},
};
use kube::{Api, Client, api::ListParams};

use super::CommandError;
use crate::api::{
    CachedService,
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
    Ok(Children { service, deployment, pods: pods.items, autoscaler, front, redis })
}
