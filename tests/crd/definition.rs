//! The definition of the resource: generated, documented, and small enough.

use std::{fs, path::Path, process::Command, time::Duration};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, ResourceExt};
use serde_json::Value;

use crate::{sandbox, support::until, walk};

const GENERATED: &str = "crds/cachedservices.cachedservice.dev.yaml";
const NAME: &str = "cachedservices.cachedservice.dev";

fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

#[test]
fn the_generated_files_are_what_the_operator_prints() {
    let print = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cachedservice-operator"));
        let output = command.arg("crd").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let kinds = ["cachedservices", "cachepurges"];
    for kind in kinds {
        let name = format!("{kind}.cachedservice.dev.yaml");
        for path in [format!("crds/{name}"), format!("charts/cachedservice-operator/files/{name}")] {
            assert!(file(&path) == print(&[kind]), "{path} is out of date: run make generate");
        }
    }
    assert_eq!(print(&[]), kinds.map(|kind| print(&[kind])).join("---\n"));
}

#[test]
fn every_field_is_described() {
    walk(&mut |path, schema| {
        if is_field(path) {
            let description = schema["description"].as_str().unwrap_or_default();
            assert!(description.len() > 10, "{path} is not described");
            assert!(description.ends_with('.') || description.ends_with(".\n"), "{path}: {description}");
        }
    });
}

#[test]
fn a_description_names_the_default_or_what_happens_without_a_value() {
    let required = [
        "spec.image",
        "spec.httpRoute.parentRefs",
        "spec.redis.external.urlSecretRef",
        "spec.redis.external.urlSecretRef.name",
    ];
    walk(&mut |path, schema| {
        if !is_field(path) || !path.starts_with("spec.") || required.contains(&path) {
            return;
        }
        let description = schema["description"].as_str().unwrap_or_default().replace('\n', " ");
        let named = match &schema["default"] {
            Value::Null => ["Unset", "Default", "equired by"].iter().any(|word| description.contains(word)),
            Value::String(text) => description.contains(&format!("Default `{text}`")),
            // What a group defaults to stands at its fields.
            Value::Object(_) => true,
            plain => description.contains(&format!("Default {plain}")),
        };
        assert!(named, "{path} has the default {} and says: {description}", schema["default"]);
    });
}

#[test]
fn a_description_names_the_unit() {
    let mut durations = 0;
    walk(&mut |path, schema| {
        let description = schema["description"].as_str().unwrap_or_default();
        let rules = schema["x-kubernetes-validations"].to_string();
        if path.ends_with("Utilization") {
            assert!(description.contains("percent"), "{path}: {description}");
        }
        if rules.contains("write a duration") {
            durations += 1;
            assert!(description.contains("duration"), "{path}: {description}");
        }
    });
    assert!(durations >= 3);
}

fn is_field(path: &str) -> bool {
    !path.is_empty() && !path.ends_with("[]") && !path.ends_with("{}") && path != "metadata"
}

#[tokio::test]
async fn kubectl_explain_reads_like_documentation() {
    let sandbox = sandbox().await;
    // The API server publishes what a definition says some moments after it serves the kind, and
    // takes it back for as long as the definition is being changed.
    let explain = async |arguments: &[&str]| {
        let arguments = [&["explain"], arguments].concat();
        until(Duration::from_secs(30), async || sandbox.try_kubectl(&arguments)).await
    };
    let all = explain(&["cachedservice", "--recursive"]).await;
    for field in ["evictionPolicy\t<string>", "targetCPUUtilization\t<integer>", "urlSecretRef\t<Object>"] {
        assert!(all.contains(field), "{field} is missing in\n{all}");
    }
    let one = explain(&["cachedservice.spec.redis.evictionPolicy"]).await;
    assert!(one.contains("Default `allkeys-lfu`") && one.contains("ENUM:\n    noeviction\n"), "{one}");
}

#[tokio::test]
async fn a_client_side_apply_has_room_for_the_definition() {
    let sandbox = sandbox().await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(GENERATED);
    let apply = || sandbox.kubectl(&["apply", "--filename", path.to_str().unwrap()]);
    apply();
    assert!(apply().contains("unchanged"));
    let crds: Api<CustomResourceDefinition> = Api::all(sandbox.client.clone());
    let crd = crds.get(NAME).await.unwrap();
    let annotations: usize = crd.annotations().iter().map(|(key, value)| key.len() + value.len()).sum();
    // The API server takes 256 KiB; half of it is to be left for what is to come.
    assert!(annotations > 10_000 && annotations < 128 * 1024, "{annotations} bytes");
}
