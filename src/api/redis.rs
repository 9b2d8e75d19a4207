//! The Redis of the application.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{application::Resources, schema::rule};

/// The Redis of the application. Its URL reaches the application as the
/// environment variable `REDIS_URL`.
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
        "(!has(self.resources.requests) || !('memory' in self.resources.requests)) && (!has(self.resources.limits) || !('memory' in self.resources.limits))",
        "spec.redis.resources: leave memory out; spec.redis.memory sets its request, its limit and maxmemory together",
    ),
)]
pub struct Redis {
    /// Where Redis runs: `Standalone`, one pod that the operator runs and whose
    /// contents are gone when it restarts, or `External`, a Redis of yours.
    /// Default `Standalone`.
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
            external: None,
        }
    }
}

/// Where Redis runs.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedisMode {
    /// One pod, run by the operator. Its contents are gone when it restarts.
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

fn default_resources() -> Resources {
    Resources {
        requests: [(
            "cpu".to_owned(),
            k8s_openapi::apimachinery::pkg::api::resource::Quantity("50m".to_owned()),
        )]
        .into(),
        limits: std::collections::BTreeMap::new(),
    }
}

fn default_auth() -> bool {
    true
}

fn default_key() -> String {
    "url".to_owned()
}
