//! From what the user wrote and what was observed to a [`Plan`], or to what is
//! wrong with the spec. PURE: no client, no clock.
//!
//! A plan is complete and valid: building the children from it cannot fail.

mod balancing;
mod credentials;
mod digest_key;
mod identity;
mod malformed;
mod near_cache;
mod placement;
mod quantity;
mod references;
mod revision;
mod sidecar;
mod strict;
mod token;

pub use credentials::Credentials;
pub use digest_key::DigestKey;
pub use identity::Identity;
pub use placement::Placement;
pub(in crate::operator) use quantity::written;
pub use references::{Content, Reference, ReferenceKind, Referred, references};
pub use sidecar::{
    PURGES_DIR, PURGES_FILE, REDIS_DIR, REDIS_FILE, RunningSidecar, SETTINGS_DIR, SETTINGS_FILE, STATE_DIR,
    SidecarPlan, TOKEN_DIR, TOKEN_FILE,
};
pub use token::SidecarToken;

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::core::v1::{LocalObjectReference, PodTemplateSpec, TopologySpreadConstraint},
    apimachinery::pkg::api::resource::Quantity,
};
use serde_json::json;

use super::{external::ExternalState, observe::Seen};
use crate::api::{
    Autoscaling, CachedService, CachedServiceSpec, EvictionPolicy, RedisMode, Resources, SecretKeyRef,
    TemplateRevision, WhenDeleted, parse_duration,
};

/// What an installation of the operator sets for all CachedServices.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// The image of Redis where a CachedService names none.
    pub redis_image: String,
    /// The image of Redis's exporter where a CachedService names none.
    pub exporter_image: String,
    /// The image of the sidecar where a CachedService names none.
    pub sidecar_image: String,
    /// The operator's own pods, if it runs in a cluster.
    pub operator_pods: Option<OperatorPods>,
}

/// The operator's own pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorPods {
    /// Their namespace.
    pub namespace: String,
    /// The labels that tell them from others there.
    pub labels: BTreeMap<String, String>,
}

/// The spec cannot be turned into children; nothing is changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// The path of the field, such as `spec.template.spec.volumes[0]`.
    pub field: String,
    /// What is wrong with it and what to write instead.
    pub problem: String,
}

impl Invalid {
    pub(super) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// Everything that the children are built from.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Names, labels and the owner.
    pub identity: Identity,
    /// The spec with its defaults, for the fields that pass through unchanged.
    pub spec: CachedServiceSpec,
    /// The user's pod template, read strictly.
    pub template: PodTemplateSpec,
    /// Where the application's pods may run.
    pub placement: Placement,
    /// How they are spread; `None` where the user leaves it to the operator.
    pub spread: Option<Vec<TopologySpreadConstraint>>,
    /// What it refers to, where changes of that are to roll it.
    pub referred: Option<Referred>,
    /// Phases of a leaving pod.
    pub shutdown: ShutdownPlan,
    /// How long a rollout may make no progress, in seconds.
    pub progress_deadline_seconds: i32,
    /// Who sets the number of pods.
    pub replicas: Replicas,
    /// The Redis.
    pub redis: RedisPlan,
    /// The sidecar in the pods, while a tier is on.
    pub sidecar: Option<SidecarPlan>,
    /// The revision of the operator's defaults in the pods.
    pub template_revision: TemplateRevision,
    /// Nothing of the children is to be changed, whatever is wanted of them.
    pub paused: bool,
    /// The operator's own pods, which network policies let in.
    pub operator_pods: Option<OperatorPods>,
}

/// Phases of a leaving pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownPlan {
    /// From the order to leave until SIGTERM, in whole seconds.
    pub drain_seconds: i64,
    /// From the order to leave until SIGKILL, in whole seconds.
    pub grace_seconds: i64,
}

/// Who sets the number of pods.
#[derive(Clone, Debug, PartialEq)]
pub enum Replicas {
    /// The spec.
    Fixed(i32),
    /// The autoscaler, within its range.
    Autoscaled {
        /// Range and targets.
        autoscaling: Box<Autoscaling>,
        /// The number that the operator sets where it has to set one: when it
        /// creates the Deployment, and when autoscaling is switched on.
        handover: i32,
    },
}

impl Replicas {
    /// The least number of pods with which the service is ready.
    #[must_use]
    pub fn least(&self) -> i32 {
        match self {
            Self::Fixed(replicas) => *replicas,
            Self::Autoscaled { autoscaling, .. } => autoscaling.min_replicas,
        }
    }
}

/// The Redis of the application.
#[derive(Clone, Debug)]
pub enum RedisPlan {
    /// One pod of the operator's.
    Standalone(Box<StandaloneRedis>),
    /// A Redis of the user's.
    External {
        /// The key that holds its URL.
        url: SecretKeyRef,
        /// Identifies the present URL; empty while it is unknown.
        revision: String,
    },
}

impl RedisPlan {
    /// Whether the operator keeps a password for it.
    #[must_use]
    pub fn has_credentials(&self) -> bool {
        matches!(self, Self::Standalone(redis) if redis.credentials.is_some())
    }

    /// Whether it keeps its data on a volume.
    #[must_use]
    pub fn has_persistence(&self) -> bool {
        matches!(self, Self::Standalone(redis) if redis.persistence.is_some())
    }
}

/// A Redis of one pod.
#[derive(Clone, Debug)]
pub struct StandaloneRedis {
    /// Its image.
    pub image: String,
    /// Memory request and limit of the container.
    pub memory: Quantity,
    /// `maxmemory`, in bytes.
    pub max_memory_bytes: u64,
    /// What is dropped when it is full.
    pub eviction_policy: EvictionPolicy,
    /// CPU.
    pub resources: Resources,
    /// Password and what is derived from it; none with `auth.enabled: false`.
    pub credentials: Option<Credentials>,
    /// The volume of its data, if it keeps any.
    pub persistence: Option<PersistencePlan>,
    /// The container with its figures.
    pub exporter: Option<ExporterPlan>,
    /// Credentials for the image's registry.
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Where its pod may run.
    pub placement: Placement,
}

/// The volume of Redis's data.
#[derive(Clone, Debug)]
pub struct PersistencePlan {
    /// Its size, a quantity in bytes.
    pub size: String,
    /// Its StorageClass, if it is not the default one.
    pub storage_class_name: Option<String>,
    /// What becomes of it.
    pub when_deleted: WhenDeleted,
}

/// The container with Redis's figures.
#[derive(Clone, Debug)]
pub struct ExporterPlan {
    /// Its image.
    pub image: String,
    /// CPU and memory.
    pub resources: Resources,
}

/// The part of Redis's memory limit that data may fill. The rest is for
/// connections, replication buffers and fragmentation.
const MAX_MEMORY_SHARE: (u64, u64) = (3, 4);

/// The plan for a CachedService.
///
/// # Errors
/// When the spec contradicts itself or Kubernetes in a way that the schema cannot tell.
pub fn plan(service: &CachedService, seen: &Seen, defaults: &Defaults) -> Result<Plan, Invalid> {
    let spec = &service.spec;
    let identity = Identity::of(service)?;
    let shutdown = shutdown(spec)?;
    let deadline = whole_seconds("spec.progressDeadline", &spec.progress_deadline)?;
    let Autoscaling { metrics, behavior, .. } = &spec.autoscaling;
    malformed::check("spec.autoscaling.metrics", &json!(metrics))?;
    malformed::check("spec.autoscaling.behavior", &json!(behavior))?;
    let duration = &spec.monitoring.interval;
    parse_duration(duration).map_err(|error| Invalid::new("spec.monitoring.interval", error.to_string()))?;
    let (template, redis) = (template(spec)?, redis(spec, seen, defaults)?);
    Ok(Plan {
        sidecar: sidecar::sidecar(spec, &template, &identity, &redis, shutdown, seen, defaults)?,
        template,
        placement: Placement::of_application(spec)?,
        spread: placement::spread(spec.topology_spread_constraints.as_deref())?,
        referred: Referred::of(spec, seen),
        shutdown,
        progress_deadline_seconds: i32::try_from(deadline.max(1)).unwrap_or(i32::MAX),
        replicas: replicas(spec, seen),
        redis,
        operator_pods: defaults.operator_pods.clone(),
        spec: spec.clone(),
        template_revision: revision::revision(spec, seen)?,
        paused: service.pause().holds(),
        identity,
    })
}

fn template(spec: &CachedServiceSpec) -> Result<PodTemplateSpec, Invalid> {
    let parse = |written| strict::parse("spec", "template", written, "deployment.spec.template");
    spec.template.as_ref().map(parse).transpose().map(Option::unwrap_or_default)
}

fn shutdown(spec: &CachedServiceSpec) -> Result<ShutdownPlan, Invalid> {
    // The others learn that it leaves within two seconds, or six where they ask it in vain, whatever DNS says; the
    // rest is for the requests that they have sent.
    let default = if spec.balancing().is_some() { "12s" } else { "5s" };
    let drain = spec.shutdown.drain.as_deref().unwrap_or(default);
    let drain = whole_seconds("spec.shutdown.drain", drain)?;
    let timeout = whole_seconds("spec.shutdown.timeout", &spec.shutdown.timeout)?;
    Ok(ShutdownPlan { drain_seconds: drain, grace_seconds: drain.saturating_add(timeout).max(1) })
}

/// Kubernetes counts these in whole seconds; a part of one is rounded up.
fn whole_seconds(field: &str, text: &str) -> Result<i64, Invalid> {
    const DAY: Duration = Duration::from_hours(24);
    let duration = parse_duration(text).map_err(|error| Invalid::new(field, error.to_string()))?;
    if duration > DAY {
        return Err(Invalid::new(field, format!("{text} is too long; write at most 24h")));
    }
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    Ok(i64::try_from(seconds).unwrap_or(i64::MAX))
}

fn replicas(spec: &CachedServiceSpec, seen: &Seen) -> Replicas {
    let autoscaling = &spec.autoscaling;
    if !autoscaling.enabled {
        return Replicas::Fixed(spec.replicas.unwrap_or(autoscaling.min_replicas));
    }
    let wanted_by_autoscaler = seen
        .autoscaler
        .ours()
        .filter(|autoscaler| autoscaler.metadata.deletion_timestamp.is_none())
        .map(|autoscaler| autoscaler.status.desired_replicas)
        .filter(|desired| *desired > 0);
    let present = seen.deployment.ours().and_then(|deployment| deployment.spec.replicas);
    let handover = wanted_by_autoscaler
        .or(present)
        .unwrap_or(autoscaling.min_replicas)
        .max(autoscaling.min_replicas)
        .min(autoscaling.max_replicas);
    Replicas::Autoscaled { autoscaling: Box::new(autoscaling.clone()), handover }
}

fn redis(spec: &CachedServiceSpec, seen: &Seen, defaults: &Defaults) -> Result<RedisPlan, Invalid> {
    let redis = &spec.redis;
    match redis.mode {
        RedisMode::External => {
            let external = redis.external.as_ref().ok_or_else(|| {
                Invalid::new(
                    "spec.redis",
                    "mode External needs the Secret with the URL; write external: {urlSecretRef: {name: my-redis, key: url}}",
                )
            })?;
            let revision = match &seen.external {
                Some(
                    ExternalState::Connecting { revision }
                    | ExternalState::Unreachable { revision, .. }
                    | ExternalState::Answered { revision, .. },
                ) => revision.clone(),
                _ => String::new(),
            };
            Ok(RedisPlan::External { url: external.url_secret_ref.clone(), revision })
        }
        RedisMode::Standalone => {
            let bytes = quantity::bytes(&redis.memory).ok_or_else(|| {
                Invalid::new(
                    "spec.redis.memory",
                    format!("{:?} is not an amount of memory; write one such as 256Mi or 2Gi", redis.memory),
                )
            })?;
            let (part, whole) = MAX_MEMORY_SHARE;
            Ok(RedisPlan::Standalone(Box::new(StandaloneRedis {
                image: redis.image.clone().unwrap_or_else(|| defaults.redis_image.clone()),
                memory: Quantity(redis.memory.clone()),
                max_memory_bytes: bytes / whole * part,
                eviction_policy: redis.eviction_policy,
                resources: redis.resources.clone(),
                persistence: redis.persistence.enabled.then(|| PersistencePlan {
                    size: redis.persistence.size.clone(),
                    storage_class_name: redis.persistence.storage_class_name.clone(),
                    when_deleted: redis.persistence.when_deleted,
                }),
                exporter: redis.exporter.enabled.then(|| ExporterPlan {
                    image: redis.exporter.image.clone().unwrap_or_else(|| defaults.exporter_image.clone()),
                    resources: redis.exporter.resources.clone(),
                }),
                credentials: redis.auth.enabled.then(|| seen.credentials.clone()),
                image_pull_secrets: spec.image_pull_secrets.clone(),
                placement: Placement::of_redis(redis)?,
            })))
        }
    }
}

#[cfg(test)]
mod tests;
