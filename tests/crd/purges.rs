//! The purges: what the API server takes of them, and in which words it refuses the rest.

use std::collections::BTreeSet;

use cachedservice::api::{CachePurge, CachePurgeSpec, purge_crd};
use http::Request;
use kube::{
    Api, Resource,
    api::{Patch, PatchParams, PostParams},
    core::DynamicObject,
    discovery::ApiResource,
};
use serde_json::{Value, json};

use crate::{
    sandbox,
    support::{Sandbox, until},
};

const URLS: &str = "write URLs such as https://shop.example.com/a, or /a for any scheme and host";

fn purge(changes: &Value) -> Value {
    let mut spec = json!({ "serviceName": "shop" });
    spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    json!({
        "apiVersion": CachePurge::api_version(&()),
        "kind": CachePurge::kind(&()),
        "metadata": { "name": "a" },
        "spec": spec,
    })
}

/// Asks whether it could be created, as `kubectl create` would; the answer is the spec with its defaults.
async fn ask(sandbox: &Sandbox, changes: &Value) -> Result<Value, String> {
    let resource = ApiResource::erase::<CachePurge>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(sandbox.client.clone(), &sandbox.namespace, &resource);
    let url = format!("{}?dryRun=All&fieldValidation=Strict", api.resource_url());
    let request = Request::post(url).body(serde_json::to_vec(&purge(changes)).unwrap()).unwrap();
    match sandbox.client.request::<DynamicObject>(request).await {
        Ok(object) => Ok(object.data["spec"].clone()),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(error) => panic!("{error}"),
    }
}

fn many(count: usize) -> Value {
    (0..count).map(|number| json!(format!("/{number}"))).collect()
}

fn long(length: usize) -> String {
    format!("/{}", "a".repeat(length - 1))
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_in_words_that_help() {
    let sandbox = sandbox().await;
    let together = "write at most 100 keys, prefixes and tags together";
    let own = "is of the sidecars themselves";
    let refused = [
        ("say what to purge", json!({})),
        ("say what to purge", json!({ "everything": false, "soft": true })),
        (URLS, json!({ "keys": ["shop/a"] })),
        (URLS, json!({ "prefixes": ["/a", "ftp://shop/"] })),
        ("spec.keys: leave out `#`", json!({ "keys": ["/a", "/a#b"] })),
        ("spec.prefixes: leave out `#`", json!({ "prefixes": ["https://shop/#"] })),
        (together, json!({ "keys": many(60), "tags": many(41) })),
        (together, json!({ "keys": many(1), "prefixes": many(50), "tags": many(50) })),
        (
            "write a number of seconds from 0 to 2592000",
            json!({ "tags": ["a"], "ttlSecondsAfterFinished": -1 }),
        ),
        ("from 0 to 2592000", json!({ "tags": ["a"], "ttlSecondsAfterFinished": 2_592_001 })),
        (together, json!({ "tags": many(50), "application": { "keys": many(30), "prefixes": many(21) } })),
        ("spec.application: write keys or prefixes", json!({ "application": {} })),
        ("write keys or prefixes", json!({ "everything": true, "application": { "redis": "Delete" } })),
        ("spec.soft: leave it out", json!({ "soft": true, "application": { "keys": ["a"] } })),
        (own, json!({ "application": { "keys": ["cachedservice:a"], "redis": "Delete" } })),
        (own, json!({ "application": { "prefixes": ["a", "cachedservice:"], "redis": "Delete" } })),
        ("spec.application.keys[0]", json!({ "application": { "keys": [""] } })),
        ("spec.application.prefixes[0]", json!({ "application": { "prefixes": [long(2049)] } })),
        ("spec.application.redis", json!({ "application": { "keys": ["a"], "redis": "Flush" } })),
        ("spec.keys", json!({ "keys": many(101) })),
        ("spec.keys", json!({ "keys": [], "everything": true })),
        ("spec.prefixes[0]", json!({ "prefixes": [long(2049)] })),
        ("spec.tags[0]", json!({ "tags": [""] })),
        ("spec.serviceName", json!({ "everything": true, "serviceName": "" })),
        ("unknown field", json!({ "everything": true, "tag": "a" })),
    ];
    for (message, changes) in refused {
        match ask(&sandbox, &changes).await {
            Ok(_) => panic!("accepted: {changes}"),
            Err(refusal) => assert!(refusal.contains(message), "{changes}\n{refusal}"),
        }
    }
}

#[tokio::test]
async fn what_keeps_the_rules_is_accepted_and_readable() {
    let sandbox = sandbox().await;
    let accepted = [
        json!({ "everything": true }),
        json!({ "everything": true, "tags": ["a"], "soft": true, "ttlSecondsAfterFinished": 0 }),
        json!({ "keys": ["HTTPS://shop/a?b", "http://shop", "/", long(2048)] }),
        json!({ "keys": many(100) }),
        json!({ "keys": many(40), "prefixes": many(30), "tags": many(30) }),
        json!({ "tags": ["a"], "ttlSecondsAfterFinished": 2_592_000 }),
        json!({ "application": { "keys": many(60), "prefixes": many(40) } }),
        json!({ "application": { "keys": ["cachedservice:a", "no URL#"], "prefixes": ["*"] } }),
        json!({ "soft": true, "tags": ["a"], "application": { "prefixes": ["user:"], "redis": "Delete" } }),
        json!({ "everything": true, "application": { "keys": [long(2048)], "redis": "Delete" } }),
    ];
    for changes in accepted {
        let spec = ask(&sandbox, &changes).await.unwrap_or_else(|refusal| panic!("{changes}\n{refusal}"));
        let read: CachePurgeSpec = serde_json::from_value(spec).unwrap();
        assert_eq!(read.service_name, "shop");
    }
    let defaults = ask(&sandbox, &json!({ "tags": ["a"] })).await.unwrap();
    assert_eq!(
        defaults,
        json!({
            "serviceName": "shop", "tags": ["a"], "everything": false, "soft": false, "ttlSecondsAfterFinished": 3600,
        })
    );
    let defaults = ask(&sandbox, &json!({ "application": { "keys": ["a"] } })).await.unwrap();
    assert_eq!(defaults["application"], json!({ "keys": ["a"], "redis": "Keep" }));
}

#[tokio::test]
async fn a_purge_that_was_ordered_cannot_be_changed() {
    let sandbox = sandbox().await;
    let ordered: CachePurge = serde_json::from_value(purge(&json!({ "tags": ["a"] }))).unwrap();
    let api: Api<CachePurge> = sandbox.api();
    api.create(&PostParams::default(), &ordered).await.unwrap();
    for change in [json!({ "tags": ["b"] }), json!({ "soft": true }), json!({ "keys": ["/a"] })] {
        let patch = Patch::Merge(json!({ "spec": change }));
        let refusal = api.patch("a", &PatchParams::default(), &patch).await.unwrap_err().to_string();
        assert!(refusal.contains("create another CachePurge"), "{change}: {refusal}");
    }
    let label = Patch::Merge(json!({ "metadata": { "labels": { "team": "web" } } }));
    api.patch("a", &PatchParams::default(), &label).await.unwrap();
}

#[test]
fn every_field_is_described_and_says_what_it_is_when_it_is_not_written() {
    let crd = serde_json::to_value(purge_crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let mut described = BTreeSet::new();
    for (part, has_defaults) in [("spec", true), ("status", false)] {
        for (name, field) in schema[part]["properties"].as_object().unwrap() {
            let description = field["description"].as_str().unwrap_or_default();
            assert!(description.trim_end().ends_with('.'), "{name}: {description:?}");
            let is_required = name == "serviceName";
            assert!(
                !has_defaults || is_required || description.contains("Default"),
                "{name}: {description:?}"
            );
            described.insert(name.clone());
        }
    }
    assert!(described.len() > 15, "{described:?}");
}

#[tokio::test]
async fn kubectl_explains_a_purge() {
    let sandbox = sandbox().await;
    let limit = std::time::Duration::from_secs(30);
    let told = until(limit, async || sandbox.try_kubectl(&["explain", "cpurge.spec.tags"])).await;
    assert!(told.contains("Surrogate-Key"), "{told}");
}
