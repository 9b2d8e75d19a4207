//! Redis's name in DNS.

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{
    api::names::{REDIS, REDIS_PORT},
    operator::plan::Identity,
};

/// Headless: the name resolves to the pod, with no proxy in between.
pub(super) fn service(identity: &Identity) -> Service {
    Service {
        metadata: identity.child(&identity.redis_name(), REDIS),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: Some("None".to_owned()),
            selector: Some(identity.selector_labels(REDIS)),
            ports: Some(vec![ServicePort {
                name: Some("redis".to_owned()),
                port: REDIS_PORT,
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::String("redis".to_owned())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
