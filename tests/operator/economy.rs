//! With how few requests a CachedService comes to be.

use std::time::Instant;

use serde_json::json;

use crate::{sandbox, support::child::CHILDREN};

/// The two steps after the creation by which the number of pods passes to the autoscaler.
const HAND_OVER: usize = 2;

/// How often the status is written until all is Ready, at most.
const MOST_OF_STATUS: usize = 3;

#[tokio::test]
async fn a_creation_takes_one_write_for_each_child_and_two_for_the_hand_over() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
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
    assert!((1..=MOST_OF_STATUS + counts).contains(&of_status.len()), "{told}");
}
