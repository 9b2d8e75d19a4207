//! Every value that a Deployment's `spec.replicas` ever had.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use tokio::task::JoinHandle;

use super::{Sandbox, until};

/// Follows the Deployments of a namespace until it is dropped.
pub struct ReplicaHistory {
    seen: Arc<Mutex<Vec<(String, i32)>>>,
    deployments: Api<Deployment>,
    task: JoinHandle<()>,
}

impl ReplicaHistory {
    /// Begins with the present.
    pub async fn start(sandbox: &Sandbox) -> Self {
        let deployments: Api<Deployment> = sandbox.api();
        let seen: Arc<Mutex<Vec<(String, i32)>>> = Arc::default();
        let (listed, until_listed) = tokio::sync::oneshot::channel();
        let events = watcher(deployments.clone(), watcher::Config::default()).default_backoff();
        let task = tokio::spawn(follow(events.boxed(), seen.clone(), listed));
        until_listed.await.expect("the list of Deployments");
        Self { seen, deployments, task }
    }

    /// The values so far, without repetitions of one in a row.
    pub async fn values(&self, name: &str) -> Vec<i32> {
        let present = self.deployments.get(name).await.expect("the Deployment").resource_version();
        until(Duration::from_secs(5), async || {
            let seen = self.seen.lock().unwrap();
            let shown = seen.iter().any(|(version, _)| Some(version) == present.as_ref());
            let mut values: Vec<i32> = seen.iter().map(|(_, replicas)| *replicas).collect();
            values.dedup();
            shown.then_some(values).ok_or_else(|| "the watch lags".to_owned())
        })
        .await
    }
}

impl Drop for ReplicaHistory {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(
    mut events: futures::stream::BoxStream<'_, watcher::Result<watcher::Event<Deployment>>>,
    seen: Arc<Mutex<Vec<(String, i32)>>>,
    listed: tokio::sync::oneshot::Sender<()>,
) {
    let mut listed = Some(listed);
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(deployment) | watcher::Event::InitApply(deployment)) => {
                let version = deployment.resource_version().expect("a resourceVersion");
                let replicas = deployment.spec.replicas.expect("the API server sets a default");
                seen.lock().unwrap().push((version, replicas));
            }
            Ok(watcher::Event::InitDone) => {
                if let Some(listed) = listed.take() {
                    let _ = listed.send(());
                }
            }
            _ => {}
        }
    }
}
