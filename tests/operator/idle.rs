//! What the operator asks of the API server when there is nothing to do.

use std::time::Duration;

use serde_json::json;

use crate::{
    sandbox,
    support::{Installation, Operator, Sandbox, child::CHILDREN, until},
};

const RECONCILES: &str = r#"cachedservice_reconcile_duration_seconds_count{result="ok"}"#;
const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn idle_the_operator_writes_nothing_but_its_lease() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    let services = ["a", "b", "c"];
    for name in services {
        sandbox.apply(name, json!({ "image": "example.com/shop:1" })).await;
    }
    until_settled(&sandbox, &operator, &services).await;

    let mark = sandbox.audit_mark().await;
    // Some twenty seconds.
    sandbox.until_renewed(mark, &installation.user, 10).await;
    let asked = sandbox.audit_since(mark, &installation.user).await;
    assert!(asked.is_empty(), "{asked:#?}");
}

#[tokio::test]
async fn a_second_reconcile_of_the_same_sends_no_request() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    sandbox.apply("shop", json!({ "image": "example.com/shop:1" })).await;
    until_settled(&sandbox, &operator, &["shop"]).await;

    let mark = sandbox.audit_mark().await;
    // A label of somebody's is news of a child, and nothing to do.
    for kind in CHILDREN {
        let reconciles = operator.metric(RECONCILES);
        sandbox.patch(kind, "shop", json!({ "metadata": { "labels": { "touched": "1" } } })).await;
        until(LIMIT, async || {
            let now = operator.metric(RECONCILES);
            if now > reconciles { Ok(()) } else { Err(format!("{now} reconciles after {kind:?}")) }
        })
        .await;
    }
    let asked = sandbox.audit_since(mark, &installation.user).await;
    assert!(asked.is_empty(), "{asked:#?}");
}

#[tokio::test]
async fn a_restarted_operator_writes_nothing() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let mut operator = installation.start("first");
    let _kubelet = sandbox.kubelet();
    let services = ["a", "b", "c"];
    for name in services {
        sandbox.apply(name, json!({ "image": "example.com/shop:1" })).await;
    }
    until_settled(&sandbox, &operator, &services).await;
    assert!(operator.terminate().await.success(), "{}", operator.log());

    let mark = sandbox.audit_mark().await;
    let operator = reconciled(&installation, services.len()).await;
    let writes = sandbox.writes_since(mark, &installation.user).await;
    assert!(writes.is_empty(), "{writes:#?}\n{}", operator.log());
}

/// An operator that has reconciled everything once.
async fn reconciled(installation: &Installation, services: usize) -> Operator {
    let operator = installation.start("second");
    operator.until_leading(LIMIT).await;
    until(LIMIT, async || {
        let reconciles = operator.metric(RECONCILES);
        // A u32 is exact in a f64.
        let all = f64::from(u32::try_from(services).unwrap());
        if reconciles >= all && is_idle(&operator) { Ok(()) } else { Err(format!("{reconciles} reconciles")) }
    })
    .await;
    operator
}

/// Waits until nothing more is to come: the autoscaler's controller is the last to report.
pub(crate) async fn until_settled(sandbox: &Sandbox, operator: &Operator, services: &[&str]) {
    for name in services {
        sandbox.until_ready(name).await;
        let reason = "FailedGetContainerResourceMetric";
        sandbox.until_condition(LIMIT, name, "AutoscalingReady", "False", reason).await;
    }
    // Events follow the status.
    until(LIMIT, async || if is_idle(operator) { Ok(()) } else { Err("at work".to_owned()) }).await;
}

fn is_idle(operator: &Operator) -> bool {
    operator.metric("cachedservice_queue_depth") + operator.metric("cachedservice_reconciles_in_flight") < 1.0
}
