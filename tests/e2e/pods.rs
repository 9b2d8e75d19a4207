//! One CachedService on real pods.

use std::time::{Duration, Instant};

use cachedservice::api::CachedService;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams},
};
use serde_json::json;

use crate::{
    ask, demo, operator, sandbox,
    support::{
        child::{CHILDREN, DEPLOYMENT, SERVICE},
        until,
    },
};

/// With the images present.
const READY_WITHIN: Duration = Duration::from_secs(15);

#[tokio::test]
async fn the_minimal_example_serves_within_15_seconds() {
    let sandbox = sandbox().await;
    let started = Instant::now();
    sandbox.apply_example("minimal").await;
    sandbox.until_condition(READY_WITHIN, "shop", "Ready", "True", "Serving").await;
    println!("Ready after {:?}", started.elapsed());
    for kind in CHILDREN {
        sandbox.child(kind, "shop").await;
    }
    let status = sandbox.service("shop").await.status.unwrap();
    assert_eq!((status.ready_replicas, status.replicas_ready.as_deref()), (2, Some("2/2")));
    let answer = until(Duration::from_secs(5), async || ask(&sandbox, "/").await).await;
    assert!(answer["hits"].as_i64() >= Some(1), "the application counts in Redis: {answer}");
}

#[tokio::test]
async fn an_idle_operator_writes_nothing() {
    let sandbox = sandbox().await;
    sandbox.apply("shop", demo()).await;
    sandbox.until_ready("shop").await;
    // The first CPU figures still change the status.
    until(Duration::from_secs(90), async || {
        let status = sandbox.service("shop").await.status.unwrap_or_default();
        let cpu = status.cpu.unwrap_or_default();
        if cpu.starts_with('?') { Err(cpu) } else { Ok(()) }
    })
    .await;
    let mark = sandbox.audit_mark().await;
    // Some twenty seconds.
    sandbox.until_renewed(mark, &operator(), 10).await;
    let writes = sandbox.writes_since(mark, &operator()).await;
    let here: Vec<_> = writes.iter().filter(|write| write.uri.contains(&sandbox.namespace)).collect();
    assert!(here.is_empty(), "{here:#?}");
}

#[tokio::test]
async fn a_rollout_under_load_loses_no_request_and_a_port_change_rolls_nothing() {
    let sandbox = sandbox().await;
    sandbox.apply("shop", demo()).await;
    sandbox.until_ready("shop").await;
    let generation = sandbox.child(DEPLOYMENT, "shop").await.metadata.generation;
    let mut spec = demo();
    spec["service"] = json!({ "port": 8081 });
    sandbox.apply("shop", spec.clone()).await;
    sandbox.until_ready("shop").await;
    assert_eq!(sandbox.child(DEPLOYMENT, "shop").await.metadata.generation, generation);
    assert_eq!(sandbox.child(SERVICE, "shop").await.data["spec"]["ports"][0]["port"], 8081);

    sandbox.load("http://shop:8081/?", 25, "2").await;
    spec["env"] = json!([{ "name": "COLOUR", "value": "blue" }]);
    sandbox.apply("shop", spec).await;
    sandbox.until_condition(Duration::from_secs(60), "shop", "Ready", "True", "Serving").await;
    let report = sandbox.load_report(Duration::from_secs(60)).await;
    assert_eq!(report["failed"], 0, "{report}");
    assert!(report["requests"].as_i64() > Some(100), "{report}");
}

#[tokio::test]
async fn deletion_takes_what_was_made_and_nothing_else() {
    let sandbox = sandbox().await;
    let mut other = demo();
    other["autoscaling"] = json!({ "minReplicas": 1 });
    sandbox.apply("other", other).await;
    sandbox.apply("shop", demo()).await;
    sandbox.until_ready("shop").await;
    sandbox.until_ready("other").await;
    let before = sandbox.child(DEPLOYMENT, "other").await.metadata.resource_version;
    sandbox.api::<CachedService>().delete("shop", &DeleteParams::default()).await.unwrap();
    until(Duration::from_secs(60), async || {
        for kind in CHILDREN {
            if sandbox.find(kind, "shop").await.is_some() {
                return Err(format!("{kind:?} is left"));
            }
        }
        let pods =
            sandbox.api::<Pod>().list(&ListParams::default().labels("cachedservice.dev/name=shop")).await;
        let left: Vec<String> = pods.unwrap().iter().map(ResourceExt::name_any).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    for kind in CHILDREN {
        sandbox.child(kind, "other").await;
    }
    assert_eq!(sandbox.child(DEPLOYMENT, "other").await.metadata.resource_version, before);
}
