//! Ports whose number somebody changed by hand. PURE.
//!
//! Server-side apply knows a port by its number: it would add the right one
//! beside the wrong one, and the API server refuses two of one name. Nor can it
//! remove what another wrote. So an ordinary patch puts ours in the place of
//! those that bear one of our names, and leaves all others as they are. (To
//! remove the wrong ones alone will not do: a Service without any port is
//! refused, and a pod template without ours would begin a rollout.)
//!
//! That patch makes its manager a second owner of our ports, by which they would
//! stay when the spec drops them. So its entry goes from the managed fields, and
//! apply owns them alone. A later reconcile sees an entry that was left.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::{api::PatchParams, core::DynamicObject};
use serde_json::{Value, json};

use crate::{api::names::FIELD_MANAGER, operator::error::ChildError};

/// Whether the API server refused two entries of a list that must differ.
pub(super) fn is_duplicate(refused: &ChildError) -> bool {
    let Some(kube::Error::Api(status)) = refused.source_error() else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.map(|cause| cause.reason.as_str()).any(|reason| reason == "FieldValueDuplicate")
}

/// The JSON merge patch that puts the ports of `desired` in the place of those
/// of `live` that have their names and other numbers: in a Service, or in the
/// containers of a pod template. `None` where there are no such ports.
///
/// It holds only for the version that was read: lists are written whole.
pub(super) fn correction(desired: &Value, live: &DynamicObject) -> Option<Value> {
    let spec = if let Some(ours) = desired["spec"]["ports"].as_array() {
        json!({ "ports": corrected(ours, &live.data["spec"]["ports"], "port")? })
    } else {
        let containers = "/spec/template/spec/containers";
        let ours = desired.pointer(containers)?.as_array()?;
        let mut theirs = live.data.pointer(containers)?.as_array()?.clone();
        let mut any = false;
        for container in &mut theirs {
            let ports = ours
                .iter()
                .find(|our| our["name"] == container["name"])
                .and_then(|our| our["ports"].as_array())
                .and_then(|ours| corrected(ours, &container["ports"], "containerPort"));
            if let Some(ports) = ports {
                container["ports"] = Value::Array(ports);
                any = true;
            }
        }
        any.then(|| json!({ "template": { "spec": { "containers": theirs } } }))?
    };
    let version =
        json!({ "uid": desired["metadata"]["uid"], "resourceVersion": live.metadata.resource_version });
    Some(json!({ "metadata": version, "spec": spec }))
}

/// The list with ours in their places; `None` if none is misplaced.
fn corrected(ours: &[Value], live: &Value, key: &str) -> Option<Vec<Value>> {
    let place = |port: &Value| {
        // What the API server fills in.
        (port[key].as_i64(), port["protocol"].as_str().unwrap_or("TCP").to_owned())
    };
    // The one of ours whose name a port bears at another place.
    let meant = |port: &Value| {
        ours.iter()
            .find(|our| !our["name"].is_null() && our["name"] == port["name"] && place(our) != place(port))
    };
    let live = live.as_array()?;
    let (misplaced, kept): (Vec<_>, Vec<_>) = live.iter().partition(|port| meant(port).is_some());
    if misplaced.is_empty() {
        return None;
    }
    let is_kept = |our: &Value| kept.iter().any(|port| place(port) == place(our));
    let corrected = live.iter().filter_map(|port| match meant(port) {
        None => Some(port),
        // Where our number is there under another name, apply gives it the right one.
        Some(our) => (!is_kept(our)).then_some(our),
    });
    Some(corrected.cloned().collect())
}

/// How such a patch is sent: under our name, so that its entry is found again.
pub(super) fn parameters() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

/// Whether the managed fields have an entry of such a patch.
pub(super) fn are_owned_twice(live: &ObjectMeta) -> bool {
    live.managed_fields.iter().flatten().any(is_of_a_patch)
}

/// The JSON merge patch that takes the entry of such a patch from the managed
/// fields of `live`, if that is the object that `desired` is for; `None` if there is none.
pub(super) fn disowning(desired: &Value, live: &ObjectMeta) -> Option<Value> {
    let entries = live.managed_fields.as_ref()?;
    let (patches, others): (Vec<_>, Vec<_>) = entries.iter().partition(|entry| is_of_a_patch(entry));
    // An empty list would be taken for one that was left out.
    (!patches.is_empty() && !others.is_empty()).then(|| {
        json!({ "metadata": {
            "uid": desired["metadata"]["uid"],
            "resourceVersion": live.resource_version,
            "managedFields": others,
        } })
    })
}

fn is_of_a_patch(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(FIELD_MANAGER)
        && entry.operation.as_deref() == Some("Update")
        && entry.subresource.as_deref().unwrap_or_default().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(mut data: Value) -> DynamicObject {
        data["metadata"] = json!({ "name": "shop", "uid": "u", "resourceVersion": "7" });
        serde_json::from_value(data).unwrap()
    }

    fn service(ports: &Value) -> DynamicObject {
        object(json!({ "spec": { "ports": ports, "clusterIP": "10.0.0.1" } }))
    }

    fn desired(ports: &Value) -> Value {
        json!({ "metadata": { "uid": "u" }, "spec": { "type": "ClusterIP", "ports": ports } })
    }

    #[test]
    fn the_port_that_bears_our_name_is_replaced_and_all_others_stay() {
        let http = json!({ "name": "http", "port": 80, "protocol": "TCP" });
        let metrics = json!({ "name": "metrics", "port": 9090, "protocol": "TCP", "nodePort": 30000 });
        let dns = json!({ "name": "dns", "port": 81, "protocol": "UDP" });
        let live = service(&json!([{ "name": "http", "port": 81, "protocol": "TCP" }, metrics, dns]));
        let expected = json!({
            "metadata": { "uid": "u", "resourceVersion": "7" },
            "spec": { "ports": [http, metrics, dns] },
        });
        assert_eq!(correction(&desired(&json!([http])), &live), Some(expected));
    }

    #[test]
    fn our_number_under_another_name_is_kept_for_the_apply_to_name() {
        let live = json!([{ "name": "web", "port": 80 }, { "name": "http", "port": 81 }]);
        let patch = correction(&desired(&json!([{ "name": "http", "port": 80 }])), &service(&live)).unwrap();
        assert_eq!(patch["spec"]["ports"], json!([{ "name": "web", "port": 80 }]));
    }

    #[test]
    fn two_of_ours_that_changed_their_numbers_with_each_other_change_back() {
        let ours = json!([{ "name": "a", "port": 1 }, { "name": "b", "port": 2 }]);
        let live = json!([{ "name": "b", "port": 1 }, { "name": "a", "port": 2 }]);
        let patch = correction(&desired(&ours), &service(&live)).unwrap();
        assert_eq!(patch["spec"]["ports"], json!([{ "name": "b", "port": 2 }, { "name": "a", "port": 1 }]));
    }

    #[test]
    fn of_a_pod_template_only_the_ports_are_changed() {
        let template =
            |containers: Value| json!({ "spec": { "template": { "spec": { "containers": containers } } } });
        let mut desired = template(
            json!([{ "name": "app", "image": "i", "ports": [{ "name": "http", "containerPort": 80 }] }]),
        );
        desired["metadata"] = json!({ "uid": "u" });
        let mesh = json!({ "name": "mesh", "ports": [{ "name": "http", "containerPort": 1 }] });
        let app = |port: u16| json!({ "name": "app", "image": "other", "ports": [{ "name": "http", "containerPort": port }] });
        let live = object(template(json!([mesh, app(81)])));
        let patch = correction(&desired, &live).unwrap();
        assert_eq!(patch["spec"]["template"]["spec"]["containers"], json!([mesh, app(80)]));
    }

    #[test]
    fn where_no_port_is_misplaced_there_is_nothing_to_correct() {
        let ours = json!([{ "name": "http", "port": 80 }]);
        assert_eq!(
            correction(
                &desired(&ours),
                &service(&json!([{ "name": "http", "port": 80, "protocol": "TCP" }]))
            ),
            None
        );
        assert_eq!(correction(&json!({ "metadata": {}, "data": { "a": "b" } }), &service(&json!([]))), None);
    }

    #[test]
    fn only_the_entry_of_our_ordinary_patches_leaves_the_managed_fields() {
        let entry = |manager: &str, operation: &str| json!({ "manager": manager, "operation": operation });
        let meta = |entries: Value| -> ObjectMeta {
            serde_json::from_value(json!({ "uid": "u", "resourceVersion": "7", "managedFields": entries }))
                .unwrap()
        };
        let (ours, theirs) = (entry(FIELD_MANAGER, "Apply"), entry("kubectl-edit", "Update"));
        let desired = json!({ "metadata": { "uid": "u" } });
        let left = meta(json!([ours, entry(FIELD_MANAGER, "Update"), theirs]));
        assert!(are_owned_twice(&left));
        let patch = disowning(&desired, &left).unwrap();
        assert_eq!(patch["metadata"]["managedFields"], json!([ours, theirs]));
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        let fine = meta(json!([ours, theirs]));
        assert!(!are_owned_twice(&fine));
        assert_eq!(disowning(&desired, &fine), None);
    }
}
