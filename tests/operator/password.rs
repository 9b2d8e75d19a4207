//! The password of Redis, and how it changes.

use std::{collections::BTreeMap, time::Duration};

use cachedservice::api::names::CREDENTIALS_ANNOTATION;
use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::{Deployment, StatefulSet},
        core::v1::Secret,
    },
};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::{
    sandbox,
    support::{Kubelet, Sandbox, until},
};

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_deleted_secret_comes_back_with_a_new_password_for_redis_and_application() {
    let sandbox = sandbox().await;
    let shop = sandbox.serve("shop").await;
    let (before, old) = (secret(&sandbox).await, credentials(&sandbox).await);
    let known = sandbox.service("shop").await.status.unwrap().redis.unwrap().credentials;

    drop(shop.kubelet);
    let kubelet = Kubelet::none_ready(&sandbox);
    sandbox.api::<Secret>().delete("shop-redis", &DeleteParams::default()).await.unwrap();
    sandbox.until_condition(LIMIT, "shop", "RedisReady", "False", "RotatingPassword").await;
    assert_ne!(secret(&sandbox).await["password"], before["password"]);
    let new = credentials(&sandbox).await;
    assert_eq!(new.0, new.1, "Redis and the application start with the same password");
    assert_ne!(new, old);

    drop(kubelet);
    let _kubelet = sandbox.kubelet();
    sandbox.until_condition(LIMIT, "shop", "RedisReady", "True", "Available").await;
    sandbox.until_ready("shop").await;
    let redis = sandbox.service("shop").await.status.unwrap().redis.unwrap();
    assert_eq!(redis.credentials.as_ref(), Some(&new.0));
    assert_ne!(redis.credentials, known);
}

#[tokio::test]
async fn a_password_of_the_users_is_kept_and_what_is_made_from_it_follows() {
    let sandbox = sandbox().await;
    let shop = sandbox.serve("shop").await;
    let old = credentials(&sandbox).await;

    drop(shop.kubelet);
    let kubelet = Kubelet::none_ready(&sandbox);
    let mine = Patch::Merge(json!({ "stringData": { "password": "m?ne/and:mine" } }));
    sandbox.api::<Secret>().patch("shop-redis", &PatchParams::default(), &mine).await.unwrap();
    sandbox.until_condition(LIMIT, "shop", "RedisReady", "False", "RotatingPassword").await;
    let secret = secret(&sandbox).await;
    assert_eq!(text(&secret, "password"), "m?ne/and:mine");
    let url = format!("redis://default:m%3Fne%2Fand%3Amine@shop-redis.{}.svc:6379/0", sandbox.namespace);
    assert_eq!(text(&secret, "url"), url);
    // echo -n 'm?ne/and:mine' | sha256sum
    let digest = "2e38915bba92c4935a83aa2299f4004add076c5c9ac61fde73f6a32b155c5768";
    assert_eq!(text(&secret, "users.acl"), format!("user default on #{digest} ~* &* +@all\n"));
    let new = credentials(&sandbox).await;
    assert_eq!(new.0, new.1, "Redis and the application start with the same password");
    assert_ne!(new, old);

    drop(kubelet);
    let _kubelet = sandbox.kubelet();
    sandbox.until_ready("shop").await;
    sandbox.until_condition(LIMIT, "shop", "RedisReady", "True", "Available").await;
    let told = sandbox.everything_told("shop").await + &shop.operator.log();
    for part in ["m?ne", "m%3Fne", digest] {
        assert!(!told.contains(part), "{part} was told: {told}");
    }
}

async fn secret(sandbox: &Sandbox) -> BTreeMap<String, ByteString> {
    sandbox.api::<Secret>().get("shop-redis").await.unwrap().data.unwrap()
}

fn text(secret: &BTreeMap<String, ByteString>, key: &str) -> String {
    String::from_utf8(secret[key].0.clone()).unwrap()
}

/// The digests of the credentials in the pod templates of Deployment and
/// StatefulSet, once both are of the newest Secret.
async fn credentials(sandbox: &Sandbox) -> (String, String) {
    until(LIMIT, async || {
        let deployment = sandbox.api::<Deployment>().get("shop").await.unwrap().spec.template;
        let set = sandbox.api::<StatefulSet>().get("shop-redis").await.unwrap().spec.template;
        let [app, redis] = [deployment, set]
            .map(|template| template.metadata.unwrap().annotations.unwrap()[CREDENTIALS_ANNOTATION].clone());
        if app == redis { Ok((app, redis)) } else { Err(format!("{app} and {redis}")) }
    })
    .await
}
