//! Pods where the Pod Security Standard `restricted` is enforced.

use cachedservice::{
    api::CachedService,
    operator::{children::children, plan::plan},
};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use kube::api::{ObjectMeta, PostParams};
use serde_json::Value;

use crate::{pure, sandbox, support::Sandbox};

#[tokio::test]
async fn the_pods_of_every_example_are_admitted_where_restricted_is_enforced() {
    let sandbox = sandbox().await;
    sandbox.kubectl(&[
        "label",
        "--overwrite",
        "namespace",
        &sandbox.namespace,
        "pod-security.kubernetes.io/enforce=restricted",
    ]);
    let mut examples = 0;
    for file in std::fs::read_dir("examples").unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for document in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            if document["kind"] != "CachedService" {
                continue;
            }
            examples += 1;
            for template in pod_templates(&sandbox, document) {
                if let Err(refusal) = admit(&sandbox, template).await {
                    panic!("{}: {refusal}", path.display());
                }
            }
        }
    }
    assert!(examples >= 8, "{examples} examples");

    // That it is enforced shows where the application may run as root.
    let service = serde_json::json!({
        "apiVersion": "cachedservice.dev/v1alpha1", "kind": "CachedService",
        "metadata": { "name": "shop" }, "spec": { "image": "example.com/shop:1" },
    });
    let app = pod_templates(&sandbox, service).remove(0);
    let refusal = admit(&sandbox, app).await.unwrap_err();
    assert!(refusal.contains("runAsNonRoot"), "{refusal}");
}

/// Of the application, and of Redis where there is one.
fn pod_templates(sandbox: &Sandbox, document: Value) -> Vec<PodTemplateSpec> {
    let mut service: CachedService = serde_json::from_value(document).unwrap();
    service.metadata.namespace = Some(sandbox.namespace.clone());
    service.metadata.uid = Some("0-1".to_owned());
    let children = children(&plan(&service, &pure::nothing(), &pure::defaults()).unwrap());
    let redis = children.stateful_set.map(|set| set.spec.template);
    std::iter::once(children.deployment.spec.template).chain(redis).collect()
}

/// Asks whether such a pod could be created.
async fn admit(sandbox: &Sandbox, mut template: PodTemplateSpec) -> Result<(), String> {
    // Nobody has made the account.
    let spec = template.spec.get_or_insert_default();
    (spec.service_account, spec.service_account_name) = (None, None);
    let metadata = ObjectMeta { generate_name: Some("pod-".to_owned()), ..template.metadata.unwrap() };
    let pod = Pod { metadata, spec: template.spec, status: None };
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    match sandbox.api::<Pod>().create(&dry_run, &pod).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(refusal)) => Err(refusal.message.clone()),
        Err(error) => panic!("{error}"),
    }
}
