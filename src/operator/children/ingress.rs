//! The way in from outside the cluster.

use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend,
    IngressSpec, IngressTLS, ServiceBackendPort,
};

use crate::{
    api::{
        self,
        names::{APP, APP_PORT_NAME},
    },
    operator::plan::Identity,
};

pub(super) fn ingress(identity: &Identity, wanted: &api::Ingress) -> Ingress {
    let some = |hosts: &[String]| Some(hosts.to_vec()).filter(|hosts| !hosts.is_empty());
    let hosts = wanted.hosts.iter().cloned().map(Some);
    // A rule without a host holds for every host.
    let every_host = wanted.hosts.is_empty().then_some(None);
    let rule = |host| IngressRule {
        host,
        http: Some(HTTPIngressRuleValue {
            paths: vec![HTTPIngressPath {
                path: Some(wanted.path.clone()),
                path_type: "Prefix".to_owned(),
                backend: backend(identity),
            }],
        }),
    };
    Ingress {
        metadata: identity.annotated_child(&identity.name, APP, &wanted.annotations),
        spec: Some(IngressSpec {
            ingress_class_name: wanted.class_name.clone(),
            rules: Some(hosts.chain(every_host).map(rule).collect()),
            tls: wanted
                .tls_secret_name
                .clone()
                .map(|secret| vec![IngressTLS { hosts: some(&wanted.hosts), secret_name: Some(secret) }]),
            ..IngressSpec::default()
        }),
        status: None,
    }
}

fn backend(identity: &Identity) -> IngressBackend {
    IngressBackend {
        service: Some(IngressServiceBackend {
            name: identity.name.clone(),
            port: Some(ServiceBackendPort {
                name: Some(APP_PORT_NAME.to_owned()),
                ..ServiceBackendPort::default()
            }),
        }),
        ..IngressBackend::default()
    }
}
