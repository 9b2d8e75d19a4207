//! Failures that pass by themselves.

use std::time::Duration;

use http::Method;
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use crate::{
    sandbox,
    support::{Faults, child::CHILDREN, condition},
};

#[tokio::test]
async fn a_conflict_or_an_overload_is_tried_again_and_nobody_is_troubled() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let faults = Faults::none();
    let codes = [409, 429, 500, 503, 504];
    for code in codes {
        for path in [format!("/services/s{code}"), format!("/deployments/s{code}")] {
            faults.refuse(1, Method::PATCH, &path, code, "not now");
        }
    }
    let _operator = installation.start_in_process(&faults).await;
    let _kubelet = sandbox.kubelet();
    for code in codes {
        sandbox.apply(&format!("s{code}"), json!({ "image": "example.com/shop:1" })).await;
    }
    for code in codes {
        sandbox.until_ready(&format!("s{code}")).await;
        let told = sandbox.events(&format!("s{code}")).await;
        assert!(!told.iter().any(|(_, note)| note.contains("not now")), "{told:?}");
    }
    assert_eq!(faults.refusals_left(), 0);
}

#[tokio::test]
async fn a_failure_that_stays_is_told_and_takes_no_child_from_what_serves() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let faults = Faults::none();
    let _operator = installation.start_in_process(&faults).await;
    let _kubelet = sandbox.kubelet();
    sandbox.apply("shop", json!({ "image": "example.com/shop:1" })).await;
    sandbox.until_ready("shop").await;
    let secret = async || sandbox.api::<Secret>().get("shop-redis").await.unwrap().data;
    let before = secret().await;

    faults.refuse(usize::MAX, Method::PATCH, "/services/shop", 500, "the disk is full");
    sandbox.apply("shop", json!({ "image": "example.com/shop:1", "service": { "port": 81 } })).await;
    let limit = Duration::from_secs(10);
    let degraded = sandbox.until_condition(limit, "shop", "Degraded", "True", "Retrying").await;
    assert!(degraded.message.contains("the disk is full"), "{}", degraded.message);
    for kind in CHILDREN {
        assert!(sandbox.find(kind, "shop").await.is_some(), "{kind:?}");
    }
    assert_eq!(secret().await, before);

    faults.forgive();
    sandbox.until_condition(limit, "shop", "Ready", "True", "Serving").await;
    assert_eq!(condition(&sandbox.service("shop").await, "Degraded").unwrap().status, "False");
}
