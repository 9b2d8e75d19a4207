//! The Redis of the application.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    application::Resources,
    schema::{self, rule},
};

/// The Redis of the application. Its URL reaches the application as the
/// environment variable `REDIS_URL`, or the sidecar while `cache.application` is on.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule(
        "self.mode != 'External' || has(self.external)",
        "spec.redis: mode External needs the Secret with the URL; write external: {urlSecretRef: {name: my-redis, key: url}}",
    ),
    validation = rule(
        "self.mode == 'External' || !has(self.external)",
        "spec.redis.external only goes with mode External; set mode to External or remove external",
    ),
    validation = rule(
        "self.mode != 'External' || (!self.persistence.enabled && !self.exporter.enabled)",
        "spec.redis: persistence and exporter only go with a Redis that the operator runs; switch them off, or set mode to Standalone",
    ),
    validation = rule(
        "!self.persistence.enabled || !isQuantity(self.memory) || !isQuantity(self.persistence.size) || quantity(self.persistence.size).compareTo(quantity(self.memory).add(quantity(self.memory)).add(quantity(self.memory))) >= 0",
        "spec.redis.persistence.size: write at least three times spec.redis.memory; while the file with the writes is written anew, the old one and the new one are there",
    ),
    validation = rule(
        "(!has(self.resources.requests) || !('memory' in self.resources.requests)) && (!has(self.resources.limits) || !('memory' in self.resources.limits))",
        "spec.redis.resources: leave memory out; spec.redis.memory sets its request, its limit and maxmemory together",
    ),
)]
pub struct Redis {
    /// Where Redis runs: `Standalone`, one pod that the operator runs and whose
    /// contents are gone when it restarts unless `persistence` is enabled, or
    /// `External`, a Redis of yours. Default `Standalone`.
    #[serde(default)]
    pub mode: RedisMode,

    /// Memory request and limit of the Redis container; `maxmemory` is three
    /// quarters of it, the rest is for connections and fragmentation. A quantity
    /// in bytes of at least 32Mi. Default `256Mi`.
    #[serde(default = "default_memory")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = rule(
        "isQuantity(self) && quantity(self).compareTo(quantity('32Mi')) >= 0",
        "spec.redis.memory: write a quantity of at least 32Mi, such as 256Mi or 2Gi",
    ))]
    pub memory: String,

    /// What Redis drops when `maxmemory` is reached (Redis `maxmemory-policy`):
    /// `noeviction` nothing, writes fail instead; of all keys `allkeys-lru`,
    /// `allkeys-lfu` or `allkeys-random`; of the keys with a TTL alone
    /// `volatile-lru`, `volatile-lfu`, `volatile-random` or `volatile-ttl`.
    /// Default `allkeys-lfu`: the least often used keys.
    #[serde(default)]
    pub eviction_policy: EvictionPolicy,

    /// The password of the Redis that the operator runs.
    #[serde(default)]
    pub auth: RedisAuth,

    /// The image of Redis 7 or later, with `redis-server`, `redis-cli` and `sh`,
    /// that can run as user and group id 999. Unset: the image that the operator
    /// was installed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,

    /// CPU of the Redis container; its memory is set by `memory`. Default: a
    /// request of 50m CPU, no limit.
    #[serde(default = "default_resources")]
    pub resources: Resources,

    /// Keeps the data of Redis on a volume, so that a restart does not empty it.
    #[serde(default)]
    pub persistence: Persistence,

    /// A container beside Redis that serves its figures to a Prometheus, on the
    /// port `metrics` (9121).
    #[serde(default)]
    pub exporter: Exporter,

    /// Which nodes Redis's pod needs or prefers, and which pods it runs near to
    /// or apart from, as in a pod. Unset: no such wish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_object")]
    pub affinity: Option<Value>,

    /// Taints of nodes that Redis's pod tolerates, as in a pod. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::tolerations")]
    pub tolerations: Vec<Value>,

    /// Labels that a node needs to run Redis's pod. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub node_selector: BTreeMap<String, String>,

    /// The `PriorityClass` of Redis's pod. Unset: the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,

    /// The Redis of yours: required by mode `External`, refused in the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalRedis>,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            mode: RedisMode::default(),
            memory: default_memory(),
            eviction_policy: EvictionPolicy::default(),
            auth: RedisAuth::default(),
            image: None,
            resources: default_resources(),
            persistence: Persistence::default(),
            exporter: Exporter::default(),
            affinity: None,
            tolerations: Vec::new(),
            node_selector: BTreeMap::new(),
            priority_class_name: None,
            external: None,
        }
    }
}

/// Where Redis runs.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedisMode {
    /// One pod, run by the operator. Its contents are gone when it restarts, unless they are
    /// kept on a volume.
    #[default]
    Standalone,
    /// A Redis of yours.
    External,
}

/// What Redis drops when `maxmemory` is reached
/// (Redis documentation, "Key eviction").
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum EvictionPolicy {
    /// Nothing: writes fail instead.
    Noeviction,
    /// The least recently used keys.
    AllkeysLru,
    /// The least often used keys.
    #[default]
    AllkeysLfu,
    /// Any keys.
    AllkeysRandom,
    /// The least recently used of the keys with a TTL.
    VolatileLru,
    /// The least often used of the keys with a TTL.
    VolatileLfu,
    /// Any of the keys with a TTL.
    VolatileRandom,
    /// The keys with the shortest TTL left.
    VolatileTtl,
}

impl EvictionPolicy {
    /// The value of `maxmemory-policy`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Noeviction => "noeviction",
            Self::AllkeysLru => "allkeys-lru",
            Self::AllkeysLfu => "allkeys-lfu",
            Self::AllkeysRandom => "allkeys-random",
            Self::VolatileLru => "volatile-lru",
            Self::VolatileLfu => "volatile-lfu",
            Self::VolatileRandom => "volatile-random",
            Self::VolatileTtl => "volatile-ttl",
        }
    }
}

/// The password of the Redis that the operator runs.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RedisAuth {
    /// Whether clients need a password. It is generated once and stands in the
    /// Secret NAME-redis under `password`; change it there, or delete the
    /// Secret, and Redis and the application are rolled onto the new one.
    /// Default true.
    #[serde(default = "default_auth")]
    pub enabled: bool,
}

impl Default for RedisAuth {
    fn default() -> Self {
        Self { enabled: default_auth() }
    }
}

/// A volume for the data of Redis. Every write is appended to a file that is
/// flushed once a second (Redis `appendfsync everysec`).
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule(
        "!self.enabled || !oldSelf.enabled || !isQuantity(self.size) || !isQuantity(oldSelf.size) || quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0",
        "spec.redis.persistence.size cannot shrink, because a volume cannot; write at least what it was",
    ),
)]
pub struct Persistence {
    /// Whether Redis keeps its data on the volume of the PersistentVolumeClaim
    /// NAME-redis. Switched on or off later, Redis is restarted and starts with
    /// what the volume holds, or empty. Default false.
    #[serde(default)]
    pub enabled: bool,

    /// How large the volume is. A quantity in bytes of at least 96Mi and at least
    /// three times `redis.memory`: the file with the writes grows to twice the data
    /// and is then written anew, beside the old one. It can grow where the
    /// StorageClass allows it, and cannot shrink. Default `1Gi`.
    #[serde(default = "default_size")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = rule(
        "isQuantity(self) && quantity(self).compareTo(quantity('96Mi')) >= 0",
        "spec.redis.persistence.size: write a quantity of at least 96Mi, such as 1Gi",
    ))]
    pub size: String,

    /// The StorageClass. Unset: the cluster's default one. It cannot change
    /// while the claim exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub storage_class_name: Option<String>,

    /// What becomes of the claim, and with it of the data, when the
    /// CachedService is deleted or persistence is switched off: `Retain` keeps
    /// it, and a CachedService of the same name takes it up again; `Delete`
    /// deletes it. To switch off with `Delete`, leave it written: a block that is
    /// taken out counts as `Retain`. What is retained, only you delete. Default
    /// `Retain`.
    #[serde(default)]
    pub when_deleted: WhenDeleted,
}

impl Default for Persistence {
    fn default() -> Self {
        Self {
            enabled: false,
            size: default_size(),
            storage_class_name: None,
            when_deleted: WhenDeleted::default(),
        }
    }
}

/// What becomes of data that nobody uses any more.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenDeleted {
    /// It is kept.
    #[default]
    Retain,
    /// It goes.
    Delete,
}

/// `redis_exporter` beside Redis.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Exporter {
    /// Whether the container is there; switching it restarts Redis. Default false.
    #[serde(default)]
    pub enabled: bool,

    /// The image of `redis_exporter`. Unset: the image that the operator was
    /// installed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,

    /// CPU and memory of the container. Default: requests of 10m CPU and 32Mi
    /// memory, a limit of 128Mi memory. Where ephemeral storage is not named, 64Mi
    /// of it are requested, and are the limit if Redis has one.
    #[serde(default = "default_exporter_resources")]
    pub resources: Resources,
}

impl Default for Exporter {
    fn default() -> Self {
        Self { enabled: false, image: None, resources: default_exporter_resources() }
    }
}

/// A Redis that the operator does not run.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ExternalRedis {
    /// The key of a Secret, in the same namespace, that holds the URL, such as
    /// `redis://user:password@host:6379/0` (or `rediss://` for TLS), its
    /// parts percent-encoded.
    pub url_secret_ref: SecretKeyRef,
}

/// A key of a Secret in the same namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// The key in it. Default `url`.
    #[serde(default = "default_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn default_memory() -> String {
    "256Mi".to_owned()
}

fn default_size() -> String {
    "1Gi".to_owned()
}

fn default_resources() -> Resources {
    requests([("cpu", "50m")])
}

fn default_exporter_resources() -> Resources {
    let limits = [("memory".to_owned(), Quantity("128Mi".to_owned()))];
    Resources { limits: limits.into(), ..requests([("cpu", "10m"), ("memory", "32Mi")]) }
}

fn requests<const N: usize>(quantities: [(&str, &str); N]) -> Resources {
    let requests = quantities.map(|(name, quantity)| (name.to_owned(), Quantity(quantity.to_owned())));
    Resources { requests: requests.into(), limits: BTreeMap::new() }
}

fn default_auth() -> bool {
    true
}

fn default_key() -> String {
    "url".to_owned()
}
