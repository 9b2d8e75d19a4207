//! What one CachedService becomes.

use k8s_openapi::api::apps::v1::Deployment;

use crate::sandbox;

#[tokio::test]
async fn the_minimal_example_becomes_ready_with_all_children() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    sandbox.apply_example("minimal").await;
    sandbox.until_ready("shop").await;

    let deployment = sandbox.api::<Deployment>().get("shop").await.unwrap();
    assert_eq!(deployment.spec.replicas, Some(2));
}
