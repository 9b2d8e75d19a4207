//! With how few requests a CachedService comes to be.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use cachedservice::api::{
    CachedService,
    names::{COMPONENT_LABEL, REDIS},
};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;

use crate::{
    sandbox,
    support::{
        Sandbox,
        child::{AUTOSCALER, CHILDREN},
        kubelet::{self, Kubelet},
        until,
    },
};

const LIMIT: Duration = Duration::from_secs(20);

/// The two steps after the creation by which the number of pods passes to the autoscaler.
const HAND_OVER: usize = 2;

/// How often the status is written until all is Ready, at most: first, when Redis answers, and when the application is
/// there.
const MOST_OF_STATUS: usize = 3;

#[tokio::test]
async fn a_creation_takes_one_write_for_each_child_and_two_for_the_hand_over() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    let statuses = statuses(&sandbox);
    let mark = sandbox.audit_mark().await;
    let began = Instant::now();
    sandbox.apply("shop", json!({ "image": "example.com/shop:1" })).await;
    sandbox.until_ready("shop").await;

    let mut asked = sandbox.audit_since(mark, &installation.user).await;
    asked.retain(|entry| entry.resource() != "events");
    let told: String = asked.iter().map(|entry| format!("{} {}\n", entry.verb, entry.uri)).collect();
    let (of_status, of_children): (Vec<_>, Vec<_>) =
        asked.iter().partition(|entry| entry.uri.contains("/status"));
    assert_eq!(of_children.len(), CHILDREN.len() + HAND_OVER, "{told}");
    // Beside what turns, the numbers of pods are told every two seconds while they come up.
    let counts = usize::try_from(began.elapsed().as_secs() / 2).unwrap();
    let statuses = statuses.lock().unwrap();
    assert!((1..=MOST_OF_STATUS + counts).contains(&of_status.len()), "{told}{statuses:#?}");
}

#[tokio::test]
async fn each_part_that_comes_up_late_is_told_with_one_write() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let kubelet = Kubelet::none_ready(&sandbox);
    let statuses = statuses(&sandbox);
    sandbox.apply("shop", json!({ "image": "example.com/shop:1" })).await;
    until(LIMIT, async || {
        let autoscaler = sandbox.find(AUTOSCALER, "shop").await.ok_or("no autoscaler")?;
        let status = autoscaler.data["status"].to_string();
        if status.contains("FailedGetContainerResourceMetric") { Ok(()) } else { Err(status) }
    })
    .await;
    sandbox.until_quiet(&installation.user, &[&installation.user]).await;
    drop(kubelet);
    let is_of_redis = |pod: &Pod| pod.labels().get(COMPONENT_LABEL).is_some_and(|of| of == REDIS);
    let kubelet = Kubelet::reporting(&sandbox, move |pod| is_of_redis(pod).then(|| kubelet::ready(pod)));
    sandbox.until_condition(LIMIT, "shop", "RedisReady", "True", "Available").await;
    drop(kubelet);
    let _kubelet = sandbox.kubelet();
    sandbox.until_ready("shop").await;

    let mut told = statuses.lock().unwrap().clone();
    // The numbers of pods are told beside.
    told.dedup();
    assert_eq!(told.len(), MOST_OF_STATUS, "{told:#?}");
}

/// What the conditions were with each write, for as long as the test runs.
fn statuses(sandbox: &Sandbox) -> Arc<Mutex<Vec<String>>> {
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let (services, kept) = (sandbox.api::<CachedService>(), told.clone());
    tokio::spawn(async move {
        let changes = watcher(services, watcher::Config::default()).applied_objects();
        let keep = |service: CachedService| {
            if let Some(status) = service.status {
                let conditions = status.conditions.iter();
                let conditions =
                    conditions.map(|told| format!("{} {} {}", told.type_, told.status, told.reason));
                kept.lock().unwrap().push(conditions.collect::<Vec<_>>().join(", "));
            }
            std::future::ready(Ok(()))
        };
        drop(changes.try_for_each(keep).await);
    });
    told
}
