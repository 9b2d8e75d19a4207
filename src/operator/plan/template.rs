//! Reads the user's pod template strictly: what Kubernetes would not know is an
//! error that names the field, not something silently dropped.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_ignored::Path;
use serde_json::Value;

use super::{Invalid, malformed};

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
    malformed::check("spec.template", template)?;
    Ok(parsed)
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
    fn a_template_may_leave_out_what_is_generated() {
        let template = json!({ "spec": { "nodeSelector": { "disk": "ssd" } } });
        assert!(parse(Some(&template)).is_ok());
    }
}
