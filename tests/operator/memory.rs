//! How much memory the operator takes, and of what.

use std::{fs, time::Duration};

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use kube::api::{ObjectMeta, PostParams};
use rand::RngExt;
use serde_json::json;

use crate::{
    idle::until_settled,
    sandbox,
    support::{Operator, Sandbox, until},
};

/// With ten CachedServices, in kB.
const LIMIT: u64 = 30 * 1024;
const PATIENCE: Duration = Duration::from_secs(20);
const RECONCILES: &str = r#"cachedservice_reconcile_duration_seconds_count{result="ok"}"#;

#[tokio::test]
async fn with_ten_services_the_operator_stays_within_thirty_megabytes() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let operator = installation.start_shipped("only");
    let _kubelet = sandbox.kubelet();
    let names: Vec<String> = (0..10).map(|number| format!("shop-{number}")).collect();
    for name in &names {
        sandbox.apply(name, json!({ "image": "example.com/shop:1" })).await;
    }
    for name in &names {
        sandbox.until_ready(name).await;
    }
    let (resident, peak) = (memory(&operator, "VmRSS:"), memory(&operator, "VmHWM:"));
    println!("{resident} kB resident, {peak} kB at most, with {} CachedServices", names.len());
    // What it took at most counts too: it was resident.
    assert!(resident <= LIMIT && peak <= LIMIT, "{resident} kB resident, {peak} kB at most");
}

#[tokio::test]
async fn large_secrets_and_config_maps_of_others_change_nothing() {
    /// What 25 MB of objects may do to the memory, in kB: it is not the same from one start to the next.
    const TOLERANCE: u64 = 5 * 1024;
    let sandbox = sandbox().await;
    let mut shop = sandbox.serve("shop").await;
    until_settled(&sandbox, &shop.operator, &["shop"]).await;
    assert!(shop.operator.terminate().await.success(), "{}", shop.operator.log());
    let mut operator = shop.installation.start("without");
    until_at_rest(&operator, 1.0).await;
    let without = memory(&operator, "VmHWM:");

    let (mark, reconciles) = (sandbox.audit_mark().await, operator.metric(RECONCILES));
    create_large(&sandbox, 100).await;
    assert!(operator.terminate().await.success(), "{}", operator.log());
    let operator = shop.installation.start("beside");
    until_at_rest(&operator, 1.0).await;
    let (beside, again) = (memory(&operator, "VmHWM:"), operator.metric(RECONCILES));
    let asked = sandbox.audit_since(mark, &shop.installation.user).await;
    assert!(asked.is_empty(), "{asked:#?}");
    println!(
        "{without} kB at most without them, {beside} kB beside them, {reconciles} and {again} reconciles"
    );
    assert!(beside <= without + TOLERANCE, "{without} kB without them, {beside} kB beside them");
}

/// So many Secrets and as many ConfigMaps, of 128 KiB each, that nothing compresses.
async fn create_large(sandbox: &Sandbox, count: usize) {
    for number in 0..count {
        let mut bytes = vec![0; 96 * 1024];
        rand::rng().fill(bytes.as_mut_slice());
        let metadata = ObjectMeta { name: Some(format!("large-{number}")), ..ObjectMeta::default() };
        let data = Some([("data".to_owned(), ByteString(bytes))].into());
        let secret = Secret { metadata: metadata.clone(), data: data.clone(), ..Secret::default() };
        let config_map = ConfigMap { metadata, binary_data: data, ..ConfigMap::default() };
        sandbox.api().create(&PostParams::default(), &secret).await.unwrap();
        sandbox.api().create(&PostParams::default(), &config_map).await.unwrap();
    }
}

/// Waits until the operator has reconciled so often at least, and has nothing to do.
async fn until_at_rest(operator: &Operator, reconciles: f64) {
    operator.until_leading(PATIENCE).await;
    until(PATIENCE, async || {
        let work = operator.metric("cachedservice_queue_depth")
            + operator.metric("cachedservice_reconciles_in_flight");
        let done = operator.metric(RECONCILES);
        if work < 1.0 && done >= reconciles {
            Ok(())
        } else {
            Err(format!("{done} reconciles, {work} to come"))
        }
    })
    .await;
}

/// A figure of `/proc/PID/status`, in kB.
fn memory(operator: &Operator, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", operator.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
