//! The container beside Redis that turns its figures into Prometheus' form
//! (`redis_exporter`, README, "Command line flags").

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, EnvVarSource, ResourceRequirements, SecretKeySelector, SecurityContext,
};

use super::pod::{self, EPHEMERAL_STORAGE, STORAGE_REQUEST};
use crate::{
    api::{
        Resources, TemplateRevision,
        names::{REDIS_PORT, SECRET_PASSWORD},
    },
    operator::plan::{ExporterPlan, Identity, StandaloneRedis},
};

/// Name of the port with the metrics.
pub(super) const METRICS_PORT_NAME: &str = "metrics";
/// Port of the metrics.
pub(super) const METRICS_PORT: i32 = 9121;

/// The container; `is_limited` if Redis's own has a limit of ephemeral storage.
pub(super) fn container(
    identity: &Identity,
    redis: &StandaloneRedis,
    exporter: &ExporterPlan,
    is_limited: bool,
) -> Container {
    let variable =
        |name: &str, value: String| EnvVar { name: name.to_owned(), value: Some(value), value_from: None };
    let password = redis.credentials.as_ref().map(|_| EnvVar {
        name: "REDIS_PASSWORD".to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: identity.redis_name(),
                key: SECRET_PASSWORD.to_owned(),
                optional: None,
            }),
            ..EnvVarSource::default()
        }),
    });
    let fixed = [
        variable("REDIS_ADDR", format!("redis://localhost:{REDIS_PORT}")),
        variable("REDIS_EXPORTER_WEB_LISTEN_ADDRESS", format!(":{METRICS_PORT}")),
    ];
    Container {
        name: "exporter".to_owned(),
        image: Some(exporter.image.clone()),
        env: Some(fixed.into_iter().chain(password).collect()),
        ports: Some(vec![ContainerPort {
            container_port: METRICS_PORT,
            name: Some(METRICS_PORT_NAME.to_owned()),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        resources: Some(resources(&exporter.resources, is_limited)),
        // Whatever the revision: revision 1 knows no exporter.
        termination_message_policy: pod::termination_message_policy(TemplateRevision::Second),
        security_context: Some(SecurityContext {
            read_only_root_filesystem: Some(true),
            ..pod::container_security_context()
        }),
        ..Container::default()
    }
}

/// Its log needs as much as any other. A limit it gets only where Redis has one: the kubelet holds a
/// whole pod to the sum of the limits that there are (Kubernetes documentation, "Local ephemeral
/// storage"), so that this one alone would be Redis's too.
fn resources(wanted: &Resources, is_limited: bool) -> ResourceRequirements {
    let (mut requests, mut limits) = (wanted.requests.clone(), wanted.limits.clone());
    if ![&requests, &limits].iter().any(|given| given.contains_key(EPHEMERAL_STORAGE)) {
        for quantities in [Some(&mut requests), is_limited.then_some(&mut limits)].into_iter().flatten() {
            quantities.insert(EPHEMERAL_STORAGE.to_owned(), pod::bytes(STORAGE_REQUEST));
        }
    }
    ResourceRequirements {
        requests: Some(requests),
        limits: Some(limits).filter(|limits| !limits.is_empty()),
        claims: None,
    }
}
