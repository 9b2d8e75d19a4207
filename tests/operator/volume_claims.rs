//! The volume of Redis's data: kept or deleted, as the user chose.

use std::time::Duration;

use cachedservice::api::names::RETAINED_LABEL;
use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::PersistentVolumeClaim};
use kube::{ResourceExt, api::PostParams};
use serde_json::{Value, json};

use crate::{
    sandbox,
    support::{Sandbox, until},
};

const LIMIT: Duration = Duration::from_secs(20);

fn kept(when_deleted: &str) -> Value {
    json!({
        "image": "example.com/shop:1",
        "redis": { "persistence": { "enabled": true, "whenDeleted": when_deleted } },
    })
}

#[tokio::test]
async fn a_claim_outlives_its_service_and_is_taken_up_by_the_next() {
    let sandbox = sandbox().await;
    let _shop = sandbox.serve_spec("shop", kept("Retain")).await;
    let first = claim(&sandbox).await.unwrap();
    assert_eq!(first.labels()[RETAINED_LABEL], "true");

    sandbox.delete("shop").await;
    until_set_is_gone(&sandbox).await;
    sandbox.apply("shop", kept("Retain")).await;
    sandbox.until_ready("shop").await;
    assert_eq!(claim(&sandbox).await.unwrap().uid(), first.uid(), "it is another one");

    // Switched off it stays as well, and Redis no longer uses it.
    sandbox.apply("shop", json!({ "image": "example.com/shop:1" })).await;
    until(LIMIT, async || {
        let set = sandbox.api::<StatefulSet>().get("shop-redis").await.unwrap();
        let text = serde_json::to_string(&set.spec).unwrap();
        if text.contains("emptyDir") { Ok(()) } else { Err(text) }
    })
    .await;
    sandbox.until_ready("shop").await;
    assert_eq!(claim(&sandbox).await.unwrap().uid(), first.uid());
}

#[tokio::test]
async fn a_claim_goes_where_that_was_chosen() {
    let sandbox = sandbox().await;
    let _shop = sandbox.serve_spec("shop", kept("Delete")).await;
    assert!(claim(&sandbox).await.is_some());
    let off = json!({ "enabled": false, "whenDeleted": "Delete" });
    sandbox.apply("shop", json!({ "image": "example.com/shop:1", "redis": { "persistence": off } })).await;
    until_gone(&sandbox).await;

    // And with the service; the choice can be changed while it runs.
    sandbox.apply("shop", kept("Retain")).await;
    sandbox.until_ready("shop").await;
    sandbox.apply("shop", kept("Delete")).await;
    until(LIMIT, async || {
        let claim = claim(&sandbox).await.unwrap();
        if claim.owner_references().is_empty() { Err(format!("{:?}", claim.metadata)) } else { Ok(()) }
    })
    .await;
    sandbox.delete("shop").await;
    until_gone(&sandbox).await;
}

#[tokio::test]
async fn a_claim_stays_where_its_being_deleted_is_not_written_any_more() {
    let sandbox = sandbox().await;
    let _shop = sandbox.serve_spec("shop", kept("Delete")).await;
    let before = claim(&sandbox).await.unwrap();

    // The default is to keep it, also from the CachedService's own end.
    sandbox.apply("shop", json!({ "image": "example.com/shop:1" })).await;
    until(LIMIT, async || {
        let claim = claim(&sandbox).await.ok_or("it is gone")?;
        let is_kept = claim.owner_references().is_empty() && claim.labels()[RETAINED_LABEL] == "true";
        if is_kept { Ok(()) } else { Err(format!("{:?}", claim.metadata)) }
    })
    .await;
    sandbox.until_ready("shop").await;
    sandbox.delete("shop").await;
    until_set_is_gone(&sandbox).await;
    assert_eq!(claim(&sandbox).await.unwrap().uid(), before.uid());

    // Taken up by one that deletes it, it is not among those that are kept any more.
    sandbox.apply("shop", kept("Delete")).await;
    sandbox.until_ready("shop").await;
    let taken_up = claim(&sandbox).await.unwrap();
    assert_eq!((taken_up.uid(), taken_up.labels()[RETAINED_LABEL].as_str()), (before.uid(), "false"));
    sandbox.delete("shop").await;
    until_gone(&sandbox).await;
}

#[tokio::test]
async fn a_claim_of_somebody_elses_is_left_alone() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let foreign = serde_json::from_value(json!({
        "metadata": { "name": "shop-redis" },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } },
        },
    }));
    let claims = sandbox.api::<PersistentVolumeClaim>();
    let foreign = claims.create(&PostParams::default(), &foreign.unwrap()).await.unwrap();
    sandbox.apply("shop", kept("Retain")).await;
    sandbox.until_condition(LIMIT, "shop", "Degraded", "True", "NameTaken").await;
    let still = claim(&sandbox).await.unwrap();
    assert_eq!(still.resource_version(), foreign.resource_version());
}

async fn claim(sandbox: &Sandbox) -> Option<PersistentVolumeClaim> {
    sandbox.api::<PersistentVolumeClaim>().get_opt("shop-redis").await.unwrap()
}

async fn until_gone(sandbox: &Sandbox) {
    until(LIMIT, async || match claim(sandbox).await {
        None => Ok(()),
        Some(claim) => Err(format!("{:?}", claim.metadata)),
    })
    .await;
}

async fn until_set_is_gone(sandbox: &Sandbox) {
    until(LIMIT, async || match sandbox.api::<StatefulSet>().get_opt("shop-redis").await.unwrap() {
        None => Ok(()),
        Some(set) => Err(format!("{:?}", set.metadata)),
    })
    .await;
}
