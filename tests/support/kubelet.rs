//! Plays the kubelet: the control plane has controllers and no node, so nobody
//! else reports on pods.

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::Sandbox;

/// Makes the pods of a namespace Ready until it is dropped.
pub struct Kubelet(JoinHandle<()>);

impl Kubelet {
    pub(super) fn start(sandbox: &Sandbox) -> Self {
        let pods: Api<Pod> = sandbox.api();
        Self(tokio::spawn(async move {
            let events = watcher(pods.clone(), watcher::Config::default()).default_backoff();
            let mut touched = std::pin::pin!(events.applied_objects());
            while let Some(pod) = touched.next().await {
                let Ok(pod) = pod else { continue };
                if !is_ready(&pod) && pod.metadata.deletion_timestamp.is_none() {
                    // It may be gone by now.
                    let _ = report(&pods, &pod.name_any(), ready()).await;
                }
            }
        }))
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reports the status of one pod.
pub async fn report(pods: &Api<Pod>, name: &str, status: Value) -> kube::Result<Pod> {
    let patch = Patch::Strategic(json!({ "status": status }));
    pods.patch_status(name, &PatchParams::default(), &patch).await
}

fn ready() -> Value {
    json!({
        "phase": "Running",
        "conditions": [
            { "type": "PodScheduled", "status": "True" },
            { "type": "ContainersReady", "status": "True" },
            { "type": "Ready", "status": "True" },
        ],
    })
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
