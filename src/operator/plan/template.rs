//! Reads the user's pod template strictly: what Kubernetes would not know is an
//! error that names the field, not something silently dropped.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_ignored::Path;
use serde_json::Value;

use super::Invalid;

pub(super) fn parse(template: Option<&Value>) -> Result<PodTemplateSpec, Invalid> {
    let Some(template) = template else { return Ok(PodTemplateSpec::default()) };
    let mut unknown = None;
    let mut note = |path: Path<'_>| {
        unknown.get_or_insert_with(|| in_words(&path));
    };
    let parsed: PodTemplateSpec =
        serde_path_to_error::deserialize(serde_ignored::Deserializer::new(template, &mut note))
            .map_err(|error| Invalid::new(within(&error.path().to_string()), error.inner().to_string()))?;
    if let Some(path) = unknown {
        return Err(Invalid::new(
            within(&path),
            "Kubernetes knows no such field in a pod template; correct or remove it (kubectl explain deployment.spec.template lists them)",
        ));
    }
    if let Some(path) = second_of_its_key(template, "") {
        return Err(Invalid::new(
            within(&path),
            "an earlier item of this list has the same key; write what belongs together as one item",
        ));
    }
    Ok(parsed)
}

/// The lists of a pod template whose items differ in these fields. To a second
/// item of the same key the API server's answer reads as a failure of its own.
const KEYED: [(&str, &[&str]); 11] = [
    ("claims", &["name"]),
    ("containers", &["name"]),
    ("env", &["name"]),
    ("hostAliases", &["ip"]),
    ("imagePullSecrets", &["name"]),
    ("initContainers", &["name"]),
    ("ports", &["containerPort", "protocol"]),
    ("topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    ("volumeDevices", &["devicePath"]),
    ("volumeMounts", &["mountPath"]),
    ("volumes", &["name"]),
];

/// The path of the first item of a list that has the key of an earlier one.
fn second_of_its_key(value: &Value, path: &str) -> Option<String> {
    match value {
        Value::Object(members) => members.iter().find_map(|(name, member)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let keys = KEYED.iter().find(|(list, _)| list == name).map(|(_, keys)| *keys);
            let second = keys.zip(member.as_array()).and_then(|(keys, items)| second_item(items, keys));
            second.map(|index| format!("{path}[{index}]")).or_else(|| second_of_its_key(member, &path))
        }),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| second_of_its_key(item, &format!("{path}[{index}]"))),
        _ => None,
    }
}

fn second_item(items: &[Value], keys: &[&str]) -> Option<usize> {
    let key = |item: &Value| -> Vec<Value> {
        let part = |name: &&str| match (item.get(name), *name) {
            // Kubernetes' own default.
            (None | Some(Value::Null), "protocol") => Value::from("TCP"),
            (part, _) => part.cloned().unwrap_or_default(),
        };
        keys.iter().map(part).collect()
    };
    let mut seen = HashSet::new();
    items.iter().position(|item| !seen.insert(key(item)))
}

/// The path of a field of the template, in the resource.
fn within(path: &str) -> String {
    match path {
        "" | "." => "spec.template".to_owned(),
        path => format!("spec.template.{path}"),
    }
}

fn in_words(path: &Path<'_>) -> String {
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", in_words(parent)),
        Path::Map { parent, key } => match in_words(parent) {
            parent if parent.is_empty() => key.clone(),
            parent => format!("{parent}.{key}"),
        },
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            in_words(parent)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_that_kubernetes_does_not_know_is_named() {
        let template = json!({ "spec": { "containers": [{ "name": "app", "imagee": "x" }] } });
        let error = parse(Some(&template)).unwrap_err();
        assert_eq!(error.field, "spec.template.spec.containers[0].imagee");
        assert_eq!(parse(Some(&json!({ "kind": "Pod" }))).unwrap_err().field, "spec.template.kind");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused_under_its_name() {
        let template = json!({ "spec": { "containers": [{ "name": "app", "tty": "yes" }] } });
        let error = parse(Some(&template)).unwrap_err();
        assert_eq!(error.field, "spec.template.spec.containers[0].tty");
        assert_eq!(error.problem, "invalid type: string \"yes\", expected a boolean");
        assert_eq!(parse(Some(&json!([]))).unwrap_err().field, "spec.template");
    }

    #[test]
    fn a_second_item_of_a_key_is_refused_and_not_merged() {
        let second = |spec: Value| parse(Some(&json!({ "spec": spec }))).err().map(|error| error.field);
        let containers = json!({ "containers": [{ "name": "app" }, { "name": "a" }, { "name": "app" }] });
        assert_eq!(second(containers).as_deref(), Some("spec.template.spec.containers[2]"));
        let ports = |ports| second(json!({ "containers": [{ "name": "a", "ports": ports }] }));
        let same = json!([{ "containerPort": 1 }, { "containerPort": 1, "protocol": "TCP" }]);
        assert_eq!(ports(same).as_deref(), Some("spec.template.spec.containers[0].ports[1]"));
        assert_eq!(ports(json!([{ "containerPort": 1 }, { "containerPort": 1, "protocol": "UDP" }])), None);
    }

    #[test]
    fn a_template_may_leave_out_what_is_generated() {
        let template = json!({ "spec": { "nodeSelector": { "disk": "ssd" } } });
        assert!(parse(Some(&template)).is_ok());
    }
}
