//! Without the API server, or without the history that a watch goes on from.

use std::time::Duration;

use kube::api::DeleteParams;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    alone,
    support::{
        Sandbox,
        child::{AUTOSCALER, DEPLOYMENT, DISRUPTION_BUDGET, SERVICE},
        until,
    },
};

const LIMIT: Duration = Duration::from_secs(15);

fn spec(port: u16) -> Value {
    json!({ "image": "example.com/shop:1", "service": { "port": port } })
}

#[tokio::test]
async fn a_restart_of_the_api_server_is_outlived_and_work_goes_on() {
    let (mut sandbox, _turn) = alone().await;
    let installation = sandbox.install().await;
    // A leader whose API server is away for longer than its lease allows ends, and starts afresh.
    let mut operator = installation.start_with("only", &["--leader-elect=false"]);
    let kubelet = sandbox.kubelet();
    sandbox.apply("shop", spec(81)).await;
    sandbox.until_ready("shop").await;
    let settled = generation(&sandbox).await;
    drop(kubelet);

    sandbox.cluster.restart("apiserver");
    sandbox.reconnect().await;
    let mark = sandbox.audit_mark().await;
    let _kubelet = sandbox.kubelet();
    sandbox.apply("shop", spec(82)).await;
    until_port(&sandbox, 82).await;
    sandbox.until_ready("shop").await;
    sandbox.children(SERVICE).delete("shop", &DeleteParams::default()).await.unwrap();
    until_port(&sandbox, 82).await;
    assert!(operator.is_running(), "the operator has ended:\n{}", operator.log());

    // Twice the Service; the status and Events tell of it. Nothing else was there to do.
    let writes = sandbox.writes_since(mark, &installation.user).await;
    let others: Vec<_> = writes
        .iter()
        .filter(|write| !["services", "cachedservices", "events"].contains(&write.resource()))
        .collect();
    assert!(others.is_empty(), "{others:#?}");
    assert_eq!(generation(&sandbox).await, settled, "the Deployment was changed, its replicas perhaps");
}

#[tokio::test]
async fn what_happened_while_a_watch_expired_is_found_by_a_new_list() {
    let (mut sandbox, _turn) = alone().await;
    let installation = sandbox.install().await;
    // A frozen leader would lose its lease, and start afresh instead.
    let mut operator = installation.start_with("only", &["--leader-elect=false"]);
    let kubelet = sandbox.kubelet();
    sandbox.apply("shop", spec(81)).await;
    sandbox.apply("gone", spec(81)).await;
    sandbox.until_ready("shop").await;
    sandbox.until_ready("gone").await;
    let settled = generation(&sandbox).await;
    drop(kubelet);

    operator.signal(Signal::STOP);
    sandbox.apply("shop", spec(82)).await;
    sandbox.children(AUTOSCALER).delete("shop", &DeleteParams::default()).await.unwrap();
    sandbox.patch(DISRUPTION_BUDGET, "shop", json!({ "spec": { "maxUnavailable": 7 } })).await;
    sandbox.apply("new", spec(83)).await;
    sandbox.delete("gone").await;
    sandbox.cluster.forget_history().await;
    sandbox.cluster.restart("apiserver");
    sandbox.reconnect().await;
    operator.signal(Signal::CONT);

    let _kubelet = sandbox.kubelet();
    until_port(&sandbox, 82).await;
    until(LIMIT, async || {
        let autoscaler = sandbox.find(AUTOSCALER, "shop").await;
        let budget = sandbox.child(DISRUPTION_BUDGET, "shop").await;
        let corrected = budget.data["spec"]["maxUnavailable"] == 1;
        if corrected && autoscaler.is_some() { Ok(()) } else { Err(format!("{autoscaler:?}, {budget:?}")) }
    })
    .await;
    sandbox.until_ready("shop").await;
    sandbox.until_ready("new").await;
    assert!(operator.is_running(), "the operator has ended:\n{}", operator.log());
    let log = operator.log();
    assert!(log.contains("too old resource version"), "no watch has expired:\n{log}");
    assert_eq!(generation(&sandbox).await, settled, "the Deployment was changed, its replicas perhaps");
    let services = "cachedservice_resources";
    until(LIMIT, async || match operator.metric(services) {
        known if (1.5..2.5).contains(&known) => Ok(()),
        known => Err(format!("it knows {known} CachedServices")),
    })
    .await;
}

/// Counts the changes of the Deployment's spec: replicas that dropped and came back count twice.
async fn generation(sandbox: &Sandbox) -> Option<i64> {
    sandbox.child(DEPLOYMENT, "shop").await.metadata.generation
}

async fn until_port(sandbox: &Sandbox, port: u16) {
    until(LIMIT, async || {
        let present =
            sandbox.find(SERVICE, "shop").await.map(|service| service.data["spec"]["ports"].clone());
        let port_now = present.as_ref().map(|ports| ports[0]["port"].clone());
        if port_now == Some(json!(port)) { Ok(()) } else { Err(format!("the Service has {present:?}")) }
    })
    .await;
}
