//! What the application's pods start with beside Redis, and what a node drain keeps to.

use k8s_openapi::api::{
    core::v1::{ConfigMap, Secret, ServiceAccount},
    policy::v1::PodDisruptionBudget,
};

use super::{Outcome, Writer};
use crate::{
    api::names::digest_key_name,
    operator::{
        observe::Seen,
        seen::{SeenConfigMap, SeenDisruptionBudget, SeenSecret, SeenServiceAccount},
    },
};

impl Writer<'_> {
    /// Makes them what is wanted. An account that is not wanted any more stays while pods run under it.
    pub(super) async fn ensure_needs(
        &mut self,
        seen: &Seen,
        name: &str,
        (key, account, budget): (Option<&Secret>, Option<&ServiceAccount>, Option<&PodDisruptionBudget>),
        account_is_used: bool,
    ) -> (Outcome<SeenSecret>, Outcome<SeenServiceAccount>, Outcome<SeenDisruptionBudget>) {
        let watches = &self.context.watches;
        let key = self.ensure(&watches.secrets, &seen.digest_key, &digest_key_name(name), key, false).await;
        let accounts = &watches.service_accounts;
        let account = self.ensure(accounts, &seen.service_account, name, account, account_is_used).await;
        let budgets = &watches.disruption_budgets;
        let budget = self.ensure(budgets, &seen.disruption_budget, name, budget, false).await;
        (key, account, budget)
    }

    /// Makes what the sidecars read what is wanted. What is not wanted any more stays while pods have one.
    pub(super) async fn ensure_sidecar(
        &mut self,
        seen: &Seen,
        name: &str,
        (secret, config): (Option<&Secret>, Option<&ConfigMap>),
        is_used: bool,
    ) -> (Outcome<SeenSecret>, Outcome<SeenConfigMap>) {
        let watches = &self.context.watches;
        let secret = self.ensure(&watches.secrets, &seen.sidecar_secret, name, secret, is_used).await;
        let config = self.ensure(&watches.config_maps, &seen.sidecar_config, name, config, is_used).await;
        (secret, config)
    }
}
