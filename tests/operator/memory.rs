//! How much memory the operator takes.

use std::fs;

use serde_json::json;

use crate::sandbox;

/// With ten CachedServices, in kB.
const LIMIT: u64 = 30 * 1024;

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
    let status = fs::read_to_string(format!("/proc/{}/status", operator.pid())).unwrap();
    let of = |field: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let (resident, peak) = (of("VmRSS:"), of("VmHWM:"));
    println!("{resident} kB resident, {peak} kB at most, with {} CachedServices", names.len());
    // What it took at most counts too: it was resident.
    assert!(resident <= LIMIT && peak <= LIMIT, "{resident} kB resident, {peak} kB at most");
}
