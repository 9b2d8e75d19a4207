//! What the operator reports.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The types of the conditions.
pub mod condition_type {
    /// This generation serves.
    pub const READY: &str = "Ready";
    /// The operator or Kubernetes is still at work on this generation.
    pub const PROGRESSING: &str = "Progressing";
    /// Something is wrong that a person should know of.
    pub const DEGRADED: &str = "Degraded";
    /// Enough updated pods of the application are available.
    pub const APPLICATION_READY: &str = "ApplicationReady";
    /// Redis answers.
    pub const REDIS_READY: &str = "RedisReady";
    /// The autoscaler works and has figures to work with.
    pub const AUTOSCALING_READY: &str = "AutoscalingReady";
    /// The pods have the sidecar with the caching tiers; only there while one is on.
    pub const CACHE_READY: &str = "CacheReady";
    /// The sidecars spread requests over the replicas; only there while balancing is on.
    pub const BALANCING_READY: &str = "BalancingReady";
    /// The operator leaves the children as they are, by order of an annotation.
    pub const PAUSED: &str = "Paused";
    /// The pods have the newest defaults of the operator.
    pub const UP_TO_DATE: &str = "UpToDate";

    /// Each of them.
    pub const ALL: [&str; 10] = [
        READY,
        PROGRESSING,
        DEGRADED,
        APPLICATION_READY,
        REDIS_READY,
        AUTOSCALING_READY,
        CACHE_READY,
        BALANCING_READY,
        PAUSED,
        UP_TO_DATE,
    ];
}

/// What the operator has seen. Written when something changes; a change of
/// figures alone (CPU, hits) is written at most once a minute, one of the numbers of pods alone every two seconds.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CachedServiceStatus {
    /// The `metadata.generation` that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Ready`, `Progressing`, `Degraded`, one per part (`ApplicationReady`,
    /// `RedisReady`, `AutoscalingReady`, `CacheReady` while a tier of the cache is on, `BalancingReady` while balancing is), `Paused` and `UpToDate`. Each names the
    /// generation it is about, a reason for programs and a message for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,

    /// The pods of the application that exist.
    #[serde(default)]
    pub replicas: i32,

    /// Selects the pods of the application, as a label selector in the form of
    /// a text: for `kubectl scale`, autoscalers and whatever else scales.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,

    /// The pods that the Deployment wants now.
    #[serde(default)]
    pub desired_replicas: i32,

    /// The pods that pass their readiness probe.
    #[serde(default)]
    pub ready_replicas: i32,

    /// The pods of the newest template that are available.
    #[serde(default)]
    pub updated_replicas: i32,

    /// Ready pods / pods wanted now, as the column `Replicas` shows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas_ready: Option<String>,

    /// The range of the autoscaler, or the fixed number, as the column
    /// `Min-Max` shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas_range: Option<String>,

    /// Average CPU of the application containers and its target, both in
    /// percent of the CPU request, right to 4 points, such as `35%/70%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,

    /// Host and port under which the application is reached inside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,

    /// The Redis of the application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisStatus>,

    /// What the sidecars that run tell, asked once a minute. Only there while one runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sidecars: Option<SidecarsStatus>,

    /// The revision of the operator's defaults in the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_revision: Option<TemplateRevisions>,

    /// The value of the annotation `cachedservice.dev/reconcile-at`, or its first
    /// 64 characters, for which every child was last looked at and applied anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
}

/// The revision of the operator's defaults in the pods.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TemplateRevisions {
    /// The revision that the Deployment has, or had before it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<i32>,

    /// The newest revision that the operator knows.
    #[serde(default)]
    pub newest: i32,
}

/// What the sidecars that run tell. They count from their start on: a pod that goes takes its
/// figures along.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SidecarsStatus {
    /// How many of the requests that the cache might have answered it has answered, in percent,
    /// right to a point, such as `72%`. Only there while `cache.http` is on, from the first such request on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hit_ratio: Option<String>,

    /// Requests that the application was spared, to two digits, downwards. Only there while
    /// `cache.http` is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved_requests: Option<i64>,

    /// What the near-cache has answered. Only there while `cache.application` is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub near_cache: Option<NearCacheStatus>,

    /// Sidecars that have loaded the present settings / sidecars that were asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings_loaded: Option<String>,

    /// A digest of the present settings, which each sidecar tells of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<String>,
}

/// What the near-cache has answered of what the application read of its Redis.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NearCacheStatus {
    /// How many of the reads that memory might have answered it has answered, in percent, right to a
    /// point, such as `91%`. Only there from the first such read on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hit_ratio: Option<String>,

    /// Reads that Redis was spared, to two digits, downwards.
    #[serde(default)]
    pub saved_reads: i64,
}

/// The Redis of the application.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RedisStatus {
    /// Host and port of Redis. Never a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,

    /// A digest of the Redis that has answered at least once. While it equals
    /// the Redis that is wanted, an outage sets `Degraded` and leaves `Ready`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<String>,

    /// A digest of the credentials with which it answered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<String>,
}
