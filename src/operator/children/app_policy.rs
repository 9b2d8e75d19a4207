//! Who may connect to the application.

use k8s_openapi::{
    api::networking::v1::{NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicySpec},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use super::redis_policy::{operator, port};
use crate::{
    api::names::{APP, SIDECAR_ADMIN_PORT},
    operator::plan::Plan,
};

/// Who comes in beside clients.
#[derive(Clone, Copy, Debug)]
pub struct Reached {
    /// Pods have sidecars, which the operator asks.
    pub sidecars: bool,
    /// They send each other requests.
    pub peers: bool,
}

impl Reached {
    /// As a plan wants it.
    #[must_use]
    pub fn by(plan: &Plan) -> Self {
        Self { sidecars: plan.sidecar.is_some(), peers: plan.spec.balancing().is_some() }
    }
}

/// The policy of the application's pods, if there is to be one.
#[must_use]
pub fn network_policy(plan: &Plan, reached: Reached) -> Option<NetworkPolicy> {
    let wanted = &plan.spec.network_policy.app;
    if !wanted.enabled {
        return None;
    }
    let identity = &plan.identity;
    // No peers at all would mean everybody.
    let from = if wanted.from.is_empty() {
        vec![NetworkPolicyPeer {
            pod_selector: Some(LabelSelector::default()),
            ..NetworkPolicyPeer::default()
        }]
    } else {
        wanted.from.clone()
    };
    let clients = NetworkPolicyIngressRule { from: Some(from), ports: None };
    // The operator hands purges to each sidecar.
    let purges = plan.operator_pods.as_ref().filter(|_| reached.sidecars).map(|pods| {
        let ports = Some(vec![port(SIDECAR_ADMIN_PORT)]);
        NetworkPolicyIngressRule { from: Some(vec![operator(pods)]), ports }
    });
    // The sidecars of the other pods, whoever else may, as they may come in by any port: while spec.port
    // changes, applications listen on both, and the sidecars prove to each other who they are.
    let peers = reached.peers.then(|| {
        let from =
            NetworkPolicyPeer { pod_selector: Some(identity.selector(APP)), ..NetworkPolicyPeer::default() };
        NetworkPolicyIngressRule { from: Some(vec![from]), ports: None }
    });
    Some(NetworkPolicy {
        metadata: identity.child(&identity.name, APP),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(identity.selector(APP)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some([clients].into_iter().chain(peers).chain(purges).collect()),
            egress: None,
        }),
    })
}
