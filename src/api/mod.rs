//! The `CachedService` resource: what users write and read.
//!
//! Every default lives in the schema, so that `kubectl get -o yaml` and
//! `kubectl explain` show it, and every rule that needs no look at the cluster
//! is CEL in the schema, so that a mistake is refused when it is written.
//!
//! The API server refuses fields that are none; what it lets through and these
//! types do not know is of a newer CRD, and is passed over while the operator is
//! upgraded.
//!
//! Each part of the spec has its own file, and so has the `CachePurge`. The CRDs
//! that `crds/` holds are made from these types by `cachedservice-operator crd`.

mod application;
mod autoscaling;
mod balancing;
mod cache;
mod cache_purge;
mod crd;
mod disruption_budget;
mod monitoring;
pub mod names;
mod near_cache;
mod network_policy;
mod pods;
mod probes;
mod redis;
mod rollout;
mod routing;
mod schema;
mod service;
mod service_account;
mod sidecar;
mod status;
mod switches;
mod template_revision;

pub use application::{Resources, Shutdown};
pub use autoscaling::Autoscaling;
pub use balancing::{Balancing, BalancingHealthCheck, BalancingMode, Breaker, RetryBudget};
pub use cache::{Cache, HeaderMatch, HttpCache, HttpPreset, HttpRule, RequestMethod};
pub use cache_purge::{
    ApplicationPurge, COMPLETE, CachePurge, CachePurgeSpec, CachePurgeStatus, InRedis, PendingPod,
};
pub use crd::{crd, crd_yaml, purge_crd};
pub use disruption_budget::DisruptionBudget;
pub use monitoring::Monitoring;
pub use near_cache::{
    NearCache, NearCachePool, NearCachePreset, NearCacheRule, NearCacheSingleFlight, WhenRedisFails,
};
pub use network_policy::{AppNetworkPolicy, NetworkPolicies, RedisNetworkPolicy};
pub use pods::is_of_deployment;
pub use probes::{ProbeSwitch, Probes};
pub use redis::{
    EvictionPolicy, Exporter, ExternalRedis, Persistence, Redis, RedisAuth, RedisMode, SecretKeyRef,
    WhenDeleted,
};
pub use rollout::{Rollout, RolloutStrategy};
pub use routing::{GatewayRef, HttpRoute, Ingress};
pub use schema::{DurationError, parse_duration};
pub use service::{Service, ServiceType};
pub use service_account::ServiceAccount;
pub use sidecar::Sidecar;
pub use status::{
    CachedServiceStatus, NearCacheStatus, RedisStatus, SidecarsStatus, TemplateRevisions, condition_type,
};
pub use switches::{Pause, SWITCHES};
pub use template_revision::TemplateRevision;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, LocalObjectReference};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use schema::rule;

/// A stateless HTTP service with its autoscaler, its Redis and its Service.
///
/// The operator turns one CachedService into a Deployment, a
/// `HorizontalPodAutoscaler`, a `PodDisruptionBudget` and a Service that carry
/// its name, and a Redis whose objects carry its name with `-redis` behind it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "cachedservice.dev",
    version = "v1alpha1",
    kind = "CachedService",
    plural = "cachedservices",
    shortname = "csvc",
    namespaced,
    status = "CachedServiceStatus",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    derive = "PartialEq",
    doc = "A stateless HTTP service with its autoscaler, its Redis and its Service, kept in the state that spec describes.",
    validation = rule(
        "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "metadata.name: start with a letter and use only lower-case letters, digits and '-', as in my-shop: a Service carries the same name (DNS-1035)",
    ),
    validation = rule(
        "self.metadata.name.size() <= 40",
        "metadata.name: use at most 40 characters: the names of the children and their pods are made from it",
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        description = "True when this generation serves: everything applied, Redis has answered, enough updated pods available",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        description = "Why Ready is what it is",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(
        name = "Replicas",
        type_ = "string",
        description = "Ready pods / pods wanted now",
        json_path = ".status.replicasReady"
    ),
    printcolumn(
        name = "Min-Max",
        type_ = "string",
        description = "The range of the autoscaler, or the fixed number",
        json_path = ".status.replicasRange"
    ),
    printcolumn(
        name = "CPU",
        type_ = "string",
        description = "Average CPU of the app containers / target, both in percent of the request",
        json_path = ".status.cpu"
    ),
    printcolumn(
        name = "Hits",
        type_ = "string",
        description = "Requests answered from the cache, of those that it might have answered",
        json_path = ".status.sidecars.hitRatio"
    ),
    printcolumn(
        name = "Redis",
        type_ = "string",
        description = "Why RedisReady is what it is",
        json_path = ".status.conditions[?(@.type==\"RedisReady\")].reason"
    ),
    printcolumn(
        name = "Saved",
        type_ = "integer",
        description = "Requests that the application was spared by the sidecars that run, to two digits",
        json_path = ".status.sidecars.savedRequests",
        priority = 1
    ),
    printcolumn(
        name = "Near-Hits",
        type_ = "string",
        description = "Reads of Redis that the near-cache has answered, of those that it might have answered",
        json_path = ".status.sidecars.nearCache.hitRatio",
        priority = 1
    ),
    printcolumn(
        name = "Near-Saved",
        type_ = "integer",
        description = "Reads that Redis was spared by the sidecars that run, to two digits",
        json_path = ".status.sidecars.nearCache.savedReads",
        priority = 1
    ),
    printcolumn(
        name = "Settings",
        type_ = "string",
        description = "Sidecars that have loaded the present settings / sidecars that were asked",
        json_path = ".status.sidecars.settingsLoaded",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule(
        "!has(self.replicas) || !self.autoscaling.enabled",
        "spec.replicas: the autoscaler sets the number of pods, from autoscaling.minReplicas to maxReplicas; change these and leave replicas out, or set autoscaling.enabled to false",
    ),
    validation = rule(
        "!self.disruptionBudget.enabled || !self.autoscaling.enabled || !has(self.disruptionBudget.minAvailable) || type(self.disruptionBudget.minAvailable) == string || self.disruptionBudget.minAvailable < self.autoscaling.minReplicas",
        "spec.disruptionBudget.minAvailable: must be below autoscaling.minReplicas, or no node could be drained while there are that few pods",
    ),
    validation = rule(
        "self.rollout.minReadySeconds < duration(self.progressDeadline).getSeconds()",
        "spec.rollout.minReadySeconds: must be less than progressDeadline, or no rollout could end in time",
    ),
    validation = rule(
        "!has(self.balancing) || !self.balancing.enabled || !has(self.shutdown.drain) || duration(self.shutdown.drain) >= duration('12s')",
        "spec.shutdown.drain: with balancing write at least 12s: so long the others may still ask a leaving pod",
    ),
)]
pub struct CachedServiceSpec {
    /// The container image of the application, for example `example.com/shop:1.4`.
    #[schemars(length(min = 1, max = 1024))]
    pub image: String,

    /// The port that the application listens on, 1 to 65535. It reaches the
    /// application as the environment variable `PORT`. Default 8080.
    #[serde(default = "default_port")]
    #[x_kube(validation = rule(
        "self >= 1 && self <= 65535",
        "spec.port: write a port from 1 to 65535",
    ))]
    pub port: i32,

    /// Replaces the image's entrypoint (Kubernetes `command`). Unset: the
    /// image's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), inner(length(max = 32768)))]
    pub command: Option<Vec<String>>,

    /// Replaces the image's arguments (Kubernetes `args`). Unset: the image's
    /// own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), inner(length(max = 32768)))]
    pub args: Option<Vec<String>>,

    /// Environment variables of the application, as in a pod. The operator
    /// adds `PORT` and `REDIS_URL` unless they stand here or in `template`.
    /// Default: none of your own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 512),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub env: Vec<EnvVar>,

    /// Sources of environment variables (ConfigMaps and Secrets), as in a pod.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), extend("x-kubernetes-list-type" = "atomic"))]
    pub env_from: Vec<EnvFromSource>,

    /// CPU and memory of the application container. Default, where nothing of
    /// it is written: requests of 100m CPU and 128Mi memory, no limits. Where
    /// neither a CPU request nor a CPU limit is written, 100m is requested: the
    /// autoscaler measures against it.
    #[serde(default)]
    pub resources: Resources,

    /// When the kubelet pulls the image: `Always`, `IfNotPresent` or `Never`.
    /// Unset: `Always` for the tag `latest`, else `IfNotPresent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 12))]
    #[x_kube(validation = rule(
        "self in ['Always', 'IfNotPresent', 'Never']",
        "spec.imagePullPolicy: write Always, IfNotPresent or Never",
    ))]
    pub image_pull_policy: Option<String>,

    /// Secrets with credentials of image registries, for the application's and
    /// Redis's pods. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub image_pull_secrets: Vec<LocalObjectReference>,

    /// Refuse to start the application as root (user id 0). Default false,
    /// because many images still run as root; set it to true where yours does not.
    #[serde(default)]
    pub run_as_non_root: bool,

    /// The ServiceAccount of the application's pods.
    #[serde(default)]
    pub service_account: ServiceAccount,

    /// Labels for every object that is made from this one, beside the operator's
    /// own; not for pods. Default: none of your own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    #[x_kube(validation = schema::own_keys_rule("spec.labels"))]
    pub labels: BTreeMap<String, String>,

    /// Annotations for every object that is made from this one; not for pods.
    /// Default: none of your own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::annotations")]
    #[x_kube(validation = schema::own_keys_rule("spec.annotations"))]
    pub annotations: BTreeMap<String, String>,

    /// Labels for the application's pods, beside the operator's own. Default:
    /// none of your own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    #[x_kube(validation = schema::own_keys_rule("spec.podLabels"))]
    pub pod_labels: BTreeMap<String, String>,

    /// Annotations for the application's pods. Default: none of your own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub pod_annotations: BTreeMap<String, String>,

    /// Health probes of the application container. By default all three ask for
    /// `path` over HTTP on `port`; each try may take 3 seconds.
    #[serde(default)]
    pub probes: Probes,

    /// How a pod leaves: it drains, then the application gets SIGTERM, and
    /// SIGKILL if it does not end in time.
    #[serde(default)]
    pub shutdown: Shutdown,

    /// How long a rollout may make no progress before Ready turns False.
    /// A duration such as `90s` or `10m`, 24h at most. Default `10m`.
    #[serde(default = "default_progress_deadline")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = schema::duration_rule("spec.progressDeadline"))]
    pub progress_deadline: String,

    /// How pods of a new template take the place of those of an earlier one.
    #[serde(default)]
    pub rollout: Rollout,

    /// How many of the application's pods a node drain may evict at once.
    #[serde(default)]
    pub disruption_budget: DisruptionBudget,

    /// How the application's pods are spread over nodes, zones and so on, as in
    /// a pod. A constraint without `labelSelector` counts these pods. Unset: as
    /// evenly as possible over nodes and over zones, and never at the cost of a
    /// pod that cannot be scheduled; `[]` for no such preference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::constraints")]
    pub topology_spread_constraints: Option<Vec<Value>>,

    /// Which nodes the application's pods need or prefer, and which pods they
    /// run near to or apart from, as in a pod. Unset: no such wish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_object")]
    pub affinity: Option<Value>,

    /// Taints of nodes that the application's pods tolerate, as in a pod.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::tolerations")]
    pub tolerations: Vec<Value>,

    /// Labels that a node needs to run the application's pods. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub node_selector: BTreeMap<String, String>,

    /// The `PriorityClass` of the application's pods. Unset: the cluster's
    /// default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,

    /// The number of pods when `autoscaling.enabled` is false, 0 to 10000.
    /// Unset: the value of `autoscaling.minReplicas`. Not allowed while
    /// autoscaling is on. `kubectl scale` sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule(
        "self >= 0 && self <= 10000",
        "spec.replicas: write a number from 0 to 10000",
    ))]
    pub replicas: Option<i32>,

    /// The range and the targets of the `HorizontalPodAutoscaler`.
    #[serde(default)]
    pub autoscaling: Autoscaling,

    /// The Service in front of the application.
    #[serde(default)]
    pub service: Service,

    /// An Ingress to the Service. Unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Ingress>,

    /// An `HTTPRoute` of the Gateway API to the Service. Unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_route: Option<HttpRoute>,

    /// Who may connect to the pods.
    #[serde(default)]
    pub network_policy: NetworkPolicies,

    /// How a Prometheus finds the metrics.
    #[serde(default)]
    pub monitoring: Monitoring,

    /// The Redis of the application.
    #[serde(default)]
    pub redis: Redis,

    /// The caching tiers in front of the application. Unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,

    /// How the sidecars spread requests over the replicas, with a cache or without.
    /// Unset: each pod's requests stay with its own application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balancing: Option<Balancing>,

    /// The sidecar in the application's pods, which is there while a tier of
    /// `cache` or `balancing` is on.
    #[serde(default)]
    pub sidecar: Sidecar,

    /// A Kubernetes pod template for whatever the other fields do not reach:
    /// volumes, further containers, security contexts and so on. It is merged as
    /// `kubectl patch --type strategic` merges, lists by their key; the
    /// container `app` is the application's. It wins over the operator's
    /// defaults and loses to the fields of this spec and their defaults. Read
    /// strictly: an unknown field is named in the status, and nothing is
    /// changed. Unset: nothing is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_object")]
    pub template: Option<Value>,

    /// The revision of the operator's defaults in the pods, of the application and
    /// of Redis: a new one restarts them, so it is taken over when you write it
    /// here, and an older one can be gone back to. `status.templateRevision` has
    /// the present and the newest. Unset: what runs stays, and a new CachedService
    /// gets the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = schema::revision_rule("spec.templateRevision"))]
    pub template_revision: Option<i32>,
}

impl CachedServiceSpec {
    /// The HTTP tier, if it is on.
    #[must_use]
    pub fn http_cache(&self) -> Option<&HttpCache> {
        self.cache.as_ref()?.http.as_ref().filter(|http| http.enabled)
    }

    /// The near-cache, if it is on.
    #[must_use]
    pub fn near_cache(&self) -> Option<&NearCache> {
        self.cache.as_ref()?.application.as_ref().filter(|application| application.enabled)
    }

    /// Whether a caching tier is on.
    #[must_use]
    pub fn has_cache(&self) -> bool {
        self.http_cache().is_some() || self.near_cache().is_some()
    }

    /// How requests are spread over the replicas, if they are.
    #[must_use]
    pub fn balancing(&self) -> Option<&Balancing> {
        self.balancing.as_ref().filter(|balancing| balancing.enabled)
    }

    /// Whether the pods have a sidecar.
    #[must_use]
    pub fn has_sidecar(&self) -> bool {
        self.has_cache() || self.balancing().is_some()
    }
}

fn default_port() -> i32 {
    8080
}

fn default_progress_deadline() -> String {
    "10m".to_owned()
}
