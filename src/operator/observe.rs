//! Everything that a reconcile has to know of the cluster: from the watches, and
//! by GET only where one of them hides what stands at a name.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use k8s_openapi::ByteString;
use kube::{Api, Client, ResourceExt, runtime::reflector::ObjectRef};

use super::{
    context::Context,
    error::Error,
    external::ExternalState,
    optional::Optional,
    ownership::{is_controlled_by, is_of_predecessor, is_retained_for, owner_in_words},
    plan::{Content, Credentials, DigestKey, Reference, SidecarToken, references},
    seen::{
        SeenAutoscaler, SeenClaim, SeenConfigMap, SeenDeployment, SeenDisruptionBudget, SeenHttpRoute,
        SeenIngress, SeenNetworkPolicy, SeenPodMonitor, SeenSecret, SeenService, SeenServiceAccount,
        SeenStatefulSet, Sighting,
    },
    sidecars::reading::Asked,
    trouble::Trouble,
    watched::{Child, Found, Watched},
};
use crate::api::{
    CachedService, CachedServiceStatus, RedisMode,
    names::{digest_key_name, peers_name, redis_name, sidecar_name},
};

/// How far it is looked at a name at which the watches show nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Not further: what is created there is created only if the name is free.
    Watches,
    /// By GET: an object without our label stands there, or something failed.
    Names,
    /// By GET at every name, whatever the watches show; each child is then applied anew.
    Anew,
}

/// What was observed of one CachedService and around it.
#[derive(Debug)]
pub struct Seen {
    /// How far it was looked for what the watches do not show.
    pub look: Look,
    /// At the name of the Secret.
    pub redis_secret: Sighting<SeenSecret>,
    /// At the name of the ConfigMap.
    pub redis_config: Sighting<SeenConfigMap>,
    /// At the name of Redis's Service.
    pub redis_service: Sighting<SeenService>,
    /// At the name of Redis's NetworkPolicy.
    pub redis_policy: Sighting<SeenNetworkPolicy>,
    /// At the name of the PersistentVolumeClaim.
    pub redis_claim: Sighting<SeenClaim>,
    /// At the name of the StatefulSet.
    pub stateful_set: Sighting<SeenStatefulSet>,
    /// At the name of the `PodMonitor` of Redis's exporter.
    pub redis_monitor: Sighting<SeenPodMonitor>,
    /// At the name of the application's Service.
    pub service: Sighting<SeenService>,
    /// At the name of the Service of the pods that requests are spread over.
    pub peers_service: Sighting<SeenService>,
    /// At the name of the application's NetworkPolicy.
    pub app_policy: Sighting<SeenNetworkPolicy>,
    /// At the name of the Ingress.
    pub ingress: Sighting<SeenIngress>,
    /// At the name of the `HTTPRoute`.
    pub http_route: Sighting<SeenHttpRoute>,
    /// At the name of the Secret with the key of digests.
    pub digest_key: Sighting<SeenSecret>,
    /// At the name of the sidecars' Secret.
    pub sidecar_secret: Sighting<SeenSecret>,
    /// At the name of the sidecars' ConfigMap.
    pub sidecar_config: Sighting<SeenConfigMap>,
    /// At the name of the ServiceAccount.
    pub service_account: Sighting<SeenServiceAccount>,
    /// At the name of the PodDisruptionBudget.
    pub disruption_budget: Sighting<SeenDisruptionBudget>,
    /// At the name of the Deployment.
    pub deployment: Sighting<SeenDeployment>,
    /// At the name of the HorizontalPodAutoscaler.
    pub autoscaler: Sighting<SeenAutoscaler>,
    /// At the name of the application's `PodMonitor`.
    pub app_monitor: Sighting<SeenPodMonitor>,
    /// The credentials in the Secret; fresh ones where it has none.
    pub credentials: Credentials,
    /// What that key is; a fresh one where there is none.
    pub key: DigestKey,
    /// The token in the sidecars' Secret; a fresh one where it has none.
    pub token: SidecarToken,
    /// What the application refers to, where changes of that are to roll it.
    pub references: BTreeMap<Reference, Content>,
    /// What is known of the external Redis, in mode `External`.
    pub external: Option<ExternalState>,
    /// What keeps pods from running.
    pub troubles: Vec<Trouble>,
    /// Pods of the application are on their way out.
    pub draining: bool,
    /// What the sidecars tell that run; None while none of them was asked.
    pub sidecars: Option<Vec<Asked>>,
    /// Why Redis's pod was refused, if it was.
    pub redis_refusal: Option<String>,
    /// Which watches fail, in words: what they showed last may be old.
    pub interrupted: Option<String>,
    /// The newest status known.
    pub status: CachedServiceStatus,
    /// Some of this was written a moment ago and not yet shown by a watch.
    pub provisional: bool,
}

/// Observes a CachedService.
///
/// # Errors
/// When a read fails.
pub async fn observe(context: &Context, service: &CachedService, look: Look) -> Result<Seen, Error> {
    let namespace = service.namespace().unwrap_or_default();
    let uid = service.uid().unwrap_or_default();
    let name = service.name_any();
    let redis_name = redis_name(&name);
    let watches = &context.watches;
    let sight = Sight {
        client: &context.client,
        namespace: &namespace,
        service: &name,
        uid: &uid,
        look,
        provisional: AtomicBool::new(false),
    };

    // What is not wanted is looked for only among what we made.
    let redis_wanted = service.spec.redis.mode == RedisMode::Standalone;
    let secret_wanted = redis_wanted && service.spec.redis.auth.enabled;
    let policies = &service.spec.network_policy;
    let claim_wanted = redis_wanted && service.spec.redis.persistence.enabled;
    let autoscaler_wanted = service.spec.autoscaling.enabled;
    let monitor_wanted = service.spec.monitoring.enabled;
    let redis_monitor_wanted = monitor_wanted && redis_wanted && service.spec.redis.exporter.enabled;
    let (redis_secret, redis_config, redis_service, stateful_set) = tokio::try_join!(
        sight.at(&watches.secrets, &redis_name, secret_wanted),
        sight.at(&watches.config_maps, &redis_name, redis_wanted),
        sight.at(&watches.services, &redis_name, redis_wanted),
        sight.at(&watches.stateful_sets, &redis_name, redis_wanted),
    )?;
    let (redis_policy, redis_claim, redis_monitor) = tokio::try_join!(
        sight.at(&watches.network_policies, &redis_name, redis_wanted && policies.redis.enabled),
        sight.claim_at(&watches.claims, &redis_name, claim_wanted),
        sight.at_if_known(&watches.pod_monitors, &redis_name, redis_monitor_wanted),
    )?;
    let (app_policy, ingress, http_route, app_monitor) = tokio::try_join!(
        sight.at(&watches.network_policies, &name, policies.app.enabled),
        sight.at(&watches.ingresses, &name, service.spec.ingress.is_some()),
        sight.at_if_known(&watches.http_routes, &name, service.spec.http_route.is_some()),
        sight.at_if_known(&watches.pod_monitors, &name, monitor_wanted),
    )?;
    let digest_key_name = digest_key_name(&name);
    let (app_service, digest_key, service_account, disruption_budget, deployment, autoscaler) = tokio::try_join!(
        sight.at(&watches.services, &name, true),
        sight.at(&watches.secrets, &digest_key_name, service.spec.rollout.on_config_change),
        sight.at(&watches.service_accounts, &name, service.spec.service_account.create),
        sight.at(&watches.disruption_budgets, &name, service.spec.disruption_budget.enabled),
        sight.at(&watches.deployments, &name, true),
        sight.at(&watches.autoscalers, &name, autoscaler_wanted),
    )?;

    let (sidecar_name, peers_name) = (sidecar_name(&name), peers_name(&name));
    let sidecar_wanted = service.spec.has_sidecar();
    let (sidecar_secret, sidecar_config, peers_service) = tokio::try_join!(
        sight.at(&watches.secrets, &sidecar_name, sidecar_wanted),
        sight.at(&watches.config_maps, &sidecar_name, sidecar_wanted),
        sight.at(&watches.services, &peers_name, service.spec.balancing().is_some()),
    )?;

    let reference = ObjectRef::from_obj(service);
    let external = external(context, service, &reference).await;
    let references = context.references.contents(&reference, references(service)).await;
    let refusal = stateful_set.ours().and_then(|set| watches.refusals.of(&set.uid().unwrap_or_default()));
    Ok(Seen {
        look,
        credentials: Credentials::read(&data(&redis_secret), Credentials::random()),
        key: DigestKey::read(&data(&digest_key), DigestKey::random()),
        token: SidecarToken::read(&data(&sidecar_secret), SidecarToken::random()),
        references,
        external,
        troubles: watches.troubles.of(&namespace, &name),
        draining: watches.draining.has(&namespace, &name),
        sidecars: context.sidecars.told(&reference).filter(|_| sidecar_wanted),
        redis_refusal: refusal,
        interrupted: watches.interruptions.in_words(),
        status: context.latest_status(service),
        provisional: sight.provisional.into_inner(),
        redis_secret,
        redis_config,
        redis_service,
        redis_policy,
        redis_claim,
        redis_monitor,
        stateful_set,
        app_policy,
        ingress,
        http_route,
        app_monitor,
        service: app_service,
        peers_service,
        digest_key,
        sidecar_secret,
        sidecar_config,
        service_account,
        disruption_budget,
        deployment,
        autoscaler,
    })
}

async fn external(
    context: &Context,
    service: &CachedService,
    reference: &ObjectRef<CachedService>,
) -> Option<ExternalState> {
    if let (RedisMode::External, Some(external)) = (&service.spec.redis.mode, &service.spec.redis.external) {
        Some(context.externals.state(reference, &external.url_secret_ref).await)
    } else {
        context.externals.forget(reference);
        None
    }
}

fn data(secret: &Sighting<SeenSecret>) -> BTreeMap<String, ByteString> {
    secret.ours().map(|secret| secret.data.clone()).unwrap_or_default()
}

struct Sight<'a> {
    client: &'a Client,
    namespace: &'a str,
    /// The name of the CachedService, and its identity.
    service: &'a str,
    uid: &'a str,
    look: Look,
    /// Some of what was seen no watch has shown yet.
    provisional: AtomicBool,
}

impl Sight<'_> {
    /// As [`Self::at`], of a kind that the cluster may not have: then there is nothing.
    async fn at_if_known<K: Child>(
        &self,
        optional: &Optional<K>,
        name: &str,
        wanted: bool,
    ) -> Result<Sighting<K>, Error> {
        if !optional.is_present() {
            return Ok(Sighting::Absent);
        }
        self.at(&optional.watched, name, wanted).await
    }

    /// As [`Self::at`]; what an earlier CachedService of the name left for the next is ours as well.
    async fn claim_at(
        &self,
        watched: &Watched<SeenClaim>,
        name: &str,
        wanted: bool,
    ) -> Result<Sighting<SeenClaim>, Error> {
        let claim = self.object_at(watched, name, wanted).await?;
        let is_left = |claim: &Arc<SeenClaim>| is_retained_for(&claim.metadata, self.service);
        Ok(match claim {
            Some(claim) if is_left(&claim) => Sighting::Ours(claim),
            claim => self.sighting(claim),
        })
    }

    async fn at<K: Child>(
        &self,
        watched: &Watched<K>,
        name: &str,
        wanted: bool,
    ) -> Result<Sighting<K>, Error> {
        Ok(self.sighting(self.object_at(watched, name, wanted).await?))
    }

    /// What stands at a name.
    async fn object_at<K: Child>(
        &self,
        watched: &Watched<K>,
        name: &str,
        wanted: bool,
    ) -> Result<Option<Arc<K>>, Error> {
        Ok(match watched.find(self.namespace, name) {
            _ if self.look == Look::Anew => self.get(name).await?,
            Found::Known(object) => Some(object),
            Found::Provisional(object) => {
                self.provisional.store(true, Ordering::Relaxed);
                Some(object)
            }
            // Absent, or without our label.
            Found::Unknown if wanted && self.look == Look::Names => self.get(name).await?,
            Found::Unknown => None,
        })
    }

    fn sighting<K: Child>(&self, object: Option<Arc<K>>) -> Sighting<K> {
        match object {
            None => Sighting::Absent,
            Some(object) if is_controlled_by(object.meta(), self.uid) => Sighting::Ours(object),
            Some(object) if is_of_predecessor(object.meta(), self.service, self.uid) => Sighting::Leaving,
            Some(object) => Sighting::Foreign { owner: owner_in_words(object.meta()) },
        }
    }

    async fn get<K: Child>(&self, name: &str) -> Result<Option<Arc<K>>, Error> {
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        let object = api.get_opt(name).await;
        let object =
            object.map_err(|source| Error::Read { what: format!("{} {name}", K::kind(&())), source })?;
        Ok(object.map(Arc::new))
    }
}
