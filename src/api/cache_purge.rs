//! The `CachePurge` resource: an order to forget what is cached, and who has carried it out.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::rule;

/// The type of the condition that a purge has: every pod has acknowledged it.
pub const COMPLETE: &str = "Complete";

/// An order to forget what is cached of a CachedService: responses, in every pod and in
/// Redis, and what the near-caches of the pods have of keys of Redis. What was asked for
/// before the purge is not given after it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[kube(
    group = "cachedservice.dev",
    version = "v1alpha1",
    kind = "CachePurge",
    plural = "cachepurges",
    shortname = "cpurge",
    namespaced,
    status = "CachePurgeStatus",
    derive = "PartialEq",
    doc = "An order to forget what is cached of a CachedService; status tells which pods have acknowledged it.",
    printcolumn(
        name = "Service",
        type_ = "string",
        description = "The CachedService whose cache is purged",
        json_path = ".spec.serviceName"
    ),
    printcolumn(
        name = "Complete",
        type_ = "string",
        description = "True when every pod has acknowledged",
        json_path = ".status.conditions[?(@.type==\"Complete\")].status"
    ),
    printcolumn(
        name = "Acknowledged",
        type_ = "string",
        description = "Pods that have acknowledged / pods that have to",
        json_path = ".status.progress"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        description = "Why Complete is what it is",
        json_path = ".status.conditions[?(@.type==\"Complete\")].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
// Several columns are of one type.
#[allow(clippy::duplicated_attributes)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule(
        "self == oldSelf",
        "spec: a purge cannot be changed once it is ordered; create another CachePurge",
    ),
    validation = rule(
        "self.everything || has(self.keys) || has(self.prefixes) || has(self.tags) || has(self.application)",
        "spec: say what to purge, in keys, prefixes, tags or application; or write everything: true",
    ),
    validation = rule(
        "(has(self.keys) ? self.keys.size() : 0) + (has(self.prefixes) ? self.prefixes.size() : 0) + (has(self.tags) ? self.tags.size() : 0) + (has(self.application) && has(self.application.keys) ? self.application.keys.size() : 0) + (has(self.application) && has(self.application.prefixes) ? self.application.prefixes.size() : 0) <= 100",
        "spec: write at most 100 keys, prefixes and tags together, those of application among them; create several CachePurges, or purge by a common tag or prefix",
    ),
    validation = rule(
        "!self.soft || self.everything || has(self.keys) || has(self.prefixes) || has(self.tags)",
        "spec.soft: leave it out where application stands alone; it is about responses, and nothing of Redis is validated with the application",
    ),
)]
pub struct CachePurgeSpec {
    /// The CachedService in the same namespace whose cache is purged.
    #[schemars(length(min = 1, max = 40))]
    pub service_name: String,

    /// URLs, each with all its variants: `https://shop.example.com/a?b`, or
    /// `/a?b` for any scheme and host. Query parameters that a rule of the
    /// CachedService ignores may be in them or not. Default, where nothing is written: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 100),
        inner(length(min = 1, max = 2048)),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    #[x_kube(validation = url_rule("spec.keys"), validation = fragment_rule("spec.keys"))]
    pub keys: Vec<String>,

    /// What URLs begin with: `https://shop.example.com/static/`, or `/static/`
    /// for any scheme and host; without the query parameters that a rule ignores.
    /// Default, where nothing is written: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 100),
        inner(length(min = 1, max = 2048)),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    #[x_kube(validation = url_rule("spec.prefixes"), validation = fragment_rule("spec.prefixes"))]
    pub prefixes: Vec<String>,

    /// Tags of responses, as they stand in their `Cache-Tag` or `Surrogate-Key`
    /// or in a rule of the CachedService. Default, where nothing is written: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 100),
        inner(length(min = 1, max = 2048)),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub tags: Vec<String>,

    /// Keys of Redis, for a CachedService with `cache.application`. Default, where nothing
    /// is written: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<ApplicationPurge>,

    /// Whether all that is cached is purged, of both tiers. It deletes nothing that the
    /// application has in Redis. Default false.
    #[serde(default)]
    pub everything: bool,

    /// Whether what is purged stays, and is validated with the application before
    /// it is used again, which spares it from sending the unchanged once more.
    /// Default false: it is gone.
    #[serde(default)]
    pub soft: bool,

    /// After how many seconds this object is deleted once the purge is complete, 0
    /// to 2592000 (30 days). Default 3600.
    #[serde(default = "default_ttl")]
    #[x_kube(validation = rule(
        "self >= 0 && self <= 2592000",
        "spec.ttlSecondsAfterFinished: write a number of seconds from 0 to 2592000, which is 30 days",
    ))]
    pub ttl_seconds_after_finished: i32,
}

/// What is purged of keys of Redis.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule(
        "has(self.keys) || has(self.prefixes)",
        "spec.application: write keys or prefixes; or leave it out and write everything: true, which purges all of memory",
    ),
    validation = rule(
        "self.redis != 'Delete' || ((!has(self.keys) || self.keys.all(key, !key.startsWith('cachedservice:'))) && (!has(self.prefixes) || self.prefixes.all(prefix, !prefix.startsWith('cachedservice:'))))",
        "spec.application: what begins with cachedservice: is of the sidecars themselves, and is not deleted; leave it out",
    ),
)]
pub struct ApplicationPurge {
    /// Keys of Redis, to the letter: `user:1`. Default, where nothing is written: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 100),
        inner(length(min = 1, max = 2048)),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub keys: Vec<String>,

    /// What keys of Redis begin with, to the letter: `user:`. No character stands for
    /// others. Default, where nothing is written: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 100),
        inner(length(min = 1, max = 2048)),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub prefixes: Vec<String>,

    /// What becomes of these keys in Redis itself. Default `Keep`.
    #[serde(default)]
    pub redis: InRedis,
}

/// What a purge does in Redis.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InRedis {
    /// They stay: the memory of each pod forgets them, and reads them from Redis again.
    #[default]
    Keep,
    /// They are deleted, in the database of the URL, before memory forgets them.
    Delete,
}

/// How far a purge has come. Written when it begins, at most once a second while
/// pods acknowledge it, and at once when it is complete.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CachePurgeStatus {
    /// The `metadata.generation` that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The number of the purge in the record of the CachedService.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "int64"))]
    pub epoch: Option<u64>,

    /// The pods that have acknowledged and are still there.
    #[serde(default)]
    pub acknowledged: i32,

    /// The pods that have to acknowledge: all of the CachedService's Deployment that
    /// have a sidecar, are on a node and have not ended, Ready or not.
    #[serde(default)]
    pub replicas: i32,

    /// Pods that have acknowledged / pods that have to, as the column
    /// `Acknowledged` shows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,

    /// The names of the pods that have acknowledged, 1000 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), extend("x-kubernetes-list-type" = "atomic"))]
    pub acknowledged_by: Vec<String>,

    /// The pods that have not acknowledged yet, 100 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "atomic"))]
    pub pending: Vec<PendingPod>,

    /// How many keys were deleted in Redis, where `application.redis` is `Delete`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_keys: Option<i64>,

    /// When all were deleted that were to be. From then on pods are asked to acknowledge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_time: Option<Time>,

    /// When the purge was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,

    /// When every pod had acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,

    /// `Complete`: every pod has acknowledged. It names the generation it is
    /// about, a reason for programs and a message for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 4),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
}

impl CachePurgeSpec {
    /// What is to be deleted in Redis, if something is.
    #[must_use]
    pub fn to_delete(&self) -> Option<&ApplicationPurge> {
        self.application.as_ref().filter(|application| application.redis == InRedis::Delete)
    }
}

impl CachePurgeStatus {
    /// The condition `Complete`.
    #[must_use]
    pub fn complete(&self) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == COMPLETE)
    }

    /// Whether every pod has acknowledged.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete().is_some_and(|condition| condition.status == "True")
    }
}

/// A pod that has not acknowledged yet.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct PendingPod {
    /// Its name.
    pub pod: String,

    /// Why it has not.
    pub reason: String,
}

fn url_rule(field: &str) -> kube::core::cel::Rule {
    rule(
        "self.all(url, url.startsWith('/') || url.matches('^[hH][tT][tT][pP][sS]?://'))",
        &format!("{field}: write URLs such as https://shop.example.com/a, or /a for any scheme and host"),
    )
}

/// No client sends a fragment (RFC 9110 §7.1), so that nothing is stored under a URL with one.
fn fragment_rule(field: &str) -> kube::core::cel::Rule {
    rule(
        "self.all(url, !url.contains('#'))",
        &format!("{field}: leave out `#` and what follows it, which clients do not send; write /a for /a#b"),
    )
}

fn default_ttl() -> i32 {
    3600
}
