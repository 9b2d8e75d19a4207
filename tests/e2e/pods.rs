//! One CachedService on real pods.

use std::time::{Duration, Instant};

use cachedservice::api::CachedService;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;

use crate::{
    demo, operator, sandbox,
    support::{
        Sandbox,
        child::{CHILDREN, DEPLOYMENT, SERVICE, STATEFUL_SET},
        condition, until,
    },
};

/// With the images present (issue: within 15 s).
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
async fn redis_answers_with_its_password_and_refuses_without() {
    let sandbox = sandbox().await;
    sandbox.apply("shop", demo()).await;
    sandbox.until_ready("shop").await;
    let without = sandbox.kubectl(&["exec", "shop-redis-0", "--", "redis-cli", "set", "a", "b"]);
    assert!(without.contains("NOAUTH"), "{without}");
    let script = "IFS= read -r REDISCLI_AUTH </etc/redis/auth/password; export REDISCLI_AUTH; redis-cli set a b; redis-cli config get maxmemory";
    let with = sandbox.kubectl(&["exec", "shop-redis-0", "--", "sh", "-c", script]);
    assert!(with.contains("OK"), "{with}");
    // Three quarters of the default 256Mi.
    assert!(with.contains("201326592"), "{with}");
}

#[tokio::test]
async fn a_changed_and_a_deleted_password_reach_redis_and_the_application() {
    let sandbox = sandbox().await;
    sandbox.apply("shop", demo()).await;
    sandbox.until_ready("shop").await;

    let change = json!({ "stringData": { "password": "mine: p@ss/w%rd" } });
    let secrets = sandbox.api::<Secret>();
    secrets.patch("shop-redis", &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    sandbox.until_condition(Duration::from_secs(5), "shop", "RedisReady", "False", "RotatingPassword").await;
    until_rolled(&sandbox).await;
    let kept = secrets.get("shop-redis").await.unwrap().data.unwrap();
    assert_eq!(kept["password"].0, b"mine: p@ss/w%rd");

    secrets.delete("shop-redis", &DeleteParams::default()).await.unwrap();
    until(Duration::from_secs(2), async || {
        let made = secrets.get_opt("shop-redis").await.unwrap().ok_or("no Secret")?;
        let password = made.data.unwrap_or_default().remove("password").unwrap_or_default();
        if password.0.len() == 32 { Ok(()) } else { Err("no new password".to_owned()) }
    })
    .await;
    until_rolled(&sandbox).await;
}

/// Waits until the application and Redis run with the credentials in the Secret.
async fn until_rolled(sandbox: &Sandbox) {
    until(Duration::from_secs(90), async || {
        let template = |data: &serde_json::Value| {
            data["spec"]["template"]["metadata"]["annotations"]["cachedservice.dev/credentials"].clone()
        };
        let deployment = sandbox.child(DEPLOYMENT, "shop").await;
        let set = sandbox.child(STATEFUL_SET, "shop").await;
        if template(&deployment.data) != template(&set.data) {
            return Err("the templates do not agree yet".to_owned());
        }
        let service = sandbox.service("shop").await;
        let ready = condition(&service, "Ready").ok_or("no status")?;
        if ready.status != "True" {
            return Err(format!("{ready:?}"));
        }
        let updated = deployment.data["status"]["updatedReplicas"] == deployment.data["status"]["replicas"];
        if !updated {
            return Err("old pods are left".to_owned());
        }
        let answer = ask(sandbox, "/").await?;
        if answer["hits"].is_i64() { Ok(()) } else { Err(answer.to_string()) }
    })
    .await;
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

/// GET of a path of the service `shop`, through the API server's proxy to its Service.
async fn ask(sandbox: &Sandbox, path: &str) -> Result<serde_json::Value, String> {
    let uri = format!("/api/v1/namespaces/{}/services/shop:http/proxy{path}", sandbox.namespace);
    let request = http::Request::get(uri).body(Vec::new()).unwrap();
    sandbox.client.request(request).await.map_err(|error| error.to_string())
}
