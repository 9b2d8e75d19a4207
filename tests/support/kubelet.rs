//! Plays the kubelet: the control plane has controllers and no node, so nobody
//! else reports on pods.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
    core::Status,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::Sandbox;

const RETRY: Duration = Duration::from_millis(200);

/// Reports on the pods of a namespace until it is dropped.
pub struct Kubelet(JoinHandle<()>);

impl Kubelet {
    /// Every pod becomes Ready.
    pub fn all_ready(sandbox: &Sandbox) -> Self {
        Self::reporting(sandbox, |pod| Some(ready(pod)))
    }

    /// Every pod that is not Ready has been started and does not become Ready.
    pub fn none_ready(sandbox: &Sandbox) -> Self {
        Self::reporting(sandbox, |pod| (!has(pod, &ready(pod))).then(|| started(pod)))
    }

    /// Reports for each pod the status that `wanted` returns, if it has another.
    pub fn reporting(sandbox: &Sandbox, wanted: impl Fn(&Pod) -> Option<Value> + Send + 'static) -> Self {
        let pods: Api<Pod> = sandbox.api();
        Self(tokio::spawn(async move {
            let events = watcher(pods.clone(), watcher::Config::default()).default_backoff();
            let mut touched = std::pin::pin!(events.applied_objects());
            while let Some(pod) = touched.next().await {
                let Ok(pod) = pod else { continue };
                let wanted = wanted(&pod).filter(|wanted| !has(&pod, wanted));
                if let Some(status) = wanted.filter(|_| pod.metadata.deletion_timestamp.is_none()) {
                    let of_this_pod = json!({ "uid": pod.metadata.uid });
                    let patch = Patch::Strategic(json!({ "metadata": of_this_pod, "status": status }));
                    report(&pods, &pod.name_any(), &patch).await;
                }
            }
        }))
    }
}

/// Reports a status, as a kubelet does: until the API server takes it or the pod is gone. No event
/// would call for it a second time.
async fn report(pods: &Api<Pod>, name: &str, patch: &Patch<Value>) {
    loop {
        match pods.patch_status(name, &PatchParams::default(), patch).await {
            Ok(_) => return,
            // Another pod of the name has an event of its own.
            Err(kube::Error::Api(status)) if status.is_not_found() || is_of_another(&status) => return,
            Err(kube::Error::Api(status)) if status.is_invalid() => panic!("no status of a pod: {status:?}"),
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

/// Whether a write was refused as the object has another uid.
fn is_of_another(status: &Status) -> bool {
    status.is_conflict() && status.message.contains("uid")
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The status of a pod that runs and passes its probes.
pub fn ready(pod: &Pod) -> Value {
    running(pod, true)
}

/// The status of a pod that runs and does not pass its probes yet.
pub fn started(pod: &Pod) -> Value {
    running(pod, false)
}

fn running(pod: &Pod, ready: bool) -> Value {
    let word = if ready { "True" } else { "False" };
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let running = json!({ "running": {}, "waiting": null });
    let containers: Vec<Value> =
        containers.map(|container| container_status(&container.name, ready, &running)).collect();
    json!({
        "phase": "Running",
        "conditions": [
            { "type": "PodScheduled", "status": "True" },
            { "type": "ContainersReady", "status": word },
            // For long, whatever `minReadySeconds` asks for.
            { "type": "Ready", "status": word, "lastTransitionTime": "2020-01-01T00:00:00Z" },
        ],
        "containerStatuses": containers,
    })
}

/// The status of a pod whose container waits with this reason and message.
pub fn waiting(container: &str, reason: &str, message: &str) -> Value {
    let waiting = json!({ "waiting": { "reason": reason, "message": message }, "running": null });
    json!({
        "phase": "Pending",
        "conditions": [{ "type": "PodScheduled", "status": "True" }],
        "containerStatuses": [container_status(container, false, &waiting)],
    })
}

fn container_status(name: &str, ready: bool, state: &Value) -> Value {
    json!({ "name": name, "image": "", "imageID": "", "ready": ready, "restartCount": 0, "state": state })
}

/// Whether a pod's status says at least this; what is wanted to be null may be absent.
fn has(pod: &Pod, wanted: &Value) -> bool {
    serde_json::to_value(&pod.status).is_ok_and(|status| contains(&status, wanted))
}

fn contains(present: &Value, wanted: &Value) -> bool {
    match (present, wanted) {
        (Value::Object(present), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| contains(present.get(key).unwrap_or(&Value::Null), value))
        }
        (Value::Array(present), Value::Array(wanted)) => {
            wanted.iter().all(|value| present.iter().any(|present| contains(present, value)))
        }
        _ => present == wanted,
    }
}
