//! The Service in front of the application.

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{
    api::names::{APP, APP_PORT_NAME},
    operator::plan::Plan,
};

pub(super) fn service(plan: &Plan) -> Service {
    let identity = &plan.identity;
    let wanted = &plan.spec.service;
    Service {
        metadata: identity.annotated_child(&identity.name, APP, &wanted.annotations),
        spec: Some(ServiceSpec {
            type_: Some(wanted.type_.as_str().to_owned()),
            cluster_ip: wanted.cluster_ip.clone(),
            selector: Some(identity.selector_labels(APP)),
            ports: Some(vec![ServicePort {
                name: Some(APP_PORT_NAME.to_owned()),
                port: wanted.port,
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::String(APP_PORT_NAME.to_owned())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
