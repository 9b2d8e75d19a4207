//! What of a namespace exists and is ready, and since when, as an administrator
//! sees it in watches: the same for both contestants.

use std::{
    collections::HashSet,
    error::Error,
    time::{Duration, Instant},
};

use cachedservice::api::names::NAME_LABEL;
use futures::{Stream, StreamExt};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DynamicObject, DynamicResourceScope, GroupVersionKind, PartialObjectMeta},
    discovery::ApiResource,
    runtime::watcher::{self, Event, watcher},
};
use serde_json::Value;
use tokio::{sync::watch, task::JoinSet};

/// The objects that one CachedService becomes.
pub const CHILDREN: usize = 9;
/// Kinds that only have to exist.
const EXISTING: [(&str, &str, &str); 6] = [
    ("", "v1", "Secret"),
    ("", "v1", "ConfigMap"),
    ("", "v1", "Service"),
    ("networking.k8s.io", "v1", "NetworkPolicy"),
    ("policy", "v1", "PodDisruptionBudget"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler"),
];
/// Kinds that have to exist and to have so many pods available.
const SERVING: [((&str, &str, &str), u64); 2] =
    [(("apps", "v1", "Deployment"), 2), (("apps", "v1", "StatefulSet"), 1)];

/// Counts until the namespace is complete.
pub struct Census {
    tally: watch::Receiver<Tally>,
    _watches: JoinSet<()>,
}

struct Tally {
    services: usize,
    lists: usize,
    changed: Instant,
    present: HashSet<String>,
    serving: HashSet<String>,
    reported: HashSet<String>,
    milestones: Milestones,
}

/// When what was reached.
#[derive(Clone, Copy, Default)]
pub struct Milestones {
    /// All children exist.
    pub exist: Option<Instant>,
    /// All Deployments and StatefulSets have all their pods available.
    pub ready: Option<Instant>,
    /// All CachedServices say Ready.
    pub reported: Option<Instant>,
}

impl Census {
    /// Begins to watch a namespace of `services` CachedServices.
    pub async fn begin(client: &Client, namespace: &str, services: usize) -> Result<Self, Box<dyn Error>> {
        let (sender, tally) = watch::channel(Tally {
            services,
            lists: 0,
            changed: Instant::now(),
            present: HashSet::new(),
            serving: HashSet::new(),
            reported: HashSet::new(),
            milestones: Milestones::default(),
        });
        let ours = || watcher::Config::default().labels(NAME_LABEL);
        let mut watches = JoinSet::new();
        for kind in EXISTING {
            let (api, resource) = api(client, namespace, kind);
            let events = watcher::<PartialObjectMeta>(api, ours());
            watches.spawn(follow(events, resource, sender.clone(), |_, _, _| {}));
        }
        for (kind, pods) in SERVING {
            let (api, resource) = api(client, namespace, kind);
            let events = watcher(api, ours());
            watches.spawn(follow(events, resource, sender.clone(), move |tally, key, object| {
                if serves(object, pods) {
                    tally.serving.insert(key);
                }
            }));
        }
        let (api, resource) = api(client, namespace, ("cachedservice.dev", "v1alpha1", "CachedService"));
        let events = watcher(api, watcher::Config::default());
        watches.spawn(follow(events, resource, sender, |tally, key, object| {
            tally.present.remove(&key);
            if says_ready(object) {
                tally.reported.insert(key);
            }
        }));
        let mut census = Self { tally, _watches: watches };
        let lists = EXISTING.len() + SERVING.len() + 1;
        census.tally.wait_for(|tally| tally.lists == lists).await?;
        Ok(census)
    }

    /// Waits until `is_reached`, at most `limit`; the error says how far it came.
    pub async fn wait(
        &mut self,
        limit: Duration,
        is_reached: impl Fn(&Milestones) -> bool,
    ) -> Result<Milestones, String> {
        let reached = self.tally.wait_for(|tally| is_reached(&tally.milestones));
        match tokio::time::timeout(limit, reached).await {
            Ok(Ok(tally)) => return Ok(tally.milestones),
            Ok(Err(_)) => return Err("a watch of the census ended".to_owned()),
            Err(_) => {}
        }
        Err(format!("not done within {limit:?}: {}", self.progress()))
    }

    /// How far it is, in words.
    pub fn progress(&self) -> String {
        let tally = self.tally.borrow();
        format!(
            "{} of {} children exist, {} of {} serve, {} of {} CachedServices say Ready",
            tally.present.len(),
            tally.services * CHILDREN,
            tally.serving.len(),
            tally.services * SERVING.len(),
            tally.reported.len(),
            tally.services,
        )
    }

    /// How long nothing has changed.
    pub fn quiet_for(&self) -> Duration {
        self.tally.borrow().changed.elapsed()
    }
}

impl Tally {
    fn take_note(&mut self) {
        self.changed = Instant::now();
        let Self { services, present, serving, reported, milestones, .. } = self;
        let mark = |milestone: &mut Option<Instant>, is_reached| {
            if is_reached && milestone.is_none() {
                *milestone = Some(Instant::now());
            }
        };
        mark(&mut milestones.exist, present.len() == *services * CHILDREN);
        mark(&mut milestones.ready, serving.len() == *services * SERVING.len());
        mark(&mut milestones.reported, reported.len() == *services);
    }
}

fn api<K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>>(
    client: &Client,
    namespace: &str,
    (group, version, kind): (&str, &str, &str),
) -> (Api<K>, ApiResource) {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    (Api::namespaced_with(client.clone(), namespace, &resource), resource)
}

async fn follow<K: Resource>(
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    resource: ApiResource,
    tally: watch::Sender<Tally>,
    judge: impl Fn(&mut Tally, String, &K),
) {
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => tally.send_modify(|tally| {
                let key = format!("{} {}", resource.plural, object.name_any());
                tally.present.insert(key.clone());
                judge(tally, key, &object);
                tally.take_note();
            }),
            Ok(Event::InitDone) => tally.send_modify(|tally| tally.lists += 1),
            Ok(Event::Init | Event::Delete(_)) => {}
            Err(error) => eprintln!("census: watch of {}: {error}", resource.plural),
        }
    }
}

fn serves(object: &DynamicObject, pods: u64) -> bool {
    object.data.pointer("/status/availableReplicas").and_then(Value::as_u64) == Some(pods)
}

fn says_ready(object: &DynamicObject) -> bool {
    let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}
