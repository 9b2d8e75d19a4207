//! Whose an object is, and which of its fields are whose. PURE.
//!
//! Sources: Kubernetes documentation, "Server-Side Apply" (managed fields) and
//! "Owners and Dependents".

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, OwnerReference};
use kube::Resource;
use serde_json::{Map, Value};

use crate::api::{
    CachedService,
    names::{APPLIED_ANNOTATION, FIELD_MANAGER, NAME_LABEL, RETAINED_LABEL, TEMPLATE_REVISION_ANNOTATION},
};

/// Whether the CachedService with this `uid` controls the object.
#[must_use]
pub fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    controlling(meta).is_some_and(|owner| owner.uid == uid)
}

/// Whether an earlier CachedService of this `name` controls the object: it goes as the garbage
/// collector gets to it.
#[must_use]
pub fn is_of_predecessor(meta: &ObjectMeta, name: &str, uid: &str) -> bool {
    controlling(meta)
        .is_some_and(|owner| owner.kind == CachedService::kind(&()) && owner.name == name && owner.uid != uid)
}

/// Whether the object outlives its CachedService.
#[must_use]
pub fn is_retained(meta: &ObjectMeta) -> bool {
    controlling(meta).is_none() && label(meta, RETAINED_LABEL) == Some("true")
}

/// Whether the object is kept for CachedServices of this `name`, whichever is there.
#[must_use]
pub fn is_retained_for(meta: &ObjectMeta, name: &str) -> bool {
    is_retained(meta) && label(meta, NAME_LABEL) == Some(name)
}

fn label<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(key).map(String::as_str)
}

/// Who controls the object, in words.
#[must_use]
pub fn owner_in_words(meta: &ObjectMeta) -> String {
    controlling(meta).map_or_else(|| "nobody".to_owned(), |owner| format!("{} {}", owner.kind, owner.name))
}

fn controlling(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Whether what we applied last is what we would apply now (`digest`), and all
/// fields of it (`desired`) are still ours. A field that another writer changed
/// or removed is no longer ours, so values need no comparison.
#[must_use]
pub fn is_intact(meta: &ObjectMeta, digest: &str, desired: &Value) -> bool {
    let applied = meta.annotations.as_ref().and_then(|all| all.get(APPLIED_ANNOTATION));
    applied.is_some_and(|applied| applied == digest)
        && our_fields(meta).is_some_and(|ours| owns_object(ours, desired))
}

/// Whether `spec.replicas` is ours.
#[must_use]
pub fn owns_replicas(meta: &ObjectMeta) -> bool {
    our_fields(meta).is_some_and(|ours| ours.pointer("/f:spec/f:replicas").is_some())
}

/// Whether the revision in the pod template is ours, and not what somebody wrote over it.
#[must_use]
pub fn owns_template_revision(meta: &ObjectMeta) -> bool {
    our_fields(meta)
        .and_then(|ours| ours.pointer("/f:spec/f:template/f:metadata/f:annotations"))
        .is_some_and(|ours| ours.get(format!("f:{TEMPLATE_REVISION_ANNOTATION}")).is_some())
}

/// Whether the entry of an object's managed fields is the operator's own.
#[must_use]
pub fn is_our_entry(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(FIELD_MANAGER)
        && entry.operation.as_deref() == Some("Apply")
        && entry.subresource.as_deref().unwrap_or_default().is_empty()
}

fn our_fields(meta: &ObjectMeta) -> Option<&Value> {
    let entry = meta.managed_fields.iter().flatten().find(|entry| is_our_entry(entry))?;
    entry.fields_v1.as_ref().map(|fields| &fields.0)
}

/// Fields that name the object; they are nobody's.
const IDENTITY: [&str; 3] = ["name", "namespace", "uid"];

fn owns_object(ours: &Value, desired: &Value) -> bool {
    let Value::Object(desired) = desired else { return false };
    desired.iter().filter(|(key, _)| !matches!(key.as_str(), "apiVersion" | "kind")).all(|(key, value)| {
        let Some(fields) = ours.get(format!("f:{key}")) else { return is_empty(value) };
        match (key.as_str(), value) {
            ("metadata", Value::Object(metadata)) => metadata
                .iter()
                .filter(|(key, _)| !IDENTITY.contains(&key.as_str()))
                .all(|(key, value)| owns_member(fields, key, value)),
            _ => owns(fields, value),
        }
    })
}

fn owns(fields: &Value, desired: &Value) -> bool {
    // A leaf stands for the whole value: a scalar, or an atomic list or map.
    if is_leaf(fields) {
        return true;
    }
    match desired {
        Value::Object(members) => members.iter().all(|(key, value)| owns_member(fields, key, value)),
        Value::Array(items) => items.iter().all(|item| owns_item(fields, item)),
        _ => true,
    }
}

fn owns_member(fields: &Value, key: &str, value: &Value) -> bool {
    match fields.get(format!("f:{key}")) {
        Some(member) => owns(member, value),
        None => is_empty(value),
    }
}

fn owns_item(fields: &Value, item: &Value) -> bool {
    let Value::Object(fields) = fields else { return false };
    fields.iter().any(|(path, member)| {
        if let Some(keys) = path.strip_prefix("k:") {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            // A key that we left out was filled in by the server (protocol: TCP).
            !keys.is_empty()
                && keys.iter().all(|(key, value)| item.get(key).is_none_or(|ours| ours == value))
                && owns(member, item)
        } else if let Some(value) = path.strip_prefix("v:") {
            serde_json::from_str::<Value>(value).is_ok_and(|value| value == *item)
        } else {
            false
        }
    })
}

fn is_leaf(fields: &Value) -> bool {
    fields.as_object().is_some_and(Map::is_empty)
}

/// Empty lists and maps may leave no trace in the managed fields.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldsV1;
    use serde_json::json;

    use super::*;

    fn object(fields: Value) -> ObjectMeta {
        ObjectMeta {
            annotations: Some([(APPLIED_ANNOTATION.to_owned(), "d1".to_owned())].into()),
            managed_fields: Some(vec![ManagedFieldsEntry {
                manager: Some(FIELD_MANAGER.to_owned()),
                operation: Some("Apply".to_owned()),
                fields_v1: Some(FieldsV1(fields)),
                ..ManagedFieldsEntry::default()
            }]),
            ..ObjectMeta::default()
        }
    }

    fn fields() -> Value {
        json!({
            "f:metadata": { "f:labels": { ".": {}, "f:a": {} } },
            "f:spec": {
                "f:selector": {},
                "f:template": { "f:spec": { "f:containers": { "k:{\"name\":\"app\"}": {
                    ".": {}, "f:name": {}, "f:image": {},
                    "f:ports": { "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": { ".": {}, "f:containerPort": {} } },
                } } } },
            },
        })
    }

    fn desired() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": "x", "namespace": "y", "uid": "z", "labels": { "a": "b" } },
            "spec": {
                "selector": { "matchLabels": { "a": "b" } },
                "template": { "spec": { "containers": [
                    { "name": "app", "image": "i", "ports": [{ "containerPort": 80 }] },
                ] } },
            },
        })
    }

    #[test]
    fn what_is_wholly_ours_and_of_the_same_digest_is_intact() {
        assert!(is_intact(&object(fields()), "d1", &desired()));
    }

    #[test]
    fn another_digest_is_not_intact() {
        assert!(!is_intact(&object(fields()), "d2", &desired()));
    }

    #[test]
    fn a_field_that_another_writer_took_is_not_intact() {
        for path in [
            "/f:metadata/f:labels/f:a",
            "/f:spec/f:selector",
            "/f:spec/f:template/f:spec/f:containers/k:{\"name\":\"app\"}/f:image",
            "/f:spec/f:template/f:spec/f:containers/k:{\"name\":\"app\"}/f:ports/k:{\"containerPort\":80,\"protocol\":\"TCP\"}/f:containerPort",
        ] {
            let mut fields = fields();
            let (parent, key) = path.rsplit_once('/').unwrap();
            fields.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key).unwrap();
            assert!(!is_intact(&object(fields), "d1", &desired()), "{path}");
        }
    }

    #[test]
    fn fields_of_other_managers_do_not_count() {
        let mut meta = object(fields());
        if let Some(entry) = meta.managed_fields.iter_mut().flatten().next() {
            entry.manager = Some("kubectl".to_owned());
        }
        assert!(!is_intact(&meta, "d1", &desired()));
    }

    #[test]
    fn only_the_controlling_owner_counts() {
        let owner = |uid: &str, controller| OwnerReference {
            uid: uid.to_owned(),
            controller,
            ..OwnerReference::default()
        };
        let meta = ObjectMeta {
            owner_references: Some(vec![owner("a", None), owner("b", Some(true))]),
            ..ObjectMeta::default()
        };
        assert!(is_controlled_by(&meta, "b"));
        assert!(!is_controlled_by(&meta, "a"));
    }

    #[test]
    fn only_what_is_labelled_so_and_controlled_by_nobody_is_retained() {
        let meta = |labels: &[(&str, &str)], owner: Option<OwnerReference>| ObjectMeta {
            labels: Some(
                labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            ),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        };
        let labels = [(NAME_LABEL, "shop"), (RETAINED_LABEL, "true")];
        assert!(is_retained_for(&meta(&labels, None), "shop"));
        assert!(!is_retained_for(&meta(&labels, None), "other"));
        assert!(!is_retained_for(&meta(&labels[..1], None), "shop"));
        assert!(!is_retained_for(&meta(&[labels[0], (RETAINED_LABEL, "false")], None), "shop"));
        let owner = OwnerReference { controller: Some(true), ..OwnerReference::default() };
        assert!(!is_retained_for(&meta(&labels, Some(owner)), "shop"));
    }

    #[test]
    fn what_an_earlier_cached_service_of_the_name_left_is_told_from_what_is_anothers() {
        let meta = |kind: &str, name: &str, uid: &str| ObjectMeta {
            owner_references: Some(vec![OwnerReference {
                kind: kind.to_owned(),
                name: name.to_owned(),
                uid: uid.to_owned(),
                controller: Some(true),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        };
        assert!(is_of_predecessor(&meta("CachedService", "shop", "old"), "shop", "new"));
        assert!(!is_of_predecessor(&meta("CachedService", "shop", "new"), "shop", "new"), "ours");
        assert!(!is_of_predecessor(&meta("CachedService", "other", "old"), "shop", "new"));
        assert!(!is_of_predecessor(&meta("Deployment", "shop", "old"), "shop", "new"));
    }
}
