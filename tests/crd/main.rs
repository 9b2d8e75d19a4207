//! The resource on a real API server: what it accepts, what it refuses and in
//! which words, what it fills in, and how it reads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../pure/mod.rs"]
mod pure;
#[path = "../support/mod.rs"]
mod support;

mod defaults;
mod definition;
mod examples;
mod limits;
mod purges;
mod random;
mod refused;
mod rules;
mod security;
mod unreadable;

use cachedservice::api::CachedService;
use http::Request;
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
    core::DynamicObject,
    discovery::ApiResource,
};
use serde_json::{Value, json};
use support::{Cluster, Sandbox};

/// The cluster of these tests.
async fn sandbox() -> Sandbox {
    Sandbox::new(Cluster::up("tests").await).await
}

/// Writes CachedServices as JSON, so that nothing but the API server judges them.
struct Writer {
    client: Client,
    services: Api<DynamicObject>,
}

impl Writer {
    fn new(sandbox: &Sandbox) -> Self {
        let resource = ApiResource::erase::<CachedService>(&());
        let client = sandbox.client.clone();
        Self { services: Api::namespaced_with(client.clone(), &sandbox.namespace, &resource), client }
    }

    /// Asks whether `name` could be created with this spec, as `kubectl create`
    /// would; the answer is the spec with its defaults, or the refusal.
    async fn ask(&self, name: &str, spec: &Value) -> Result<Value, String> {
        let url = format!("{}?dryRun=All&fieldValidation=Strict", self.services.resource_url());
        let request = Request::post(url).body(serde_json::to_vec(&manifest(name, spec)).unwrap()).unwrap();
        answer(self.client.request(request).await)
    }

    /// Asks whether `name`, which exists, could be changed to this spec.
    async fn ask_to_change(&self, name: &str, spec: &Value) -> Result<Value, String> {
        self.apply(name, spec, true).await
    }

    /// Writes it.
    async fn write(&self, name: &str, spec: &Value) -> Result<Value, String> {
        self.apply(name, spec, false).await
    }

    async fn apply(&self, name: &str, spec: &Value, dry_run: bool) -> Result<Value, String> {
        let parameters = PatchParams { dry_run, ..PatchParams::apply("test") };
        answer(self.services.patch(name, &parameters, &Patch::Apply(&manifest(name, spec))).await)
    }
}

fn manifest(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": CachedService::api_version(&()),
        "kind": CachedService::kind(&()),
        "metadata": { "name": name },
        "spec": spec,
    })
}

/// The spec as the API server took it, or its refusal.
fn answer(answer: kube::Result<DynamicObject>) -> Result<Value, String> {
    match answer {
        Ok(object) => Ok(object.data["spec"].clone()),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(error) => panic!("{error}"),
    }
}

/// The least spec with `changes` on top; null takes a field out.
fn spec(changes: &Value) -> Value {
    let mut spec = json!({ "image": "example.com/shop:1.4" });
    let (Value::Object(members), Value::Object(changes)) = (&mut spec, changes) else { panic!("{changes}") };
    members.extend(changes.clone());
    members.retain(|_, value| !value.is_null());
    spec
}

/// The schema of the resource, from the code.
fn schema() -> Value {
    let crd = cachedservice::api::crd();
    let version = &crd.spec.versions[0];
    let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
    serde_json::to_value(schema.unwrap()).unwrap()
}

/// Calls `visit` with the path and the schema of every node that this project
/// defines; below the types of Kubernetes it does not descend.
fn walk(visit: &mut impl FnMut(&str, &Value)) {
    fn node(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
        visit(path, schema);
        for (name, child) in schema["properties"].as_object().into_iter().flatten() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let is_kubernetes = matches!(name.as_str(), "behavior" | "conditions" | "custom" | "metadata");
            if is_kubernetes { visit(&path, child) } else { node(&path, child, visit) }
        }
        if schema["items"]["type"] == "string" {
            node(&format!("{path}[]"), &schema["items"], visit);
        }
        if schema["additionalProperties"].is_object() {
            node(&format!("{path}{{}}"), &schema["additionalProperties"], visit);
        }
    }
    node("", &schema(), visit);
}
