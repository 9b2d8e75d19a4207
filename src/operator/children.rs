//! From a [`Plan`] to the objects that make it true. PURE, and it cannot fail.
//!
//! [`Children`] is taken apart without `..` wherever it is used: a new child
//! does not compile until it is applied, pruned and reported.

mod app_container;
pub mod app_policy;
mod autoscaler;
mod deployment;
mod digest_key;
mod disruption_budget;
mod http_route;
mod ingress;
mod monitor;
mod peers_service;
mod pod;
mod pod_template;
mod redis_claim;
mod redis_config;
mod redis_exporter;
mod redis_policy;
mod redis_secret;
mod redis_service;
mod redis_stateful_set;
mod service;
mod service_account;
mod sidecar_config;
mod sidecar_container;
mod sidecar_secret;

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    autoscaling::v2::HorizontalPodAutoscaler,
    core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount},
    networking::v1::{Ingress, NetworkPolicy},
    policy::v1::PodDisruptionBudget,
};

use super::{
    custom_kinds::{HTTPRoute, PodMonitor},
    plan::{Plan, RedisPlan, Replicas},
};

/// The objects of one CachedService. `None`: there shall be none.
#[derive(Clone, Debug)]
pub struct Children {
    /// Password, URL and ACL file of Redis.
    pub redis_secret: Option<Secret>,
    /// Redis's configuration file.
    pub redis_config: Option<ConfigMap>,
    /// Redis's name in DNS.
    pub redis_service: Option<Service>,
    /// Who may connect to Redis.
    pub redis_policy: Option<NetworkPolicy>,
    /// Where Redis keeps its data.
    pub redis_claim: Option<PersistentVolumeClaim>,
    /// Redis.
    pub stateful_set: Option<StatefulSet>,
    /// Where a Prometheus finds the metrics of Redis's exporter.
    pub redis_monitor: Option<PodMonitor>,
    /// The application's Service.
    pub service: Service,
    /// The name in DNS of the pods that requests are spread over.
    pub peers_service: Option<Service>,
    /// Who may connect to the application.
    pub app_policy: Option<NetworkPolicy>,
    /// The way in from outside the cluster.
    pub ingress: Option<Ingress>,
    /// The way in by the Gateway API.
    pub http_route: Option<HTTPRoute>,
    /// The key of the digests of what the application refers to.
    pub digest_key: Option<Secret>,
    /// The token of the application's sidecars.
    pub sidecar_secret: Option<Secret>,
    /// Their settings.
    pub sidecar_config: Option<ConfigMap>,
    /// The account of the application's pods.
    pub service_account: Option<ServiceAccount>,
    /// How many of the application's pods may be evicted at once.
    pub disruption_budget: Option<PodDisruptionBudget>,
    /// The application, without `spec.replicas` where the autoscaler sets it.
    pub deployment: Deployment,
    /// The autoscaler.
    pub autoscaler: Option<HorizontalPodAutoscaler>,
    /// Where a Prometheus finds the metrics of the application.
    pub app_monitor: Option<PodMonitor>,
}

/// The objects of a plan.
#[must_use]
pub fn children(plan: &Plan) -> Children {
    let standalone = match &plan.redis {
        RedisPlan::Standalone(redis) => Some(redis),
        RedisPlan::External { .. } => None,
    };
    let autoscaling = match &plan.replicas {
        Replicas::Autoscaled { autoscaling, .. } => Some(autoscaling),
        Replicas::Fixed(_) => None,
    };
    let config = standalone.map(|redis| redis_config::config_map(&plan.identity, redis));
    Children {
        redis_secret: standalone
            .and_then(|redis| redis.credentials.as_ref())
            .map(|credentials| redis_secret::secret(&plan.identity, credentials)),
        redis_service: standalone.map(|redis| redis_service::service(&plan.identity, redis)),
        redis_policy: standalone.and_then(|redis| redis_policy::network_policy(plan, redis)),
        redis_claim: standalone
            .and_then(|redis| redis.persistence.as_ref())
            .map(|persistence| redis_claim::claim(&plan.identity, persistence)),
        redis_monitor: standalone.and_then(|redis| monitor::of_redis(plan, redis)),
        stateful_set: standalone
            .zip(config.as_ref())
            .map(|(redis, config)| redis_stateful_set::stateful_set(plan, redis, config)),
        redis_config: config,
        service: service::service(plan),
        peers_service: plan.spec.balancing().map(|_| peers_service::service(plan)),
        app_policy: app_policy::network_policy(plan, app_policy::Reached::by(plan)),
        ingress: plan.spec.ingress.as_ref().map(|wanted| ingress::ingress(&plan.identity, wanted)),
        http_route: plan.spec.http_route.as_ref().map(|wanted| http_route::http_route(plan, wanted)),
        digest_key: plan.referred.as_ref().map(|referred| digest_key::secret(&plan.identity, &referred.key)),
        sidecar_secret: plan.sidecar.as_ref().map(|sidecar| sidecar_secret::secret(&plan.identity, sidecar)),
        sidecar_config: plan
            .sidecar
            .as_ref()
            .map(|sidecar| sidecar_config::config_map(&plan.identity, sidecar)),
        service_account: Some(&plan.spec.service_account)
            .filter(|wanted| wanted.create)
            .map(|wanted| service_account::service_account(&plan.identity, wanted)),
        disruption_budget: Some(&plan.spec.disruption_budget)
            .filter(|wanted| wanted.enabled)
            .map(|wanted| disruption_budget::disruption_budget(&plan.identity, wanted)),
        deployment: deployment::deployment(plan),
        app_monitor: monitor::of_application(plan),
        autoscaler: autoscaling.map(|autoscaling| autoscaler::autoscaler(plan, autoscaling)),
    }
}
