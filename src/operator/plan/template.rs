//! Reads the user's pod template strictly: what Kubernetes would not know is an
//! error that names the field, not something silently dropped.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use super::Invalid;

pub(super) fn parse(template: Option<&Value>) -> Result<PodTemplateSpec, Invalid> {
    let Some(template) = template else { return Ok(PodTemplateSpec::default()) };
    let mut unknown = None;
    let parsed: PodTemplateSpec = serde_ignored::deserialize(template, |path| {
        unknown.get_or_insert_with(|| path.to_string().replace(".?", ""));
    })
    .map_err(|error| Invalid::new("spec.template", format!("is not a pod template: {error}")))?;
    if let Some(path) = unknown {
        return Err(Invalid::new(
            format!("spec.template.{path}"),
            "Kubernetes knows no such field in a pod template; correct or remove it (kubectl explain deployment.spec.template lists them)",
        ));
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_that_kubernetes_does_not_know_is_named() {
        let template = json!({ "spec": { "containers": [{ "name": "app", "imagee": "x" }] } });
        let error = parse(Some(&template)).unwrap_err();
        assert_eq!(error.field, "spec.template.spec.containers.0.imagee");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused() {
        let template = json!({ "spec": { "hostNetwork": "yes" } });
        assert!(parse(Some(&template)).unwrap_err().problem.contains("boolean"));
    }

    #[test]
    fn a_template_may_leave_out_what_is_generated() {
        let template = json!({ "spec": { "nodeSelector": { "disk": "ssd" } } });
        assert!(parse(Some(&template)).is_ok());
    }
}
