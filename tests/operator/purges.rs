//! Purges: who acknowledges them, and what becomes of them when something is in the way.

use std::{collections::BTreeMap, time::Duration};

use cachedservice::{
    api::{
        CachePurge, CachePurgeStatus, CachedService,
        names::{APP, COMPONENT_LABEL, NAME_LABEL, PAUSED_ANNOTATION},
    },
    settings::purges::{Force, PurgeRecord, Target},
};
use k8s_openapi::api::{
    core::v1::{ConfigMap, Pod, Secret},
    events::v1::Event,
};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    sandbox,
    support::{
        Installation, Kubelet, Operator, Sandbox,
        sidecars::{Manner, Sidecars},
        until,
    },
};

const LIMIT: Duration = Duration::from_secs(20);

/// A CachedService with two pods that have sidecars.
struct Shop {
    sidecars: Sidecars,
    operator: Operator,
    installation: Installation,
    _kubelet: Kubelet,
}

async fn shop(sandbox: &Sandbox, manner: Manner) -> Shop {
    shop_with(sandbox, manner, json!({ "http": {} })).await
}

async fn shop_with(sandbox: &Sandbox, manner: Manner, cache: Value) -> Shop {
    let installation = sandbox.install().await;
    let operator = installation.start("first");
    let sidecars = Sidecars::that(manner);
    let kubelet = sidecars.kubelet(sandbox);
    sandbox.apply("shop", spec_with(cache)).await;
    sandbox.until_ready("shop").await;
    until_pods(sandbox, 2).await;
    Shop { sidecars, operator, installation, _kubelet: kubelet }
}

fn spec() -> Value {
    spec_with(json!({ "http": {} }))
}

fn spec_with(cache: Value) -> Value {
    json!({
        "image": "example.com/shop:1",
        "autoscaling": { "enabled": false },
        "replicas": 2,
        "cache": cache,
    })
}

async fn token(sandbox: &Sandbox) -> String {
    let secret = sandbox.api::<Secret>().get("shop-sidecar").await.unwrap();
    String::from_utf8(secret.data.unwrap()["token"].0.clone()).unwrap()
}

async fn pods(sandbox: &Sandbox) -> Vec<Pod> {
    let ours = format!("{NAME_LABEL}=shop,{COMPONENT_LABEL}={APP}");
    sandbox.api::<Pod>().list(&ListParams::default().labels(&ours)).await.unwrap().items
}

/// Waits until so many pods have an address.
async fn until_pods(sandbox: &Sandbox, count: usize) -> Vec<String> {
    until(LIMIT, async || {
        let pods = pods(sandbox).await;
        let is_there = |pod: &Pod| pod.status.as_ref().is_some_and(|status| status.pod_ip.is_some());
        let mut names: Vec<_> = pods.iter().filter(|pod| is_there(pod)).map(ResourceExt::name_any).collect();
        names.sort();
        if names.len() == count { Ok(names) } else { Err(format!("{names:?} have addresses")) }
    })
    .await
}

async fn order(sandbox: &Sandbox, name: &str, spec: Value) -> CachePurge {
    let mut purge = json!({ "metadata": { "name": name }, "spec": { "serviceName": "shop" } });
    purge["apiVersion"] = json!("cachedservice.dev/v1alpha1");
    purge["kind"] = json!("CachePurge");
    purge["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let purge: CachePurge = serde_json::from_value(purge).unwrap();
    sandbox.api().create(&PostParams::default(), &purge).await.unwrap()
}

async fn pause(sandbox: &Sandbox, word: Option<&str>) {
    let paused = Patch::Merge(json!({ "metadata": { "annotations": { PAUSED_ANNOTATION: word } } }));
    sandbox.api::<CachedService>().patch("shop", &PatchParams::default(), &paused).await.unwrap();
}

async fn told(sandbox: &Sandbox, name: &str) -> CachePurgeStatus {
    sandbox.api::<CachePurge>().get(name).await.unwrap().status.unwrap_or_default()
}

/// Waits until the condition `Complete` has this status and reason.
async fn until_told(sandbox: &Sandbox, name: &str, word: &str, reason: &str) -> CachePurgeStatus {
    until(LIMIT, async || {
        let status = told(sandbox, name).await;
        let is_it = status.complete().is_some_and(|it| it.status == word && it.reason == reason);
        if is_it { Ok(status) } else { Err(format!("{status:?}")) }
    })
    .await
}

async fn until_complete(sandbox: &Sandbox, name: &str) -> CachePurgeStatus {
    until_told(sandbox, name, "True", "Acknowledged").await
}

async fn record(sandbox: &Sandbox) -> PurgeRecord {
    let map = sandbox.api::<ConfigMap>().get("shop-purges").await.unwrap();
    PurgeRecord::parse(&map.data.unwrap()["purges.json"]).unwrap()
}

/// Reasons of the Events about purges.
async fn events(sandbox: &Sandbox, name: &str) -> Vec<String> {
    let events = sandbox.api::<Event>().list(&ListParams::default()).await.unwrap();
    let about = |event: &Event| {
        event
            .regarding
            .as_ref()
            .is_some_and(|it| it.kind.as_deref() == Some("CachePurge") && it.name.as_deref() == Some(name))
    };
    events.into_iter().filter(about).filter_map(|event| event.reason).collect()
}

// kubectl waits while the sidecars answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_is_acknowledged_by_every_pod_and_stands_in_the_record() {
    let sandbox = sandbox().await;
    let shop = shop(&sandbox, Manner::Acknowledges).await;
    let names = until_pods(&sandbox, 2).await;
    let begun = record(&sandbox).await;
    assert!(begun.purges.is_empty() && begun.begun > 0, "it is there before the first: {begun:?}");
    let purge = order(&sandbox, "users", json!({ "tags": ["users"], "keys": ["HTTP://Shop/a"] })).await;
    sandbox.kubectl(&["wait", "cachepurge/users", "--for=condition=Complete", "--timeout=20s"]);

    let status = until_complete(&sandbox, "users").await;
    assert_eq!((status.acknowledged, status.replicas, status.progress.as_deref()), (2, 2, Some("2/2")));
    assert_eq!((&status.acknowledged_by, status.pending.len()), (&names, 0));
    assert_eq!(status.observed_generation, Some(1));
    assert!(status.start_time.is_some() && status.completion_time >= status.start_time);
    let shown = sandbox.kubectl(&["get", "cpurge", "users", "--no-headers"]);
    let columns: Vec<_> = shown.split_whitespace().collect();
    assert_eq!(columns[..5], ["users", "shop", "True", "2/2", "Acknowledged"]);

    let record = record(&sandbox).await;
    assert_eq!((record.begun, record.forgotten), (begun.begun, begun.begun), "nothing else is forgotten");
    let recorded = &record.purges[0];
    assert_eq!((Some(recorded.epoch), Some(&recorded.id)), (status.epoch, purge.uid().as_ref()));
    assert_eq!(recorded.force, Force::Hard);
    let targets = [Target::Key("http://shop/a".to_owned()), Target::Tag("users".to_owned())];
    assert_eq!(recorded.targets, targets);
    let authorization = format!("Bearer {}", token(&sandbox).await);
    for name in &names {
        assert_eq!(shop.sidecars.got(name), [(authorization.clone(), record.clone())]);
    }
    let map = sandbox.api::<ConfigMap>().get("shop-purges").await.unwrap();
    let owner = sandbox.api::<CachedService>().get("shop").await.unwrap();
    assert_eq!(map.owner_references()[0].uid, owner.uid().unwrap());
    assert_eq!(map.labels()[NAME_LABEL], "shop");
    until(LIMIT, async || {
        let told = events(&sandbox, "users").await;
        if told == ["Purged"] { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
}

#[tokio::test]
async fn once_purges_are_complete_the_operator_asks_for_nothing() {
    let sandbox = sandbox().await;
    let shop = shop(&sandbox, Manner::Acknowledges).await;
    order(&sandbox, "all", json!({ "everything": true })).await;
    until_complete(&sandbox, "all").await;
    order(&sandbox, "nobodys", json!({ "everything": true, "serviceName": "no-such" })).await;
    until_told(&sandbox, "nobodys", "False", "ServiceNotFound").await;
    sandbox.until_quiet(&shop.installation.user, &[&shop.installation.user]).await;
    let mark = sandbox.audit_mark().await;
    sandbox.until_renewed(mark, &shop.installation.user, 4).await;
    let asked = sandbox.audit_since(mark, &shop.installation.user).await;
    assert!(asked.is_empty(), "{asked:#?}");
}

#[tokio::test]
async fn a_pod_that_does_not_answer_is_named_and_asked_again() {
    let sandbox = sandbox().await;
    let shop = shop(&sandbox, Manner::Acknowledges).await;
    let names = until_pods(&sandbox, 2).await;
    shop.sidecars.set(&names[0], Manner::Hangs);
    order(&sandbox, "all", json!({ "everything": true, "soft": true })).await;
    let status = until(LIMIT, async || {
        let status = told(&sandbox, "all").await;
        if status.acknowledged == 1 { Ok(status) } else { Err(format!("{status:?}")) }
    })
    .await;
    assert_eq!(status.acknowledged_by, [names[1].clone()]);
    assert_eq!(
        (status.pending[0].pod.as_str(), status.pending[0].reason.as_str()),
        (names[0].as_str(), "no answer within 1 s")
    );
    let condition = status.complete().unwrap();
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "Waiting"));
    assert!(condition.message.contains(&names[0]), "{}", condition.message);

    shop.sidecars.set(&names[0], Manner::Refuses);
    until(LIMIT, async || {
        let status = told(&sandbox, "all").await;
        let is_told = status.pending[0].reason == "it answers 401 Unauthorized";
        if is_told { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    until(LIMIT, async || {
        let told = events(&sandbox, "all").await;
        if told == ["NotAcknowledged"] { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    shop.sidecars.set(&names[0], Manner::Acknowledges);
    let status = until_complete(&sandbox, "all").await;
    assert_eq!((status.acknowledged, status.pending.len()), (2, 0));
    assert_eq!(record(&sandbox).await.purges[0].force, Force::Soft);
    // Who had acknowledged was not asked again.
    assert_eq!(shop.sidecars.got(&names[1]).len(), 1);
}

#[tokio::test]
async fn a_pod_that_goes_meanwhile_is_not_waited_for_and_one_that_comes_is() {
    let sandbox = sandbox().await;
    let shop = shop(&sandbox, Manner::Acknowledges).await;
    let names = until_pods(&sandbox, 2).await;
    shop.sidecars.set(&names[0], Manner::Hangs);
    order(&sandbox, "all", json!({ "everything": true })).await;
    until_told(&sandbox, "all", "False", "Waiting").await;
    let now = DeleteParams::default().grace_period(0);
    sandbox.api::<Pod>().delete(&names[0], &now).await.unwrap();
    let status = until_complete(&sandbox, "all").await;
    assert!(!status.acknowledged_by.contains(&names[0]), "{status:?}");
    assert!(status.acknowledged_by.contains(&names[1]), "{status:?}");
}

#[tokio::test]
async fn an_operator_that_is_killed_leaves_the_next_one_to_go_on() {
    let sandbox = sandbox().await;
    let mut shop = shop(&sandbox, Manner::Hangs).await;
    order(&sandbox, "first", json!({ "tags": ["a"] })).await;
    let begun = until_told(&sandbox, "first", "False", "Waiting").await;
    shop.operator.kill();
    order(&sandbox, "second", json!({ "tags": ["b"] })).await;
    shop.sidecars.set_all(Manner::Acknowledges);
    let _second = shop.installation.start("second");
    let mut epochs = Vec::new();
    for name in ["first", "second"] {
        let limit = Duration::from_secs(60);
        epochs.push(
            until(limit, async || {
                let status = told(&sandbox, name).await;
                if status.is_complete() { Ok(status.epoch) } else { Err(format!("{status:?}")) }
            })
            .await,
        );
    }
    assert_eq!(epochs[0], begun.epoch, "its number stays");
    let recorded: Vec<_> = record(&sandbox).await.purges.iter().map(|purge| Some(purge.epoch)).collect();
    assert_eq!(recorded, epochs, "each is there once");
}

#[tokio::test]
async fn two_at_once_have_different_numbers() {
    let sandbox = sandbox().await;
    let _shop = shop(&sandbox, Manner::Acknowledges).await;
    let both = tokio::join!(
        order(&sandbox, "a", json!({ "tags": ["a"] })),
        order(&sandbox, "b", json!({ "prefixes": ["/b/"] })),
    );
    let mut numbers = BTreeMap::new();
    for purge in [both.0, both.1] {
        let status = until_complete(&sandbox, &purge.name_any()).await;
        numbers.insert(status.epoch.unwrap(), purge.uid().unwrap());
    }
    let recorded = record(&sandbox).await.purges.into_iter().map(|purge| (purge.epoch, purge.id));
    assert_eq!(numbers, recorded.collect());
    assert_eq!(numbers.len(), 2);
}

#[tokio::test]
async fn a_purge_waits_for_its_service_and_is_what_was_ordered_then() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let sidecars = Sidecars::that(Manner::Acknowledges);
    let _kubelet = sidecars.kubelet(&sandbox);
    order(&sandbox, "all", json!({ "tags": ["a"], "soft": true })).await;
    let missing = until_told(&sandbox, "all", "False", "ServiceNotFound").await;
    assert!(missing.complete().unwrap().message.contains("no CachedService shop in this namespace"));
    sandbox.apply("shop", spec()).await;
    // There may be none yet of the pods that have a sidecar; those that come read the record.
    until(LIMIT, async || {
        let status = told(&sandbox, "all").await;
        if status.is_complete() { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    let record = record(&sandbox).await;
    assert_eq!(record.purges.len(), 1);
    assert_eq!(
        (&record.purges[0].targets[..], record.purges[0].force),
        (&[Target::Tag("a".to_owned())][..], Force::Soft)
    );
}

#[tokio::test]
async fn pods_that_have_a_cache_still_are_asked_though_the_spec_has_none_any_more() {
    let sandbox = sandbox().await;
    let shop = shop(&sandbox, Manner::Acknowledges).await;
    let names = until_pods(&sandbox, 2).await;
    // Nothing that starts becomes ready, so that what runs goes on.
    drop(shop._kubelet);
    let mut off = spec();
    off["cache"]["http"]["enabled"] = json!(false);
    sandbox.apply("shop", off).await;
    until(LIMIT, async || {
        let pods = pods(&sandbox).await;
        let new = pods.iter().filter(|pod| pod.spec.as_ref().unwrap().init_containers.is_none()).count();
        if new > 0 { Ok(()) } else { Err(format!("{} pods", pods.len())) }
    })
    .await;
    order(&sandbox, "all", json!({ "everything": true })).await;
    let status = until_complete(&sandbox, "all").await;
    assert_eq!((&status.acknowledged_by, status.replicas), (&names, 2));
}

#[tokio::test]
async fn without_the_token_a_purge_is_recorded_and_waits_for_it() {
    let sandbox = sandbox().await;
    let _shop = shop(&sandbox, Manner::Acknowledges).await;
    pause(&sandbox, Some("true")).await;
    sandbox.until_condition(LIMIT, "shop", "Paused", "True", "PausedByAnnotation").await;
    sandbox.api::<Secret>().delete("shop-sidecar", &DeleteParams::default()).await.unwrap();
    order(&sandbox, "all", json!({ "everything": true })).await;
    let waiting = until_told(&sandbox, "all", "False", "Waiting").await;
    assert!(waiting.complete().unwrap().message.contains("Secret shop-sidecar"), "{waiting:?}");
    assert_eq!(record(&sandbox).await.purges.len(), 1);
    pause(&sandbox, None).await;
    until_complete(&sandbox, "all").await;
}

#[tokio::test]
async fn what_is_purged_while_nothing_is_cached_is_known_when_it_is_again() {
    let sandbox = sandbox().await;
    let mut off = spec();
    off["cache"]["http"]["enabled"] = json!(false);
    let _shop = sandbox.serve_spec("shop", off).await;
    order(&sandbox, "all", json!({ "everything": true })).await;
    let status = until_told(&sandbox, "all", "True", "NoPods").await;
    assert_eq!(Some(record(&sandbox).await.last()), status.epoch);
}

#[tokio::test]
async fn pods_that_are_on_no_node_are_not_waited_for() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    sandbox.apply("shop", spec()).await;
    until(LIMIT, async || {
        let count = pods(&sandbox).await.len();
        if count == 2 { Ok(()) } else { Err(format!("{count} pods")) }
    })
    .await;
    order(&sandbox, "all", json!({ "everything": true })).await;
    until_told(&sandbox, "all", "True", "NoPods").await;
}

#[tokio::test]
async fn a_pod_that_is_not_of_the_service_is_given_no_token_whatever_its_labels() {
    let sandbox = sandbox().await;
    let shop = shop(&sandbox, Manner::Acknowledges).await;
    let mut stray = pods(&sandbox).await.remove(0);
    let labels = stray.labels().clone();
    stray.metadata = serde_json::from_value(json!({ "name": "stray", "labels": labels })).unwrap();
    // The labels that the ReplicaSet selects by would have it adopt the pod.
    stray.metadata.labels.as_mut().unwrap().remove("pod-template-hash");
    stray.spec.as_mut().unwrap().node_name = None;
    stray.status = None;
    sandbox.api().create(&PostParams::default(), &stray).await.unwrap();
    until_pods(&sandbox, 3).await;
    order(&sandbox, "all", json!({ "everything": true })).await;
    let status = until_complete(&sandbox, "all").await;
    assert_eq!(status.replicas, 2);
    assert!(shop.sidecars.got("stray").is_empty());
}

#[tokio::test]
async fn a_pod_does_not_acknowledge_for_another_whose_address_it_has() {
    let sandbox = sandbox().await;
    let shop = shop(&sandbox, Manner::Acknowledges).await;
    let names = until_pods(&sandbox, 2).await;
    shop.sidecars.set(&names[0], Manner::IsAnothers);
    order(&sandbox, "all", json!({ "everything": true })).await;
    until(LIMIT, async || {
        let status = told(&sandbox, "all").await;
        let reasons: Vec<_> = status.pending.iter().map(|pending| pending.reason.as_str()).collect();
        if reasons == ["another pod answers at its address"] { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    shop.sidecars.set(&names[0], Manner::Acknowledges);
    assert_eq!(until_complete(&sandbox, "all").await.acknowledged, 2);
}

#[tokio::test]
async fn with_no_pod_there_is_nothing_to_wait_for() {
    let sandbox = sandbox().await;
    let shop = shop(&sandbox, Manner::Hangs).await;
    let none = Patch::Merge(json!({ "spec": { "replicas": 0 } }));
    sandbox.api::<CachedService>().patch("shop", &PatchParams::default(), &none).await.unwrap();
    until(LIMIT, async || {
        for pod in pods(&sandbox).await {
            let now = DeleteParams::default().grace_period(0);
            let _ = sandbox.api::<Pod>().delete(&pod.name_any(), &now).await;
        }
        let left = pods(&sandbox).await.len();
        if left == 0 { Ok(()) } else { Err(format!("{left} pods")) }
    })
    .await;
    order(&sandbox, "all", json!({ "everything": true })).await;
    let status = until_told(&sandbox, "all", "True", "NoPods").await;
    assert_eq!(status.progress.as_deref(), Some("0/0"));
    assert_eq!(record(&sandbox).await.purges.len(), 1, "those that come read it");
    drop(shop);
}

#[tokio::test]
async fn a_complete_purge_goes_when_its_time_is_over_also_after_a_restart() {
    let sandbox = sandbox().await;
    let mut shop = shop(&sandbox, Manner::Acknowledges).await;
    order(&sandbox, "short", json!({ "everything": true, "ttlSecondsAfterFinished": 1 })).await;
    order(&sandbox, "long", json!({ "tags": ["a"], "ttlSecondsAfterFinished": 3 })).await;
    until_complete(&sandbox, "long").await;
    let until_gone = async |name: &'static str| {
        until(Duration::from_secs(60), async || {
            let found = sandbox.api::<CachePurge>().get_opt(name).await.unwrap();
            if found.is_none() { Ok(()) } else { Err(format!("{name} is still there")) }
        })
        .await;
    };
    until_gone("short").await;
    shop.operator.kill();
    let _second = shop.installation.start("second");
    until_gone("long").await;
    // The record outlives them, and later ones follow in it.
    order(&sandbox, "later", json!({ "tags": ["b"] })).await;
    let later = until_complete(&sandbox, "later").await;
    let record = record(&sandbox).await;
    assert_eq!((record.purges.len(), Some(record.last())), (3, later.epoch));
}

#[tokio::test]
async fn a_record_that_is_lost_begins_anew_and_forgets_all_of_before() {
    let sandbox = sandbox().await;
    let _shop = shop(&sandbox, Manner::Acknowledges).await;
    let before = record(&sandbox).await;
    order(&sandbox, "first", json!({ "tags": ["a"] })).await;
    let first = until_complete(&sandbox, "first").await;
    // What was told of it is lost as well.
    sandbox.api::<CachePurge>().delete("first", &DeleteParams::default()).await.unwrap();
    sandbox.api::<ConfigMap>().delete("shop-purges", &DeleteParams::default()).await.unwrap();
    let begun = until(LIMIT, async || {
        let map = sandbox.api::<ConfigMap>().get_opt("shop-purges").await.unwrap();
        if map.is_some() { Ok(record(&sandbox).await) } else { Err("it is not made anew".to_owned()) }
    })
    .await;
    assert!(Some(begun.forgotten) > first.epoch && begun.begun > before.begun, "{begun:?}");
    order(&sandbox, "second", json!({ "tags": ["b"] })).await;
    let second = until_complete(&sandbox, "second").await;
    let record = record(&sandbox).await;
    assert_eq!((record.forgotten, Some(record.last())), (begun.forgotten, second.epoch));
    assert_eq!(record.purges.len(), 1);
}

#[tokio::test]
async fn a_record_that_is_lost_while_a_purge_is_open_has_it_before_that_is_complete() {
    let sandbox = sandbox().await;
    let shop = shop(&sandbox, Manner::Hangs).await;
    order(&sandbox, "all", json!({ "everything": true })).await;
    until_told(&sandbox, "all", "False", "Waiting").await;
    // So that nobody else makes it anew.
    pause(&sandbox, Some("true")).await;
    sandbox.until_condition(LIMIT, "shop", "Paused", "True", "PausedByAnnotation").await;
    sandbox.api::<ConfigMap>().delete("shop-purges", &DeleteParams::default()).await.unwrap();
    shop.sidecars.set_all(Manner::Acknowledges);
    let limit = Duration::from_secs(60);
    let status = until(limit, async || {
        let status = told(&sandbox, "all").await;
        if status.is_complete() { Ok(status) } else { Err(format!("{status:?}")) }
    })
    .await;
    let record = record(&sandbox).await;
    assert_eq!((record.purges.len(), Some(record.last())), (1, status.epoch), "{record:?}");
}

#[tokio::test]
async fn a_pod_that_knows_more_than_the_record_has_not_done_what_has_a_smaller_number() {
    let sandbox = sandbox().await;
    let shop = shop(&sandbox, Manner::Acknowledges).await;
    let names = until_pods(&sandbox, 2).await;
    // The record was lost, and since then the clock is an hour behind.
    let done = record(&sandbox).await.last() + 3_600_000;
    shop.sidecars.set(&names[0], Manner::HasDone(done));
    order(&sandbox, "all", json!({ "everything": true })).await;
    let status = until_complete(&sandbox, "all").await;
    let record = record(&sandbox).await;
    assert_eq!((record.forgotten, Some(record.last())), (done, status.epoch), "{record:?}");
    assert!(status.epoch > Some(done), "{status:?}");
    for name in &names {
        let handed = shop.sidecars.got(name).pop().unwrap().1;
        assert_eq!(handed.last(), record.last(), "{name} has done it by this number");
    }
}

#[tokio::test]
async fn a_record_that_somebody_makes_unreadable_is_begun_anew_though_nothing_is_purged() {
    let sandbox = sandbox().await;
    let mut shop = shop(&sandbox, Manner::Acknowledges).await;
    let maps = sandbox.api::<ConfigMap>();
    let change = async |data: Value| {
        let patch = Patch::Merge(json!({ "data": data }));
        maps.patch("shop-purges", &PatchParams::default(), &patch).await.unwrap();
    };
    let until_begun = async |before: u64| {
        until(LIMIT, async || {
            let data = maps.get("shop-purges").await.unwrap().data.unwrap_or_default();
            let text = data.get("purges.json").cloned().unwrap_or_default();
            match PurgeRecord::parse(&text) {
                Ok(record) if record.begun > before => Ok(record.begun),
                _ => Err(format!("{data:?}")),
            }
        })
        .await
    };
    let mut begun = record(&sandbox).await.begun;
    for data in [json!({ "purges.json": "{" }), Value::Null] {
        change(data).await;
        begun = until_begun(begun).await;
    }
    shop.operator.kill();
    change(json!({ "purges.json": "" })).await;
    let _second = shop.installation.start("second");
    until_begun(begun).await;
}

#[tokio::test]
async fn a_record_of_somebody_elses_is_left_alone_told_of_and_holds_up_the_pods() {
    let sandbox = sandbox().await;
    let labels = json!({ NAME_LABEL: "shop" });
    let (unlabelled, labelled) =
        (json!({ "name": "shop-purges" }), json!({ "name": "shop-purges", "labels": labels }));
    let installation = sandbox.install().await;
    let _operator = installation.start("first");
    let sidecars = Sidecars::that(Manner::Acknowledges);
    let _kubelet = sidecars.kubelet(&sandbox);
    let maps = sandbox.api::<ConfigMap>();
    for metadata in [labelled, unlabelled] {
        let theirs: ConfigMap =
            serde_json::from_value(json!({ "metadata": metadata, "data": { "a": "b" } })).unwrap();
        maps.create(&PostParams::default(), &theirs).await.unwrap();
        sandbox.apply("shop", spec()).await;
        let told = sandbox.until_condition(LIMIT, "shop", "Degraded", "True", "NameTaken").await;
        assert!(told.message.contains("ConfigMap shop-purges exists"), "{}", told.message);
        sandbox.until_condition(LIMIT, "shop", "CacheReady", "False", "NameTaken").await;
        assert!(pods(&sandbox).await.is_empty(), "they would wait for their record");
        order(&sandbox, "all", json!({ "everything": true })).await;
        let status = until_told(&sandbox, "all", "False", "NameTaken").await;
        assert!(status.complete().unwrap().message.contains("delete that ConfigMap"));
        assert_eq!(maps.get("shop-purges").await.unwrap().data, theirs.data);
        sandbox.api::<CachePurge>().delete("all", &DeleteParams::default()).await.unwrap();
        if theirs.metadata.labels.is_some() {
            sandbox.api::<CachedService>().delete("shop", &DeleteParams::default()).await.unwrap();
        }
        maps.delete("shop-purges", &DeleteParams::default()).await.unwrap();
    }
    order(&sandbox, "later", json!({ "everything": true })).await;
    until(Duration::from_secs(60), async || {
        let status = told(&sandbox, "later").await;
        if status.is_complete() { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    sandbox.until_ready("shop").await;
}

#[tokio::test]
async fn the_near_cache_alone_is_told_of_purges_and_acknowledges_them() {
    let sandbox = sandbox().await;
    let shop = shop_with(&sandbox, Manner::Acknowledges, json!({ "application": {} })).await;
    let names = until_pods(&sandbox, 2).await;
    order(&sandbox, "keys", json!({ "application": { "keys": ["user:1"], "prefixes": ["job:"] } })).await;
    let status = until_complete(&sandbox, "keys").await;
    assert_eq!((&status.acknowledged_by, status.deleted_keys), (&names, None));
    let targets = vec![Target::RedisKey("user:1".to_owned()), Target::RedisPrefix("job:".to_owned())];
    assert_eq!(record(&sandbox).await.purges[0].targets, targets);
    for name in &names {
        assert_eq!(shop.sidecars.got(name).last().unwrap().1.purges[0].targets, targets);
        assert!(shop.sidecars.deletions(name).is_empty(), "nothing is deleted that is not to be");
    }
}

#[tokio::test]
async fn one_pod_deletes_in_redis_before_any_is_told_to_forget() {
    let sandbox = sandbox().await;
    let mut shop = shop_with(&sandbox, Manner::Hangs, json!({ "application": {} })).await;
    let names = until_pods(&sandbox, 2).await;
    let keys = json!({ "keys": ["user:1"], "prefixes": ["job:"], "redis": "Delete" });
    let purge = order(&sandbox, "keys", json!({ "application": keys })).await;
    let waiting = until_told(&sandbox, "keys", "False", "Waiting").await;
    let words = waiting.complete().unwrap().message.clone();
    assert!(words.starts_with("no pod has deleted in Redis yet") && words.contains("no answer"), "{words}");
    // Others go on meanwhile.
    order(&sandbox, "other", json!({ "everything": true })).await;
    until_told(&sandbox, "other", "False", "Waiting").await;
    let recorded: Vec<_> = record(&sandbox).await.purges.into_iter().map(|purge| purge.targets).collect();
    assert_eq!(recorded, [[Target::Everything]]);
    shop.sidecars.set_all(Manner::Acknowledges);
    let status = until_complete(&sandbox, "keys").await;
    assert_eq!((status.deleted_keys, status.deletion_time.is_some()), (Some(2), true));
    assert_eq!(status.acknowledged_by, names);
    until_complete(&sandbox, "other").await;
    let wanted = cachedservice::settings::deletions::Deletion {
        id: purge.uid().unwrap(),
        keys: vec!["user:1".to_owned()],
        prefixes: vec!["job:".to_owned()],
    };
    let asked: Vec<_> = names.iter().flat_map(|name| shop.sidecars.deletions(name)).collect();
    assert!(!asked.is_empty() && asked.iter().all(|order| *order == wanted), "{asked:?}");
    // What was deleted is not deleted again by an operator that comes after this one.
    let before = asked.len();
    shop.operator.kill();
    let _next = shop.installation.start("second");
    order(&sandbox, "last", json!({ "everything": true })).await;
    until(Duration::from_secs(60), async || {
        let status = told(&sandbox, "last").await;
        if status.is_complete() { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    let after: usize = names.iter().map(|name| shop.sidecars.deletions(name).len()).sum();
    assert_eq!(after, before);
}

#[tokio::test]
async fn what_names_a_tier_that_is_off_is_told_so_and_goes_on_when_it_is_on() {
    let sandbox = sandbox().await;
    let _shop = shop_with(&sandbox, Manner::Acknowledges, json!({ "application": {} })).await;
    order(&sandbox, "pages", json!({ "tags": ["t"], "application": { "keys": ["user:1"] } })).await;
    let status = until_told(&sandbox, "pages", "False", "TierOff").await;
    let words = status.complete().unwrap().message.clone();
    assert!(words.starts_with("cache.http of this CachedService is off"), "{words}");
    assert_eq!(record(&sandbox).await.purges.len(), 1, "where it is on again, it is known");
    sandbox.apply("shop", spec()).await;
    until_told(&sandbox, "pages", "False", "TierOff").await;
    until(LIMIT, async || {
        let message = told_message(&sandbox, "pages").await;
        if message.starts_with("cache.application") { Ok(()) } else { Err(message) }
    })
    .await;
    let keys = json!({ "keys": ["user:1"], "redis": "Delete" });
    order(&sandbox, "keys", json!({ "everything": true, "application": keys })).await;
    until_told(&sandbox, "keys", "False", "TierOff").await;
    assert_eq!(record(&sandbox).await.purges.len(), 1, "nothing of it is done before keys are deleted");
    sandbox.apply("shop", spec_with(json!({ "http": {}, "application": {} }))).await;
    until_complete(&sandbox, "pages").await;
    until_complete(&sandbox, "keys").await;
}

async fn told_message(sandbox: &Sandbox, name: &str) -> String {
    told(sandbox, name).await.complete().map(|it| it.message.clone()).unwrap_or_default()
}
