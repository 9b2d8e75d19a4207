//! Plays the controllers of Deployments, StatefulSets and autoscalers: each object
//! is reported as it would be with all its pods running. Ten thousand
//! CachedServices have thirty thousand pods, which is more than two cores
//! can play; what the operator sees of its children is the same.

use std::{fmt::Debug, future::Future};

use cachedservice::api::names::NAME_LABEL;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{Deployment, StatefulSet},
        autoscaling::v2::HorizontalPodAutoscaler,
    },
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{
        WatchStreamExt,
        watcher::{self, watcher},
    },
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Reports of a kind that are under way at a time.
const AT_A_TIME: usize = 8;
const PODS: i32 = 2;

/// Reports until it is dropped.
pub struct Stage {
    _tasks: JoinSet<()>,
}

impl Stage {
    /// Begins to report on everything that bears our label.
    pub fn play(client: &Client) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(report(client.clone(), deployment));
        tasks.spawn(report(client.clone(), stateful_set));
        tasks.spawn(report(client.clone(), autoscaler));
        Self { _tasks: tasks }
    }
}

fn report<K>(client: Client, status: fn(&K) -> Option<Value>) -> impl Future<Output = ()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let events = watcher(Api::<K>::all(client.clone()), watcher::Config::default().labels(NAME_LABEL));
    let objects = events.default_backoff().applied_objects();
    let reports = objects.try_filter_map(move |object| async move {
        Ok(status(&object).map(|status| (object.namespace().unwrap_or_default(), object.name_any(), status)))
    });
    reports.for_each_concurrent(AT_A_TIME, move |report| {
        let client = client.clone();
        async move {
            // The stream goes on by itself after an error.
            let Ok((namespace, name, status)) = report else { return };
            let patch = Patch::Merge(json!({ "status": status }));
            let api: Api<K> = Api::namespaced(client, &namespace);
            if let Err(error) = api.patch_status(&name, &PatchParams::default(), &patch).await {
                eprintln!("stage: {} {namespace}/{name}: {error}", K::kind(&()));
            }
        }
    })
}

fn deployment(live: &Deployment) -> Option<Value> {
    let generation = live.metadata.generation;
    let observed = live.status.as_ref().and_then(|status| status.observed_generation);
    (observed != generation).then(|| {
        let replica_set = format!("{}-{:x}", live.name_any(), 0x005d_8c7f_9b4e_i64 + generation.unwrap_or_default());
        let progress = format!("ReplicaSet \"{replica_set}\" has successfully progressed.");
        json!({
            "observedGeneration": generation,
            "replicas": PODS, "updatedReplicas": PODS, "readyReplicas": PODS, "availableReplicas": PODS,
            "conditions": [
                condition("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability."),
                condition("Progressing", "True", "NewReplicaSetAvailable", &progress),
            ],
        })
    })
}

fn stateful_set(live: &StatefulSet) -> Option<Value> {
    let generation = live.metadata.generation;
    let observed = live.status.as_ref().and_then(|status| status.observed_generation);
    (observed != generation).then(|| {
        let revision = format!("{}-{:x}", live.name_any(), 0x006b_f49d_7c51_i64 + generation.unwrap_or_default());
        json!({
            "observedGeneration": generation, "collisionCount": 0,
            "replicas": 1, "readyReplicas": 1, "availableReplicas": 1, "currentReplicas": 1, "updatedReplicas": 1,
            "currentRevision": revision, "updateRevision": revision,
        })
    })
}

fn autoscaler(live: &HorizontalPodAutoscaler) -> Option<Value> {
    let is_told = live.status.as_ref().is_some_and(|status| status.conditions.is_some());
    (!is_told).then(|| {
        let counted = "the HPA was able to successfully calculate a replica count from cpu container resource utilization (percentage of request)";
        json!({
            "observedGeneration": 1, "currentReplicas": PODS, "desiredReplicas": PODS,
            "conditions": [
                condition("AbleToScale", "True", "ReadyForNewScale", "recommended size matches current size"),
                condition("ScalingActive", "True", "ValidMetricFound", counted),
                condition("ScalingLimited", "False", "DesiredWithinRange", "the desired count is within the acceptable range"),
            ],
            "currentMetrics": [{
                "type": "ContainerResource",
                "containerResource": {
                    "name": "cpu", "container": "app",
                    "current": { "averageUtilization": 52, "averageValue": "52m" },
                },
            }],
        })
    })
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!({
        "type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": now,
    })
}
