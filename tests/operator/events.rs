//! What the Events about a CachedService tell.

use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use serde_json::json;

use crate::{
    sandbox,
    support::{
        Kubelet, Sandbox,
        child::{DISRUPTION_BUDGET, SERVICE},
        kubelet, until,
    },
};

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn two_degradations_in_a_row_are_two_events_with_their_own_notes() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    sandbox.apply("shop", json!({ "image": "example.com/shop:1" })).await;
    let troubles = [
        ("ErrImagePull", "example.com/shop:1: not found", "ImagePullFailed"),
        ("CreateContainerConfigError", "secret \"a\" not found", "CreateContainerConfigError"),
        ("RunContainerError", "no such command", "RunContainerError"),
    ];
    for (reason, words, told_as) in troubles {
        let _kubelet = Kubelet::reporting(&sandbox, move |pod| {
            let is_app = pod.spec.as_ref()?.containers.iter().any(|container| container.name == "app");
            Some(if is_app { kubelet::waiting("app", reason, words) } else { kubelet::ready(pod) })
        });
        sandbox.until_condition(LIMIT, "shop", "Degraded", "True", told_as).await;
    }
    // Events follow the status.
    until(LIMIT, async || {
        let told = sandbox.events("shop").await;
        let is_told_once = |(_, words, told_as): &(_, &str, &str)| {
            let degraded = told.iter().filter(|(reason, _)| reason == "Degraded");
            degraded.filter(|(_, note)| note.starts_with(told_as) && note.contains(words)).count() == 1
        };
        if troubles.iter().all(is_told_once) { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
}

#[tokio::test]
async fn the_same_once_more_is_counted_and_another_object_is_told() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    sandbox.apply("shop", json!({ "image": "example.com/shop:1" })).await;
    sandbox.until_created("shop").await;

    let port = |port: u16| json!({ "spec": { "ports": [{ "port": 80, "targetPort": port }] } });
    for drifted in [1, 2, 3] {
        let expected = (drifted > 1).then_some(i32::from(drifted));
        sandbox.patch(SERVICE, "shop", port(drifted)).await;
        until(LIMIT, async || match corrections(&sandbox).await.as_slice() {
            [(note, count)] if note == "Service shop" && *count == expected => Ok(()),
            told => Err(format!("after {drifted}: {told:?}")),
        })
        .await;
    }
    sandbox.patch(DISRUPTION_BUDGET, "shop", json!({ "spec": { "maxUnavailable": 5 } })).await;
    until(LIMIT, async || {
        let told = corrections(&sandbox).await;
        let budget = ("PodDisruptionBudget shop".to_owned(), None);
        if told.len() == 2 && told.contains(&budget) { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
}

/// Notes and counts of the Events that tell of a correction.
async fn corrections(sandbox: &Sandbox) -> Vec<(String, Option<i32>)> {
    let events = sandbox.api::<Event>().list(&ListParams::default()).await.unwrap();
    let corrected = events.into_iter().filter(|event| event.reason.as_deref() == Some("Corrected"));
    corrected.map(|event| (event.note.unwrap_or_default(), event.series.map(|series| series.count))).collect()
}
