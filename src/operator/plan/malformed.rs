//! Mistakes in the parts of a spec that are of Kubernetes' own types, to which
//! the API server answers as if it had failed itself, and without a path.

use std::collections::HashSet;

use serde_json::Value;

use super::{Invalid, quantity::is_quantity};

/// The lists whose items differ in these fields.
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
/// The maps whose values are quantities.
const QUANTITIES: [&str; 3] = ["limits", "overhead", "requests"];
/// The fields that are quantities.
const QUANTITY: [&str; 4] = ["averageValue", "divisor", "sizeLimit", "tolerance"];
/// The maps in which any name may stand for anything.
const FREE: [&str; 6] =
    ["annotations", "labels", "matchLabels", "nodeSelector", "options", "volumeAttributes"];

/// # Errors
/// The first mistake below `path`.
pub(super) fn check(path: &str, value: &Value) -> Result<(), Invalid> {
    match value {
        Value::Object(members) => {
            members.iter().try_for_each(|(name, member)| check_member(path, name, member))
        }
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(at, item)| check(&format!("{path}[{at}]"), item))
        }
        _ => Ok(()),
    }
}

/// # Errors
/// The first mistake in the field `name` of `parent`.
pub(super) fn check_member(parent: &str, name: &str, value: &Value) -> Result<(), Invalid> {
    let path = format!("{parent}.{name}");
    match value {
        Value::Object(_) if FREE.contains(&name) => return Ok(()),
        Value::Object(members) if QUANTITIES.contains(&name) => {
            return members
                .iter()
                .try_for_each(|(name, value)| check_quantity(&format!("{path}.{name}"), value));
        }
        Value::Array(items) => {
            let keys = KEYED.iter().find(|(list, _)| *list == name).map(|(_, keys)| *keys);
            if let Some(at) = keys.and_then(|keys| second_of_its_key(items, keys)) {
                return Err(Invalid::new(
                    format!("{path}[{at}]"),
                    "an earlier item of this list has the same key; write what belongs together as one item",
                ));
            }
        }
        // A policy of the autoscaler has a value too, and that is a number.
        _ if QUANTITY.contains(&name) || (name == "value" && parent.ends_with(".target")) => {
            return check_quantity(&path, value);
        }
        _ => {}
    }
    check(&path, value)
}

fn second_of_its_key(items: &[Value], keys: &[&str]) -> Option<usize> {
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

fn check_quantity(path: &str, value: &Value) -> Result<(), Invalid> {
    match value {
        Value::String(text) if !is_quantity(text) => Err(Invalid::new(
            path,
            format!("{text:?} is not a quantity; write one such as 250m, 2, 512Mi or 1Gi"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn wrong(value: &Value) -> String {
        check("t", value).unwrap_err().field
    }

    #[test]
    fn a_second_item_of_a_key_is_refused_and_not_merged() {
        let containers =
            json!({ "spec": { "containers": [{ "name": "app" }, { "name": "a" }, { "name": "app" }] } });
        assert_eq!(wrong(&containers), "t.spec.containers[2]");
        let ports = |ports: Value| json!({ "containers": [{ "name": "a", "ports": ports }] });
        let same = ports(json!([{ "containerPort": 1 }, { "containerPort": 1, "protocol": "TCP" }]));
        assert_eq!(wrong(&same), "t.containers[0].ports[1]");
        let other = ports(json!([{ "containerPort": 1 }, { "containerPort": 1, "protocol": "UDP" }]));
        assert!(check("t", &other).is_ok());
    }

    #[test]
    fn a_quantity_that_is_none_is_named() {
        let resources =
            |memory: &str| json!({ "containers": [{ "resources": { "limits": { "memory": memory } } }] });
        assert_eq!(wrong(&resources("512MB")), "t.containers[0].resources.limits.memory");
        assert!(check("t", &resources("512M")).is_ok());
        assert_eq!(
            wrong(&json!({ "volumes": [{ "emptyDir": { "sizeLimit": "1GB" } }] })),
            "t.volumes[0].emptyDir.sizeLimit"
        );
        assert_eq!(
            wrong(&json!([{ "pods": { "target": { "averageValue": "30/s" } } }])),
            "t[0].pods.target.averageValue"
        );
        assert_eq!(wrong(&json!([{ "object": { "target": { "value": "x" } } }])), "t[0].object.target.value");
    }

    #[test]
    fn what_only_has_the_name_of_a_quantity_is_left_alone() {
        for free in [
            json!({ "metadata": { "labels": { "sizeLimit": "none" }, "annotations": { "divisor": "x" } } }),
            json!({ "env": [{ "name": "A", "value": "x" }] }),
            json!({ "policies": [{ "type": "Pods", "value": 4 }] }),
        ] {
            assert_eq!(check("t", &free), Ok(()), "{free}");
        }
    }
}
