//! Ways in and network policies, on and off.

use std::time::Duration;

use serde_json::json;

use crate::{
    sandbox,
    support::{
        Sandbox,
        child::{APP_POLICY, ChildKind, INGRESS, REDIS_POLICY},
        until,
    },
};

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn an_ingress_and_policies_come_and_go_with_their_switches() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    let everything = json!({
        "image": "example.com/shop:1",
        "ingress": { "hosts": ["shop.example.com"] },
        "networkPolicy": { "app": { "enabled": true } },
    });
    sandbox.apply("shop", everything).await;
    sandbox.until_ready("shop").await;
    for child in [INGRESS, APP_POLICY, REDIS_POLICY] {
        assert!(sandbox.find(child, "shop").await.is_some(), "{child:?}");
    }

    let nothing = json!({
        "image": "example.com/shop:1",
        "networkPolicy": { "redis": { "enabled": false } },
    });
    sandbox.apply("shop", nothing).await;
    for child in [INGRESS, APP_POLICY, REDIS_POLICY] {
        until_gone(&sandbox, child).await;
    }
    sandbox.until_ready("shop").await;
}

async fn until_gone(sandbox: &Sandbox, child: ChildKind) {
    until(LIMIT, async || match sandbox.find(child, "shop").await {
        None => Ok(()),
        Some(_) => Err(format!("{child:?} is there")),
    })
    .await;
}
