//! What users start from: the examples and the manifests in the documents.

use std::{collections::BTreeSet, fs, path::PathBuf};

use http::Request;
use kube::{
    Api,
    core::{DynamicObject, GroupVersionKind, TypeMeta},
    discovery::ApiResource,
};
use serde_json::{Value, json};

use crate::{manifest, sandbox, support::Sandbox};

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

/// Asks whether it could be created as it stands, with nothing in it that is not known.
async fn ask(sandbox: &Sandbox, document: &Value) -> Result<(), String> {
    let types: TypeMeta = serde_json::from_value(document.clone()).unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(types).unwrap());
    let api: Api<DynamicObject> = Api::namespaced_with(sandbox.client.clone(), &sandbox.namespace, &resource);
    let url = format!("{}?dryRun=All&fieldValidation=Strict", api.resource_url());
    let request = Request::post(url).body(serde_json::to_vec(document).unwrap()).unwrap();
    let answer = sandbox.client.request::<DynamicObject>(request).await;
    answer.map(drop).map_err(|error| error.to_string())
}

#[tokio::test]
async fn every_example_is_accepted_as_it_stands() {
    let sandbox = sandbox().await;
    let mut shown = BTreeSet::new();
    for path in files("examples", "yaml") {
        for document in serde_saphyr::from_multiple::<Value>(&fs::read_to_string(&path).unwrap()).unwrap() {
            if let Err(refusal) = ask(&sandbox, &document).await {
                panic!("{}: {refusal}", path.display());
            }
            let parts = [
                "/spec/cache/http/rules",
                "/spec/cache/application/rules",
                "/spec/balancing",
                "/spec/serviceName",
                "/spec/template",
            ];
            shown.extend(parts.into_iter().filter(|part| document.pointer(part).is_some()));
        }
    }
    assert_eq!(shown.len(), 5, "the examples only show {shown:?}");
}

#[tokio::test]
async fn every_manifest_in_the_documents_is_accepted() {
    let sandbox = sandbox().await;
    let mut kinds = Vec::new();
    for path in files(".", "md").into_iter().chain(files("docs", "md")) {
        let text = fs::read_to_string(&path).unwrap();
        let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
        for mut document in blocks.flat_map(|block| serde_saphyr::from_multiple::<Value>(block).unwrap()) {
            // Shown from `spec` on, as what a user adds.
            if document["kind"].is_null() && document["spec"].is_object() {
                let mut spec = json!({ "image": "example.com/shop:1" });
                spec.as_object_mut().unwrap().extend(document["spec"].as_object().unwrap().clone());
                document = manifest("shop", &spec);
            }
            let Some(kind) = document["kind"].as_str().filter(|kind| kind.starts_with("Cache")) else {
                continue;
            };
            kinds.push(kind.to_owned());
            if let Err(refusal) = ask(&sandbox, &document).await {
                panic!("{}: {refusal} in\n{document:#}", path.display());
            }
        }
    }
    assert!(kinds.len() >= 7 && kinds.contains(&"CachePurge".to_owned()), "{kinds:?}");
}
