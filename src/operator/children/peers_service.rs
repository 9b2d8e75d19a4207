//! The name in DNS of the application's ready pods, by which the sidecars find each other's.

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{
    api::names::{APP, APP_OWN_PORT_NAME},
    operator::plan::Plan,
};

/// Headless: the name resolves to the pods. Those that are not ready are not published, as is the
/// default of Kubernetes: they are not to be asked.
pub(super) fn service(plan: &Plan) -> Service {
    let identity = &plan.identity;
    let port = plan.spec.port;
    Service {
        metadata: identity.child(&identity.peers_name(), APP),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: Some("None".to_owned()),
            selector: Some(identity.selector_labels(APP)),
            ports: Some(vec![ServicePort {
                name: Some(APP_OWN_PORT_NAME.to_owned()),
                port,
                protocol: Some("TCP".to_owned()),
                // By its number: in pods from before there was a sidecar it has another name.
                target_port: Some(IntOrString::Int(port)),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
