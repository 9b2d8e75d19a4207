//! One CachedService that the operator cannot read holds up no other.

use std::time::Duration;

use cachedservice::api::CachedService;
use k8s_openapi::api::events::v1::Event;
use kube::{
    api::{ListParams, Patch, PatchParams},
    core::DynamicObject,
    discovery::ApiResource,
};
use serde_json::json;

use crate::{sandbox, spec, support::until};

#[tokio::test]
async fn an_unreadable_service_is_told_and_the_others_go_on() {
    let sandbox = sandbox().await;
    sandbox.apply("broken", spec(&json!({}))).await;
    // In UTC the year 10000: the API server takes it, and a program need not know that year.
    let condition = json!({
        "type": "Ready", "status": "True", "reason": "A", "message": "a",
        "lastTransitionTime": "9999-12-31T23:59:59-23:59",
    });
    let resource = ApiResource::erase::<CachedService>(&());
    let services =
        kube::Api::<DynamicObject>::namespaced_with(sandbox.client.clone(), &sandbox.namespace, &resource);
    let patch = Patch::Merge(json!({ "status": { "conditions": [condition] } }));
    services.patch_status("broken", &PatchParams::default(), &patch).await.unwrap();

    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    sandbox.apply("whole", spec(&json!({}))).await;
    sandbox.until_created("whole").await;
    until(Duration::from_secs(10), async || {
        let events = sandbox.api::<Event>().list(&ListParams::default()).await.unwrap();
        let told = events.items.iter().any(|event| {
            let regards_it =
                event.regarding.as_ref().is_some_and(|about| about.name.as_deref() == Some("broken"));
            regards_it && event.reason.as_deref() == Some("Unreadable")
        });
        told.then_some(()).ok_or_else(|| format!("no Event tells: {:?}", events.items))
    })
    .await;
}
