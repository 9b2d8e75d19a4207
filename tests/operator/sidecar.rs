//! The sidecar: what it reads comes before the pods that have it, and goes after them.

use std::{collections::BTreeMap, time::Duration};

use cachedservice::{api::names::TOKEN_ANNOTATION, settings::Settings};
use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, Secret},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use crate::{
    sandbox,
    support::{Kubelet, Sandbox, condition, until},
};

const LIMIT: Duration = Duration::from_secs(10);

fn with(http: &Value) -> Value {
    json!({ "image": "example.com/shop:1", "cache": { "http": http } })
}

#[tokio::test]
async fn switched_on_and_off_what_it_reads_is_there_as_long_as_a_pod_has_it() {
    let sandbox = sandbox().await;
    let shop = sandbox.serve("shop").await;
    assert_eq!(objects(&sandbox).await, (false, false));
    assert!(condition(&sandbox.service("shop").await, "CacheReady").is_none());

    sandbox.apply("shop", with(&json!({}))).await;
    sandbox.until_condition(LIMIT, "shop", "CacheReady", "True", "CacheServing").await;
    sandbox.until_ready("shop").await;
    assert_eq!(objects(&sandbox).await, (true, true));

    drop(shop.kubelet);
    let kubelet = Kubelet::none_ready(&sandbox);
    sandbox.apply("shop", with(&json!({ "enabled": false }))).await;
    until(LIMIT, async || {
        let deployment = deployment(&sandbox).await;
        let has_sidecar = deployment.spec.template.spec.unwrap().init_containers.is_some();
        let status = deployment.status.unwrap_or_default();
        let is_rolling = status.updated_replicas.unwrap_or_default() > 0
            && status.replicas > status.updated_replicas
            && status.observed_generation == deployment.metadata.generation;
        if is_rolling && !has_sidecar { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    assert_eq!(objects(&sandbox).await, (true, true), "a pod that has the sidecar may start again");
    drop(kubelet);

    let _kubelet = sandbox.kubelet();
    until(LIMIT, async || match objects(&sandbox).await {
        (false, false) => Ok(()),
        there => Err(format!("{there:?}")),
    })
    .await;
    sandbox.until_ready("shop").await;
    assert!(condition(&sandbox.service("shop").await, "CacheReady").is_none());
}

#[tokio::test]
async fn other_rules_roll_nothing() {
    let sandbox = sandbox().await;
    let _shop = sandbox.serve_spec("shop", with(&json!({}))).await;
    let before = deployment(&sandbox).await.metadata.generation;

    sandbox.apply("shop", with(&json!({ "rules": [{ "paths": ["/a"], "ttl": "1m" }] }))).await;
    until(LIMIT, async || {
        let config = sandbox.api::<ConfigMap>().get("shop-sidecar").await.unwrap().data.unwrap();
        let rules = Settings::parse(&config["settings.json"]).unwrap().http.unwrap().rules;
        if rules.len() == 1 && rules[0].ttl == Some(60) { Ok(()) } else { Err(format!("{rules:?}")) }
    })
    .await;
    sandbox.until_ready("shop").await;
    assert_eq!(deployment(&sandbox).await.metadata.generation, before);
}

#[tokio::test]
async fn the_near_cache_takes_the_place_of_redis_for_the_application_and_gives_it_back() {
    let sandbox = sandbox().await;
    let spec = |application: &Value| json!({ "image": "example.com/shop:1", "balancing": {}, "cache": { "application": application } });
    let _shop = sandbox.serve_spec("shop", spec(&json!({ "enabled": false }))).await;
    let redis_url = async || {
        let app = deployment(&sandbox).await.spec.template.spec.unwrap().containers.remove(0);
        app.env.unwrap().into_iter().find(|variable| variable.name == "REDIS_URL").unwrap()
    };
    let of_redis = redis_url().await;
    assert!(
        of_redis.value_from.is_some() && condition(&sandbox.service("shop").await, "CacheReady").is_none()
    );

    sandbox.apply("shop", spec(&json!({}))).await;
    sandbox.until_condition(LIMIT, "shop", "CacheReady", "True", "CacheServing").await;
    sandbox.until_ready("shop").await;
    let of_sidecar = redis_url().await;
    assert_eq!((of_sidecar.value.as_deref(), of_sidecar.value_from), (Some("redis://127.0.0.1:6379"), None));
    let before = deployment(&sandbox).await.metadata.generation;

    let rules = json!({ "rules": [{ "prefix": "b", "ttl": "1m" }, { "prefix": "user:", "enabled": false }] });
    sandbox.apply("shop", spec(&rules)).await;
    until(LIMIT, async || {
        let config = sandbox.api::<ConfigMap>().get("shop-sidecar").await.unwrap().data.unwrap();
        let rules = Settings::parse(&config["settings.json"]).unwrap().application.unwrap().rules;
        if rules.len() == 2 && rules[0].off { Ok(()) } else { Err(format!("{rules:?}")) }
    })
    .await;
    sandbox.until_ready("shop").await;
    assert_eq!(deployment(&sandbox).await.metadata.generation, before, "rules roll nothing");

    sandbox.apply("shop", spec(&json!({ "enabled": false }))).await;
    until(LIMIT, async || {
        let url = redis_url().await;
        if url == of_redis { Ok(()) } else { Err(format!("{url:?}")) }
    })
    .await;
    sandbox.until_ready("shop").await;
    assert!(condition(&sandbox.service("shop").await, "CacheReady").is_none());
}

#[tokio::test]
async fn the_token_stays_until_somebody_deletes_it_and_then_the_pods_get_the_new_one() {
    let sandbox = sandbox().await;
    let shop = sandbox.serve_spec("shop", with(&json!({}))).await;
    let (token, before) = (token(&sandbox).await, annotation(&sandbox).await);
    assert_eq!(token.len(), 64);

    drop(shop.operator);
    let _operator = shop.installation.start("second");
    sandbox.apply("shop", with(&json!({ "maxObjectSize": "2Mi" }))).await;
    sandbox.until_ready("shop").await;
    assert_eq!((self::token(&sandbox).await, annotation(&sandbox).await), (token.clone(), before.clone()));

    sandbox.api::<Secret>().delete("shop-sidecar", &DeleteParams::default()).await.unwrap();
    until(LIMIT, async || {
        let now = annotation(&sandbox).await;
        if now == before { Err(format!("{now:?}")) } else { Ok(()) }
    })
    .await;
    assert_ne!(self::token(&sandbox).await, token);
    sandbox.until_ready("shop").await;
}

#[tokio::test]
async fn an_operator_with_another_image_of_it_rolls_nothing_until_something_else_does() {
    let sandbox = sandbox().await;
    let mut shop = sandbox.serve_spec("shop", with(&json!({}))).await;
    let before = deployment(&sandbox).await;
    let image = sidecar_image(&before);

    assert!(shop.operator.terminate().await.success(), "{}", shop.operator.log());
    let _operator = shop.installation.start_with("upgraded", &["--sidecar-image", "example.com/sidecar:2"]);
    // With other rules it has to look at everything.
    sandbox.apply("shop", with(&json!({ "rules": [{ "paths": ["/a"], "ttl": "1m" }] }))).await;
    until(LIMIT, async || {
        let message = condition(&sandbox.service("shop").await, "CacheReady").unwrap().message;
        if message.contains("brings example.com/sidecar:2") { Ok(()) } else { Err(message) }
    })
    .await;
    sandbox.until_ready("shop").await;
    assert_eq!(deployment(&sandbox).await.metadata.generation, before.metadata.generation);

    let mut changed = with(&json!({}));
    changed["image"] = json!("example.com/shop:2");
    sandbox.apply("shop", changed).await;
    until(LIMIT, async || {
        let now = sidecar_image(&deployment(&sandbox).await);
        if now == "example.com/sidecar:2" && now != image { Ok(()) } else { Err(now) }
    })
    .await;
    sandbox.until_ready("shop").await;
}

fn sidecar_image(deployment: &Deployment) -> String {
    let containers =
        deployment.spec.template.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    containers.last().and_then(|sidecar| sidecar.image.clone()).unwrap()
}

#[tokio::test]
async fn what_stands_in_its_place_is_left_alone_and_holds_up_the_pods() {
    let sandbox = sandbox().await;
    let shop = sandbox.serve("shop").await;
    let before = deployment(&sandbox).await.metadata.generation;
    let theirs = ConfigMap {
        metadata: ObjectMeta { name: Some("shop-sidecar".to_owned()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([("a".to_owned(), "b".to_owned())])),
        ..ConfigMap::default()
    };
    sandbox.api::<ConfigMap>().create(&PostParams::default(), &theirs).await.unwrap();

    sandbox.apply("shop", with(&json!({}))).await;
    for type_ in ["Degraded", "CacheReady"] {
        let status = if type_ == "Degraded" { "True" } else { "False" };
        let told = sandbox.until_condition(LIMIT, "shop", type_, status, "NameTaken").await;
        assert!(told.message.contains("ConfigMap shop-sidecar"), "{}", told.message);
    }
    assert_eq!(deployment(&sandbox).await.metadata.generation, before);
    let now = sandbox.api::<ConfigMap>().get("shop-sidecar").await.unwrap();
    assert_eq!(now.data, theirs.data);
    drop(shop);
}

/// Whether the Secret and the ConfigMap of the sidecars are there.
async fn objects(sandbox: &Sandbox) -> (bool, bool) {
    let secret = sandbox.api::<Secret>().get_opt("shop-sidecar").await.unwrap();
    let config = sandbox.api::<ConfigMap>().get_opt("shop-sidecar").await.unwrap();
    (secret.is_some(), config.is_some())
}

async fn deployment(sandbox: &Sandbox) -> Deployment {
    sandbox.api().get("shop").await.unwrap()
}

async fn annotation(sandbox: &Sandbox) -> Option<String> {
    let template = deployment(sandbox).await.spec.template;
    template.metadata?.annotations?.get(TOKEN_ANNOTATION).cloned()
}

async fn token(sandbox: &Sandbox) -> String {
    let data = sandbox.api::<Secret>().get("shop-sidecar").await.unwrap().data.unwrap();
    let ByteString(token) = data["token"].clone();
    String::from_utf8(token).unwrap()
}
