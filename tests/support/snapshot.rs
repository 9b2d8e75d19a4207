//! All objects of a namespace without what chance has put into them, to compare where two
//! runs have come to.

use std::{collections::BTreeMap, time::Duration};

use cachedservice::api::names::{
    APPLIED_ANNOTATION, CREDENTIALS_ANNOTATION, FIELD_MANAGER, SCALE_FIELD_MANAGER, SECRET_ACL,
    SECRET_PASSWORD, SECRET_SALT, SECRET_URL, STATUS_FIELD_MANAGER, TEMPLATE_ANNOTATION,
};
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams},
    discovery::{Discovery, Scope, verbs},
};
use serde_json::{Map, Value, json};

use super::{Installation, Sandbox, until};

/// Kinds that tell of the way and not of where it led, and what the cluster itself derives
/// from Services and pods.
const LEFT_OUT: [&str; 6] =
    ["Event", "Lease", "ReplicaSet", "ControllerRevision", "Endpoints", "EndpointSlice"];

/// Times, and what the API server or a controller draws or counts.
const CHANCE: [&str; 24] = [
    "clusterIP",
    "clusterIPs",
    "collisionCount",
    "creationTimestamp",
    "currentRevision",
    "deletionTimestamp",
    "generateName",
    "generation",
    "healthCheckNodePort",
    "lastProbeTime",
    "lastTransitionTime",
    "lastUpdateTime",
    "nodePort",
    "observedGeneration",
    "resourceVersion",
    "selfLink",
    "startTime",
    "startedAt",
    "time",
    "uid",
    "updateRevision",
    // Labels and annotations.
    "controller-revision-hash",
    "deployment.kubernetes.io/revision",
    "pod-template-hash",
];

/// Digests of what holds a password or the uid of the owner.
const DIGESTS: [&str; 5] = [
    APPLIED_ANNOTATION,
    CREDENTIALS_ANNOTATION,
    TEMPLATE_ANNOTATION,
    // In `status.redis`.
    "answered",
    "credentials",
];

/// By kind and name, of pods by kind and what they come from.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot(BTreeMap<String, Vec<Value>>);

impl Snapshot {
    /// How many objects there are of a kind.
    pub fn count(&self, kind: &str) -> usize {
        let of_kind = self.0.iter().filter(|(key, _)| key.starts_with(&format!("{kind}/")));
        of_kind.map(|(_, objects)| objects.len()).sum()
    }

    /// Where two differ: path, the first's value, the second's.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        compare("", &json!(self.0), &json!(other.0), &mut found);
        found
    }
}

impl Sandbox {
    /// All objects of the namespace as they are now.
    pub async fn snapshot(&self) -> kube::Result<Snapshot> {
        let discovery = Discovery::new(self.client.clone()).exclude(&["events.k8s.io", "metrics.k8s.io"]);
        let discovery = discovery.run_aggregated().await?;
        let mut objects = BTreeMap::<String, Vec<Value>>::new();
        for (resource, capabilities) in discovery.groups().flat_map(|group| group.recommended_resources()) {
            let listed =
                capabilities.scope == Scope::Namespaced && capabilities.supports_operation(verbs::LIST);
            if !listed || LEFT_OUT.contains(&resource.kind.as_str()) {
                continue;
            }
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
            for object in api.list(&ListParams::default()).await? {
                let name = object.metadata.generate_name.clone().unwrap_or_else(|| object.name_any());
                let mut words = vec![(self.namespace.clone(), "NAMESPACE")];
                // In the names of pods and of their ReplicaSet.
                words.extend(object.labels().get("pod-template-hash").map(|hash| (hash.clone(), "HASH")));
                // In the managed fields, as the key of the owner reference.
                words.extend(object.owner_references().iter().map(|owner| (owner.uid.clone(), "UID")));
                let name = masked(&name, &words);
                let essence = essence(&resource.kind, &name, &words, object);
                objects.entry(format!("{}/{name}", resource.kind)).or_default().push(essence);
            }
        }
        for several in objects.values_mut() {
            several.sort_by_cached_key(Value::to_string);
        }
        Ok(Snapshot(objects))
    }

    /// The objects of the namespace once nothing has changed while the operator renewed its
    /// Lease three times.
    pub async fn settled_snapshot(&self, installation: &Installation) -> Snapshot {
        let mut before = self.snapshot().await.expect("a snapshot");
        for _ in 0..20 {
            let mark = self.audit_mark().await;
            self.until_renewed(mark, &installation.user, 3).await;
            let now = self.snapshot().await.expect("a snapshot");
            if before == now {
                return now;
            }
            before = now;
        }
        panic!("the objects do not settle");
    }

    /// Waits until the objects of the namespace are those of another run.
    pub async fn until_like(&self, limit: Duration, other: &Snapshot) {
        until(limit, async || {
            let snapshot = self.snapshot().await.map_err(|error| error.to_string())?;
            let differences = other.differences(&snapshot);
            if differences.is_empty() {
                return Ok(());
            }
            Err(format!(
                "{} differences:\n{}",
                differences.len(),
                differences[..differences.len().min(30)].join("\n")
            ))
        })
        .await;
    }
}

fn essence(kind: &str, name: &str, words: &Words, object: DynamicObject) -> Value {
    let being_deleted = object.metadata.deletion_timestamp.is_some();
    let managed = masked(&managed_fields(&object).to_string(), words);
    let mut value = serde_json::to_value(object).expect("an object is JSON");
    if kind == "Secret" {
        mask_secret(&mut value);
    }
    if kind == "HorizontalPodAutoscaler" {
        // Of the figures that it found, or not yet.
        value.as_object_mut().expect("an object").remove("status");
    }
    let mut value = without_chance(value, words, kind == "CachedService");
    value["metadata"]["name"] = json!(name);
    value["metadata"]["managedFields"] = serde_json::from_str(&managed).expect("JSON");
    if being_deleted {
        value["metadata"]["deletionTimestamp"] = json!("set");
    }
    value
}

/// Texts that chance has made, and what stands for them.
type Words = [(String, &'static str)];

fn masked(text: &str, words: &Words) -> String {
    words.iter().fold(text.to_owned(), |text, (word, mask)| text.replace(word, mask))
}

/// Which fields are the operator's. The manager that hands the number of pods over may keep a share
/// in it, which says nothing where the main one has set it.
fn managed_fields(object: &DynamicObject) -> Value {
    let of = |manager: &'static str| {
        object.managed_fields().iter().filter(move |entry| entry.manager.as_deref() == Some(manager))
    };
    let fixed = |entry: &ManagedFieldsEntry| {
        entry.fields_v1.as_ref().is_some_and(|fields| fields.0["f:spec"].get("f:replicas").is_some())
    };
    let scale = of(SCALE_FIELD_MANAGER).filter(|_| !of(FIELD_MANAGER).any(fixed));
    let ours = of(FIELD_MANAGER).chain(of(STATUS_FIELD_MANAGER)).chain(scale);
    let mut ours: Vec<Value> = ours
        .map(|entry| json!([entry.manager, entry.operation, entry.subresource, entry.fields_v1]))
        .collect();
    ours.sort_by_cached_key(Value::to_string);
    json!(ours)
}

fn without_chance(value: Value, words: &Words, ours: bool) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(key, value)| !is_chance(key, value, ours));
            let kept = kept.map(|(key, value)| {
                let digest = DIGESTS.contains(&key.as_str());
                let mut value = if digest { json!("DIGEST") } else { without_chance(value, words, ours) };
                // Controllers append what they find first.
                if let Some(conditions) = value.as_array_mut().filter(|_| key == "conditions" && !ours) {
                    conditions.sort_by_cached_key(|condition| condition["type"].to_string());
                }
                (key, value)
            });
            Value::Object(kept.collect::<Map<String, Value>>())
        }
        Value::Array(items) => items.into_iter().map(|item| without_chance(item, words, ours)).collect(),
        Value::String(text) => Value::String(masked(&text, words)),
        other => other,
    }
}

fn is_chance(key: &str, value: &Value, ours: bool) -> bool {
    // The words of other controllers hold names that were drawn; the reason says enough.
    let words = key == "message" && !ours;
    // People's edits are counted in both runs; how often a child was written is not the same.
    let edits = ours && key == "generation";
    let headless = value == "None" || value == &json!(["None"]);
    words || (CHANCE.contains(&key) && !headless && !edits)
}

/// The password is a random one, and the rest is made from it.
fn mask_secret(object: &mut Value) {
    let secret: Secret = serde_json::from_value(object.clone()).expect("a Secret");
    let data = secret.data.unwrap_or_default();
    let text = |value: &ByteString| String::from_utf8_lossy(&value.0).into_owned();
    let password = data.get(SECRET_PASSWORD).map(text).filter(|password| !password.is_empty());
    let plain = data.iter().map(|(key, value)| {
        let value = match (key.as_str(), &password) {
            (SECRET_URL, Some(password)) => text(value).replace(password.as_str(), "PASSWORD"),
            (SECRET_PASSWORD | SECRET_ACL | SECRET_SALT, Some(_)) => format!("{} bytes", value.0.len()),
            _ => text(value),
        };
        (key.clone(), json!(value))
    });
    object["data"] = Value::Object(plain.collect());
}

fn compare(path: &str, first: &Value, second: &Value, found: &mut Vec<String>) {
    match (first, second) {
        (Value::Object(first), Value::Object(second)) => {
            let keys: std::collections::BTreeSet<&String> = first.keys().chain(second.keys()).collect();
            for key in keys {
                let side = |fields: &Map<String, Value>| fields.get(key).cloned().unwrap_or_default();
                compare(&format!("{path}.{key}"), &side(first), &side(second), found);
            }
        }
        (Value::Array(first), Value::Array(second)) if first.len() == second.len() => {
            for (index, (first, second)) in first.iter().zip(second).enumerate() {
                compare(&format!("{path}[{index}]"), first, second, found);
            }
        }
        _ if first == second => {}
        _ => found.push(format!("{path}: {first:.300} | {second:.300}")),
    }
}
