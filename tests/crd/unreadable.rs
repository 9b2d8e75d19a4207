//! One CachedService that the operator cannot read is left as it is, and holds up no other.

use std::time::Duration;

use cachedservice::api::CachedService;
use http::Method;
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
    core::DynamicObject,
    discovery::ApiResource,
};
use serde_json::json;

use crate::{
    sandbox, spec,
    support::{
        Faults, Sandbox,
        child::{CHILDREN, SERVICE, uid},
        until,
    },
};

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn an_unreadable_service_is_told_and_the_others_go_on() {
    let sandbox = sandbox().await;
    sandbox.apply("broken", spec(&json!({}))).await;
    make_unreadable(&sandbox, "broken").await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    sandbox.apply("whole", spec(&json!({}))).await;
    sandbox.until_created("whole").await;
    until_told(&sandbox, "broken").await;
}

#[tokio::test]
async fn where_events_are_not_taken_an_unreadable_service_holds_up_no_other() {
    let sandbox = sandbox().await;
    for broken in ["broken-1", "broken-2"] {
        sandbox.apply(broken, spec(&json!({}))).await;
        make_unreadable(&sandbox, broken).await;
    }
    let installation = sandbox.install().await;
    let faults = Faults::none();
    faults.hold(Method::POST, "/events");
    let _operator = installation.start_in_process(&faults).await;
    sandbox.apply("whole", spec(&json!({}))).await;
    sandbox.until_created("whole").await;
}

#[tokio::test]
async fn what_becomes_unreadable_is_left_as_it_is_until_it_can_be_read() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    sandbox.apply("shop", spec(&json!({}))).await;
    sandbox.until_ready("shop").await;
    make_unreadable(&sandbox, "shop").await;
    until_told(&sandbox, "shop").await;

    // What is done by hand now is nobody's matter but the user's.
    sandbox.children(SERVICE).delete("shop", &DeleteParams::background()).await.unwrap();
    let mark = sandbox.audit_mark().await;
    sandbox.until_renewed(mark, &installation.user, 4).await;
    let writes = sandbox.writes_since(mark, &installation.user).await;
    assert!(writes.is_empty(), "{writes:#?}");
    let mut left = Vec::new();
    for kind in CHILDREN.into_iter().filter(|kind| *kind != SERVICE) {
        left.push((kind, uid(&sandbox.child(kind, "shop").await)));
    }

    patch_status(&sandbox, "shop", json!([])).await;
    sandbox.until_ready("shop").await;
    until(LIMIT, async || {
        sandbox.find(SERVICE, "shop").await.map(drop).ok_or_else(|| "no Service".to_owned())
    })
    .await;
    for (kind, before) in left {
        assert_eq!(uid(&sandbox.child(kind, "shop").await), before, "{kind:?} was made anew");
    }
}

/// In UTC the year 10000: the API server takes it, and a program need not know that year.
async fn make_unreadable(sandbox: &Sandbox, name: &str) {
    let condition = json!({
        "type": "Ready", "status": "True", "reason": "A", "message": "a",
        "lastTransitionTime": "9999-12-31T23:59:59-23:59",
    });
    patch_status(sandbox, name, json!([condition])).await;
}

async fn patch_status(sandbox: &Sandbox, name: &str, conditions: serde_json::Value) {
    let resource = ApiResource::erase::<CachedService>(&());
    let services =
        kube::Api::<DynamicObject>::namespaced_with(sandbox.client.clone(), &sandbox.namespace, &resource);
    let patch = Patch::Merge(json!({ "status": { "conditions": conditions } }));
    let patched = services.patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(patched.name_any(), name);
}

async fn until_told(sandbox: &Sandbox, name: &str) {
    until(LIMIT, async || {
        let told = sandbox.events(name).await;
        let is_told = told.iter().any(|(reason, _)| reason == "Unreadable");
        is_told.then_some(()).ok_or_else(|| format!("no Event tells: {told:?}"))
    })
    .await;
}
