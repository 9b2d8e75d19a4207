//! From a [`Plan`] to the objects that make it true. PURE, and it cannot fail.
//!
//! [`Children`] is taken apart without `..` wherever it is used: a new child
//! does not compile until it is applied, pruned and reported.

mod app_container;
mod autoscaler;
mod deployment;
mod disruption_budget;
mod pod;
mod pod_template;
mod redis_config;
mod redis_secret;
mod redis_service;
mod redis_stateful_set;
mod service;

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    autoscaling::v2::HorizontalPodAutoscaler,
    core::v1::{ConfigMap, Secret, Service},
    policy::v1::PodDisruptionBudget,
};

use super::plan::{Plan, RedisPlan, Replicas};

/// The objects of one CachedService. `None`: there shall be none.
#[derive(Clone, Debug)]
pub struct Children {
    /// Password, URL and ACL file of Redis.
    pub redis_secret: Option<Secret>,
    /// Redis's configuration file.
    pub redis_config: Option<ConfigMap>,
    /// Redis's name in DNS.
    pub redis_service: Option<Service>,
    /// Redis.
    pub stateful_set: Option<StatefulSet>,
    /// The application's Service.
    pub service: Service,
    /// How many of the application's pods may be evicted at once.
    pub disruption_budget: PodDisruptionBudget,
    /// The application, without `spec.replicas` where the autoscaler sets it.
    pub deployment: Deployment,
    /// The autoscaler.
    pub autoscaler: Option<HorizontalPodAutoscaler>,
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
        redis_service: standalone.map(|_| redis_service::service(&plan.identity)),
        stateful_set: standalone
            .zip(config.as_ref())
            .map(|(redis, config)| redis_stateful_set::stateful_set(plan, redis, config)),
        redis_config: config,
        service: service::service(plan),
        disruption_budget: disruption_budget::disruption_budget(&plan.identity),
        deployment: deployment::deployment(plan),
        autoscaler: autoscaling.map(|autoscaling| autoscaler::autoscaler(&plan.identity, autoscaling)),
    }
}
