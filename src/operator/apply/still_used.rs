//! What is no longer wanted, and stays for as long as pods use it. PURE.

use k8s_openapi::{
    api::apps::v1::{Deployment, StatefulSet},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;
use serde::Serialize;

use super::desired::Desired;
use crate::{
    api::WhenDeleted,
    operator::{
        children::app_policy::Reached,
        external::ExternalState,
        observe::Seen,
        ownership::is_retained,
        plan::{Plan, RedisPlan},
    },
};

/// What is not wanted any more and stays, because pods started with it.
pub(super) struct StillUsed {
    /// Redis: until the last pod of the application has left it.
    pub(super) redis: bool,
    /// The Secret: until Redis has left it too.
    pub(super) secret: bool,
    /// The claim: until Redis has left it, and for good where its data are to be kept.
    pub(super) claim: bool,
}

impl StillUsed {
    pub(super) fn of(
        plan: &Plan,
        seen: &Seen,
        deployment: &Deployment,
        stateful_set: Option<&StatefulSet>,
    ) -> Self {
        let name = &plan.identity.name;
        let redis_is_there = [
            seen.stateful_set.ours().is_some(),
            seen.redis_service.ours().is_some(),
            seen.redis_config.ours().is_some(),
            seen.redis_secret.ours().is_some(),
        ];
        let spare_claim = seen.redis_claim.ours().filter(|_| !plan.redis.has_persistence());
        let is_kept = plan.spec.redis.persistence.when_deleted == WhenDeleted::Retain;
        // What an earlier CachedService was to keep, no later one deletes.
        let kept = spare_claim.is_some_and(|claim| is_kept || is_retained(&claim.metadata));
        let is_wanted_whole = stateful_set.is_some() && plan.redis.has_credentials() && spare_claim.is_none();
        // Mostly there is nothing to take away, and nothing to find out.
        if !redis_is_there.contains(&true) || is_wanted_whole {
            return Self { redis: false, secret: false, claim: kept };
        }
        let app_has_left = has_rolled_out(seen, deployment, name) && has_its_redis(plan, seen);
        let redis_has_left =
            stateful_set.is_none_or(|wanted| redis_has_rolled_out(seen, wanted, &plan.identity.redis_name()));
        let has_left = app_has_left && redis_has_left;
        // With a Redis of another kind the application need not leave it first.
        let claim = kept || !(redis_has_left && (stateful_set.is_some() || app_has_left));
        Self { redis: !app_has_left, secret: !has_left, claim }
    }
}

/// Whether pods run under a ServiceAccount that is not wanted any more.
pub(super) fn account_is_used(plan: &Plan, seen: &Seen, deployment: &Deployment) -> bool {
    let spare = seen.service_account.ours().filter(|_| !plan.spec.service_account.create);
    spare.is_some() && !has_rolled_out(seen, deployment, &plan.identity.name)
}

/// Whether pods have a sidecar that is not wanted any more.
pub(super) fn sidecar_is_used(plan: &Plan, seen: &Seen, deployment: &Deployment) -> bool {
    let is_there = seen.sidecar_secret.ours().is_some() || seen.sidecar_config.ours().is_some();
    plan.sidecar.is_none() && is_there && !has_rolled_out(seen, deployment, &plan.identity.name)
}

/// Whether pods still spread requests over each other, which is not wanted any more.
pub(super) fn peers_are_used(plan: &Plan, seen: &Seen, deployment: &Deployment) -> bool {
    let spare = seen.peers_service.ours().filter(|_| plan.spec.balancing().is_none());
    spare.is_some() && !has_rolled_out(seen, deployment, &plan.identity.name)
}

/// Who is let in to the application: also by what is not wanted any more, while pods have it.
pub(super) fn still_reached(plan: &Plan, seen: &Seen, deployment: &Deployment) -> Reached {
    let wanted = Reached::by(plan);
    Reached {
        sidecars: wanted.sidecars || sidecar_is_used(plan, seen, deployment),
        peers: wanted.peers || peers_are_used(plan, seen, deployment),
    }
}

/// Whether every pod of the application is of the template that is wanted now.
fn has_rolled_out(seen: &Seen, wanted: &Deployment, name: &str) -> bool {
    let Some(live) = seen.deployment.ours() else { return false };
    let status = &live.status;
    was_applied(wanted, name, &live.metadata)
        && status.observed_generation >= live.metadata.generation
        && status.replicas.unwrap_or_default() == status.updated_replicas.unwrap_or_default()
        && status.updated_replicas == status.available_replicas
        // Those that drain still serve. The status tells so from Kubernetes 1.35 on, and no moment too late.
        && status.terminating_replicas.unwrap_or_default() == 0
        && !seen.draining
}

/// Whether the Redis that takes the place of another has ever answered.
fn has_its_redis(plan: &Plan, seen: &Seen) -> bool {
    match plan.redis {
        RedisPlan::Standalone(_) => true,
        RedisPlan::External { .. } => matches!(seen.external, Some(ExternalState::Answered { .. })),
    }
}

/// Whether Redis's pod is of the template that is wanted now.
fn redis_has_rolled_out(seen: &Seen, wanted: &StatefulSet, name: &str) -> bool {
    let Some(live) = seen.stateful_set.ours() else { return false };
    let status = &live.status;
    was_applied(wanted, name, &live.metadata)
        && status.observed_generation >= live.metadata.generation
        && status.current_revision == status.update_revision
        && status.ready_replicas.unwrap_or_default() >= 1
}

fn was_applied<D: Resource<DynamicType = ()> + Serialize>(wanted: &D, name: &str, live: &ObjectMeta) -> bool {
    Desired::of(wanted, name).is_ok_and(|desired| desired.was_applied_to(live))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{core::v1::Secret, networking::v1::NetworkPolicyIngressRule};
    use kube::core::PartialObjectMeta;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::names::{APP, APPLIED_ANNOTATION},
        operator::{
            children::{app_policy::network_policy, children},
            sample::{deployment, nothing, ours, planned},
            seen::SeenSecret,
        },
    };

    fn spec(tiers: &Value) -> Value {
        let mut spec = json!({ "networkPolicy": { "app": { "enabled": true } } });
        spec.as_object_mut().unwrap().extend(tiers.as_object().unwrap().clone());
        spec
    }

    /// What is there while the pods are those of the first of these specs, or of the second, which is wanted now.
    fn seen(before: &Value, now: &Value, has_rolled_out: bool) -> Seen {
        let planned = |tiers: &Value| planned(spec(tiers), &nothing()).unwrap();
        let made = children(&planned(before));
        let pods = children(&planned(if has_rolled_out { now } else { before })).deployment;
        let all = json!({ "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2 });
        let mut live = deployment(2, &all);
        let digest = Desired::of(&pods, "shop").unwrap().digest;
        live.metadata.annotations = Some([(APPLIED_ANNOTATION.to_owned(), digest)].into());
        let mut seen = Seen { deployment: ours(live), ..nothing() };
        if let Some(Secret { metadata, data, .. }) = made.sidecar_secret {
            seen.sidecar_secret = ours(SeenSecret { metadata, data: data.unwrap_or_default() });
        }
        if let Some(service) = made.peers_service {
            let metadata = service.metadata;
            seen.peers_service = ours(PartialObjectMeta { metadata, ..PartialObjectMeta::default() });
        }
        seen
    }

    /// Whether the NetworkPolicy lets the pods of the service ask each other, at any port.
    fn may_ask_each_other(before: &Value, now: &Value, has_rolled_out: bool) -> bool {
        let seen = seen(before, now, has_rolled_out);
        let plan = planned(spec(now), &seen).unwrap();
        let reached = still_reached(&plan, &seen, &children(&plan).deployment);
        let ways_in = network_policy(&plan, reached).unwrap().spec.unwrap().ingress.unwrap();
        let is_of_peers = |rule: &NetworkPolicyIngressRule| {
            let selector = rule.from.as_ref().and_then(|from| from[0].pod_selector.as_ref());
            rule.ports.is_none() && selector == Some(&plan.identity.selector(APP))
        };
        ways_in.iter().any(is_of_peers)
    }

    #[test]
    fn sidecars_may_ask_each_other_for_as_long_as_a_pod_does() {
        let both = || json!({ "cache": { "http": {} }, "balancing": {} });
        let balancing = || json!({ "balancing": {} });
        let cache = || json!({ "cache": { "http": {} } });
        let off = || json!({});
        let stays_open = [(both(), balancing()), (both(), both()), (cache(), both()), (off(), balancing())];
        for (before, now) in stays_open {
            for has_rolled_out in [false, true] {
                assert!(may_ask_each_other(&before, &now, has_rolled_out), "{before} {now} {has_rolled_out}");
            }
        }
        for (before, now) in [(both(), cache()), (both(), off()), (balancing(), off())] {
            assert!(may_ask_each_other(&before, &now, false), "{before} {now}: pods do it still");
            assert!(!may_ask_each_other(&before, &now, true), "{before} {now}: no pod does it any more");
        }
        for (before, now) in [(cache(), cache()), (cache(), off()), (off(), off())] {
            assert!(!may_ask_each_other(&before, &now, false), "{before} {now}: none ever did it");
        }
    }
}
