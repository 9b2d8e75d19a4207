//! Redis.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetSpec},
        core::v1::{
            ConfigMap, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, ExecAction,
            KeyToPath, PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, PodTemplateSpec,
            Probe, ResourceRequirements, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    pod::{self, EPHEMERAL_STORAGE, STORAGE_REQUEST},
    redis_config::{AUTH_DIR, CONFIG_FILE},
    redis_exporter,
};
use crate::{
    api::{
        TemplateRevision,
        names::{
            CONFIG_ANNOTATION, CREDENTIALS_ANNOTATION, REDIS, REDIS_CONTAINER, REDIS_PORT, SECRET_ACL,
            SECRET_PASSWORD, TEMPLATE_REVISION_ANNOTATION,
        },
    },
    operator::{
        digest::digest,
        plan::{Identity, Plan, StandaloneRedis},
    },
};

/// User and group of Redis in the official images and in Debian's.
const REDIS_UID: i64 = 999;
const CONFIG_PATH: &str = "/etc/redis/redis.conf";

/// Alive is what answers at all: LOADING, NOAUTH and BUSY are answers.
const LIVENESS: &str = r#"[ -n "$(redis-cli ping 2>/dev/null)" ]"#;
/// Ready is what answers an authenticated PING. The password comes from the
/// mounted file and never stands on a command line.
const READINESS: &str = r#"IFS= read -r REDISCLI_AUTH </etc/redis/auth/password; export REDISCLI_AUTH; [ "$(redis-cli ping 2>/dev/null)" = PONG ]"#;
const READINESS_WITHOUT_AUTH: &str = r#"[ "$(redis-cli ping 2>/dev/null)" = PONG ]"#;

pub(super) fn stateful_set(plan: &Plan, redis: &StandaloneRedis, config: &ConfigMap) -> StatefulSet {
    let (identity, revision) = (&plan.identity, plan.template_revision);
    let name = identity.redis_name();
    StatefulSet {
        metadata: identity.child(&name, REDIS),
        spec: StatefulSetSpec {
            replicas: Some(1),
            service_name: Some(name),
            // With OrderedReady a pod that never gets ready is not replaced by a mended one
            // (Kubernetes documentation, "StatefulSets", Forced rollback).
            pod_management_policy: Some("Parallel".to_owned()),
            selector: identity.selector(REDIS),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(identity.labels(REDIS)),
                    annotations: Some(annotations(redis, config, revision)),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod_spec(identity, redis, revision)),
            },
            ..StatefulSetSpec::default()
        },
        status: None,
    }
}

/// What Redis reads only at its start rolls the pod by standing here.
fn annotations(
    redis: &StandaloneRedis,
    config: &ConfigMap,
    revision: TemplateRevision,
) -> BTreeMap<String, String> {
    let config = digest(config.data.iter().flatten().map(|(_, text)| text.as_str()));
    let mut annotations = BTreeMap::from([
        (TEMPLATE_REVISION_ANNOTATION.to_owned(), revision.number().to_string()),
        (CONFIG_ANNOTATION.to_owned(), config),
    ]);
    if let Some(credentials) = &redis.credentials {
        annotations.insert(CREDENTIALS_ANNOTATION.to_owned(), credentials.revision());
    }
    annotations
}

fn pod_spec(identity: &Identity, redis: &StandaloneRedis, revision: TemplateRevision) -> PodSpec {
    let name = identity.redis_name();
    let auth_volume = redis.credentials.as_ref().map(|_| Volume {
        name: "auth".to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(name.clone()),
            default_mode: Some(0o440),
            items: Some([SECRET_ACL, SECRET_PASSWORD].into_iter().map(key_to_path).collect()),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    });
    let config_volume = Volume {
        name: "config".to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name,
            default_mode: Some(0o444),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    };
    let claim = redis
        .persistence
        .as_ref()
        .map(|_| PersistentVolumeClaimVolumeSource { claim_name: identity.redis_name(), read_only: None });
    let data_volume = Volume {
        name: "data".to_owned(),
        empty_dir: claim.is_none().then(|| EmptyDirVolumeSource {
            size_limit: (revision >= TemplateRevision::Second).then(|| pod::bytes(data_limit(redis))),
            ..EmptyDirVolumeSource::default()
        }),
        persistent_volume_claim: claim,
        ..Volume::default()
    };
    let server = container(redis, revision);
    let limits = server.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    let is_limited = limits.is_some_and(|limits| limits.contains_key(EPHEMERAL_STORAGE));
    let exporter = redis
        .exporter
        .as_ref()
        .map(|exporter| redis_exporter::container(identity, redis, exporter, is_limited));
    PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(REDIS_UID),
            run_as_group: Some(REDIS_UID),
            fs_group: Some(REDIS_UID),
            ..pod::security_context()
        }),
        termination_grace_period_seconds: Some(30),
        image_pull_secrets: Some(redis.image_pull_secrets.clone()).filter(|secrets| !secrets.is_empty()),
        containers: [server].into_iter().chain(exporter).collect(),
        volumes: Some([data_volume, config_volume].into_iter().chain(auth_volume).collect()),
        ..pod::placed(&redis.placement)
    }
}

fn container(redis: &StandaloneRedis, revision: TemplateRevision) -> Container {
    let readiness = if redis.credentials.is_some() { READINESS } else { READINESS_WITHOUT_AUTH };
    let mount = |name: &str, path: &str, sub_path: Option<&str>, read_only: bool| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        sub_path: sub_path.map(ToOwned::to_owned),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    let auth_mount = redis.credentials.as_ref().map(|_| mount("auth", AUTH_DIR, None, true));
    Container {
        name: REDIS_CONTAINER.to_owned(),
        image: Some(redis.image.clone()),
        command: Some(vec!["redis-server".to_owned(), CONFIG_PATH.to_owned()]),
        ports: Some(vec![ContainerPort {
            container_port: REDIS_PORT,
            name: Some("redis".to_owned()),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        resources: Some(resources(redis, revision)),
        termination_message_policy: pod::termination_message_policy(revision),
        security_context: Some(SecurityContext {
            read_only_root_filesystem: Some(true),
            ..pod::container_security_context()
        }),
        startup_probe: Some(probe(LIVENESS, 1, 60)),
        readiness_probe: Some(probe(readiness, 5, 2)),
        liveness_probe: Some(probe(LIVENESS, 10, 3)),
        volume_mounts: Some(
            [mount("data", "/data", None, false), mount("config", CONFIG_PATH, Some(CONFIG_FILE), true)]
                .into_iter()
                .chain(auth_mount)
                .collect(),
        ),
        ..Container::default()
    }
}

/// Memory request and limit are one: a cache that is evicted for the memory it was promised is no cache.
fn resources(redis: &StandaloneRedis, revision: TemplateRevision) -> ResourceRequirements {
    let mut requests = redis.resources.requests.clone();
    let mut limits = redis.resources.limits.clone();
    let names_storage = [&requests, &limits].iter().any(|given| given.contains_key(EPHEMERAL_STORAGE));
    if revision >= TemplateRevision::Second && !names_storage {
        let limit = data_limit(redis).saturating_add(STORAGE_REQUEST);
        requests.insert(EPHEMERAL_STORAGE.to_owned(), pod::bytes(STORAGE_REQUEST));
        limits.insert(EPHEMERAL_STORAGE.to_owned(), pod::bytes(limit));
    }
    for quantities in [&mut requests, &mut limits] {
        quantities.insert("memory".to_owned(), redis.memory.clone());
    }
    ResourceRequirements { requests: Some(requests), limits: Some(limits), claims: None }
}

/// What the data directory may hold. Redis writes nothing there by itself; when somebody has it
/// dump its data, the last dump stays until the next one is complete.
fn data_limit(redis: &StandaloneRedis) -> u64 {
    redis.max_memory_bytes.saturating_mul(2)
}

fn probe(script: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        exec: Some(ExecAction { command: Some(vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()]) }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(3),
        failure_threshold: Some(failure_threshold),
        ..Probe::default()
    }
}

fn key_to_path(key: &str) -> KeyToPath {
    KeyToPath { key: key.to_owned(), path: key.to_owned(), ..KeyToPath::default() }
}
