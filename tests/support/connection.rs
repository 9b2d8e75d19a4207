//! TCP connections from pod to pod, to see what network policies let pass.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

use super::{DEMO_IMAGE, Sandbox, until};

/// How soon a change of a policy or of a pod is to hold, asked with connections that take a while.
const SOON: Duration = Duration::from_secs(15);

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// Somebody listens, and nothing stands in between.
    Open,
    /// Nothing stands in between, but nobody listens.
    Refused,
    /// No answer: the packets were dropped.
    Unanswered,
}

impl Sandbox {
    /// Starts a pod with these labels in this namespace, which listens on each of the ports, and
    /// returns its address once it is Ready.
    pub async fn start_pod(&self, name: &str, labels: &[(&str, &str)], ports: &[u16]) -> String {
        let labels: serde_json::Map<_, _> =
            labels.iter().map(|&(key, value)| (key.to_owned(), value.into())).collect();
        let container = |port: &u16| {
            json!({
                "name": format!("listen-{port}"),
                "image": DEMO_IMAGE,
                "env": [{ "name": "PORT", "value": port.to_string() }],
                "ports": [{ "name": format!("port-{port}"), "containerPort": port }],
                "readinessProbe": { "httpGet": { "path": "/healthz", "port": port }, "periodSeconds": 1 },
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
            })
        };
        let pod = json!({
            "metadata": { "name": name, "labels": labels },
            "spec": {
                "containers": ports.iter().map(container).collect::<Vec<_>>(),
                "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 0,
            },
        });
        self.run_pod(name, pod).await
    }

    /// Starts this pod in this namespace, and returns its address once it is Ready.
    pub async fn run_pod(&self, name: &str, pod: Value) -> String {
        let pods: Api<Pod> = self.api();
        // One of an earlier run may be there, in a namespace that stays.
        let _ = pods.delete(name, &DeleteParams::default().grace_period(0)).await;
        let pod = serde_json::from_value(pod).expect("a pod");
        until(Duration::from_secs(10), async || {
            pods.create(&PostParams::default(), &pod).await.map_err(|error| error.to_string())
        })
        .await;
        until(Duration::from_secs(30), async || {
            let status = pods.get(name).await.map_err(|error| error.to_string())?.status.unwrap_or_default();
            let ready = |condition: &PodCondition| condition.type_ == "Ready" && condition.status == "True";
            if !status.conditions.iter().flatten().any(ready) {
                return Err(format!("{name} is not Ready: {status:?}"));
            }
            status.pod_ip.ok_or_else(|| format!("{name} has no address"))
        })
        .await
    }

    /// Tries one connection to `address` (`HOST:PORT`) from a pod of the demo application's image,
    /// which can do so when it is told to, or from one of a `KIND/NAME`.
    pub fn connect(&self, pod: &str, address: &str) -> Connection {
        self.try_connect(pod, address).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Tries again and again until this becomes of a connection.
    #[track_caller]
    pub fn until_connection<'a>(
        &'a self,
        pod: &'a str,
        address: &'a str,
        wanted: Connection,
    ) -> impl Future<Output = ()> + 'a {
        until(SOON, async move || match self.try_connect(pod, address)? {
            became if became == wanted => Ok(()),
            became => Err(format!("{pod} to {address}: {became:?}, not {wanted:?}")),
        })
    }

    fn try_connect(&self, pod: &str, address: &str) -> Result<Connection, String> {
        let said = self.try_kubectl(&["exec", pod, "--", "/demo", "connect", address])?;
        match said.trim() {
            "open" => Ok(Connection::Open),
            "refused" => Ok(Connection::Refused),
            "unanswered" => Ok(Connection::Unanswered),
            other => Err(format!("{pod} to {address}: {other}")),
        }
    }
}
