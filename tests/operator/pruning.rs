//! What goes, and when.

use std::{collections::BTreeMap, time::Duration};

use cachedservice::api::{CachedService, names::NAME_LABEL};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet},
        core::v1::{ConfigMap, Pod, Secret},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{
    sandbox,
    support::{
        Kubelet, Sandbox,
        child::{AUTOSCALER, CHILDREN, ChildKind, REDIS_SECRET, uid},
        condition,
        redis::{Redis, free_port},
        until,
    },
};

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn autoscaling_switched_off_takes_the_autoscaler_away() {
    let sandbox = sandbox().await;
    let _shop = sandbox.serve("shop").await;

    let fixed = json!({ "image": "example.com/shop:1", "autoscaling": { "enabled": false }, "replicas": 3 });
    sandbox.apply("shop", fixed).await;
    until_gone(&sandbox, AUTOSCALER).await;
    sandbox.until_condition(LIMIT, "shop", "AutoscalingReady", "True", "SwitchedOff").await;
    sandbox.until_ready("shop").await;
    let status = sandbox.service("shop").await.status.unwrap();
    assert_eq!((status.replicas_range.as_deref(), status.desired_replicas), (Some("3"), 3));
}

#[tokio::test]
async fn authentication_switched_off_takes_the_secret_away_once_no_pod_needs_it() {
    let sandbox = sandbox().await;
    let shop = sandbox.serve("shop").await;

    // Redis restarts and old pods of the application could: both still need the Secret.
    drop(shop.kubelet);
    let kubelet = Kubelet::none_ready(&sandbox);
    let open = json!({ "image": "example.com/shop:1", "redis": { "auth": { "enabled": false } } });
    sandbox.apply("shop", open).await;
    until_rolling(&sandbox, "redis://shop-redis").await;
    assert!(sandbox.find(REDIS_SECRET, "shop").await.is_some(), "the Secret went while it was in use");
    drop(kubelet);

    let _kubelet = sandbox.kubelet();
    until_gone(&sandbox, REDIS_SECRET).await;
    sandbox.until_ready("shop").await;
    let deployment = sandbox.api::<Deployment>().get("shop").await.unwrap();
    let env =
        serde_json::to_value(&deployment.spec.template).unwrap()["spec"]["containers"][0]["env"].clone();
    let url = format!("redis://shop-redis.{}.svc:6379/0", sandbox.namespace);
    assert!(env.as_array().unwrap().contains(&json!({ "name": "REDIS_URL", "value": url })), "{env}");
}

#[tokio::test]
async fn redis_goes_only_after_the_application_has_left_it() {
    let sandbox = sandbox().await;
    let shop = sandbox.serve("shop").await;
    drop(shop.kubelet);

    // New pods start and do not become Ready: old ones still use our Redis.
    let kubelet = Kubelet::none_ready(&sandbox);
    put_url(&sandbox, "theirs", "redis://127.0.0.1:1/0").await;
    let url = json!({ "urlSecretRef": { "name": "theirs", "key": "url" } });
    let external = json!({ "mode": "External", "external": url });
    sandbox.apply("shop", json!({ "image": "example.com/shop:1", "redis": external })).await;
    until_rolling(&sandbox, "theirs").await;
    let redis: Vec<ChildKind> = CHILDREN.into_iter().filter(|kind| kind.is_redis).collect();
    for kind in &redis {
        assert!(sandbox.find(*kind, "shop").await.is_some(), "{kind:?} went while it was in use");
    }
    drop(kubelet);

    // All pods are new ones, but one of the old is held on its way out, and theirs does not answer.
    let held = hold_an_old_pod(&sandbox).await;
    let _kubelet = sandbox.kubelet();
    until_told(&sandbox, "Unreachable").await;
    let all_there = async || {
        for kind in &redis {
            assert!(sandbox.find(*kind, "shop").await.is_some(), "{kind:?} went while it was in use");
        }
    };
    all_there().await;
    let theirs = Redis::start(free_port(), "hunter2");
    let url = format!("redis://default:hunter2@127.0.0.1:{}/0", theirs.port);
    let secret = Patch::Merge(json!({ "stringData": { "url": url } }));
    sandbox.api::<Secret>().patch("theirs", &PatchParams::default(), &secret).await.unwrap();
    until_told(&sandbox, "External").await;
    all_there().await;

    let release = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    sandbox.api::<Pod>().patch(&held, &PatchParams::default(), &release).await.unwrap();
    for kind in &redis {
        until_gone(&sandbox, *kind).await;
    }
}

/// Keeps a pod from going away once it is deleted.
async fn hold_an_old_pod(sandbox: &Sandbox) -> String {
    let pods = sandbox.api::<Pod>();
    let of_app = ListParams::default().labels("app.kubernetes.io/component=app");
    let pod = pods.list(&of_app).await.unwrap().items.into_iter().find(|pod| {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        !serde_json::to_string(&containers.collect::<Vec<_>>()).unwrap().contains("theirs")
    });
    let name = pod.expect("an old pod").name_any();
    let hold = Patch::Merge(json!({ "metadata": { "finalizers": ["example.com/held"] } }));
    pods.patch(&name, &PatchParams::default(), &hold).await.unwrap();
    name
}

/// Waits until the status tells this of Redis and counts only pods of the newest template.
async fn until_told(sandbox: &Sandbox, reason: &str) {
    until(Duration::from_secs(30), async || {
        let service = sandbox.service("shop").await;
        let redis = condition(&service, "RedisReady").ok_or("no status")?;
        let status = service.status.unwrap_or_default();
        let rolled_out = status.updated_replicas == 2 && status.replicas == 2;
        if redis.reason == reason && rolled_out { Ok(()) } else { Err(format!("{redis:?} {status:?}")) }
    })
    .await;
}

#[tokio::test]
async fn deletion_takes_away_what_was_made_and_nothing_else() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    let metadata = ObjectMeta {
        name: Some("bystander".to_owned()),
        labels: Some([(NAME_LABEL.to_owned(), "shop".to_owned())].into()),
        ..ObjectMeta::default()
    };
    let bystander = ConfigMap { metadata, ..ConfigMap::default() };
    sandbox.api::<ConfigMap>().create(&PostParams::default(), &bystander).await.unwrap();
    for name in ["shop", "other"] {
        sandbox.apply(name, json!({ "image": "example.com/shop:1" })).await;
        sandbox.until_ready(name).await;
    }
    let mut others = BTreeMap::new();
    for kind in CHILDREN {
        others.insert(kind.name("other") + kind.kind, uid(&sandbox.child(kind, "other").await));
    }

    sandbox.delete("shop").await;
    for kind in CHILDREN {
        until_gone(&sandbox, kind).await;
    }
    let of_shop = ListParams::default().labels(&format!("{NAME_LABEL}=shop"));
    until(LIMIT, async || {
        let pods = sandbox.api::<Pod>().list(&of_shop).await.unwrap().items.len();
        let sets = sandbox.api::<ReplicaSet>().list(&of_shop).await.unwrap().items.len();
        if pods + sets == 0 { Ok(()) } else { Err(format!("{pods} pods, {sets} ReplicaSets")) }
    })
    .await;
    for kind in CHILDREN {
        let other = sandbox.child(kind, "other").await;
        assert_eq!(uid(&other), others[&(kind.name("other") + kind.kind)], "{kind:?}");
        assert!(other.metadata.deletion_timestamp.is_none(), "{kind:?}");
    }
    let bystander = sandbox.api::<ConfigMap>().get("bystander").await.unwrap();
    assert!(bystander.metadata.deletion_timestamp.is_none() && bystander.labels().contains_key(NAME_LABEL));
    sandbox.until_ready("other").await;
}

#[tokio::test]
async fn what_is_deleted_while_no_operator_is_there_goes_and_waits_for_none() {
    let sandbox = sandbox().await;
    let mut shop = sandbox.serve("shop").await;
    assert!(shop.operator.terminate().await.success(), "{}", shop.operator.log());
    sandbox.delete("shop").await;
    until(LIMIT, async || match sandbox.api::<CachedService>().get_opt("shop").await.unwrap() {
        None => Ok(()),
        Some(kept) => Err(format!("{:?}", kept.metadata.finalizers)),
    })
    .await;
    for kind in CHILDREN {
        until_gone(&sandbox, kind).await;
    }
}

/// Waits until pods of a template with this text have been made beside those of the old one.
async fn until_rolling(sandbox: &Sandbox, text: &str) {
    until(LIMIT, async || {
        let deployment = sandbox.api::<Deployment>().get("shop").await.unwrap();
        let status = deployment.status.unwrap_or_default();
        let rolling = status.observed_generation == deployment.metadata.generation
            && status.updated_replicas.unwrap_or_default() > 0
            && status.replicas > status.updated_replicas;
        let is_newest = serde_json::to_string(&deployment.spec.template).unwrap().contains(text);
        if rolling && is_newest { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
}

async fn until_gone(sandbox: &Sandbox, kind: ChildKind) {
    until(LIMIT, async || match sandbox.find(kind, "shop").await {
        None => Ok(()),
        Some(_) => Err(format!("{kind:?} is still there")),
    })
    .await;
}

/// Makes a Secret of the user's with the URL of a Redis.
async fn put_url(sandbox: &Sandbox, name: &str, url: &str) {
    let secret = Secret {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        string_data: Some([("url".to_owned(), url.to_owned())].into()),
        ..Secret::default()
    };
    sandbox.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
}
