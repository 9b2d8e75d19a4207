//! The objects that a CachedService becomes, whatever their kind.

use cachedservice::api::names::redis_name;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
    core::{DynamicObject, GroupVersionKind},
    discovery::ApiResource,
};
use serde_json::Value;

use super::Sandbox;

/// A kind of child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildKind {
    pub kind: &'static str,
    group: &'static str,
    version: &'static str,
    /// Part of Redis, not of the application.
    pub is_redis: bool,
}

pub const DEPLOYMENT: ChildKind = app("Deployment", "apps", "v1");
pub const AUTOSCALER: ChildKind = app("HorizontalPodAutoscaler", "autoscaling", "v2");
pub const SERVICE: ChildKind = app("Service", "", "v1");
pub const DISRUPTION_BUDGET: ChildKind = app("PodDisruptionBudget", "policy", "v1");
pub const SERVICE_ACCOUNT: ChildKind = app("ServiceAccount", "", "v1");
pub const STATEFUL_SET: ChildKind = redis("StatefulSet", "apps");
pub const REDIS_SERVICE: ChildKind = redis("Service", "");
pub const REDIS_CONFIG: ChildKind = redis("ConfigMap", "");
pub const REDIS_SECRET: ChildKind = redis("Secret", "");
pub const REDIS_POLICY: ChildKind = redis("NetworkPolicy", "networking.k8s.io");

/// Not there unless they are asked for.
pub const APP_POLICY: ChildKind = app("NetworkPolicy", "networking.k8s.io", "v1");
pub const INGRESS: ChildKind = app("Ingress", "networking.k8s.io", "v1");
pub const HTTP_ROUTE: ChildKind = app("HTTPRoute", "gateway.networking.k8s.io", "v1");
pub const POD_MONITOR: ChildKind = app("PodMonitor", "monitoring.coreos.com", "v1");
pub const REDIS_POD_MONITOR: ChildKind = redis("PodMonitor", "monitoring.coreos.com");

/// Those of every CachedService.
pub const CHILDREN: [ChildKind; 9] = [
    DEPLOYMENT,
    AUTOSCALER,
    SERVICE,
    DISRUPTION_BUDGET,
    STATEFUL_SET,
    REDIS_SERVICE,
    REDIS_CONFIG,
    REDIS_SECRET,
    REDIS_POLICY,
];

const fn app(kind: &'static str, group: &'static str, version: &'static str) -> ChildKind {
    ChildKind { kind, group, version, is_redis: false }
}

const fn redis(kind: &'static str, group: &'static str) -> ChildKind {
    ChildKind { kind, group, version: "v1", is_redis: true }
}

impl ChildKind {
    /// The name of this child of the CachedService `service`.
    pub fn name(self, service: &str) -> String {
        if self.is_redis { redis_name(service) } else { service.to_owned() }
    }

    /// `apiVersion`, as in a manifest.
    pub fn api_version(self) -> String {
        self.resource().api_version
    }

    /// As the API server knows it.
    pub fn resource(self) -> ApiResource {
        ApiResource::from_gvk(&GroupVersionKind::gvk(self.group, self.version, self.kind))
    }
}

impl Sandbox {
    /// The objects of a child's kind.
    pub fn children(&self, kind: ChildKind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind.resource())
    }

    /// A child of a CachedService, if it is there.
    pub async fn find(&self, kind: ChildKind, service: &str) -> Option<DynamicObject> {
        self.children(kind).get_opt(&kind.name(service)).await.expect("get a child")
    }

    /// A child of a CachedService.
    pub async fn child(&self, kind: ChildKind, service: &str) -> DynamicObject {
        self.children(kind).get(&kind.name(service)).await.expect("get a child")
    }

    /// Changes a child as `kubectl patch --type strategic` would.
    pub async fn patch(&self, kind: ChildKind, service: &str, patch: Value) -> DynamicObject {
        let parameters =
            PatchParams { field_manager: Some("kubectl-patch".to_owned()), ..PatchParams::default() };
        let children = self.children(kind);
        children
            .patch(&kind.name(service), &parameters, &Patch::Strategic(patch))
            .await
            .expect("patch a child")
    }
}

/// The uid of an object that is there.
pub fn uid(object: &DynamicObject) -> String {
    object.uid().expect("a uid")
}
