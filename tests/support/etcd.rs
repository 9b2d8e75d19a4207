//! The store behind the API server.

use kube::{
    Client,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

use super::Cluster;

impl Cluster {
    /// Lets etcd forget all history, so that a watch cannot go on from where it was
    /// once the API server has been restarted (etcd documentation, "History compaction").
    pub async fn forget_history(&self) {
        let etcd = self.etcd().await;
        let first = ask(&etcd, "range", json!({ "key": "AA==", "limit": 1 })).await;
        let revision = first["header"]["revision"].as_str().expect("a revision");
        ask(&etcd, "compaction", json!({ "revision": revision, "physical": true })).await;
    }

    /// A client of etcd's JSON gateway, with the certificate of the API server.
    async fn etcd(&self) -> Client {
        let folder = self.audit_log.parent().expect("the cluster's folder");
        let settled = std::fs::read_to_string(folder.join("cluster.json")).expect("cluster.json");
        let settled: Value = serde_json::from_str(&settled).expect("cluster.json");
        let port = &settled["ports"]["etcd"];
        let file = |name: &str| folder.join("pki").join(name);
        let kubeconfig: Kubeconfig = serde_json::from_value(json!({
            "clusters": [{ "name": "etcd", "cluster": {
                "server": format!("https://127.0.0.1:{port}"),
                "certificate-authority": file("ca.crt"),
            } }],
            "users": [{ "name": "apiserver", "user": {
                "client-certificate": file("apiserver-client.crt"),
                "client-key": file("apiserver-client.key"),
            } }],
            "contexts": [{ "name": "etcd", "context": { "cluster": "etcd", "user": "apiserver" } }],
            "current-context": "etcd",
        }))
        .expect("a kubeconfig");
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        Client::try_from(config.expect("a client configuration")).expect("a client")
    }
}

async fn ask(etcd: &Client, what: &str, question: Value) -> Value {
    let request =
        http::Request::post(format!("/v3/kv/{what}")).body(Body::from(question.to_string().into_bytes()));
    let answer = etcd.send(request.expect("a request")).await.expect("an answer of etcd");
    let body = answer.into_body().collect_bytes().await.expect("the answer of etcd");
    serde_json::from_slice(&body).expect("JSON of etcd")
}
