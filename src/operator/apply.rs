//! Brings the children into the wanted state: server-side apply of what differs,
//! deletion of what is no longer wanted, and no request for what is as it should be.
//!
//! A failure of one child does not hold up the others, except those whose pods
//! would start with what failed.
//!
//! While the CachedService is paused the same is gone through without a request: what
//! would be done to a child is its failure ([`ChildError::Paused`]).
//!
//! Source: Kubernetes documentation, "Server-Side Apply".

mod claim;
mod desired;
mod handover;
mod needs;
mod optional;
mod outcome;
mod ports;
mod still_used;
mod workloads;

pub use outcome::{Act, Applied, Change, Outcome};

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DeleteParams, Patch, PatchParams, Preconditions, ValidationDirective},
    core::DynamicObject,
    runtime::reflector::ObjectRef,
};
use serde::Serialize;

use super::{
    children::{Children, app_policy::network_policy, children},
    context::Context,
    error::ChildError,
    observe::{Look, Seen},
    ownership::is_intact,
    plan::Plan,
    seen::Sighting,
    watched::{Child, Watched},
};
use crate::{
    api::{CachedService, names::FIELD_MANAGER},
    telemetry::ChildAct,
};
use desired::Desired;
use still_used::{StillUsed, still_reached};

/// Applies the children of a plan.
pub async fn apply(context: &Context, plan: &Plan, seen: &Seen) -> Applied {
    let Children {
        redis_secret,
        redis_config,
        redis_service,
        redis_policy,
        redis_claim,
        stateful_set,
        redis_monitor,
        service,
        peers_service,
        app_policy,
        ingress,
        http_route,
        digest_key,
        sidecar_secret,
        sidecar_config,
        service_account,
        disruption_budget,
        deployment,
        autoscaler,
        app_monitor,
    } = children(plan);
    let identity = &plan.identity;
    let (name, redis_name, watches) = (identity.name.as_str(), identity.redis_name(), &context.watches);
    let mut writer = Writer::of(context, plan, seen);

    // Those that have sidecars still, or ask each other, are let in for as long.
    let app_policy = app_policy.and_then(|_| network_policy(plan, still_reached(plan, seen, &deployment)));
    let used = StillUsed::of(plan, seen, &deployment, stateful_set.as_ref());
    let redis_secret = writer
        .ensure(&watches.secrets, &seen.redis_secret, &redis_name, redis_secret.as_ref(), used.secret)
        .await;
    let redis_config = writer
        .ensure(&watches.config_maps, &seen.redis_config, &redis_name, redis_config.as_ref(), used.redis)
        .await;
    let redis_service = writer
        .ensure(&watches.services, &seen.redis_service, &redis_name, redis_service.as_ref(), used.redis)
        .await;
    let policy = redis_policy.as_ref();
    // A Redis that pods still use stays guarded.
    let guarded = used.redis && plan.spec.network_policy.redis.enabled;
    let redis_policy =
        writer.ensure(&watches.network_policies, &seen.redis_policy, &redis_name, policy, guarded).await;
    let has_claim = redis_claim.is_some();
    let redis_claim = writer.ensure_claim(plan, seen, redis_claim.as_ref(), used.claim).await;
    // A claim that is to go keeps no pod from starting.
    let claim = failed(&redis_claim).filter(|_| has_claim);
    let needed = [failed(&redis_secret), failed(&redis_config), claim];
    let wanted = stateful_set.as_ref();
    let stateful_set = writer.ensure_redis(seen, &redis_name, wanted, needed, used.redis).await;
    let monitor = redis_monitor.as_ref();
    let redis_monitor =
        writer.ensure_if_known(&watches.pod_monitors, &seen.redis_monitor, &redis_name, monitor).await;
    let service = writer.ensure(&watches.services, &seen.service, name, Some(&service), false).await;
    let (app_policy, ingress, http_route) =
        writer.ensure_ways_in(plan, seen, app_policy, ingress.as_ref(), http_route.as_ref()).await;
    let sidecar = (sidecar_secret.as_ref(), sidecar_config.as_ref(), peers_service.as_ref());
    let (sidecar_secret, sidecar_config, peers_service) =
        writer.ensure_sidecar(plan, seen, &deployment, sidecar).await;
    let needs = (digest_key.as_ref(), service_account.as_ref(), disruption_budget.as_ref());
    let (digest_key, service_account, disruption_budget) =
        writer.ensure_needs(plan, seen, &deployment, needs).await;

    // An autoscaler that shall go must not fight the number that replaces it.
    let (removed, autoscaler) = match autoscaler {
        None => (Some(writer.ensure_absent(&watches.autoscalers, &seen.autoscaler, name).await), None),
        Some(autoscaler) => (None, Some(autoscaler)),
    };
    let still_scaled = removed.as_ref().and_then(failed);
    let of_sidecar = of_sidecar(plan, [failed(&sidecar_secret), failed(&sidecar_config)]);
    let needed = [&redis_secret, &digest_key].map(failed);
    let needed = needed.into_iter().chain(of_sidecar).chain([failed(&service_account)]);
    let deployment = writer.ensure_application(plan, seen, deployment, needed, still_scaled).await;
    let autoscaler = match (removed, autoscaler) {
        (Some(removed), _) => removed,
        (None, wanted) => {
            writer.ensure(&watches.autoscalers, &seen.autoscaler, name, wanted.as_ref(), false).await
        }
    };
    let monitor = app_monitor.as_ref();
    let app_monitor = writer.ensure_if_known(&watches.pod_monitors, &seen.app_monitor, name, monitor).await;
    Applied {
        redis_secret,
        redis_config,
        redis_service,
        redis_policy,
        redis_claim,
        stateful_set,
        redis_monitor,
        service,
        peers_service,
        app_policy,
        ingress,
        http_route,
        digest_key,
        sidecar_secret,
        sidecar_config,
        service_account,
        disruption_budget,
        deployment,
        autoscaler,
        app_monitor,
        changes: writer.changes,
    }
}

/// What is to go and cannot keeps no pod from starting.
fn of_sidecar<T>(plan: &Plan, failures: [Option<T>; 2]) -> [Option<T>; 2] {
    failures.map(|failure| failure.filter(|_| plan.sidecar.is_some()))
}

/// What others wait for. What is held back by a pause holds up nobody: they are held back as well.
fn failed<K>(outcome: &Outcome<K>) -> Option<&ChildError> {
    outcome.as_ref().err().filter(|failure| !failure.is_paused())
}

/// So often an object is read and written that others write to as well: controllers do as soon as
/// something has changed.
const TRIES: usize = 5;

/// Writes the children of one CachedService and keeps account of it.
struct Writer<'a> {
    context: &'a Context,
    service: ObjectRef<CachedService>,
    namespace: &'a str,
    uid: &'a str,
    look: Look,
    paused: bool,
    changes: Vec<Change>,
}

impl<'a> Writer<'a> {
    fn of(context: &'a Context, plan: &'a Plan, seen: &Seen) -> Self {
        let identity = &plan.identity;
        Self {
            context,
            service: ObjectRef::new(&identity.name).within(&identity.namespace),
            namespace: &identity.namespace,
            uid: &identity.uid,
            look: seen.look,
            paused: plan.paused,
            changes: Vec::new(),
        }
    }
}

impl Writer<'_> {
    /// Makes the object at `name` what is wanted. One that is not wanted goes, unless it is `kept`.
    async fn ensure<K: Child, D: Resource<DynamicType = ()> + Serialize>(
        &mut self,
        watched: &Watched<K>,
        sighting: &Sighting<K>,
        name: &str,
        wanted: Option<&D>,
        kept: bool,
    ) -> Outcome<K> {
        let Some(wanted) = wanted else {
            return match sighting {
                Sighting::Ours(object) if kept => Ok(Some(object.clone())),
                _ => self.ensure_absent(watched, sighting, name).await,
            };
        };
        let desired = Desired::of(wanted, name)?;
        self.ensure_desired(watched, sighting, &desired).await.map(Some)
    }

    async fn ensure_desired<K: Child>(
        &mut self,
        watched: &Watched<K>,
        sighting: &Sighting<K>,
        desired: &Desired,
    ) -> Result<Arc<K>, ChildError> {
        match sighting {
            Sighting::Foreign { owner } => Err(desired.foreign(owner)),
            Sighting::Leaving => Err(desired.leaving()),
            Sighting::Ours(live) => {
                let bound = desired.for_live(live.meta());
                if !self.paused && ports::are_owned_twice(live.meta()) {
                    self.own_ports_once::<K>(&bound).await?;
                }
                let is_intact = is_intact(live.meta(), &desired.digest, &desired.value);
                if self.look != Look::Anew && is_intact {
                    return Ok(live.clone());
                }
                let act = if desired.was_applied_to(live.meta()) { Act::Corrected } else { Act::Configured };
                let told = self.changes.len();
                let written = if self.paused || is_intact {
                    self.write(watched, &bound, FIELD_MANAGER, true, act).await
                } else {
                    self.write_with_ports(watched, &bound, act).await
                }?;
                if written.meta().resource_version == live.meta().resource_version {
                    // It was as it should be.
                    self.changes.truncate(told);
                }
                Ok(written)
            }
            Sighting::Absent => self.create(watched, desired).await,
        }
    }

    /// Applies to an object that may have ports of our names at other numbers.
    async fn write_with_ports<K: Child>(
        &mut self,
        watched: &Watched<K>,
        bound: &Desired,
        act: Act,
    ) -> Result<Arc<K>, ChildError> {
        let counts = self.check_contest(bound, FIELD_MANAGER)?;
        let mut replaced = 0;
        let written = async {
            // An older API server takes a StatefulSet with two ports of one name, and makes no pod of it.
            if K::kind(&()) == StatefulSet::kind(&()) {
                self.replace_ports::<K>(bound, &mut replaced).await?;
            }
            match self.write(watched, bound, FIELD_MANAGER, true, act).await {
                Err(refused) if ports::is_duplicate(&refused) => {
                    let before = replaced;
                    self.replace_ports::<K>(bound, &mut replaced).await?;
                    if replaced == before {
                        return Err(refused);
                    }
                    self.write(watched, bound, FIELD_MANAGER, true, act).await
                }
                result => result,
            }
        }
        .await;
        // Undone before the apply: as if it had been applied, or this would never end.
        if replaced > 0 && counts && written.is_err() {
            self.context.applied(&self.service, bound.kind, &bound.digest);
        }
        written
    }

    /// Creates, only if the name is free.
    async fn create<K: Child>(
        &mut self,
        watched: &Watched<K>,
        desired: &Desired,
    ) -> Result<Arc<K>, ChildError> {
        let desired = desired.for_free_name();
        let created = self.write(watched, &desired, FIELD_MANAGER, false, Act::Created).await;
        match self.look {
            // Nobody has looked at the name yet: what stands there may be ours.
            Look::Watches => {
                created.map_err(|error| if error.is_conflict() { desired.taken() } else { error })
            }
            Look::Names | Look::Anew => created,
        }
    }

    /// Puts our ports in the place of those of the same names and other numbers, of which an apply
    /// would make two of one name. Counts in `replaced` where there were such ports.
    async fn replace_ports<K: Child>(&self, bound: &Desired, replaced: &mut usize) -> Result<(), ChildError> {
        let api = self.whole::<K>();
        let mut tries = 0;
        loop {
            tries += 1;
            let live = api.get(&bound.name).await.map_err(|source| bound.refused("get", source))?;
            let Some(correction) = ports::correction(&bound.value, &live) else { return Ok(()) };
            match api.patch(&bound.name, &ports::parameters(), &Patch::Merge(correction)).await {
                Err(kube::Error::Api(status)) if status.is_conflict() && tries < TRIES => {}
                Err(source) => return Err(bound.refused("patch", source)),
                Ok(_) => break,
            }
        }
        *replaced += 1;
        self.own_ports_once::<K>(bound).await
    }

    /// Takes the entry of [`Self::replace_ports`] out of the managed fields.
    async fn own_ports_once<K: Child>(&self, bound: &Desired) -> Result<(), ChildError> {
        let api = self.whole::<K>();
        // If none succeeds, the next reconcile goes on.
        for _ in 0..TRIES {
            let live = api.get(&bound.name).await.map_err(|source| bound.refused("get", source))?;
            let Some(patch) = ports::disowning(&bound.value, &live.metadata) else { break };
            match api.patch(&bound.name, &ports::parameters(), &Patch::Merge(patch)).await {
                Err(kube::Error::Api(status)) if status.is_conflict() => {}
                patched => return patched.map(drop).map_err(|source| bound.refused("patch", source)),
            }
        }
        Ok(())
    }

    /// Objects of a kind with all their fields: what is kept of a child holds few.
    fn whole<K: Child>(&self) -> Api<DynamicObject> {
        let (client, kind) = (Client::clone(&self.context.client), ApiResource::erase::<K>(&()));
        Api::namespaced_with(client, self.namespace, &kind)
    }

    /// Fails where the same was applied again and again: somebody undoes it, whatever it looks like
    /// from here. Whether this time counts: what a user orders neither does nor waits.
    fn check_contest(&self, desired: &Desired, manager: &str) -> Result<bool, ChildError> {
        let counts = manager == FIELD_MANAGER && self.look != Look::Anew;
        if counts && self.context.is_contested(&self.service, desired.kind, &desired.digest) {
            return Err(desired.contested());
        }
        Ok(counts)
    }

    /// Applies. With `force`, fields of other managers are taken over: only in what is ours.
    async fn write<K: Child>(
        &mut self,
        watched: &Watched<K>,
        desired: &Desired,
        manager: &str,
        force: bool,
        act: Act,
    ) -> Result<Arc<K>, ChildError> {
        if self.paused {
            return Err(desired.paused(act));
        }
        let counts = self.check_contest(desired, manager)?;
        let parameters = PatchParams {
            force,
            field_manager: Some(manager.to_owned()),
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::default()
        };
        let api: Api<K> = self.api();
        let object = api
            .patch(&desired.name, &parameters, &Patch::Apply(&desired.value))
            .await
            .map_err(|source| desired.refused("apply", source))?;
        if counts {
            self.context.applied(&self.service, desired.kind, &desired.digest);
        }
        let counted = if act == Act::Created { ChildAct::Create } else { ChildAct::Configure };
        self.context.metrics.child_written(desired.kind, counted);
        self.changes.push(Change { act, kind: desired.kind, name: desired.name.clone() });
        Ok(watched.wrote(object))
    }

    /// Removes the object at `name` if it is ours.
    async fn ensure_absent<K: Child>(
        &mut self,
        watched: &Watched<K>,
        sighting: &Sighting<K>,
        name: &str,
    ) -> Outcome<K> {
        let Sighting::Ours(live) = sighting else { return Ok(None) };
        if live.meta().deletion_timestamp.is_some() {
            return Ok(None);
        }
        let kind = desired::kind_name::<K>();
        if self.paused {
            return Err(ChildError::Paused { act: Act::Deleted, kind, name: name.to_owned() });
        }
        // Not an object of the same name that came since.
        let preconditions = Preconditions { uid: live.meta().uid.clone(), ..Preconditions::default() };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        match self.api::<K>().delete(name, &parameters).await {
            Ok(_) => {
                watched.deleted(live);
                self.context.metrics.child_written(kind, ChildAct::Delete);
                self.changes.push(Change { act: Act::Deleted, kind, name: name.to_owned() });
                Ok(None)
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(source) => Err(ChildError::Refused { act: "delete", kind, name: name.to_owned(), source }),
        }
    }

    fn api<K: Child>(&self) -> Api<K> {
        Api::namespaced(Client::clone(&self.context.client), self.namespace)
    }
}
