//! What the application's pods start with beside Redis, and what a node drain keeps to.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Secret, Service, ServiceAccount},
    policy::v1::PodDisruptionBudget,
};

use super::{
    Outcome, Writer,
    still_used::{account_is_used, peers_are_used, sidecar_is_used},
};
use crate::{
    api::names::digest_key_name,
    operator::{
        observe::Seen,
        plan::Plan,
        seen::{SeenConfigMap, SeenDisruptionBudget, SeenSecret, SeenService, SeenServiceAccount},
    },
};

impl Writer<'_> {
    /// Makes them what is wanted. An account that is not wanted any more stays while pods run under it.
    pub(super) async fn ensure_needs(
        &mut self,
        plan: &Plan,
        seen: &Seen,
        deployment: &Deployment,
        (key, account, budget): (Option<&Secret>, Option<&ServiceAccount>, Option<&PodDisruptionBudget>),
    ) -> (Outcome<SeenSecret>, Outcome<SeenServiceAccount>, Outcome<SeenDisruptionBudget>) {
        let watches = &self.context.watches;
        let name = &plan.identity.name;
        let key = self.ensure(&watches.secrets, &seen.digest_key, &digest_key_name(name), key, false).await;
        let accounts = &watches.service_accounts;
        let is_used = account_is_used(plan, seen, deployment);
        let account = self.ensure(accounts, &seen.service_account, name, account, is_used).await;
        let budgets = &watches.disruption_budgets;
        let budget = self.ensure(budgets, &seen.disruption_budget, name, budget, false).await;
        (key, account, budget)
    }

    /// Makes what the sidecars read, and the name by which they find each other, what is wanted. What is
    /// not wanted any more stays while pods have such a sidecar.
    pub(super) async fn ensure_sidecar(
        &mut self,
        plan: &Plan,
        seen: &Seen,
        deployment: &Deployment,
        (secret, config, peers): (Option<&Secret>, Option<&ConfigMap>, Option<&Service>),
    ) -> (Outcome<SeenSecret>, Outcome<SeenConfigMap>, Outcome<SeenService>) {
        let watches = &self.context.watches;
        let (name, peers_name) = (&plan.identity.sidecar_name(), plan.identity.peers_name());
        let is_used = sidecar_is_used(plan, seen, deployment);
        let secret = self.ensure(&watches.secrets, &seen.sidecar_secret, name, secret, is_used).await;
        let config = self.ensure(&watches.config_maps, &seen.sidecar_config, name, config, is_used).await;
        let is_used = peers_are_used(plan, seen, deployment);
        let peers = self.ensure(&watches.services, &seen.peers_service, &peers_name, peers, is_used).await;
        (secret, config, peers)
    }
}
