//! A Redis that the operator does not run.

use std::time::Duration;

use cachedservice::api::names::CREDENTIALS_ANNOTATION;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Secret};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::{
    sandbox,
    support::{
        Sandbox,
        child::{CHILDREN, DEPLOYMENT},
        redis::{Redis, free_port},
        until,
    },
};

const LIMIT: Duration = Duration::from_secs(10);
const PASSWORD: &str = "hunter2-hunter2";

fn external() -> Value {
    let url = json!({ "urlSecretRef": { "name": "theirs", "key": "url" } });
    json!({ "image": "example.com/shop:1", "redis": { "mode": "External", "external": url } })
}

#[tokio::test]
async fn an_external_redis_is_told_from_its_secret_to_its_first_answer() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    sandbox.apply("shop", external()).await;

    let reason = async |reason: &str| {
        let redis = sandbox.until_condition(LIMIT, "shop", "RedisReady", "False", reason).await;
        sandbox.until_condition(LIMIT, "shop", "Ready", "False", reason).await;
        redis.message
    };
    assert!(reason("SecretMissing").await.contains(r#"secret "theirs" not found"#));
    put(&sandbox, "other", "redis://x").await;
    assert!(reason("SecretKeyMissing").await.contains(r#"no key "url""#));
    put(&sandbox, "url", &format!("http://me:{PASSWORD}@example.com")).await;
    assert!(reason("InvalidUrl").await.contains("redis://user:password@host:6379/0"));
    let port = free_port();
    let url = format!("redis://default:{PASSWORD}@127.0.0.1:{port}/0");
    put(&sandbox, "url", &url).await;
    assert!(reason("Unreachable").await.contains(&format!("127.0.0.1:{port}")));

    let redis = Redis::start(port, PASSWORD);
    sandbox.until_ready("shop").await;
    sandbox.until_condition(LIMIT, "shop", "RedisReady", "True", "External").await;
    let status = sandbox.service("shop").await.status.unwrap().redis.unwrap();
    assert_eq!(status.endpoint, Some(format!("127.0.0.1:{}", redis.port)));
    for kind in CHILDREN.into_iter().filter(|kind| kind.is_redis) {
        assert!(sandbox.find(kind, "shop").await.is_none(), "{kind:?}");
    }

    let told = sandbox.everything_told("shop").await + &operator.log();
    assert!(!told.contains(PASSWORD), "the password was told: {told}");
}

#[tokio::test]
async fn a_changed_url_rolls_the_application() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    let redis = Redis::start(free_port(), PASSWORD);
    let url = |database: u8| format!("redis://default:{PASSWORD}@127.0.0.1:{}/{database}", redis.port);
    put(&sandbox, "url", &url(0)).await;
    sandbox.apply("shop", external()).await;
    sandbox.until_ready("shop").await;
    let before = credentials(&sandbox).await;

    // Beside the URL: nothing to roll for.
    put(&sandbox, "note", "1").await;
    put(&sandbox, "url", &url(1)).await;
    until(LIMIT, async || match credentials(&sandbox).await {
        now if now.0 != before.0 => {
            assert_eq!(now.1, before.1 + 1, "rolled more than once");
            Ok(())
        }
        _ => Err("the Deployment was not changed".to_owned()),
    })
    .await;
    sandbox.until_ready("shop").await;
}

#[tokio::test]
async fn a_url_that_goes_missing_leaves_what_runs_alone() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    let redis = Redis::start(free_port(), PASSWORD);
    put(&sandbox, "url", &format!("redis://default:{PASSWORD}@127.0.0.1:{}/0", redis.port)).await;
    sandbox.apply("shop", external()).await;
    sandbox.until_ready("shop").await;
    let before = sandbox.child(DEPLOYMENT, "shop").await.metadata.generation;

    sandbox.api::<Secret>().delete("theirs", &kube::api::DeleteParams::default()).await.unwrap();
    sandbox.until_condition(LIMIT, "shop", "RedisReady", "False", "SecretMissing").await;
    assert_eq!(sandbox.child(DEPLOYMENT, "shop").await.metadata.generation, before);
}

/// The digest of the URL in the pod template, and the Deployment's generation.
async fn credentials(sandbox: &Sandbox) -> (String, i64) {
    let deployment = sandbox.api::<Deployment>().get("shop").await.unwrap();
    let annotations = deployment.spec.template.metadata.unwrap().annotations.unwrap();
    (annotations[CREDENTIALS_ANNOTATION].clone(), deployment.metadata.generation.unwrap())
}

/// Sets a key of the user's Secret.
async fn put(sandbox: &Sandbox, key: &str, value: &str) {
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": "theirs" },
        "stringData": { key: value },
    });
    // Each key has a manager of its own: none is taken away by the next.
    let manager = PatchParams::apply(key).force();
    sandbox.api::<Secret>().patch("theirs", &manager, &Patch::Apply(secret)).await.unwrap();
}
