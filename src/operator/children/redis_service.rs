//! Redis's name in DNS.

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::redis_exporter::{METRICS_PORT, METRICS_PORT_NAME};
use crate::{
    api::names::{REDIS, REDIS_PORT},
    operator::plan::{Identity, StandaloneRedis},
};

/// Headless: the name resolves to the pod, with no proxy in between.
pub(super) fn service(identity: &Identity, redis: &StandaloneRedis) -> Service {
    let metrics = redis.exporter.as_ref().map(|_| port(METRICS_PORT_NAME, METRICS_PORT));
    Service {
        metadata: identity.child(&identity.redis_name(), REDIS),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: Some("None".to_owned()),
            selector: Some(identity.selector_labels(REDIS)),
            // Its only pod has the name also while a container beside Redis is not ready: a client
            // that connects too early tries again, one that finds no name may give up.
            publish_not_ready_addresses: Some(true),
            ports: Some([port("redis", REDIS_PORT)].into_iter().chain(metrics).collect()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn port(name: &str, number: i32) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: number,
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::String(name.to_owned())),
        ..ServicePort::default()
    }
}
