//! The watches: narrowed to what carries our label, trimmed to what is needed.

mod follow;

use std::{sync::Arc, time::Duration};

use futures::{Stream, TryStreamExt};
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{WatchStreamExt, reflector::ObjectRef, watcher},
};
use tokio::{
    sync::watch::{self, error::RecvError},
    task::JoinSet,
    time::timeout,
};

use follow::{Guard, child_events, follow_children, follow_lists, order_all, service_of, trim};

use super::{
    draining::Draining,
    interruptions::{Interruptions, Pauses},
    optional::{Optional, follow_optional},
    seen::{
        SeenAutoscaler, SeenClaim, SeenConfigMap, SeenDeployment, SeenDisruptionBudget, SeenEvent,
        SeenHttpRoute, SeenIngress, SeenNetworkPolicy, SeenPod, SeenPodMonitor, SeenSecret, SeenService,
        SeenServiceAccount, SeenStatefulSet,
    },
    sidecars::Sidecars,
    streaming::watch_streamed,
    triggers::Triggers,
    trouble::{Refusals, Troubles, VolumeFailure},
    watched::{Child, Found, Watched},
};
use crate::{
    api::{CachedService, names::NAME_LABEL},
    telemetry::Metrics,
};

/// How long the first reconcile waits for the first lists of pods and Events.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the operator looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In all namespaces.
    Cluster,
    /// In one.
    Namespace(String),
}

impl Scope {
    /// The API of a kind within the scope.
    #[must_use]
    pub fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match self {
            Self::Cluster => Api::all(client.clone()),
            Self::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
        }
    }
}

/// The children of all CachedServices.
pub struct Watches {
    /// Deployments.
    pub deployments: Arc<Watched<SeenDeployment>>,
    /// StatefulSets.
    pub stateful_sets: Arc<Watched<SeenStatefulSet>>,
    /// HorizontalPodAutoscalers.
    pub autoscalers: Arc<Watched<SeenAutoscaler>>,
    /// Services, the applications' and the Redises'.
    pub services: Arc<Watched<SeenService>>,
    /// ServiceAccounts.
    pub service_accounts: Arc<Watched<SeenServiceAccount>>,
    /// PodDisruptionBudgets.
    pub disruption_budgets: Arc<Watched<SeenDisruptionBudget>>,
    /// ConfigMaps.
    pub config_maps: Arc<Watched<SeenConfigMap>>,
    /// Secrets.
    pub secrets: Arc<Watched<SeenSecret>>,
    /// PersistentVolumeClaims of Redises.
    pub claims: Arc<Watched<SeenClaim>>,
    /// NetworkPolicies, the applications' and the Redises'.
    pub network_policies: Arc<Watched<SeenNetworkPolicy>>,
    /// Ingresses.
    pub ingresses: Arc<Watched<SeenIngress>>,
    /// `HTTPRoute`s, if the cluster has them.
    pub http_routes: Arc<Optional<SeenHttpRoute>>,
    /// `PodMonitor`s, if the cluster has them.
    pub pod_monitors: Arc<Optional<SeenPodMonitor>>,
    /// What keeps pods from running.
    pub troubles: Arc<Troubles>,
    /// Pods that are on their way out.
    pub draining: Arc<Draining>,
    /// Why pods of StatefulSets were refused.
    pub refusals: Arc<Refusals>,
    /// Watches that fail and do not come back.
    pub interruptions: Arc<Interruptions>,
    /// Whether the first list is complete, of what has no store that tells.
    first_lists: Vec<FirstList>,
}

type FirstList = watch::Receiver<bool>;

/// A watch has ended, which none does in order.
#[derive(Debug, thiserror::Error)]
#[error("a watch has ended")]
pub struct WatchEnded;

impl From<RecvError> for WatchEnded {
    fn from(_: RecvError) -> Self {
        Self
    }
}

impl Watches {
    /// Starts the watches; they end with `tasks`.
    pub fn start(
        client: &Client,
        scope: &Scope,
        triggers: &Triggers,
        sidecars: &Arc<Sidecars>,
        metrics: &Metrics,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let ours = || watcher::Config::default().labels(NAME_LABEL);
        let events_about = |kind: &str, reason: &str| {
            let fields = format!("reason={reason},involvedObject.kind={kind}");
            watch_streamed(scope.api::<SeenEvent>(client), watcher::Config::default().fields(&fields))
        };
        let interruptions = Arc::new(Interruptions::new(metrics.clone()));
        let mut start = Start {
            guard: Guard { interruptions: interruptions.clone(), triggers: triggers.clone() },
            tasks,
        };
        let refusals = Arc::<Refusals>::default();
        let troubles = Arc::<Troubles>::default();
        let draining = Arc::<Draining>::default();
        let stateful_sets = {
            let refusals = refusals.clone();
            start.children(watch_streamed(scope.api::<SeenStatefulSet>(client), ours()).inspect_ok(
                move |event| {
                    if let Some(uid) = uid_of_set_with_pod(event) {
                        refusals.forget(uid);
                    }
                },
            ))
        };
        let pods = watch_streamed(scope.api::<SeenPod>(client), ours());
        let pods = start.pods(pods, troubles.clone(), draining.clone(), sidecars.clone());
        let refused = start.refusals(
            events_about("StatefulSet", "FailedCreate"),
            refusals.clone(),
            stateful_sets.clone(),
        );
        let volumes = VolumeFailure::ALL.map(|failure| {
            let events = events_about("Pod", failure.reason());
            start.volume_failures(events, failure, pods.clone(), troubles.clone())
        });
        Self {
            deployments: start.children(watch_streamed(scope.api::<SeenDeployment>(client), ours())),
            autoscalers: start.children(watch_streamed(scope.api::<SeenAutoscaler>(client), ours())),
            secrets: start.children(watch_streamed(scope.api::<SeenSecret>(client), ours())),
            services: start.children(watch_streamed(scope.api::<SeenService>(client), ours())),
            service_accounts: start.children(watch_streamed(scope.api::<SeenServiceAccount>(client), ours())),
            disruption_budgets: start
                .children(watch_streamed(scope.api::<SeenDisruptionBudget>(client), ours())),
            config_maps: start.children(watch_streamed(scope.api::<SeenConfigMap>(client), ours())),
            claims: start.children(watch_streamed(scope.api::<SeenClaim>(client), ours())),
            network_policies: start.children(watch_streamed(scope.api::<SeenNetworkPolicy>(client), ours())),
            ingresses: start.children(watch_streamed(scope.api::<SeenIngress>(client), ours())),
            http_routes: start.optional(scope.api::<SeenHttpRoute>(client), ours()),
            pod_monitors: start.optional(scope.api::<SeenPodMonitor>(client), ours()),
            stateful_sets,
            troubles,
            draining,
            refusals,
            interruptions,
            first_lists: [pods, refused].into_iter().chain(volumes).collect(),
        }
    }

    /// Waits until every first list of children is complete, before which what is there would look
    /// absent; and for ten seconds at most for those of pods and Events, before which what is wrong
    /// would look mended.
    ///
    /// # Errors
    /// When a watch has ended.
    pub async fn wait_until_ready(&self) -> Result<(), WatchEnded> {
        let Self {
            deployments,
            stateful_sets,
            autoscalers,
            services,
            service_accounts,
            disruption_budgets,
            config_maps,
            secrets,
            claims,
            network_policies,
            ingresses,
            http_routes,
            pod_monitors,
            troubles: _,
            draining: _,
            refusals: _,
            interruptions: _,
            first_lists,
        } = self;
        tokio::try_join!(
            deployments.wait_until_ready(),
            stateful_sets.wait_until_ready(),
            autoscalers.wait_until_ready(),
            services.wait_until_ready(),
            service_accounts.wait_until_ready(),
            disruption_budgets.wait_until_ready(),
            config_maps.wait_until_ready(),
            secrets.wait_until_ready(),
            claims.wait_until_ready(),
            network_policies.wait_until_ready(),
            ingresses.wait_until_ready(),
            http_routes.watched.wait_until_ready(),
            pod_monitors.watched.wait_until_ready(),
        )?;
        let all = async {
            for mut list in first_lists.iter().cloned() {
                list.wait_for(|complete| *complete).await?;
            }
            Ok::<_, RecvError>(())
        };
        // They tell why something does not run; nothing that is made waits for them for ever.
        let Ok(complete) = timeout(PATIENCE, all).await else {
            tracing::warn!("pods or Events cannot be listed yet; what is wrong with pods is told later");
            return Ok(());
        };
        Ok(complete?)
    }
}

/// A StatefulSet that has a pod, so that none of it is refused any longer.
fn uid_of_set_with_pod(event: &watcher::Event<SeenStatefulSet>) -> Option<&str> {
    let (watcher::Event::Apply(set) | watcher::Event::InitApply(set)) = event else { return None };
    set.metadata.uid.as_deref().filter(|_| set.status.replicas >= 1)
}

struct Start<'a> {
    guard: Guard,
    tasks: &'a mut JoinSet<()>,
}

impl Start<'_> {
    fn children<K: Child>(
        &mut self,
        events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
    ) -> Arc<Watched<K>> {
        let (watched, writer) = Watched::new();
        let events = events.backoff(Pauses::default()).modify(|object| trim(object.meta_mut()));
        self.tasks.spawn(follow_children(events, watched.clone(), writer, self.guard.clone()));
        watched
    }

    fn optional<K: Child>(&mut self, api: Api<K>, config: watcher::Config) -> Arc<Optional<K>> {
        let (watched, writer) = Watched::new();
        let optional = Optional::new(watched.clone());
        let start = move || {
            let events = watch_streamed(api.clone(), config.clone()).backoff(Pauses::default());
            events.modify(|object| trim(object.meta_mut()))
        };
        let guard = self.guard.clone();
        let kind = K::kind(&());
        let mut handle = child_events(watched, writer, guard.triggers.clone());
        let followed = optional.clone();
        self.tasks.spawn(async move {
            let handle = |event: watcher::Result<watcher::Event<K>>| match event {
                Ok(event) => guard.handle(&kind, event, &mut handle),
                Err(error) => guard.failed(&kind, &error),
            };
            let appeared = |services: Vec<ObjectRef<CachedService>>| {
                for service in services {
                    guard.triggers.send(service);
                }
            };
            follow_optional(&followed, start, handle, appeared).await;
        });
        optional
    }

    fn pods(
        &mut self,
        events: impl Stream<Item = watcher::Result<watcher::Event<SeenPod>>> + Send + 'static,
        troubles: Arc<Troubles>,
        draining: Arc<Draining>,
        sidecars: Arc<Sidecars>,
    ) -> FirstList {
        let triggers = self.guard.triggers.clone();
        let (listed, first_list) = watch::channel(false);
        self.tasks.spawn(follow_lists(
            events.backoff(Pauses::default()),
            "Pod",
            self.guard.clone(),
            listed,
            move |event| {
                sidecars.observe(&event);
                order_all(&triggers, troubles.observe(&event));
                let was_known = draining.is_known();
                order_all(&triggers, draining.observe(&event));
                if !was_known && draining.is_known() {
                    // Who was reconciled before may have waited for it.
                    triggers.send_all();
                }
            },
        ));
        first_list
    }

    fn refusals(
        &mut self,
        events: impl Stream<Item = watcher::Result<watcher::Event<SeenEvent>>> + Send + 'static,
        refusals: Arc<Refusals>,
        stateful_sets: Arc<Watched<SeenStatefulSet>>,
    ) -> FirstList {
        let triggers = self.guard.triggers.clone();
        let (listed, first_list) = watch::channel(false);
        self.tasks.spawn(follow_lists(
            events.backoff(Pauses::default()),
            "Event FailedCreate",
            self.guard.clone(),
            listed,
            move |event| {
                let set = match &event {
                    watcher::Event::Apply(seen) | watcher::Event::InitApply(seen) => {
                        let name = seen.involved_object.name.clone().unwrap_or_default();
                        match stateful_sets.find(&seen.namespace().unwrap_or_default(), &name) {
                            Found::Known(set) | Found::Provisional(set) => Some(set),
                            Found::Unknown => None,
                        }
                    }
                    _ => None,
                };
                match (&event, set) {
                    // A list holds what was said within the last hour, before there was a pod too.
                    (watcher::Event::InitApply(_), Some(set)) if set.status.replicas >= 1 => {}
                    (watcher::Event::Apply(_), Some(set)) => {
                        refusals.observe(&event);
                        if let Some(service) = service_of(&*set) {
                            triggers.send(service);
                        }
                    }
                    // Only now does the list count.
                    (watcher::Event::InitDone, _) => {
                        refusals.observe(&event);
                        triggers.send_all();
                    }
                    _ => refusals.observe(&event),
                }
            },
        ));
        first_list
    }

    /// The Events of volumes are those of all pods: listed when it is known which are ours.
    fn volume_failures(
        &mut self,
        events: impl Stream<Item = watcher::Result<watcher::Event<SeenEvent>>> + Send + 'static,
        failure: VolumeFailure,
        mut pods: FirstList,
        troubles: Arc<Troubles>,
    ) -> FirstList {
        let triggers = self.guard.triggers.clone();
        let guard = self.guard.clone();
        let (listed, first_list) = watch::channel(false);
        self.tasks.spawn(async move {
            if pods.wait_for(|complete| *complete).await.is_err() {
                return;
            }
            follow_lists(
                events.backoff(Pauses::default()),
                &format!("Event {}", failure.reason()),
                guard,
                listed,
                move |event| {
                    order_all(&triggers, troubles.observe_failure(failure, &event));
                },
            )
            .await;
        });
        first_list
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{operator::store::store, telemetry::Metrics};

    #[tokio::test(start_paused = true)]
    async fn refusals_found_in_a_new_list_order_a_reconcile_when_they_count() {
        let (services, mut services_writer) = store();
        let service = json!({
            "apiVersion": "cachedservice.dev/v1alpha1", "kind": "CachedService",
            "metadata": { "name": "shop", "namespace": "n" }, "spec": { "image": "i" },
        });
        services_writer.apply_watcher_event(&watcher::Event::Apply(serde_json::from_value(service).unwrap()));
        let triggers = Triggers::new(services, Metrics::default(), 16);
        let (sets, mut sets_writer) = Watched::new();
        let set = json!({
            "metadata": { "name": "shop-redis", "namespace": "n", "uid": "u", "labels": { NAME_LABEL: "shop" } },
        });
        sets_writer.apply_watcher_event(&watcher::Event::Apply(serde_json::from_value(set).unwrap()));
        let refusals = Arc::<Refusals>::default();
        let mut tasks = JoinSet::new();
        let (list, events) = futures::channel::mpsc::unbounded();
        let interruptions = Arc::new(Interruptions::new(Metrics::default()));
        let guard = Guard { interruptions, triggers: triggers.clone() };
        Start { guard, tasks: &mut tasks }.refusals(events, refusals.clone(), sets);

        let event: SeenEvent = serde_json::from_value(json!({
            "metadata": { "name": "e", "namespace": "n" },
            "involvedObject": { "name": "shop-redis", "uid": "u" }, "message": "quota",
        }))
        .unwrap();
        for event in [watcher::Event::Init, watcher::Event::InitApply(event)] {
            list.unbounded_send(Ok(event)).unwrap();
        }
        let limit = Duration::from_secs(1);
        // An order while the list goes on would see nothing yet.
        if let Ok(early) = tokio::time::timeout(limit, triggers.begin()).await {
            triggers.end(&early, None);
        }
        list.unbounded_send(Ok(watcher::Event::InitDone)).unwrap();
        let service = tokio::time::timeout(limit, triggers.begin()).await.unwrap();
        assert_eq!((service.name.as_str(), refusals.of("u").as_deref()), ("shop", Some("quota")));
    }

    #[test]
    fn a_set_counts_as_with_a_pod_once_its_status_says_so() {
        let set = |replicas: i32| -> SeenStatefulSet {
            let set = json!({ "metadata": { "uid": "u" }, "status": { "replicas": replicas } });
            serde_json::from_value(set).unwrap()
        };
        assert_eq!(uid_of_set_with_pod(&watcher::Event::Apply(set(0))), None);
        assert_eq!(uid_of_set_with_pod(&watcher::Event::Apply(set(1))), Some("u"));
        assert_eq!(uid_of_set_with_pod(&watcher::Event::InitApply(set(1))), Some("u"));
        assert_eq!(uid_of_set_with_pod(&watcher::Event::Delete(set(1))), None);
    }
}
