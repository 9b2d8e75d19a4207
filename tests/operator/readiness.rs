//! What a replica says of itself before it leads.

use std::time::Duration;

use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, PostParams};

use crate::sandbox;

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn without_rights_on_the_lease_no_replica_is_ready_and_says_why() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let bindings = sandbox.api::<RoleBinding>();
    let name = "cachedservice-operator-leader-election";
    let mut binding = bindings.get(name).await.unwrap();
    bindings.delete(name, &DeleteParams::default()).await.unwrap();
    let operators = ["first", "second"].map(|identity| installation.start(identity));
    for operator in &operators {
        let lease = format!("the Lease {}/cachedservice-operator is out of reach", sandbox.namespace);
        let answer = operator.until_readyz(LIMIT, &lease).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.contains("is forbidden") && answer.contains("grant this service account"), "{answer}");
    }

    binding.metadata.resource_version = None;
    binding.metadata.uid = None;
    bindings.create(&PostParams::default(), &binding).await.unwrap();
    for operator in &operators {
        let answer = operator.until_readyz(LIMIT, "\r\n\r\nready: ").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}
