//! ConfigMaps and Secrets of the user's whose changes roll the application.

use std::time::Duration;

use cachedservice::api::names::REFERENCES_ANNOTATION;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Secret},
};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::{
    sandbox,
    support::{
        Sandbox,
        child::{CHILDREN, DEPLOYMENT},
        until,
    },
};

const LIMIT: Duration = Duration::from_secs(15);

/// Refers to the ConfigMap `settings`, the Secret `database` and a ConfigMap that need not be there.
fn spec(on_config_change: bool) -> Value {
    json!({
        "image": "example.com/shop:1",
        "rollout": { "onConfigChange": on_config_change },
        "env": [{ "name": "URL", "valueFrom": { "secretKeyRef": { "name": "database", "key": "url" } } }],
        "envFrom": [
            { "configMapRef": { "name": "settings" } },
            { "configMapRef": { "name": "extra", "optional": true } },
        ],
    })
}

/// What the pod template notes of the references, and the Deployment's generation.
async fn template(sandbox: &Sandbox, service: &str) -> (Option<String>, i64) {
    let deployment = sandbox.api::<Deployment>().get(service).await.unwrap();
    let annotations = deployment.spec.template.metadata.unwrap().annotations.unwrap();
    (annotations.get(REFERENCES_ANNOTATION).cloned(), deployment.metadata.generation.unwrap())
}

/// Waits until the template notes something else; it has to be rolled once, for `reference` alone.
async fn until_rolled(
    sandbox: &Sandbox,
    service: &str,
    before: &(Option<String>, i64),
    reference: &str,
) -> (Option<String>, i64) {
    let rolled = until(LIMIT, async || match template(sandbox, service).await {
        now if now.0 != before.0 => Ok(now),
        now => Err(format!("{now:?}")),
    })
    .await;
    sandbox.until_ready(service).await;
    let others = |noted: &(Option<String>, i64)| -> Vec<String> {
        let entries = noted.0.iter().flat_map(|text| text.split(','));
        entries.filter(|entry| !entry.starts_with(&format!("{reference}="))).map(str::to_owned).collect()
    };
    assert_eq!(others(&rolled), others(before), "not {reference} alone");
    assert_eq!(template(sandbox, service).await.1, before.1 + 1, "{before:?} {rolled:?}");
    rolled
}

async fn put_map(sandbox: &Sandbox, name: &str, data: Value) {
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": data });
    let maps = sandbox.api::<ConfigMap>();
    maps.patch(name, &PatchParams::apply("user").force(), &Patch::Apply(map)).await.unwrap();
}

async fn put_secret(sandbox: &Sandbox, name: &str, url: &str) {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": { "url": url },
    });
    let secrets = sandbox.api::<Secret>();
    secrets.patch(name, &PatchParams::apply("user").force(), &Patch::Apply(secret)).await.unwrap();
}

#[tokio::test]
async fn what_the_application_refers_to_rolls_it_once_for_each_change_of_its_data() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let mut operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    put_map(&sandbox, "settings", json!({ "a": "1" })).await;
    put_secret(&sandbox, "database", "hunter2").await;
    sandbox.apply("shop", spec(true)).await;
    sandbox.until_ready("shop").await;
    let first = template(&sandbox, "shop").await;
    let noted = first.0.clone().unwrap();
    assert!(noted.contains("ConfigMap/settings=") && noted.contains("Secret/database="), "{noted}");
    assert!(!noted.contains("extra") && !noted.contains("hunter2"), "{noted}");

    // A burst is one roll.
    let put = |value: &'static str| put_map(&sandbox, "settings", json!({ "a": value }));
    tokio::join!(put("2"), put("3"), put("4"));
    let second = until_rolled(&sandbox, "shop", &first, "ConfigMap/settings").await;
    put_secret(&sandbox, "database", "hunter3").await;
    let third = until_rolled(&sandbox, "shop", &second, "Secret/database").await;
    // What need not be there counts once it is.
    put_map(&sandbox, "extra", json!({ "b": "1" })).await;
    let fourth = until_rolled(&sandbox, "shop", &third, "ConfigMap/extra").await;

    // Nothing of this is a change of data that it refers to. The last one shows that all were seen.
    put_map(&sandbox, "unrelated", json!({ "a": "9" })).await;
    sandbox.kubectl(&["label", "configmap", "settings", "team=web"]);
    let settings = sandbox.api::<ConfigMap>().get("settings").await.unwrap().data;
    sandbox.api::<ConfigMap>().delete("settings", &DeleteParams::default()).await.unwrap();
    put_map(&sandbox, "settings", json!(settings)).await;
    sandbox.api::<Secret>().delete("database", &DeleteParams::default()).await.unwrap();
    put_secret(&sandbox, "database", "hunter3").await;
    put_map(&sandbox, "extra", json!({ "b": "2" })).await;
    until_rolled(&sandbox, "shop", &fourth, "ConfigMap/extra").await;

    // A new process finds everything as it is.
    let before = template(&sandbox, "shop").await;
    operator.kill();
    let mark = sandbox.audit_mark().await;
    let _operator = installation.start("next");
    sandbox.until_renewed(mark, &installation.user, 3).await;
    // What the last one had not told yet may be told.
    let mut writes = sandbox.writes_since(mark, &installation.user).await;
    writes.retain(|write| ["deployments", "secrets"].contains(&write.resource()));
    assert!(writes.is_empty(), "{writes:?}");
    assert_eq!(template(&sandbox, "shop").await, before);
}

#[tokio::test]
async fn services_share_a_watch_and_without_the_switch_there_is_none() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let mark = sandbox.audit_mark().await;
    let operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    put_map(&sandbox, "settings", json!({ "a": "1" })).await;
    put_secret(&sandbox, "database", "x").await;
    for (name, on) in [("one", true), ("two", true), ("off", false)] {
        sandbox.apply(name, spec(on)).await;
        sandbox.until_ready(name).await;
    }
    let followed = || operator.metric("cachedservice_references_followed");
    assert!((followed() - 3.0).abs() < f64::EPSILON, "{}", followed());
    for entry in sandbox.audit_since(mark, &installation.user).await {
        let is_narrow = ["labelSelector=", "fieldSelector=metadata.name"];
        if entry.verb == "list" && ["configmaps", "secrets"].contains(&entry.resource()) {
            assert!(is_narrow.iter().any(|narrow| entry.uri.contains(narrow)), "{}", entry.uri);
        }
    }
    let off = template(&sandbox, "off").await;
    assert_eq!(off.0, None);
    let (one, two) = (template(&sandbox, "one").await, template(&sandbox, "two").await);
    put_map(&sandbox, "settings", json!({ "a": "2" })).await;
    until_rolled(&sandbox, "one", &one, "ConfigMap/settings").await;
    until_rolled(&sandbox, "two", &two, "ConfigMap/settings").await;
    assert_eq!(template(&sandbox, "off").await, off);

    // The last user of a watch takes it along.
    sandbox.delete("one").await;
    sandbox.apply("two", spec(false)).await;
    until(LIMIT, async || match followed() {
        0.0 => Ok(()),
        followed => Err(format!("{followed} are followed")),
    })
    .await;
    until(LIMIT, async || match template(&sandbox, "two").await.0 {
        None => Ok(()),
        Some(noted) => Err(noted),
    })
    .await;
    let keys = sandbox.kubectl(&["get", "secrets", "--output", "name"]);
    assert!(!keys.contains("two-digest-key"), "{keys}");
}

#[tokio::test]
async fn no_pod_starts_with_digests_under_a_key_that_is_not_kept() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    put_secret(&sandbox, "shop-digest-key", "of the user's").await;
    sandbox.apply("shop", spec(true)).await;
    let told = sandbox.until_condition(LIMIT, "shop", "Degraded", "True", "NameTaken").await;
    assert!(told.message.contains("shop-digest-key"), "{told:?}");
    assert!(sandbox.find(DEPLOYMENT, "shop").await.is_none());
    sandbox.api::<Secret>().delete("shop-digest-key", &DeleteParams::default()).await.unwrap();
    sandbox.until_ready("shop").await;
    for kind in CHILDREN {
        assert!(sandbox.find(kind, "shop").await.is_some(), "{kind:?}");
    }
}
