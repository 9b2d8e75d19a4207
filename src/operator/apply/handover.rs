//! Who owns a Deployment's `spec.replicas`, and how it passes to the autoscaler.
//!
//! With autoscaling on, the operator must not own the field: it would write its
//! number over the autoscaler's with every apply. But a field whose sole owner
//! drops it falls back to its default, 1. So where the operator owns it
//! (at creation, and when autoscaling is switched on) it passes through a
//! second field manager:
//!
//! 1. the main manager applies with `replicas: N` (creation only);
//! 2. the scale manager applies `replicas: N` alone, and co-owns it;
//! 3. the main manager applies without it.
//!
//! The creation is one pass of the Deployment, the other steps are the next: a
//! service comes up with the first, and the creations of others go before the
//! second. Meanwhile the number may be changed: the scale manager does not
//! force, and so writes over nobody but the operator.
//!
//! The autoscaler takes the field over with its first change. Killed between
//! any two steps, the number stays, and the next reconcile goes on from what
//! the managed fields show.
//!
//! Source: Kubernetes documentation, "Server-Side Apply", Transferring ownership.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;

use super::{Act, Desired, Outcome, Writer};
use crate::{
    api::names::SCALE_FIELD_MANAGER,
    operator::{
        error::ChildError, observe::Seen, ownership::owns_replicas, plan::Replicas, seen::SeenDeployment,
        seen::Sighting,
    },
};

impl Writer<'_> {
    /// Makes the Deployment what is wanted; `wanted` has no `replicas` where the autoscaler sets them.
    pub(super) async fn ensure_deployment(
        &mut self,
        seen: &Seen,
        wanted: Deployment,
        replicas: &Replicas,
    ) -> Outcome<SeenDeployment> {
        let watched = &self.context.watches.deployments;
        let name = wanted.metadata.name.clone().unwrap_or_default();
        let desired = Desired::of(&wanted, &name)?;
        let Replicas::Autoscaled { handover, .. } = replicas else {
            return self.ensure_desired(watched, &seen.deployment, &desired).await.map(Some);
        };
        match &seen.deployment {
            Sighting::Ours(live) if owns_replicas(&live.metadata) => {
                self.hand_over(&desired, live, *handover).await.map(Some)
            }
            Sighting::Absent => {
                let mut with_replicas = desired;
                with_replicas.value["spec"]["replicas"] = json!(handover);
                self.create(watched, &with_replicas).await.map(Some)
            }
            sighting => self.ensure_desired(watched, sighting, &desired).await.map(Some),
        }
    }

    async fn hand_over(
        &mut self,
        desired: &Desired,
        live: &SeenDeployment,
        replicas: i32,
    ) -> Result<Arc<SeenDeployment>, ChildError> {
        let watched = &self.context.watches.deployments;
        let written = self.changes.len();
        let creation_goes_on = desired.was_applied_to(&live.metadata);
        let act = if creation_goes_on { Act::Corrected } else { Act::Configured };
        let mut scale = desired.for_live(&live.metadata);
        scale.value = json!({
            "apiVersion": desired.value["apiVersion"],
            "kind": desired.value["kind"],
            "metadata": { "name": desired.name, "namespace": self.namespace, "uid": live.metadata.uid },
            "spec": { "replicas": replicas },
        });
        // Another number than the present one is written over the operator's own, and over no newer one.
        let force = live.spec.replicas != Some(replicas);
        if force {
            scale.value["metadata"]["resourceVersion"] = json!(live.metadata.resource_version);
        }
        self.write(watched, &scale, SCALE_FIELD_MANAGER, force, act).await?;
        // Nobody is to read of the steps: they are part of the creation, or of one change.
        self.changes.truncate(written);
        let without_replicas = desired.for_live(&live.metadata);
        let object = self.write_with_ports(watched, &without_replicas, act).await?;
        if creation_goes_on {
            self.changes.truncate(written);
        }
        tracing::info!(
            deployment = desired.name,
            replicas,
            uid = self.uid,
            "the autoscaler sets the replicas from here"
        );
        Ok(object)
    }
}
