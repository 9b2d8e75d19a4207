//! The watches: narrowed to what carries our label, trimmed to what is needed.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt, TryStreamExt};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::ObjectMeta,
    runtime::{
        WatchStreamExt,
        reflector::{
            ObjectRef,
            store::{Writer, WriterDropped},
        },
        watcher,
    },
};
use tokio::{
    sync::watch::{self, error::RecvError},
    task::JoinSet,
    time::timeout,
};

use super::{
    interruptions::{Interruptions, Pauses},
    seen::{
        SeenAutoscaler, SeenConfigMap, SeenDeployment, SeenDisruptionBudget, SeenEvent, SeenPod, SeenSecret,
        SeenService, SeenStatefulSet,
    },
    triggers::Triggers,
    trouble::{Refusals, Troubles, VolumeFailure},
    watched::{Child, Found, Watched},
};
use crate::{
    api::{
        CachedService,
        names::{APPLIED_ANNOTATION, COMPONENT_LABEL, FIELD_MANAGER, NAME_LABEL},
    },
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
    pub fn api<K: Child>(&self, client: &Client) -> Api<K> {
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
    /// PodDisruptionBudgets.
    pub disruption_budgets: Arc<Watched<SeenDisruptionBudget>>,
    /// ConfigMaps.
    pub config_maps: Arc<Watched<SeenConfigMap>>,
    /// Secrets.
    pub secrets: Arc<Watched<SeenSecret>>,
    /// What keeps pods from running.
    pub troubles: Arc<Troubles>,
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

impl From<WriterDropped> for WatchEnded {
    fn from(_: WriterDropped) -> Self {
        Self
    }
}

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
        metrics: &Metrics,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let ours = || watcher::Config::default().labels(NAME_LABEL);
        let events_about = |kind: &str, reason: &str| {
            let fields = format!("reason={reason},involvedObject.kind={kind}");
            watcher(scope.api::<SeenEvent>(client), watcher::Config::default().fields(&fields))
        };
        let interruptions = Arc::new(Interruptions::new(metrics.clone()));
        let mut start = Start {
            guard: Guard { interruptions: interruptions.clone(), triggers: triggers.clone() },
            tasks,
        };
        let refusals = Arc::<Refusals>::default();
        let troubles = Arc::<Troubles>::default();
        let stateful_sets = {
            let refusals = refusals.clone();
            start.children(watcher(scope.api::<SeenStatefulSet>(client), ours()).inspect_ok(move |event| {
                if let Some(uid) = uid_of_set_with_pod(event) {
                    refusals.forget(uid);
                }
            }))
        };
        let pods = start.pods(watcher(scope.api::<SeenPod>(client), ours()), troubles.clone());
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
            deployments: start.children(watcher(scope.api::<SeenDeployment>(client), ours())),
            autoscalers: start.children(watcher(scope.api::<SeenAutoscaler>(client), ours())),
            secrets: start.children(watcher(scope.api::<SeenSecret>(client), ours())),
            services: start.children(watcher(scope.api::<SeenService>(client), ours())),
            disruption_budgets: start.children(watcher(scope.api::<SeenDisruptionBudget>(client), ours())),
            config_maps: start.children(watcher(scope.api::<SeenConfigMap>(client), ours())),
            stateful_sets,
            troubles,
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
            disruption_budgets,
            config_maps,
            secrets,
            troubles: _,
            refusals: _,
            interruptions: _,
            first_lists,
        } = self;
        tokio::try_join!(
            deployments.wait_until_ready(),
            stateful_sets.wait_until_ready(),
            autoscalers.wait_until_ready(),
            services.wait_until_ready(),
            disruption_budgets.wait_until_ready(),
            config_maps.wait_until_ready(),
            secrets.wait_until_ready(),
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

/// Notes when a watch fails and when it works, and has all told of it.
#[derive(Clone)]
struct Guard {
    interruptions: Arc<Interruptions>,
    triggers: Triggers,
}

impl Guard {
    fn failed(&self, kind: &str, error: &watcher::Error) {
        // The stream goes on by itself, after a pause.
        tracing::warn!(kind, %error, "watch interrupted; starting it again");
        if self.interruptions.failed(kind, error) {
            self.triggers.send_all();
        }
    }

    fn works(&self, kind: &str) {
        if self.interruptions.recovered(kind) {
            self.triggers.send_all();
        }
    }
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

    fn pods(
        &mut self,
        events: impl Stream<Item = watcher::Result<watcher::Event<SeenPod>>> + Send + 'static,
        troubles: Arc<Troubles>,
    ) -> FirstList {
        let triggers = self.guard.triggers.clone();
        let (listed, first_list) = watch::channel(false);
        self.tasks.spawn(follow_lists(
            events.backoff(Pauses::default()),
            "Pod",
            self.guard.clone(),
            listed,
            move |event| {
                order_all(&triggers, troubles.observe(&event));
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

fn order_all(triggers: &Triggers, services: Vec<(String, String)>) {
    for (namespace, name) in services {
        triggers.send(ObjectRef::new(&name).within(&namespace));
    }
}

async fn follow_children<K: Child>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send,
    watched: Arc<Watched<K>>,
    mut writer: Writer<K>,
    guard: Guard,
) {
    let triggers = guard.triggers.clone();
    let kind = K::kind(&()).into_owned();
    let mut listed_before = false;
    follow(events, &kind, guard, move |event| {
        writer.apply_watcher_event(&event);
        watched.observe(&event);
        match &event {
            watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
                if let Some(service) = service_of(object) {
                    triggers.send(service);
                }
            }
            watcher::Event::Delete(object) => {
                if let Some(service) = service_of(object) {
                    triggers.send_first(service);
                }
            }
            // What vanished while the watch was broken is in no event.
            watcher::Event::InitDone if listed_before => triggers.send_all(),
            watcher::Event::InitDone => listed_before = true,
            watcher::Event::Init => {}
        }
    })
    .await;
}

/// Follows a watch that fills no store, and tells when its first list is complete.
async fn follow_lists<K>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send,
    kind: &str,
    guard: Guard,
    listed: watch::Sender<bool>,
    mut handle: impl FnMut(watcher::Event<K>) + Send,
) {
    follow(events, kind, guard, move |event| {
        let is_complete = matches!(event, watcher::Event::InitDone);
        handle(event);
        if is_complete {
            listed.send_replace(true);
        }
    })
    .await;
}

async fn follow<K>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send,
    kind: &str,
    guard: Guard,
    mut handle: impl FnMut(watcher::Event<K>) + Send,
) {
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                // A list is begun before it is asked for.
                if !matches!(event, watcher::Event::Init) {
                    guard.works(kind);
                }
                handle(event);
            }
            Err(error) => guard.failed(kind, &error),
        }
    }
}

/// The CachedService that an object belongs to: its controller, or what its label says.
fn service_of<K: Resource>(object: &K) -> Option<ObjectRef<CachedService>> {
    let meta = object.meta();
    let controller = meta
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true) && owner.kind == CachedService::kind(&()))
        .map(|owner| owner.name.as_str());
    let label = meta.labels.as_ref().and_then(|labels| labels.get(NAME_LABEL)).map(String::as_str);
    let name = controller.or(label)?;
    Some(ObjectRef::new(name).within(meta.namespace.as_deref()?))
}

/// Drops what is never read: most of an object's metadata is about other writers.
fn trim(meta: &mut ObjectMeta) {
    if let Some(entries) = &mut meta.managed_fields {
        entries.retain(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER));
    }
    if let Some(annotations) = &mut meta.annotations {
        annotations.retain(|key, _| key == APPLIED_ANNOTATION);
    }
    if let Some(labels) = &mut meta.labels {
        labels.retain(|key, _| key == NAME_LABEL || key == COMPONENT_LABEL);
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
    use kube::runtime::reflector;
    use serde_json::json;

    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn an_object_belongs_to_its_controller_before_its_label() {
        let mut object = SeenService::default();
        object.metadata.namespace = Some("n".to_owned());
        object.metadata.labels = Some([(NAME_LABEL.to_owned(), "labelled".to_owned())].into());
        assert_eq!(service_of(&object).unwrap().name, "labelled");
        object.metadata.owner_references = Some(vec![OwnerReference {
            kind: "CachedService".to_owned(),
            name: "owner".to_owned(),
            controller: Some(true),
            ..OwnerReference::default()
        }]);
        assert_eq!(service_of(&object).unwrap().name, "owner");
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_found_in_a_new_list_order_a_reconcile_when_they_count() {
        let (services, mut services_writer) = reflector::store();
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
