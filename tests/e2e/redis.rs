//! Redis on real pods: who may connect, and what it tells.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::{
    ask, demo, sandbox,
    support::{
        Connection::{Open, Unanswered},
        Sandbox,
        child::{DEPLOYMENT, STATEFUL_SET},
        condition, until,
    },
};

/// The image that images/build makes.
const EXPORTER: &str = "localhost/cachedservice-exporter:1.45";

/// The demo application, whose pods do not serve on when they are to go: the next test waits for that.
pub(crate) fn leaving_at_once() -> Value {
    let mut spec = demo();
    spec["shutdown"] = json!({ "drain": "0s" });
    spec
}

/// Has `redis-cli` do this in the Redis of the service `shop`, with its password.
pub(crate) fn redis_cli(sandbox: &Sandbox, act: &str) -> String {
    in_redis(sandbox, &script(act)).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a script in the container of Redis of the service `shop`.
pub(crate) fn in_redis(sandbox: &Sandbox, script: &str) -> Result<String, String> {
    sandbox.try_kubectl(&["exec", "shop-redis-0", "--container", "redis", "--", "sh", "-c", script])
}

/// What stands in the guides where `redis-cli` is to have the password.
pub(crate) fn script(act: &str) -> String {
    format!("read -r REDISCLI_AUTH </etc/redis/auth/password; export REDISCLI_AUTH; redis-cli {act}")
}

#[tokio::test]
async fn redis_answers_with_its_password_and_refuses_without() {
    let sandbox = sandbox().await;
    sandbox.apply("shop", demo()).await;
    sandbox.until_ready("shop").await;
    let without = sandbox.kubectl(&["exec", "shop-redis-0", "--", "redis-cli", "set", "a", "b"]);
    assert!(without.contains("NOAUTH"), "{without}");
    let with = redis_cli(&sandbox, "set a b") + &redis_cli(&sandbox, "config get maxmemory");
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
async fn only_the_application_and_whoever_is_written_reach_redis_unless_the_policy_is_off() {
    let shop = sandbox().await;
    let other = Sandbox::new(shop.cluster).await;
    shop.apply("shop", leaving_at_once()).await;
    let application = [("cachedservice.dev/name", "shop"), ("app.kubernetes.io/component", "app")];
    tokio::join!(
        shop.start_pod("stranger", &[("role", "reports")], &[8080]),
        // Labels count only in the policy's own namespace.
        other.start_pod("foreigner", &application, &[8080]),
        shop.until_ready("shop"),
    );
    let redis = format!("shop-redis.{}:6379", shop.namespace);
    let of_the_application = "deployment/shop";
    assert_eq!(shop.connect(of_the_application, &redis), Open);
    shop.until_connection("stranger", &redis, Unanswered).await;
    other.until_connection("foreigner", &redis, Unanswered).await;

    let reports = json!([{ "podSelector": { "matchLabels": { "role": "reports" } } }]);
    set_policy(&shop, json!({ "from": reports })).await;
    shop.until_connection("stranger", &redis, Open).await;
    assert_eq!(other.connect("foreigner", &redis), Unanswered);
    assert_eq!(shop.connect(of_the_application, &redis), Open);

    set_policy(&shop, json!({ "enabled": false })).await;
    other.until_connection("foreigner", &redis, Open).await;
    assert_eq!(shop.connect("stranger", &redis), Open);
    assert_eq!(shop.connect(of_the_application, &redis), Open);

    set_policy(&shop, json!({})).await;
    shop.until_connection("stranger", &redis, Unanswered).await;
    assert_eq!(other.connect("foreigner", &redis), Unanswered);
    assert_eq!(shop.connect(of_the_application, &redis), Open);
}

/// Writes `spec.networkPolicy.redis` of the service `shop`.
pub(crate) async fn set_policy(sandbox: &Sandbox, policy: Value) {
    let mut spec = leaving_at_once();
    spec["networkPolicy"] = json!({ "redis": policy });
    sandbox.apply("shop", spec).await;
}

#[tokio::test]
async fn the_exporter_has_figures_of_redis_for_whoever_asks() {
    let sandbox = sandbox().await;
    let mut spec = leaving_at_once();
    spec["redis"] = json!({ "exporter": { "enabled": true, "image": EXPORTER } });
    sandbox.apply("shop", spec).await;
    tokio::join!(sandbox.start_pod("prometheus", &[], &[8080]), sandbox.until_ready("shop"));
    let metrics = until(Duration::from_secs(10), async || {
        let uri = format!("/api/v1/namespaces/{}/pods/shop-redis-0:9121/proxy/metrics", sandbox.namespace);
        let request = http::Request::get(uri).body(Vec::new()).unwrap();
        sandbox.client.request_text(request).await.map_err(|error| error.to_string())
    })
    .await;
    let figure = |line: &str| metrics.lines().any(|said| said == line);
    // Without the password it is 0.
    assert!(figure("redis_up 1"), "{metrics}");
    // Three quarters of the default 256Mi.
    assert!(figure("redis_memory_max_bytes 2.01326592e+08"), "{metrics}");
    sandbox.until_connection("prometheus", "shop-redis:9121", Open).await;
    assert_eq!(sandbox.connect("prometheus", "shop-redis:6379"), Unanswered);
}
