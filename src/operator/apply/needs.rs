//! What the application's pods start with beside Redis, and what a node drain keeps to.

use std::marker::PhantomData;

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Secret, Service, ServiceAccount},
    policy::v1::PodDisruptionBudget,
};
use kube::core::PartialObjectMeta;

use super::{
    Act, Change, Outcome, Writer, desired,
    still_used::{account_is_used, peers_are_used, sidecar_is_used},
};
use crate::{
    api::names::{digest_key_name, purges_name},
    operator::{
        error::ChildError,
        observe::Seen,
        plan::Plan,
        purges::{Standing, see_to_record},
        seen::{SeenConfigMap, SeenDisruptionBudget, SeenSecret, SeenService, SeenServiceAccount},
        watched::Found,
    },
    telemetry::ChildAct,
};

/// What a record that is written anew counts as, in the place of a digest.
const RECORD: &str = "record";

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
        let config = match self.ensure_record(plan).await {
            Ok(()) => config,
            // Pods do not start before there is one: its absence is a loss.
            Err(refused) => config.and(Err(refused)),
        };
        let is_used = peers_are_used(plan, seen, deployment);
        let peers = self.ensure(&watches.services, &seen.peers_service, &peers_name, peers, is_used).await;
        (secret, config, peers)
    }

    /// Begins the record of purges of a cache, where there is none that can be read. What is in it is written where
    /// purges are carried out. The watch shows no data: each version is read once.
    async fn ensure_record(&mut self, plan: &Plan) -> Result<(), ChildError> {
        if !plan.spec.has_cache() || self.paused {
            return Ok(());
        }
        let (context, name) = (self.context, purges_name(&plan.identity.name));
        let maps = &context.watches.config_maps;
        let shown = match maps.find(self.namespace, &name) {
            Found::Known(map) | Found::Provisional(map) => Some(map),
            Found::Unknown => None,
        };
        if shown.as_ref().is_some_and(|map| context.is_known_record(&self.service, &map.metadata)) {
            return Ok(());
        }
        let kind = desired::kind_name::<SeenConfigMap>();
        if context.is_contested(&self.service, kind, RECORD) {
            return Err(ChildError::Contested { kind, name });
        }
        let (act, map) = match see_to_record(context, &plan.identity, shown.is_some()).await {
            Ok(Standing::Readable(map)) => {
                context.knows_record(&self.service, &map.metadata);
                return Ok(());
            }
            Ok(Standing::Begun(map)) => (Act::Created, map),
            Ok(Standing::Mended(map)) => (Act::Corrected, map),
            Ok(Standing::Leaving) => return Err(desired::leaving(kind, &name)),
            Ok(Standing::Foreign(owner)) => return Err(ChildError::Foreign { kind, name, owner }),
            Err(source) => return Err(ChildError::Refused { act: "write", kind, name, source }),
        };
        let counted = if act == Act::Created { ChildAct::Create } else { ChildAct::Configure };
        context.metrics.child_written(kind, counted);
        context.knows_record(&self.service, &map.metadata);
        context.applied(&self.service, kind, RECORD);
        maps.wrote(PartialObjectMeta { types: None, metadata: map.metadata, _phantom: PhantomData });
        self.changes.push(Change { act, kind, name });
        Ok(())
    }
}
