//! The chart on a real cluster.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use k8s_openapi::{
    api::apps::v1::Deployment,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::Api;

use crate::{
    demo, sandbox,
    support::{CHART, Cluster, OPERATOR, OPERATOR_NAMESPACE, until},
};

const CRD: &str = "cachedservices.cachedservice.dev";

#[tokio::test]
async fn an_upgrade_renews_the_crd_and_an_uninstall_keeps_it_and_what_runs() {
    let sandbox = sandbox().await;
    let _put_back = PutBack(sandbox.cluster);
    sandbox.apply("shop", demo()).await;
    sandbox.until_ready("shop").await;
    let crds: Api<CustomResourceDefinition> = Api::all(sandbox.client.clone());
    let columns = async || {
        let crd = crds.get(CRD).await.unwrap();
        crd.spec.versions[0].additional_printer_columns.iter().flatten().count()
    };
    let all = columns().await;

    sandbox.cluster.helm(&["upgrade", OPERATOR, &older_chart()]);
    assert_eq!(columns().await, all - 1);
    sandbox.cluster.helm(&["upgrade", OPERATOR, CHART]);
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

/// A copy of the chart whose CRD lacks a column, below the target directory.
fn older_chart() -> String {
    const COLUMN: &str = "    - jsonPath: .metadata.creationTimestamp\n      name: Age\n      type: date\n";
    let chart = Path::new(env!("CARGO_TARGET_TMPDIR")).join("older-chart");
    // What an earlier run left.
    let _ = fs::remove_dir_all(&chart);
    let copied = Command::new("cp").arg("-r").args([Path::new(CHART), &chart]).status().unwrap();
    assert!(copied.success());
    let path = chart.join(format!("files/{CRD}.yaml"));
    let crd = fs::read_to_string(&path).unwrap();
    assert!(crd.contains(COLUMN));
    fs::write(&path, crd.replace(COLUMN, "")).unwrap();
    chart.to_str().unwrap().to_owned()
}

/// Installs the operator again where the test ends half-way: the others need it.
struct PutBack(&'static Cluster);

impl Drop for PutBack {
    fn drop(&mut self) {
        if thread::panicking() {
            // A second panic would end the whole process, and hide the first.
            let install = || self.0.helm(&["upgrade", "--install", OPERATOR, CHART, "--force-conflicts"]);
            let _ = catch_unwind(AssertUnwindSafe(install));
        }
    }
}
