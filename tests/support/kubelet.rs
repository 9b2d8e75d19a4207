//! Plays the kubelet: the control plane has controllers and no node, so nobody
//! else reports on pods.

use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Node, Pod},
    },
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    core::Status,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::sleep};

use super::{
    Sandbox,
    cluster::{TEST_BINARY, TEST_LABEL},
};

const RETRY: Duration = Duration::from_millis(200);
/// How often a node says that it is alive.
const RENEWAL: Duration = Duration::from_secs(10);

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
        Self::following(sandbox, None, wanted)
    }

    /// The same; the pods are on a node, which ends at once those that are to go.
    pub fn on_a_node(sandbox: &Sandbox, wanted: impl Fn(&Pod) -> Option<Value> + Send + 'static) -> Self {
        Self::following(sandbox, Some(sandbox.namespace.clone()), wanted)
    }

    fn following(
        sandbox: &Sandbox,
        node: Option<String>,
        wanted: impl Fn(&Pod) -> Option<Value> + Send + 'static,
    ) -> Self {
        let pods: Api<Pod> = sandbox.api();
        let client = sandbox.client.clone();
        Self(tokio::spawn(async move {
            if let Some(node) = &node {
                tokio::join!(stay_alive(&client, node), follow(&pods, Some(node), wanted));
            } else {
                follow(&pods, None, wanted).await;
            }
        }))
    }
}

async fn follow(pods: &Api<Pod>, node: Option<&str>, wanted: impl Fn(&Pod) -> Option<Value>) {
    let events = watcher(pods.clone(), watcher::Config::default()).default_backoff();
    let mut touched = std::pin::pin!(events.applied_objects());
    while let Some(pod) = touched.next().await {
        let Ok(pod) = pod else { continue };
        let is_leaving = pod.metadata.deletion_timestamp.is_some();
        if let Some(node) = node {
            if is_leaving {
                let _ = pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await;
                continue;
            }
            bind(pods, &pod, node).await;
        }
        let wanted = wanted(&pod).filter(|wanted| !has(&pod, wanted));
        if let Some(status) = wanted.filter(|_| !is_leaving) {
            let of_this_pod = json!({ "uid": pod.metadata.uid });
            let patch = Patch::Strategic(json!({ "metadata": of_this_pod, "status": status }));
            report(pods, &pod.name_any(), &patch).await;
        }
    }
}

/// Makes the node, and renews its lease as a kubelet does: of a node that is not there, or is not heard of, the
/// control plane takes the pods away.
async fn stay_alive(client: &Client, name: &str) {
    let nodes: Api<Node> = Api::all(client.clone());
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let ours = PatchParams::apply(TEST_BINARY).force();
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "labels": { TEST_LABEL: TEST_BINARY } },
    });
    let status = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": name },
        "status": { "conditions": [{ "type": "Ready", "status": "True", "reason": "Played", "message": "" }] },
    });
    nodes.patch(name, &ours, &Patch::Apply(&node)).await.expect("make a node");
    nodes.patch_status(name, &ours, &Patch::Apply(&status)).await.expect("report of the node");
    loop {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": name, "labels": { TEST_LABEL: TEST_BINARY } },
            "spec": { "holderIdentity": name, "renewTime": MicroTime(Timestamp::now()) },
        });
        // One that fails is made up for by the next.
        let _ = leases.patch(name, &ours, &Patch::Apply(&lease)).await;
        sleep(RENEWAL).await;
    }
}

/// Puts a pod on a node, as the scheduler does.
async fn bind(pods: &Api<Pod>, pod: &Pod, node: &str) {
    if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) {
        return;
    }
    let name = pod.name_any();
    let target = json!({ "apiVersion": "v1", "kind": "Node", "name": node });
    let binding =
        json!({ "apiVersion": "v1", "kind": "Binding", "metadata": { "name": name }, "target": target });
    match pods.create_subresource::<_, Value>("binding", &name, &PostParams::default(), &binding).await {
        Ok(_) => {}
        // It is bound, or gone.
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {}
        Err(error) => panic!("cannot bind {name}: {error}"),
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
