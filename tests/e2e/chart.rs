//! The chart on a real cluster.

use std::time::Duration;

use k8s_openapi::{
    api::apps::v1::Deployment,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    demo, sandbox,
    support::{CHART, OPERATOR, OPERATOR_NAMESPACE, until},
};

const CRD: &str = "cachedservices.cachedservice.dev";

#[tokio::test]
async fn an_upgrade_renews_the_crd_and_an_uninstall_keeps_it_and_what_runs() {
    let sandbox = sandbox().await;
    sandbox.apply("shop", demo()).await;
    sandbox.until_ready("shop").await;
    let crds: Api<CustomResourceDefinition> = Api::all(sandbox.client.clone());
    let columns = async || {
        let crd = crds.get(CRD).await.unwrap();
        crd.spec.versions[0].additional_printer_columns.iter().flatten().count()
    };
    let all = columns().await;

    // The CRD of an older chart: one column less.
    let remove = json!([{ "op": "remove", "path": "/spec/versions/0/additionalPrinterColumns/0" }]);
    let patch: Patch<()> = Patch::Json(serde_json::from_value(remove).unwrap());
    let helms = PatchParams { field_manager: Some("helm".to_owned()), ..PatchParams::default() };
    crds.patch(CRD, &helms, &patch).await.unwrap();
    assert_eq!(columns().await, all - 1);
    sandbox.cluster.helm(&["upgrade", OPERATOR, CHART, "--force-conflicts", "--server-side=true"]);
    assert_eq!(columns().await, all);

    sandbox.cluster.helm(&["uninstall", OPERATOR, "--wait"]);
    assert_eq!(columns().await, all);
    let status = sandbox.service("shop").await.status.unwrap();
    assert_eq!(status.ready_replicas, 2);

    sandbox.cluster.helm(&["upgrade", "--install", OPERATOR, CHART]);
    let operator: Api<Deployment> = Api::namespaced(sandbox.client.clone(), OPERATOR_NAMESPACE);
    until(Duration::from_secs(60), async || {
        let status = operator.get(OPERATOR).await.unwrap().status.unwrap_or_default();
        let ready = status.ready_replicas.unwrap_or_default();
        if ready == 2 { Ok(()) } else { Err(format!("{ready} of 2 ready")) }
    })
    .await;
    sandbox.until_ready("shop").await;
}
