//! Load from a pod of the cluster to a Service of it, bounded in time.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, LogParams},
};
use serde_json::{Value, json};

use super::{DEMO_IMAGE, Sandbox, until};

const LOAD: &str = "load";

/// What makes a pod of one container fit the Pod Security Standard `restricted`.
fn restricted(container: &str) -> Value {
    json!({ "spec": {
        "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
        "containers": [{ "name": container, "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
        } }],
    } })
}

impl Sandbox {
    /// Starts load that ends by itself after `seconds`.
    pub async fn load(&self, url: &str, seconds: u32, connections: &str) {
        let pods: Api<Pod> = self.api();
        let _ = pods.delete(LOAD, &DeleteParams::default().grace_period(0)).await;
        let seconds = seconds.to_string();
        let image = format!("--image={DEMO_IMAGE}");
        let run = ["run", LOAD, &image, "--restart=Never"];
        let command = ["--command", "--", "/demo", "load"];
        let restricted = restricted(LOAD).to_string();
        let fit = ["--override-type=strategic", "--overrides", &restricted];
        let load = ["--url", url, "--seconds", &seconds, "--connections", connections];
        self.kubectl(&[&run[..], &fit, &command, &load].concat());
        until(Duration::from_secs(30), async || {
            let pod = pods.get(LOAD).await.map_err(|error| error.to_string())?;
            let phase = pod.status.and_then(|status| status.phase).unwrap_or_default();
            if phase == "Running" { Ok(()) } else { Err(phase) }
        })
        .await;
    }

    /// The report of the load, once it has ended.
    pub async fn load_report(&self, limit: Duration) -> Value {
        let pods: Api<Pod> = self.api();
        until(limit, async || {
            let log = pods.logs(LOAD, &LogParams::default()).await.map_err(|error| error.to_string())?;
            let report = log.lines().find(|line| line.starts_with('{')).ok_or_else(|| log.clone())?;
            serde_json::from_str(report).map_err(|error| error.to_string())
        })
        .await
    }
}
