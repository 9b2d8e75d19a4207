//! What one CachedService becomes.

use std::time::Duration;

use cachedservice::api::names::{APPLIED_ANNOTATION, NAME_LABEL};
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{PodTemplateSpec, Secret},
};
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::{
    sandbox,
    support::{
        Sandbox,
        child::{CHILDREN, DEPLOYMENT, REDIS_SERVICE, SERVICE, STATEFUL_SET, uid},
        until,
    },
};

#[tokio::test]
async fn the_minimal_example_becomes_ready_with_all_children() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    let service = sandbox.apply_example("minimal").await;
    sandbox.until_ready("shop").await;

    for kind in CHILDREN {
        let child = sandbox.child(kind, "shop").await;
        let [owner] = child.owner_references() else { panic!("{kind:?}: {:?}", child.owner_references()) };
        assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("CachedService", "shop"), "{kind:?}");
        assert_eq!(owner.uid, service.uid().unwrap(), "{kind:?}");
        assert_eq!(owner.controller, Some(true), "{kind:?}");
        for (label, value) in [
            (NAME_LABEL, "shop"),
            ("app.kubernetes.io/name", "shop"),
            ("app.kubernetes.io/component", if kind.is_redis { "redis" } else { "app" }),
            ("app.kubernetes.io/managed-by", "cachedservice-operator"),
        ] {
            assert_eq!(child.labels().get(label).map(String::as_str), Some(value), "{kind:?}");
        }
    }
    assert_eq!(sandbox.child(DEPLOYMENT, "shop").await.data["spec"]["replicas"], 2);
    let port = &sandbox.child(SERVICE, "shop").await.data["spec"]["ports"][0];
    assert_eq!((&port["port"], &port["targetPort"]), (&json!(80), &json!("http")));
    assert_eq!(sandbox.child(REDIS_SERVICE, "shop").await.data["spec"]["clusterIP"], "None");
}

#[tokio::test]
async fn the_columns_and_events_tell_how_a_service_came_about() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    sandbox.apply_example("minimal").await;
    sandbox.until_ready("shop").await;

    let columns = until(Duration::from_secs(5), async || {
        let table = sandbox.kubectl(&["get", "cachedservices", "shop", "--no-headers"]);
        let columns: Vec<String> = table.split_whitespace().map(ToOwned::to_owned).collect();
        if columns.get(3).is_some_and(|replicas| replicas == "2/2") { Ok(columns) } else { Err(table) }
    })
    .await;
    assert_eq!(columns[..7], ["shop", "True", "Serving", "2/2", "2-10", "?/70%", "Available"]);

    let told = until(Duration::from_secs(5), async || {
        let of_shop = sandbox.events("shop").await;
        let ready = of_shop.iter().any(|(reason, _)| reason == "Ready");
        if ready { Ok(of_shop) } else { Err(format!("{of_shop:?}")) }
    })
    .await;
    let (_, created) = told.iter().find(|(reason, _)| reason == "Created").unwrap();
    for kind in CHILDREN {
        assert!(created.contains(&format!("{} {}", kind.kind, kind.name("shop"))), "{kind:?}: {created}");
    }
}

#[tokio::test]
async fn pods_start_with_secure_defaults_and_the_address_of_redis() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    sandbox.apply_example("minimal").await;
    sandbox.until_created("shop").await;

    let app = sandbox.api::<Deployment>().get("shop").await.unwrap().spec.template;
    let redis = sandbox.api::<StatefulSet>().get("shop-redis").await.unwrap().spec.template;
    for template in [&app, &redis] {
        assert_restricted(template);
    }
    let redis = json(&redis);
    assert_eq!(redis["spec"]["securityContext"]["runAsUser"], 999);
    assert_eq!(redis["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"], true);

    let app = &json(&app)["spec"];
    assert_eq!(app["topologySpreadConstraints"].as_array().unwrap().len(), 2);
    let container = &app["containers"][0];
    assert_eq!(container["name"], "app");
    assert_eq!(container["resources"]["requests"]["cpu"], "100m");
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        assert_eq!(container[probe]["httpGet"]["path"], "/healthz", "{probe}");
    }
    let drain = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_i64().unwrap();
    assert!(drain > 0 && app["terminationGracePeriodSeconds"].as_i64().unwrap() > drain);
    let env = container["env"].as_array().unwrap();
    assert!(env.contains(&json!({ "name": "PORT", "value": "8080" })), "{env:?}");
    let source = json!({ "secretKeyRef": { "name": "shop-redis", "key": "url" } });
    assert!(env.contains(&json!({ "name": "REDIS_URL", "valueFrom": source })), "{env:?}");

    let secret = sandbox.api::<Secret>().get("shop-redis").await.unwrap().data.unwrap();
    let text = |key: &str| String::from_utf8(secret[key].0.clone()).unwrap();
    let (namespace, password) = (&sandbox.namespace, text("password"));
    assert!(password.len() >= 32, "{} characters", password.len());
    assert_eq!(text("url"), format!("redis://default:{password}@shop-redis.{namespace}.svc:6379/0"));
}

/// What the Pod Security Standard "Restricted" asks for, and that no token is mounted.
fn assert_restricted(template: &PodTemplateSpec) {
    let spec = &json(template)["spec"];
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    for container in spec["containers"].as_array().unwrap() {
        let context = &container["securityContext"];
        assert_eq!(context["allowPrivilegeEscalation"], false, "{container}");
        assert_eq!(context["capabilities"]["drop"], json!(["ALL"]), "{container}");
        let non_root = [&context["runAsNonRoot"], &spec["securityContext"]["runAsNonRoot"]];
        assert!(non_root.contains(&&json!(true)), "{container}");
    }
}

fn json(template: &PodTemplateSpec) -> Value {
    serde_json::to_value(template).unwrap()
}

#[tokio::test]
async fn pods_are_rolled_only_by_what_changes_their_template() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    let spec = json!({ "image": "example.com/shop:1" });
    sandbox.apply("shop", spec.clone()).await;
    sandbox.until_ready("shop").await;
    let before = generations(&sandbox).await;

    let mut outside = spec.clone();
    outside["service"] = json!({ "port": 8081 });
    outside["autoscaling"] = json!({ "maxReplicas": 20 });
    sandbox.apply("shop", outside.clone()).await;
    sandbox.until_ready("shop").await;
    assert_eq!(sandbox.child(SERVICE, "shop").await.data["spec"]["ports"][0]["port"], 8081);
    assert_eq!(generations(&sandbox).await, before);

    let mut of_redis = outside.clone();
    of_redis["redis"] = json!({ "memory": "64Mi" });
    sandbox.apply("shop", of_redis.clone()).await;
    sandbox.until_ready("shop").await;
    let (app, redis) = generations(&sandbox).await;
    assert_eq!(app, before.0);
    assert!(redis > before.1, "{redis}");

    let mut of_app = of_redis;
    of_app["image"] = json!("example.com/shop:2");
    sandbox.apply("shop", of_app).await;
    sandbox.until_ready("shop").await;
    let last = generations(&sandbox).await;
    assert!(last.0 > app, "{last:?}");
    assert_eq!(last.1, redis);
}

/// The generations of Deployment and StatefulSet.
async fn generations(sandbox: &Sandbox) -> (i64, i64) {
    let of = async |kind| sandbox.child(kind, "shop").await.metadata.generation.unwrap();
    (of(DEPLOYMENT).await, of(STATEFUL_SET).await)
}

#[tokio::test]
async fn a_spec_that_the_schema_lets_through_and_the_plan_does_not_changes_nothing() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    let spec = json!({ "image": "example.com/shop:1" });
    sandbox.apply("shop", spec.clone()).await;
    sandbox.until_ready("shop").await;
    let mut before = Vec::new();
    for kind in CHILDREN {
        let child = sandbox.child(kind, "shop").await;
        before.push((uid(&child), child.annotations()[APPLIED_ANNOTATION].clone()));
    }

    let mut broken = spec.clone();
    broken["image"] = json!("example.com/shop:2");
    broken["template"] = json!({ "spec": { "tolerationz": [] } });
    sandbox.apply("shop", broken).await;
    let limit = Duration::from_secs(5);
    let degraded = sandbox.until_condition(limit, "shop", "Degraded", "True", "InvalidSpec").await;
    assert!(degraded.message.contains("spec.template.spec.tolerationz"), "{}", degraded.message);
    sandbox.until_condition(limit, "shop", "Ready", "False", "InvalidSpec").await;
    for (kind, before) in CHILDREN.into_iter().zip(before) {
        let child = sandbox.child(kind, "shop").await;
        assert_eq!((uid(&child), child.annotations()[APPLIED_ANNOTATION].clone()), before, "{kind:?}");
    }

    sandbox.apply("shop", spec).await;
    sandbox.until_ready("shop").await;
    sandbox.until_condition(limit, "shop", "Degraded", "False", "AllWell").await;
}
