//! Each example is applied as a user would, and serves; or is carried out, if it is an order.

use std::time::Duration;

use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
    discovery::ApiResource,
};
use serde_json::{Value, json};

use crate::{
    demo, sandbox,
    support::{Sandbox, until},
};

#[tokio::test]
async fn every_example_gets_ready() {
    let mut examples: Vec<_> = std::fs::read_dir("examples")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    examples.sort();
    assert!(examples.len() >= 13, "{examples:?}");
    for example in examples {
        println!("{}", example.display());
        let sandbox = sandbox().await;
        let yaml = std::fs::read_to_string(&example).unwrap();
        let external = yaml.contains("mode: External");
        if external {
            sandbox.apply("redis-of-yours", demo()).await;
            sandbox.until_ready("redis-of-yours").await;
        }
        for service in ["http-cache", "near-cache"] {
            if yaml.contains(&format!("serviceName: {service}")) {
                sandbox.apply_example(service).await;
                sandbox.until_ready(service).await;
            }
        }
        let mut service = String::new();
        for document in serde_saphyr::from_multiple::<Value>(&yaml).unwrap() {
            let kind = document["kind"].as_str().unwrap().to_owned();
            let name = document["metadata"]["name"].as_str().unwrap().to_owned();
            apply(&sandbox, &document, &name).await;
            match kind.as_str() {
                "CachedService" => service = name,
                "CachePurge" => {
                    service = document["spec"]["serviceName"].as_str().unwrap().to_owned();
                    let purge = format!("cachepurge/{name}");
                    sandbox.kubectl(&["wait", "--for=condition=Complete", &purge, "--timeout=30s"]);
                }
                "Secret" if external => point_at_a_redis(&sandbox, &name).await,
                _ => {}
            }
        }
        sandbox.until_condition(Duration::from_secs(60), &service, "Ready", "True", "Serving").await;
        // The node is small: the next one needs the room.
        sandbox.kubectl(&["delete", "cachedservices", "--all", "--wait=false"]);
        let example = example.to_str().unwrap();
        sandbox.kubectl(&["delete", "--filename", example, "--ignore-not-found", "--wait=false"]);
        until(Duration::from_secs(60), async || {
            let pods = sandbox.kubectl(&["get", "pods", "-o", "name"]);
            if pods.is_empty() { Ok(()) } else { Err(pods) }
        })
        .await;
    }
}

async fn apply(sandbox: &Sandbox, document: &Value, name: &str) {
    let object: DynamicObject = serde_json::from_value(document.clone()).unwrap();
    let resource = ApiResource::from_gvk(&object.types.as_ref().unwrap().try_into().unwrap());
    let api: Api<DynamicObject> = Api::namespaced_with(sandbox.client.clone(), &sandbox.namespace, &resource);
    api.patch(name, &PatchParams::apply("e2e").force(), &Patch::Apply(document)).await.unwrap();
}

/// The example's Secret holds a made-up address; a Redis of this namespace takes its place.
async fn point_at_a_redis(sandbox: &Sandbox, secret: &str) {
    use k8s_openapi::api::core::v1::Secret;
    let source = sandbox.api::<Secret>().get("redis-of-yours-redis").await.unwrap();
    let url = source.data.unwrap()["url"].clone();
    let patch = json!({ "data": { "url": url } });
    sandbox.api::<Secret>().patch(secret, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}
