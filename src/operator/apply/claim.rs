//! The claim of Redis's data, which can outlive what it was made for.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::Patch;
use serde_json::json;

use super::{Act, Change, Outcome, Writer, desired, ports};
use crate::{
    api::{WhenDeleted, names::RETAINED_LABEL},
    operator::{
        error::ChildError,
        observe::Seen,
        ownership::is_retained,
        plan::Plan,
        seen::{SeenClaim, Sighting},
    },
    telemetry::ChildAct,
};

impl Writer<'_> {
    /// Makes the claim what is wanted. One that is not wanted any more is let go where its data
    /// are to be kept; else it goes, unless it is `kept` because Redis still uses it.
    pub(super) async fn ensure_claim(
        &mut self,
        plan: &Plan,
        seen: &Seen,
        wanted: Option<&PersistentVolumeClaim>,
        kept: bool,
    ) -> Outcome<SeenClaim> {
        let name = plan.identity.redis_name();
        let is_to_stay = plan.spec.redis.persistence.when_deleted == WhenDeleted::Retain;
        match &seen.redis_claim {
            Sighting::Ours(live) if wanted.is_none() && is_to_stay && !is_retained(&live.metadata) => {
                self.let_go(&name, live).await
            }
            sighting => self.ensure(&self.context.watches.claims, sighting, &name, wanted, kept).await,
        }
    }

    /// Takes the owner off, with which the claim would go.
    async fn let_go(&mut self, name: &str, live: &SeenClaim) -> Outcome<SeenClaim> {
        let kind = desired::kind_name::<PersistentVolumeClaim>();
        if self.paused {
            return Err(ChildError::Paused { act: Act::Configured, kind, name: name.to_owned() });
        }
        let meta = &live.metadata;
        let others: Vec<_> =
            meta.owner_references.iter().flatten().filter(|owner| owner.uid != self.uid).collect();
        let patch = json!({ "metadata": {
            // Of this object, as it was seen: the list is written whole.
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
            "ownerReferences": others,
            "labels": { RETAINED_LABEL: "true" },
        } });
        let patched = self.api::<SeenClaim>().patch(name, &ports::parameters(), &Patch::Merge(patch)).await;
        let claim = patched.map_err(|source| ChildError::Refused {
            act: "patch",
            kind,
            name: name.to_owned(),
            source,
        })?;
        self.context.metrics.child_written(kind, ChildAct::Configure);
        self.changes.push(Change { act: Act::Configured, kind, name: name.to_owned() });
        Ok(Some(self.context.watches.claims.wrote(claim)))
    }
}
