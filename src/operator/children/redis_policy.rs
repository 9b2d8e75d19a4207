//! Who may connect to Redis.

use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::redis_exporter::METRICS_PORT;
use crate::{
    api::names::{APP, REDIS, REDIS_PORT},
    operator::plan::{OperatorPods, Plan, StandaloneRedis},
};

/// The label that Kubernetes gives every namespace
/// (Kubernetes documentation, "Well-Known Labels, Annotations and Taints").
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

pub(super) fn network_policy(plan: &Plan, redis: &StandaloneRedis) -> Option<NetworkPolicy> {
    let wanted = &plan.spec.network_policy.redis;
    if !wanted.enabled {
        return None;
    }
    let identity = &plan.identity;
    let application =
        NetworkPolicyPeer { pod_selector: Some(identity.selector(APP)), ..NetworkPolicyPeer::default() };
    let operator = plan.operator_pods.as_ref().map(operator);
    let peers = [application].into_iter().chain(operator).chain(wanted.from.iter().cloned());
    let clients =
        NetworkPolicyIngressRule { from: Some(peers.collect()), ports: Some(vec![port(REDIS_PORT)]) };
    // Figures alone: whoever may scrape does so from a namespace that is not known here.
    let scrapers = redis
        .exporter
        .as_ref()
        .map(|_| NetworkPolicyIngressRule { from: None, ports: Some(vec![port(METRICS_PORT)]) });
    Some(NetworkPolicy {
        metadata: identity.child(&identity.redis_name(), REDIS),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(identity.selector(REDIS)),
            // Without a rule for it, nothing goes out: Redis connects to nobody.
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ingress: Some([clients].into_iter().chain(scrapers).collect()),
            egress: None,
        }),
    })
}

/// The operator's pods.
pub(super) fn operator(pods: &OperatorPods) -> NetworkPolicyPeer {
    let selector = |labels| LabelSelector { match_labels: Some(labels), ..LabelSelector::default() };
    NetworkPolicyPeer {
        namespace_selector: Some(selector([(NAMESPACE_NAME.to_owned(), pods.namespace.clone())].into())),
        pod_selector: Some(selector(pods.labels.clone())),
        ip_block: None,
    }
}

/// One port.
pub(super) fn port(number: i32) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(number)),
        protocol: Some("TCP".to_owned()),
        end_port: None,
    }
}
