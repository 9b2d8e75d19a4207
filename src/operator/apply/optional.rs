//! Objects of kinds that the cluster may not have, or not let the operator see.

use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use kube::Resource;
use serde::Serialize;

use super::{Outcome, Writer, desired};
use crate::operator::{
    custom_kinds::HTTPRoute,
    error::ChildError,
    observe::Seen,
    optional::Optional,
    plan::Plan,
    seen::{SeenHttpRoute, SeenIngress, SeenNetworkPolicy, Sighting},
    watched::Child,
};

impl Writer<'_> {
    /// As [`Self::ensure`], of a kind that the cluster may not have: then there is nothing.
    pub(super) async fn ensure_if_known<K: Child, D: Resource<DynamicType = ()> + Serialize>(
        &mut self,
        optional: &Optional<K>,
        sighting: &Sighting<K>,
        name: &str,
        wanted: Option<&D>,
    ) -> Outcome<K> {
        let missing = wanted.is_some() && !optional.is_present();
        optional.set_wanted(&self.service, name, missing);
        // It may have appeared in between, and then nobody is told any more.
        if missing && !optional.is_present() {
            return if optional.is_forbidden() { Err(kind_missing::<K>(name)) } else { Ok(None) };
        }
        self.ensure(&optional.watched, sighting, name, wanted, false).await
    }

    pub(super) async fn ensure_ways_in(
        &mut self,
        plan: &Plan,
        seen: &Seen,
        policy: Option<NetworkPolicy>,
        ingress: Option<&Ingress>,
        route: Option<&HTTPRoute>,
    ) -> (Outcome<SeenNetworkPolicy>, Outcome<SeenIngress>, Outcome<SeenHttpRoute>) {
        let (watches, name) = (&self.context.watches, plan.identity.name.as_str());
        let policy = policy.as_ref();
        let policy = self.ensure(&watches.network_policies, &seen.app_policy, name, policy, false).await;
        let ingress = self.ensure(&watches.ingresses, &seen.ingress, name, ingress, false).await;
        let made = match self.ensure_if_known(&watches.http_routes, &seen.http_route, name, route).await {
            // Nobody can come in this way, and that is what was asked for.
            Ok(None) if route.is_some() => Err(kind_missing::<HTTPRoute>(name)),
            outcome => outcome,
        };
        (policy, ingress, made)
    }
}

/// Why an object of a kind that the cluster may not have cannot be made.
fn kind_missing<K: Resource<DynamicType = ()>>(name: &str) -> ChildError {
    let from = match K::kind(&()).as_ref() {
        "HTTPRoute" => "the Gateway API (gateway.networking.k8s.io/v1)",
        _ => "the Prometheus operator (monitoring.coreos.com/v1)",
    };
    ChildError::KindMissing { kind: desired::kind_name::<K>(), name: name.to_owned(), from }
}
