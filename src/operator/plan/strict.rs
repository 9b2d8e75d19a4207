//! Reads what the schema does not know strictly: what Kubernetes would not know is
//! an error that names the field, not something silently dropped.

use serde::de::DeserializeOwned;
use serde_ignored::Path;
use serde_json::Value;

use super::{Invalid, malformed};

/// The field `name` of `parent`. `explained` is what `kubectl explain` calls its kind.
///
/// # Errors
/// The first field in it that is unknown, of another type or malformed.
pub(super) fn parse<T: DeserializeOwned>(
    parent: &str,
    name: &str,
    written: &Value,
    explained: &str,
) -> Result<T, Invalid> {
    let field = format!("{parent}.{name}");
    let mut unknown = None;
    let mut note = |path: Path<'_>| {
        unknown.get_or_insert_with(|| in_words(&path));
    };
    let parsed = serde_path_to_error::deserialize(serde_ignored::Deserializer::new(written, &mut note))
        .map_err(|error| {
            Invalid::new(within(&field, &error.path().to_string()), error.inner().to_string())
        })?;
    if let Some(path) = unknown {
        let problem = format!(
            "Kubernetes knows no such field here; correct or remove it (kubectl explain {explained} lists them)"
        );
        return Err(Invalid::new(within(&field, &path), problem));
    }
    malformed::check_member(parent, name, written)?;
    Ok(parsed)
}

/// The path of a part of a field, in the resource.
fn within(field: &str, path: &str) -> String {
    match path {
        "" | "." => field.to_owned(),
        path if path.starts_with('[') => format!("{field}{path}"),
        path => format!("{field}.{path}"),
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
    use k8s_openapi::api::core::v1::{PodTemplateSpec, TopologySpreadConstraint};
    use serde_json::json;

    use super::*;

    fn template(written: &Value) -> Result<PodTemplateSpec, Invalid> {
        parse("spec", "template", written, "deployment.spec.template")
    }

    #[test]
    fn a_field_that_kubernetes_does_not_know_is_named() {
        let written = json!({ "spec": { "containers": [{ "name": "app", "imagee": "x" }] } });
        let error = template(&written).unwrap_err();
        assert_eq!(error.field, "spec.template.spec.containers[0].imagee");
        assert_eq!(template(&json!({ "kind": "Pod" })).unwrap_err().field, "spec.template.kind");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused_under_its_name() {
        let written = json!({ "spec": { "containers": [{ "name": "app", "tty": "yes" }] } });
        let error = template(&written).unwrap_err();
        assert_eq!(error.field, "spec.template.spec.containers[0].tty");
        assert_eq!(error.problem, "invalid type: string \"yes\", expected a boolean");
        assert_eq!(template(&json!([])).unwrap_err().field, "spec.template");
    }

    #[test]
    fn a_template_may_leave_out_what_is_generated() {
        assert!(template(&json!({ "spec": { "nodeSelector": { "disk": "ssd" } } })).is_ok());
    }

    #[test]
    fn an_item_of_a_list_is_named_by_its_place() {
        let constraints = |written: &Value| {
            let name = "topologySpreadConstraints";
            parse::<Vec<TopologySpreadConstraint>>("spec", name, written, "pod.spec").unwrap_err().field
        };
        let good = json!({ "topologyKey": "rack", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway" });
        let unknown = json!([good, { "topologykey": "rack" }]);
        assert_eq!(constraints(&unknown), "spec.topologySpreadConstraints[1].topologykey");
        assert_eq!(constraints(&json!([{ "maxSkew": "1" }])), "spec.topologySpreadConstraints[0].maxSkew");
        assert_eq!(constraints(&json!([good, good])), "spec.topologySpreadConstraints[1]");
    }
}
