//! How the sidecars spread requests over the replicas.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::{between, lasts, rule};

/// How the sidecars spread requests over the replicas, and what keeps requests
/// from a replica that fails. The application has to listen on the address of its
/// pod, not on localhost alone.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Balancing {
    /// Whether the sidecars ask other replicas than their own. Switched on or off,
    /// the pods are rolled; no request is lost. Default true: to write `balancing`
    /// switches it on.
    #[serde(default = "on")]
    pub enabled: bool,

    /// Who is asked first: `RoundRobin`, one replica after the other; `OwnFirst`,
    /// the application of the same pod, and others where that is not to be asked.
    /// Default `RoundRobin`.
    #[serde(default)]
    pub mode: BalancingMode,

    /// Asks each replica again and again whether it is well.
    #[serde(default)]
    pub health_check: BalancingHealthCheck,

    /// When a replica that fails is left alone, and for how long.
    #[serde(default)]
    pub breaker: Breaker,

    /// How many requests may be repeated at another replica, so that a failure of
    /// all is not made worse by repetitions.
    #[serde(default)]
    pub retry_budget: RetryBudget,

    /// How many requests one sidecar has at one replica at once, 1 to 100000; more
    /// of them wait. Unset: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = between("spec.balancing.maxConcurrent", (1, 100_000)))]
    pub max_concurrent: Option<i32>,
}

/// Who is asked first.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BalancingMode {
    /// One replica after the other.
    #[default]
    RoundRobin,
    /// The application of the same pod, and others where that is not to be asked.
    OwnFirst,
}

/// Asks each replica again and again whether it is well: 2xx and 3xx say that it is.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BalancingHealthCheck {
    /// Whether replicas are asked; otherwise only the outcomes of requests tell.
    /// Default true.
    #[serde(default = "on")]
    pub enabled: bool,

    /// The path that is asked for, on `spec.port`. Unset: that of the readiness
    /// probe; where that asks nothing over HTTP on `spec.port`, no replica is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rule(
        "self.matches('^/[!-~]*$')",
        "spec.balancing.healthCheck.path: write a path that begins with '/' and has no spaces, such as /healthz",
    ))]
    pub path: Option<String>,

    /// How often each replica is asked. A duration from 100ms to 1h. Default `5s`.
    #[serde(default = "five_seconds")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = lasts("spec.balancing.healthCheck.interval", ("100ms", "1h")))]
    pub interval: String,

    /// How long an answer may take. A duration from 10ms to 1m. Default `1s`.
    #[serde(default = "one_second")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = lasts("spec.balancing.healthCheck.timeout", ("10ms", "1m")))]
    pub timeout: String,

    /// So many failures one after the other, and a replica gets no requests; 1 to
    /// 100. One that was never well gets none after its first. Default 3.
    #[serde(default = "three")]
    #[x_kube(validation = between("spec.balancing.healthCheck.failureThreshold", (1, 100)))]
    pub failure_threshold: i32,

    /// So many successes one after the other, and it gets requests again; 1 to 100.
    /// Default 1.
    #[serde(default = "one")]
    #[x_kube(validation = between("spec.balancing.healthCheck.successThreshold", (1, 100)))]
    pub success_threshold: i32,
}

/// When a replica that fails is left alone, and for how long.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule(
        "duration(self.openTime) <= duration(self.maxOpenTime)",
        "spec.balancing.breaker.maxOpenTime: write at least openTime; the time grows from that one to this one",
    ),
)]
pub struct Breaker {
    /// After so many failures one after the other; 1 to 1000. Default 5.
    #[serde(default = "five")]
    #[x_kube(validation = between("spec.balancing.breaker.consecutiveFailures", (1, 1000)))]
    pub consecutive_failures: i32,

    /// When so many percent of the requests of the last ten seconds have failed; 1
    /// to 100. Default 50.
    #[serde(default = "fifty")]
    #[x_kube(validation = between("spec.balancing.breaker.failurePercent", (1, 100)))]
    pub failure_percent: i32,

    /// The percentage counts from so many requests on; 1 to 10000. Default 20.
    #[serde(default = "twenty")]
    #[x_kube(validation = between("spec.balancing.breaker.minRequests", (1, 10_000)))]
    pub min_requests: i32,

    /// How long a replica is left alone the first time; twice as long each time
    /// that a trial of it has failed. A duration from 100ms to 1h. Default `5s`.
    #[serde(default = "five_seconds")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = lasts("spec.balancing.breaker.openTime", ("100ms", "1h")))]
    pub open_time: String,

    /// How long at most. A duration from 100ms to 24h, at least `openTime`. Default
    /// `1m`.
    #[serde(default = "one_minute")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = lasts("spec.balancing.breaker.maxOpenTime", ("100ms", "24h")))]
    pub max_open_time: String,
}

/// How many requests may be repeated at another replica.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RetryBudget {
    /// So many of a hundred requests of the last ten seconds; 0 to 100. Default 20.
    #[serde(default = "twenty")]
    #[x_kube(validation = between("spec.balancing.retryBudget.percent", (0, 100)))]
    pub percent: i32,

    /// And in any case so many a second; 0 to 1000. Default 3.
    #[serde(default = "three")]
    #[x_kube(validation = between("spec.balancing.retryBudget.minPerSecond", (0, 1000)))]
    pub min_per_second: i32,
}

impl Default for BalancingHealthCheck {
    fn default() -> Self {
        Self {
            enabled: on(),
            path: None,
            interval: five_seconds(),
            timeout: one_second(),
            failure_threshold: three(),
            success_threshold: one(),
        }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            consecutive_failures: five(),
            failure_percent: fifty(),
            min_requests: twenty(),
            open_time: five_seconds(),
            max_open_time: one_minute(),
        }
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: twenty(), min_per_second: three() }
    }
}

fn on() -> bool {
    true
}

fn one() -> i32 {
    1
}

fn three() -> i32 {
    3
}

fn five() -> i32 {
    5
}

fn twenty() -> i32 {
    20
}

fn fifty() -> i32 {
    50
}

fn one_second() -> String {
    "1s".to_owned()
}

fn five_seconds() -> String {
    "5s".to_owned()
}

fn one_minute() -> String {
    "1m".to_owned()
}
