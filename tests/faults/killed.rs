//! SIGKILL at any moment.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt, api::ListParams};
use rand::RngExt;
use serde_json::{Value, json};

use crate::{
    sandbox,
    support::{
        ReplicaHistory,
        child::{CHILDREN, DEPLOYMENT},
    },
};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const ROUNDS: usize = 6;

fn spec(round: usize) -> Value {
    json!({
        "image": format!("example.com/shop:{round}"),
        "service": { "port": 8000 + round },
        "autoscaling": { "minReplicas": 3, "maxReplicas": 10 + round },
        "redis": { "memory": format!("{}Mi", 64 + round) },
    })
}

#[tokio::test]
async fn killed_in_the_middle_of_its_writes_again_and_again_it_converges() {
    let (sandbox, _turn) = sandbox().await;
    let installation = sandbox.install().await;
    let _kubelet = sandbox.kubelet();
    let history = ReplicaHistory::start(&sandbox).await;
    let mut passwords = BTreeMap::new();
    // No election: the next one would wait for the end of the lease.
    let start = |identity: &str| installation.start_with(identity, &["--leader-elect=false"]);
    for round in 0..ROUNDS {
        let mark = sandbox.audit_mark().await;
        let mut operator = start(&format!("killed-{round}"));
        for name in NAMES {
            sandbox.apply(name, spec(round)).await;
        }
        // The first round makes 40 objects and more, each later one changes 20 and more.
        let writes = rand::rng().random_range(1..20);
        sandbox.until_written(mark, &installation.user, writes).await;
        operator.kill();
        // What was generated once stays, wherever the operator died.
        for secret in sandbox.api::<Secret>().list(&ListParams::default()).await.unwrap() {
            let password = secret.data.clone().unwrap_or_default().remove("password");
            let known = passwords.entry(secret.name_any()).or_insert(password.clone());
            assert_eq!(*known, password, "{} has another password", secret.name_any());
        }
        println!("round {round}: killed after {writes} writes");
    }

    let _operator = start("last");
    for name in NAMES {
        sandbox.until_ready(name).await;
        for kind in CHILDREN {
            assert!(sandbox.find(kind, name).await.is_some(), "{kind:?} of {name} is missing");
        }
        let image = format!("example.com/shop:{}", ROUNDS - 1);
        let deployment = sandbox.child(DEPLOYMENT, name).await;
        assert_eq!(deployment.data["spec"]["template"]["spec"]["containers"][0]["image"], image);
    }
    assert_eq!(history.values(NAMES[3]).await, [3], "replicas of all Deployments, ever");
}
