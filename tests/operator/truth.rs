//! What stands in the way is told in the words of who said it, soon, and for
//! as long as it is so; others go on, and nothing needs a restart.

use std::time::Duration;

use k8s_openapi::{
    api::{
        admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
        apps::v1::Deployment,
        core::v1::{ConfigMap, Event, Pod, ResourceQuota, Service},
        rbac::v1::Role,
    },
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    core::NamespaceResourceScope,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    sandbox,
    support::{Kubelet, Sandbox, child::DEPLOYMENT, condition, kubelet, until},
};

/// From the first report of the server until it stands in the status.
const SOON: Duration = Duration::from_secs(5);
/// Until the server reports it; not the operator's matter.
const REPORTED: Duration = Duration::from_secs(20);
/// A refusal is tried again every 15 to 19 s.
const HEALED: Duration = Duration::from_secs(25);

fn spec() -> Value {
    json!({ "image": "example.com/shop:1" })
}

#[tokio::test]
async fn a_right_that_is_missing_is_told_and_healed_by_granting_it() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    bystander(&sandbox).await;
    let full = without(&sandbox, "horizontalpodautoscalers", "create").await;

    sandbox.apply("shop", spec()).await;
    let degraded = sandbox.until_condition(SOON, "shop", "Degraded", "True", "Forbidden").await;
    // Older API servers do not say whom they forbid what.
    let words = r#"horizontalpodautoscalers.autoscaling "shop" is forbidden: "#;
    assert!(degraded.message.contains(words), "{}", degraded.message);
    sandbox.until_condition(SOON, "shop", "Ready", "False", "Forbidden").await;
    assert_goes_on(&sandbox).await;

    grant(&sandbox, &full).await;
    healed(&sandbox).await;
}

#[tokio::test]
async fn what_the_operator_may_not_read_is_told_and_healed_by_granting_it() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let full = without(&sandbox, "services", "get").await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    bystander(&sandbox).await;
    // Of nobody, and without our label: the operator has to look at it to know.
    let in_the_way = json!({
        "metadata": { "name": "shop" }, "spec": { "ports": [{ "port": 1 }], "clusterIP": "None" },
    });
    let services = sandbox.api::<Service>();
    services.create(&PostParams::default(), &serde_json::from_value(in_the_way).unwrap()).await.unwrap();

    sandbox.apply("shop", spec()).await;
    let degraded = sandbox.until_condition(SOON, "shop", "Degraded", "True", "Forbidden").await;
    let words = r#"read Service shop: services "shop" is forbidden: User "#;
    assert!(degraded.message.contains(words), "{}", degraded.message);
    assert_goes_on(&sandbox).await;

    services.delete("shop", &DeleteParams::default()).await.unwrap();
    grant(&sandbox, &full).await;
    healed(&sandbox).await;
}

#[tokio::test]
async fn a_watch_that_is_not_allowed_any_more_is_told_and_healed_by_granting_it() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let mut operator = installation.start("first");
    let _kubelet = sandbox.kubelet();
    sandbox.apply("shop", spec()).await;
    sandbox.until_ready("shop").await;

    // Watches that are open go on: only a new one asks for the right.
    assert!(operator.terminate().await.success());
    let full = without(&sandbox, "poddisruptionbudgets", "watch").await;
    let operator = installation.start("second");
    let told = sandbox.until_condition(REPORTED, "shop", "Degraded", "True", "WatchInterrupted").await;
    assert!(told.message.contains("PodDisruptionBudget: ") && told.message.contains("forbidden"), "{told:?}");
    sandbox.until_ready("shop").await;
    assert!((operator.metric("cachedservice_watches_interrupted") - 1.0).abs() < 0.1);

    grant(&sandbox, &full).await;
    // A watch that works shows in nothing but that it does not fail any more.
    sandbox.until_condition(Duration::from_secs(150), "shop", "Degraded", "False", "AllWell").await;
}

#[tokio::test]
async fn a_reference_that_cannot_be_read_is_told_and_healed_by_granting_it() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let full = without(&sandbox, "configmaps", "get").await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    let settings = json!({ "metadata": { "name": "settings" }, "data": { "a": "b" } });
    let maps = sandbox.api::<ConfigMap>();
    maps.create(&PostParams::default(), &serde_json::from_value(settings).unwrap()).await.unwrap();
    let mut rolling = spec();
    rolling["rollout"] = json!({ "onConfigChange": true });
    rolling["envFrom"] = json!([{ "configMapRef": { "name": "settings" } }]);
    sandbox.apply("shop", rolling).await;
    let told = sandbox.until_condition(REPORTED, "shop", "Degraded", "True", "ReferenceUnreadable").await;
    assert!(told.message.contains("ConfigMap/settings: ") && told.message.contains("forbidden"), "{told:?}");
    // What runs, runs.
    sandbox.until_ready("shop").await;

    grant(&sandbox, &full).await;
    healed(&sandbox).await;
}

#[tokio::test]
async fn while_the_autoscaler_cannot_be_taken_away_the_number_stays_its_own() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let full = without(&sandbox, "horizontalpodautoscalers", "delete").await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    sandbox.apply("shop", spec()).await;
    sandbox.until_ready("shop").await;

    let mut fixed = spec();
    fixed["autoscaling"] = json!({ "enabled": false });
    fixed["replicas"] = json!(5);
    sandbox.apply("shop", fixed).await;
    sandbox.until_condition(SOON, "shop", "AutoscalingReady", "False", "Forbidden").await;
    sandbox.until_condition(SOON, "shop", "ApplicationReady", "False", "Waiting").await;
    let deployment = sandbox.child(DEPLOYMENT, "shop").await;
    assert_eq!(deployment.data["spec"]["replicas"], 2);

    grant(&sandbox, &full).await;
    healed(&sandbox).await;
    assert_eq!(sandbox.child(DEPLOYMENT, "shop").await.data["spec"]["replicas"], 5);
}

/// Takes a verb on a kind away from the operator; returns the Role as it was.
async fn without(sandbox: &Sandbox, resource: &str, verb: &str) -> Role {
    let roles = sandbox.api::<Role>();
    let full = roles.get("cachedservice-operator").await.unwrap();
    let mut less = full.clone();
    for rule in less.rules.iter_mut().flatten() {
        if rule.resources.iter().flatten().any(|present| present == resource) {
            rule.verbs.retain(|present| present != verb);
        }
    }
    less.metadata.managed_fields = None;
    roles.replace("cachedservice-operator", &PostParams::default(), &less).await.unwrap();
    full
}

async fn grant(sandbox: &Sandbox, role: &Role) {
    let rules = Patch::Merge(json!({ "rules": role.rules }));
    let roles = sandbox.api::<Role>();
    roles.patch("cachedservice-operator", &PatchParams::default(), &rules).await.unwrap();
}

#[tokio::test]
async fn a_quota_for_objects_is_told_and_healed_by_lifting_it() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    bystander(&sandbox).await;
    limit(&sandbox, "count/services", &sandbox.api::<Service>()).await;

    sandbox.apply("shop", spec()).await;
    let degraded = sandbox.until_condition(SOON, "shop", "Degraded", "True", "Forbidden").await;
    let words = "exceeded quota: limit, requested: count/services=1, used: count/services=2, limited: count/services=2";
    assert!(degraded.message.contains(words), "{}", degraded.message);
    assert_goes_on(&sandbox).await;

    sandbox.api::<ResourceQuota>().delete("limit", &DeleteParams::default()).await.unwrap();
    healed(&sandbox).await;
}

#[tokio::test]
async fn a_quota_for_pods_is_told_of_application_and_redis_and_healed_by_lifting_it() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    bystander(&sandbox).await;
    limit(&sandbox, "pods", &sandbox.api::<Pod>()).await;

    sandbox.apply("shop", spec()).await;
    let quota = "exceeded quota: limit, requested: pods=1";
    until(REPORTED, async || {
        let deployment = sandbox.find(DEPLOYMENT, "shop").await.ok_or("there is no Deployment")?;
        let status = deployment.data["status"].to_string();
        if status.contains("ReplicaFailure") { Ok(()) } else { Err(status) }
    })
    .await;
    let application =
        sandbox.until_condition(SOON, "shop", "ApplicationReady", "False", "FailedCreate").await;
    assert!(application.message.contains(quota), "{}", application.message);

    until(REPORTED, async || {
        let of_the_set = ListParams::default().fields("involvedObject.name=shop-redis");
        let events = sandbox.api::<Event>().list(&of_the_set).await.unwrap();
        let events = serde_json::to_string(&events.items).unwrap();
        if events.contains("FailedCreate") { Ok(()) } else { Err(events) }
    })
    .await;
    let redis = sandbox.until_condition(SOON, "shop", "RedisReady", "False", "FailedCreate").await;
    assert!(redis.message.contains(quota), "{}", redis.message);
    sandbox.until_condition(SOON, "shop", "Degraded", "True", "FailedCreate").await;
    assert_goes_on(&sandbox).await;

    sandbox.api::<ResourceQuota>().delete("limit", &DeleteParams::default()).await.unwrap();
    healed(&sandbox).await;
}

#[tokio::test]
async fn a_refusal_by_admission_is_told_and_healed_by_lifting_it() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    bystander(&sandbox).await;
    let policy = refuse_deployments(&sandbox, "images come from our own registry").await;

    sandbox.apply("shop", spec()).await;
    let degraded = sandbox.until_condition(SOON, "shop", "Degraded", "True", "Refused").await;
    assert!(degraded.message.contains("images come from our own registry"), "{}", degraded.message);
    assert_goes_on(&sandbox).await;

    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(sandbox.client.clone());
    bindings.delete(&policy, &DeleteParams::default()).await.unwrap();
    healed(&sandbox).await;
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(sandbox.client.clone());
    policies.delete(&policy, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn an_image_that_does_not_exist_is_told_in_the_kubelets_words() {
    let words = r#"failed to pull and unpack image "example.com/shop:1": not found"#;
    let told = kubelet_reports("app", "ErrImagePull", words, "ImagePullFailed").await;
    assert!(told.message.contains("0 of 2 updated pods available"), "{}", told.message);
}

#[tokio::test]
async fn a_secret_that_does_not_exist_is_told_in_the_kubelets_words() {
    let words = r#"secret "of-the-user" not found"#;
    kubelet_reports("app", "CreateContainerConfigError", words, "CreateContainerConfigError").await;
}

#[tokio::test]
async fn a_redis_that_does_not_start_is_told_in_the_kubelets_words() {
    let words = "back-off 10s restarting failed container=redis";
    kubelet_reports("redis", "CrashLoopBackOff", words, "CrashLoopBackOff").await;
}

/// A container of `shop` does not start, for the reason and in the words of
/// the kubelet. Returns what stands in the status before it is mended.
async fn kubelet_reports(
    container: &'static str,
    reason: &'static str,
    words: &'static str,
    told_as: &str,
) -> Condition {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let kubelet = Kubelet::reporting(&sandbox, move |pod| {
        let spec = pod.spec.as_ref()?;
        let of_shop = pod.metadata.name.as_ref()?.starts_with("shop");
        let is_broken = of_shop && spec.containers.iter().any(|present| present.name == container);
        Some(if is_broken { kubelet::waiting(container, reason, words) } else { kubelet::ready(pod) })
    });
    bystander(&sandbox).await;
    sandbox.apply("shop", spec()).await;
    until(REPORTED, async || {
        let pods = sandbox.api::<Pod>().list(&ListParams::default()).await.unwrap();
        let pods = serde_json::to_string(&pods.items).unwrap();
        if pods.contains(reason) { Ok(()) } else { Err(pods) }
    })
    .await;

    let part = if container == "app" { "ApplicationReady" } else { "RedisReady" };
    let told = sandbox.until_condition(SOON, "shop", part, "False", told_as).await;
    assert!(told.message.contains(words), "{}", told.message);
    sandbox.until_condition(SOON, "shop", "Degraded", "True", told_as).await;
    sandbox.until_condition(SOON, "shop", "Ready", "False", told_as).await;
    assert_goes_on(&sandbox).await;

    drop(kubelet);
    let _kubelet = sandbox.kubelet();
    healed(&sandbox).await;
    told
}

/// A second CachedService, which serves.
async fn bystander(sandbox: &Sandbox) {
    sandbox.apply("other", spec()).await;
    sandbox.until_ready("other").await;
}

/// The second CachedService serves, and what is changed in it takes effect.
async fn assert_goes_on(sandbox: &Sandbox) {
    let mut changed = spec();
    changed["service"] = json!({ "port": 8081 });
    sandbox.apply("other", changed).await;
    sandbox.until_ready("other").await;
    let service = sandbox.api::<Service>().get("other").await.unwrap();
    assert_eq!(service.spec.unwrap().ports.unwrap()[0].port, 8081);
    let degraded = condition(&sandbox.service("other").await, "Degraded").unwrap();
    assert_eq!(degraded.status, "False", "{degraded:?}");
}

async fn healed(sandbox: &Sandbox) {
    sandbox.until_condition(HEALED, "shop", "Ready", "True", "Serving").await;
    sandbox.until_condition(SOON, "shop", "Degraded", "False", "AllWell").await;
}

/// Forbids more objects than there are, and waits until that holds.
async fn limit<K>(sandbox: &Sandbox, resource: &str, objects: &Api<K>)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let present = objects.list_metadata(&ListParams::default()).await.unwrap().items.len();
    let quota =
        json!({ "metadata": { "name": "limit" }, "spec": { "hard": { resource: present.to_string() } } });
    let quotas = sandbox.api::<ResourceQuota>();
    quotas.create(&PostParams::default(), &serde_json::from_value(quota).unwrap()).await.unwrap();
    until(Duration::from_secs(10), async || {
        let used = quotas.get("limit").await.unwrap().status.and_then(|status| status.used);
        let counted = used.as_ref().and_then(|used| used.get(resource)).map(|quantity| quantity.0.clone());
        if counted == Some(present.to_string()) { Ok(()) } else { Err(format!("{used:?}")) }
    })
    .await;
}

/// Lets admission refuse every new Deployment in this namespace, and waits until that holds.
async fn refuse_deployments(sandbox: &Sandbox, message: &str) -> String {
    let name = format!("{}.refuse", sandbox.namespace);
    create(
        &sandbox.client,
        json!({
            "metadata": { "name": name },
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": { "resourceRules": [{
                    "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"],
                }] },
                "validations": [{ "expression": "false", "message": message }],
            },
        }),
        Api::<ValidatingAdmissionPolicy>::all,
    )
    .await;
    let here = json!({ "kubernetes.io/metadata.name": sandbox.namespace });
    create(
        &sandbox.client,
        json!({
            "metadata": { "name": name },
            "spec": {
                "policyName": name,
                "validationActions": ["Deny"],
                "matchResources": { "namespaceSelector": { "matchLabels": here } },
            },
        }),
        Api::<ValidatingAdmissionPolicyBinding>::all,
    )
    .await;
    let trial: Deployment = serde_json::from_value(json!({
        "metadata": { "name": "trial" },
        "spec": {
            "selector": { "matchLabels": { "app": "trial" } },
            "template": {
                "metadata": { "labels": { "app": "trial" } },
                "spec": { "containers": [{ "name": "trial", "image": "example.com/trial" }] },
            },
        },
    }))
    .unwrap();
    until(Duration::from_secs(20), async || {
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        match sandbox.api::<Deployment>().create(&dry_run, &trial).await {
            Err(error) if error.to_string().contains(message) => Ok(()),
            answer => Err(format!("{answer:?}")),
        }
    })
    .await;
    name
}

async fn create<K>(client: &kube::Client, object: Value, api: impl Fn(kube::Client) -> Api<K>)
where
    K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object).unwrap();
    api(client.clone()).create(&PostParams::default(), &object).await.unwrap();
}
