//! The Deployment and the StatefulSet, whose pods start with what is in other children.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};

use super::{Outcome, Writer};
use crate::operator::{
    error::ChildError,
    observe::Seen,
    plan::{Plan, RedisPlan},
    seen::{SeenDeployment, SeenStatefulSet},
};

impl Writer<'_> {
    /// Makes the StatefulSet what is wanted, unless its pod could not start.
    pub(super) async fn ensure_redis<'a>(
        &mut self,
        seen: &Seen,
        name: &str,
        wanted: Option<&StatefulSet>,
        needed: impl IntoIterator<Item = Option<&'a ChildError>>,
        is_used: bool,
    ) -> Outcome<SeenStatefulSet> {
        if let Some(waiting) = waits("StatefulSet", name, needed).filter(|_| wanted.is_some()) {
            return Err(waiting);
        }
        let watched = &self.context.watches.stateful_sets;
        self.ensure(watched, &seen.stateful_set, name, wanted, is_used).await
    }

    /// Makes the Deployment what is wanted, unless its pods could not start.
    pub(super) async fn ensure_application<'a>(
        &mut self,
        plan: &Plan,
        seen: &Seen,
        wanted: Deployment,
        needed: impl IntoIterator<Item = Option<&'a ChildError>>,
        still_scaled: Option<&ChildError>,
    ) -> Outcome<SeenDeployment> {
        let name = &plan.identity.name;
        if let Some(waiting) = waits("Deployment", name, needed) {
            return Err(waiting);
        }
        let wait_for = |what| ChildError::Waiting { kind: "Deployment", name: name.clone(), what };
        if let Some(failure) = still_scaled {
            return Err(wait_for(format!(
                "its autoscaler to be gone, which would change the number of pods ({failure})"
            )));
        }
        match &plan.redis {
            // Without its URL a rollout could only fail: what runs goes on as it is.
            RedisPlan::External { url, revision }
                if revision.is_empty() && seen.deployment.ours().is_some() =>
            {
                Err(wait_for(format!("the URL of Redis in the Secret {}", url.name)))
            }
            _ => self.ensure_deployment(seen, wanted, &plan.replicas).await,
        }
    }
}

fn waits<'a>(
    kind: &'static str,
    name: &str,
    needed: impl IntoIterator<Item = Option<&'a ChildError>>,
) -> Option<ChildError> {
    let failure = needed.into_iter().flatten().next()?;
    Some(ChildError::Waiting {
        kind,
        name: name.to_owned(),
        what: format!("what its pods start with ({failure})"),
    })
}
