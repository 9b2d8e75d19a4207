//! The near-cache: the memory of each pod in front of the application's Redis.

mod single_flight;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::single_flight::NearCacheSingleFlight;
use super::schema::{between, lasts, lasts_long, rule};

/// What the application asks its Redis, answered from the memory of its own pod.
/// `REDIS_URL` names the sidecar then, at 127.0.0.1:6379, which asks the Redis of
/// `spec.redis` for what it does not know.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule(
        "!isQuantity(self.memory) || !isQuantity(self.maxValueSize) || quantity(self.maxValueSize).compareTo(quantity(self.memory)) <= 0",
        "spec.cache.application.maxValueSize: write at most spec.cache.application.memory; a larger value could not be stored",
    ),
    validation = rule(
        "!has(self.rules) || self.rules.all(each, !has(each.maxValueSize) || !isQuantity(self.memory) || !isQuantity(each.maxValueSize) || quantity(each.maxValueSize).compareTo(quantity(self.memory)) <= 0)",
        "spec.cache.application.rules: maxValueSize: write at most spec.cache.application.memory; a larger value could not be stored",
    ),
)]
pub struct NearCache {
    /// Whether the tier is on. Switched on or off, the pods are rolled, as the
    /// application finds its Redis elsewhere; no request is lost. Default true: to
    /// write `application` switches it on.
    #[serde(default = "on")]
    pub enabled: bool,

    /// How much memory the values take that one pod stores, with their keys. A
    /// quantity in bytes of at least 1Mi. Default `64Mi`.
    #[serde(default = "default_memory")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = rule(
        "isQuantity(self) && quantity(self).compareTo(quantity('1Mi')) >= 0",
        "spec.cache.application.memory: write a quantity of at least 1Mi, such as 64Mi or 1Gi",
    ))]
    pub memory: String,

    /// How long a value is answered from memory at most, and never longer than it
    /// lives in Redis. What changes it, on any replica or in Redis itself, takes it
    /// out of every memory before that. A duration from 1ms to 24h. Default `60s`.
    #[serde(default = "default_ttl")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = lasts("spec.cache.application.ttl", ("1ms", "24h")))]
    pub ttl: String,

    /// A larger value is passed on and not stored: it would take the room of many
    /// small ones, and to send it takes longer than the way to Redis that a hit
    /// saves. A quantity in bytes of Redis' reply, at least 1 and at most `memory`.
    /// Default `1Mi`.
    #[serde(default = "default_max_value_size")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = rule(
        "isQuantity(self) && quantity(self).compareTo(quantity('1')) >= 0",
        "spec.cache.application.maxValueSize: write a quantity of at least 1, such as 1Mi",
    ))]
    pub max_value_size: String,

    /// The TTL that writes are given which leave their key without one, where a rule
    /// has `addTTL`. A duration from 1s to 8760h. Default `3600s`.
    #[serde(default = "default_default_ttl", rename = "defaultTTL")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = lasts_long("spec.cache.application.defaultTTL", "1s"))]
    pub default_ttl: String,

    /// What the application is told while Redis does not answer: `Error`, an error
    /// at once; `Miss`, that there is nothing at what it reads, so that it goes to
    /// its database, and an error to everything else; `StaleOrError` and
    /// `StaleOrMiss`, what memory holds of what it reads, which may have changed
    /// since, and the one or the other where it holds nothing. Default `Error`.
    #[serde(default)]
    pub when_redis_fails: WhenRedisFails,

    /// The connections of each sidecar to Redis, which the application's own share.
    #[serde(default)]
    pub pool: NearCachePool,

    /// What holds for which keys. Of the rules whose prefix a key begins with, that
    /// of the longest prefix counts, in whichever order they stand; what it does not
    /// say, and all other keys, go by the fields above. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["prefix"])
    )]
    pub rules: Vec<NearCacheRule>,
}

/// What the application is told while Redis does not answer. Unset in a rule: as the
/// tier says.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenRedisFails {
    /// An error, at once.
    #[default]
    Error,
    /// That there is nothing at what it reads, and an error to everything else.
    Miss,
    /// What memory holds of what it reads, though it may have changed since; an
    /// error to everything else.
    StaleOrError,
    /// What memory holds of what it reads, though it may have changed since, or else
    /// that there is nothing; an error to everything else.
    StaleOrMiss,
}

/// What these keys are for, which says how long they last where `ttl` and
/// `defaultTTL` of the rule do not: `ComputedData`, 10m in memory and 6h in Redis;
/// `Sessions`, 10s and 30m. Unset: as the tier says.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum NearCachePreset {
    /// What is computed, and kept for hours.
    ComputedData,
    /// Sessions, which last minutes and are looked at each time.
    Sessions,
}

impl NearCachePreset {
    /// How long a value is answered from memory at most, in milliseconds.
    #[must_use]
    pub fn ttl_ms(self) -> u64 {
        match self {
            Self::ComputedData => 10 * MINUTE_MS,
            Self::Sessions => 10_000,
        }
    }

    /// The TTL that writes without one are given where the rule has `addTTL`, in
    /// milliseconds.
    #[must_use]
    pub fn default_ttl_ms(self) -> u64 {
        match self {
            Self::ComputedData => 6 * 60 * MINUTE_MS,
            Self::Sessions => 30 * MINUTE_MS,
        }
    }
}

const MINUTE_MS: u64 = 60_000;

/// The connections of a sidecar to Redis, which the application's own share.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule(
        "self.min <= self.max",
        "spec.cache.application.pool.min: write at most max; so many connections stay, of those that there are",
    ),
)]
pub struct NearCachePool {
    /// So many at most, for all users and databases together; 1 to 1000. However
    /// many connections the application has, these carry their commands. Default 20.
    #[serde(default = "twenty")]
    #[x_kube(validation = between("spec.cache.application.pool.max", (1, 1000)))]
    pub max: i32,

    /// So many stay open though nothing is asked; 0 to 1000, at most `max`.
    /// Default 5.
    #[serde(default = "five")]
    #[x_kube(validation = between("spec.cache.application.pool.min", (0, 1000)))]
    pub min: i32,

    /// How long nothing is asked on one of the others until it ends. A duration from
    /// 1s to 24h. Default `30s`.
    #[serde(default = "default_idle_timeout")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = lasts("spec.cache.application.pool.idleTimeout", ("1s", "24h")))]
    pub idle_timeout: String,

    /// How long it may take to open one. A duration from 10ms to 1m. Default `5s`.
    #[serde(default = "default_connect_timeout")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = lasts("spec.cache.application.pool.connectTimeout", ("10ms", "1m")))]
    pub connect_timeout: String,

    /// How many connections of the application may have one to Redis for themselves,
    /// beside `max`: while they have a transaction, a blocking command or a
    /// subscription. More get an error. 1 to 10000. Default 100.
    #[serde(default = "hundred")]
    #[x_kube(validation = between("spec.cache.application.pool.maxPinned", (1, 10_000)))]
    pub max_pinned: i32,
}

/// What holds for the keys of a prefix.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule(
        "!self.enabled || self.addTTL || has(self.preset) || has(self.ttl) || has(self.maxValueSize) || has(self.whenRedisFails) || has(self.singleFlight)",
        "spec.cache.application.rules: a rule needs something to say of its keys; write for example preset, ttl, addTTL: true or enabled: false",
    ),
    validation = rule(
        "self.enabled || !(has(self.preset) || has(self.ttl) || has(self.maxValueSize))",
        "spec.cache.application.rules: with enabled: false nothing of these keys is stored; remove preset, ttl and maxValueSize, or enabled: false",
    ),
    validation = rule(
        "self.enabled || !has(self.whenRedisFails) || self.whenRedisFails in ['Error', 'Miss']",
        "spec.cache.application.rules: with enabled: false memory holds nothing of these keys; write whenRedisFails: Error or Miss, or remove enabled: false",
    ),
    validation = rule(
        "self.addTTL || !has(self.defaultTTL)",
        "spec.cache.application.rules: defaultTTL is what addTTL adds; write addTTL: true beside it, or remove defaultTTL",
    ),
    validation = rule(
        "self.enabled || !has(self.singleFlight)",
        "spec.cache.application.rules: with enabled: false the sidecar does not hear that one of these keys was written; remove singleFlight, or enabled: false",
    ),
)]
pub struct NearCacheRule {
    /// What the keys begin with, to the letter, such as `user:`. A rule for keys
    /// that begin with more of it can stand beside this one.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = rule(
        "!self.endsWith('*')",
        "spec.cache.application.rules: a prefix stands for all keys that begin with it; leave out the * at its end, as in user:",
    ))]
    pub prefix: String,

    /// Whether values of these keys are stored; otherwise all that is asked of them
    /// goes to Redis. Default true.
    #[serde(default = "on")]
    pub enabled: bool,

    /// What these keys are for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<NearCachePreset>,

    /// How long a value of these keys is answered from memory at most. A duration
    /// from 1ms to 24h. Unset: what `preset` says, else `ttl` of the tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = lasts("spec.cache.application.rules: ttl", ("1ms", "24h")))]
    pub ttl: Option<String>,

    /// A larger value of these keys is passed on and not stored. A quantity in bytes
    /// of Redis' reply, at least 1 and at most `memory` of the tier. Unset:
    /// `maxValueSize` of the tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = rule(
        "isQuantity(self) && quantity(self).compareTo(quantity('1')) >= 0",
        "spec.cache.application.rules: maxValueSize: write a quantity of at least 1, such as 64Ki",
    ))]
    pub max_value_size: Option<String>,

    /// Whether a `SET` of these keys that leaves them without a TTL gives them one,
    /// that of `defaultTTL`. Other commands are passed on as they are. Default false:
    /// what the application writes is written as it says.
    #[serde(default, rename = "addTTL")]
    pub add_ttl: bool,

    /// The TTL that `addTTL` adds. A duration from 1s to 8760h. Unset: what `preset`
    /// says, else `defaultTTL` of the tier.
    #[serde(default, rename = "defaultTTL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = lasts_long("spec.cache.application.rules: defaultTTL", "1s"))]
    pub default_ttl: Option<String>,

    /// What the application is told of these keys while Redis does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_redis_fails: Option<WhenRedisFails>,

    /// Of all clients of all replicas that read one of these keys and find nothing,
    /// one is told so, and the others wait for what it writes: so when a key that many
    /// ask for has expired, the database is asked once. Unset: all are told so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub single_flight: Option<NearCacheSingleFlight>,
}

impl Default for NearCachePool {
    fn default() -> Self {
        Self {
            max: twenty(),
            min: five(),
            idle_timeout: default_idle_timeout(),
            connect_timeout: default_connect_timeout(),
            max_pinned: hundred(),
        }
    }
}

fn on() -> bool {
    true
}

fn five() -> i32 {
    5
}

fn twenty() -> i32 {
    20
}

fn hundred() -> i32 {
    100
}

fn default_memory() -> String {
    "64Mi".to_owned()
}

fn default_ttl() -> String {
    "60s".to_owned()
}

fn default_default_ttl() -> String {
    "3600s".to_owned()
}

fn default_max_value_size() -> String {
    "1Mi".to_owned()
}

fn default_idle_timeout() -> String {
    "30s".to_owned()
}

fn default_connect_timeout() -> String {
    "5s".to_owned()
}
