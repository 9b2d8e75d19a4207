//! Ports whose number somebody changed by hand. PURE.
//!
//! Server-side apply knows a port by its number: it would add the right one
//! beside the wrong one, and the API server refuses two of one name. A strategic
//! merge patch can replace the list.

use serde_json::{Value, json};

use crate::operator::error::ChildError;

/// Whether the API server refused two entries of a list that must differ.
pub(super) fn is_duplicate(refused: &ChildError) -> bool {
    let Some(kube::Error::Api(status)) = refused.source_error() else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.map(|cause| cause.reason.as_str()).any(|reason| reason == "FieldValueDuplicate")
}

/// The strategic merge patch that puts the ports of `desired` in the place of
/// all others: of a Service, or of the containers in a pod template. `None`
/// where there are no ports.
pub(super) fn replacement(desired: &Value) -> Option<Value> {
    let metadata = json!({ "uid": desired["metadata"]["uid"] });
    if let Some(ports) = desired["spec"]["ports"].as_array() {
        return Some(json!({ "metadata": metadata, "spec": { "ports": replaced(ports) } }));
    }
    let containers: Vec<Value> = desired["spec"]["template"]["spec"]["containers"]
        .as_array()?
        .iter()
        .filter_map(|container| {
            let ports = container["ports"].as_array()?;
            Some(json!({ "name": container["name"], "ports": replaced(ports) }))
        })
        .collect();
    (!containers.is_empty()).then(
        || json!({ "metadata": metadata, "spec": { "template": { "spec": { "containers": containers } } } }),
    )
}

fn replaced(ports: &[Value]) -> Vec<Value> {
    std::iter::once(json!({ "$patch": "replace" })).chain(ports.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_of_a_service_replace_all_others() {
        let service = json!({ "metadata": { "uid": "u", "name": "shop" }, "spec": { "type": "ClusterIP", "ports": [{ "port": 80 }] } });
        let expected = json!({ "metadata": { "uid": "u" }, "spec": { "ports": [{ "$patch": "replace" }, { "port": 80 }] } });
        assert_eq!(replacement(&service), Some(expected));
    }

    #[test]
    fn of_a_pod_template_only_the_ports_are_replaced() {
        let containers =
            json!([{ "name": "app", "image": "i", "ports": [{ "containerPort": 80 }] }, { "name": "b" }]);
        let deployment = json!({ "metadata": { "uid": "u" }, "spec": { "template": { "spec": { "containers": containers } } } });
        let patch = replacement(&deployment).unwrap();
        assert_eq!(
            patch["spec"]["template"]["spec"]["containers"],
            json!([{ "name": "app", "ports": [{ "$patch": "replace" }, { "containerPort": 80 }] }])
        );
    }

    #[test]
    fn where_there_are_no_ports_there_is_nothing_to_replace() {
        assert_eq!(replacement(&json!({ "metadata": {}, "data": { "a": "b" } })), None);
    }
}
