//! The switches of the application, each seen to do what it says and to be
//! taken back again.

use std::time::Duration;

use cachedservice::api::names::TEMPLATE_ANNOTATION;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::{
    sandbox,
    support::{
        Sandbox,
        child::{
            AUTOSCALER, CHILDREN, ChildKind, DEPLOYMENT, DISRUPTION_BUDGET, SERVICE_ACCOUNT, STATEFUL_SET,
        },
        kubelet::Kubelet,
        until,
    },
};

const LIMIT: Duration = Duration::from_secs(20);

fn plain() -> Value {
    json!({ "image": "example.com/shop:1" })
}

/// The plain spec with these fields.
fn with(fields: &Value) -> Value {
    let mut spec = plain();
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    spec
}

#[tokio::test]
async fn a_service_account_that_is_taken_out_of_the_template_goes() {
    let sandbox = sandbox().await;
    let _shop = sandbox.serve("shop").await;
    let account = async || {
        let pods = sandbox.child(DEPLOYMENT, "shop").await.data["spec"]["template"]["spec"].clone();
        [pods["serviceAccountName"].clone(), pods["serviceAccount"].clone()]
    };
    let templates = [
        (json!({ "serviceAccountName": "till" }), json!("till")),
        (json!({}), Value::Null),
        (json!({ "serviceAccount": "old" }), json!("old")),
        (json!({}), Value::Null),
    ];
    for (template, wanted) in templates {
        sandbox.apply("shop", with(&json!({ "template": { "spec": template } }))).await;
        until(LIMIT, async || {
            let found = account().await;
            if found == [wanted.clone(), wanted.clone()] { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    }
}

#[tokio::test]
async fn each_switch_reaches_its_object_and_is_taken_back() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    let affinity = json!({ "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [
        { "weight": 1, "preference": { "matchExpressions": [{ "key": "disk", "operator": "Exists" }] } },
    ] } });
    let toleration = json!({ "key": "dedicated", "operator": "Exists" });
    let pods = json!({
        "affinity": affinity, "tolerations": [toleration], "nodeSelector": { "pool": "web" },
        "priorityClassName": "system-cluster-critical",
    });
    let mut switches = json!({
        "topologySpreadConstraints": [{ "topologyKey": "rack", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway" }],
        "redis": pods,
        "rollout": {
            "maxSurge": 0, "maxUnavailable": "50%", "minReadySeconds": 1, "revisionHistoryLimit": 3,
        },
        "disruptionBudget": { "minAvailable": 1 },
        "podLabels": { "tier": "front" },
        "autoscaling": {
            "targetMemoryUtilization": 65,
            "metrics": [{ "type": "Resource", "resource": {
                "name": "cpu", "target": { "type": "AverageValue", "averageValue": "300m" },
            } }],
            "behavior": { "scaleDown": { "stabilizationWindowSeconds": 17 } },
        },
        "serviceAccount": { "create": true, "annotations": { "example.com/role": "shop" }, "automountToken": true },
    });
    switches.as_object_mut().unwrap().extend(pods.as_object().unwrap().clone());
    sandbox.apply("shop", with(&switches)).await;
    sandbox.until_ready("shop").await;

    let deployment = sandbox.child(DEPLOYMENT, "shop").await.data["spec"].clone();
    let pod = &deployment["template"]["spec"];
    assert_placed(pod, &affinity, &toleration);
    let spread = pod["topologySpreadConstraints"].as_array().unwrap();
    assert_eq!((spread.len(), &spread[0]["topologyKey"]), (1, &json!("rack")));
    assert_eq!(pod["serviceAccountName"], "shop");
    assert_eq!(pod["automountServiceAccountToken"], true);
    assert_eq!(deployment["template"]["metadata"]["labels"]["tier"], "front");
    assert_eq!(deployment["strategy"]["rollingUpdate"], json!({ "maxSurge": 0, "maxUnavailable": "50%" }));
    assert_eq!((&deployment["minReadySeconds"], &deployment["revisionHistoryLimit"]), (&json!(1), &json!(3)));
    let redis = sandbox.child(STATEFUL_SET, "shop").await;
    assert_placed(&redis.data["spec"]["template"]["spec"], &affinity, &toleration);
    let budget = sandbox.child(DISRUPTION_BUDGET, "shop").await.data["spec"].clone();
    assert_eq!((&budget["minAvailable"], &budget["maxUnavailable"]), (&json!(1), &Value::Null));
    let autoscaler = sandbox.child(AUTOSCALER, "shop").await.data["spec"].clone();
    let metrics = autoscaler["metrics"].as_array().unwrap();
    let memory = json!({ "name": "memory", "container": "app", "target": { "type": "Utilization", "averageUtilization": 65 } });
    assert!(metrics.iter().any(|metric| metric["containerResource"] == memory), "{metrics:?}");
    assert!(
        metrics.iter().any(|metric| metric["resource"]["target"]["averageValue"] == "300m"),
        "{metrics:?}"
    );
    assert_eq!(autoscaler["behavior"]["scaleDown"]["stabilizationWindowSeconds"], 17);
    let account = sandbox.child(SERVICE_ACCOUNT, "shop").await;
    assert_eq!(account.annotations()["example.com/role"], "shop");

    sandbox.apply("shop", plain()).await;
    until_gone(&sandbox, SERVICE_ACCOUNT).await;
    sandbox.until_ready("shop").await;
    let deployment = sandbox.child(DEPLOYMENT, "shop").await.data["spec"].clone();
    let pod = &deployment["template"]["spec"];
    for field in ["affinity", "tolerations", "nodeSelector", "priorityClassName", "serviceAccountName"] {
        assert_eq!(pod[field], Value::Null, "{field}");
    }
    assert_eq!(pod["topologySpreadConstraints"].as_array().unwrap().len(), 2);
    assert_eq!(deployment["strategy"]["rollingUpdate"], json!({ "maxSurge": "25%", "maxUnavailable": 0 }));
    assert_eq!(deployment["revisionHistoryLimit"], 10);
    let budget = sandbox.child(DISRUPTION_BUDGET, "shop").await.data["spec"].clone();
    assert_eq!((&budget["minAvailable"], &budget["maxUnavailable"]), (&Value::Null, &json!(1)));
}

fn assert_placed(pod: &Value, affinity: &Value, toleration: &Value) {
    assert_eq!(pod["affinity"], *affinity);
    assert_eq!(pod["tolerations"], json!([toleration]));
    assert_eq!(pod["nodeSelector"], json!({ "pool": "web" }));
    assert_eq!(pod["priorityClassName"], "system-cluster-critical");
}

#[tokio::test]
async fn the_strategy_can_be_changed_to_and_fro() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    sandbox.apply("shop", plain()).await;
    sandbox.until_ready("shop").await;
    for strategy in ["Recreate", "RollingUpdate"] {
        sandbox.apply("shop", with(&json!({ "rollout": { "strategy": strategy } }))).await;
        until(LIMIT, async || {
            let actual = sandbox.child(DEPLOYMENT, "shop").await.data["spec"]["strategy"].clone();
            if actual["type"] == strategy { Ok(()) } else { Err(actual.to_string()) }
        })
        .await;
        sandbox.until_ready("shop").await;
    }
}

#[tokio::test]
async fn a_disruption_budget_that_is_switched_off_goes_and_comes_back() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    sandbox.apply("shop", plain()).await;
    sandbox.until_ready("shop").await;
    sandbox.apply("shop", with(&json!({ "disruptionBudget": { "enabled": false } }))).await;
    until_gone(&sandbox, DISRUPTION_BUDGET).await;
    sandbox.until_ready("shop").await;
    sandbox.apply("shop", plain()).await;
    until(LIMIT, async || {
        sandbox.find(DISRUPTION_BUDGET, "shop").await.map(drop).ok_or_else(|| "no budget".to_owned())
    })
    .await;
}

#[tokio::test]
async fn labels_and_annotations_of_ones_own_stand_on_every_child_and_roll_nothing() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    let account = json!({ "serviceAccount": { "create": true } });
    sandbox.apply("shop", with(&account)).await;
    sandbox.until_ready("shop").await;
    let kinds: Vec<ChildKind> = CHILDREN.into_iter().chain([SERVICE_ACCOUNT]).collect();
    let template = async || {
        let deployment = sandbox.child(DEPLOYMENT, "shop").await;
        deployment.data["spec"]["template"]["metadata"]["annotations"][TEMPLATE_ANNOTATION].clone()
    };
    let before = template().await;

    let mut spec = with(&account);
    spec["labels"] = json!({ "team": "web" });
    spec["annotations"] = json!({ "example.com/owner": "web" });
    sandbox.apply("shop", spec).await;
    let marked = async |is_marked: bool| {
        for kind in &kinds {
            until(LIMIT, async || {
                let child = sandbox.child(*kind, "shop").await;
                let marks = [child.labels().get("team"), child.annotations().get("example.com/owner")];
                let as_it_should = marks.iter().all(|mark| mark.is_some() == is_marked);
                if as_it_should { Ok(()) } else { Err(format!("{kind:?}: {marks:?}")) }
            })
            .await;
        }
    };
    marked(true).await;
    sandbox.apply("shop", with(&account)).await;
    marked(false).await;
    assert_eq!(template().await, before);
}

#[tokio::test]
async fn an_account_goes_only_when_no_pod_runs_under_it() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let kubelet = sandbox.kubelet();
    sandbox.apply("shop", with(&json!({ "serviceAccount": { "create": true } }))).await;
    sandbox.until_ready("shop").await;
    drop(kubelet);

    // Pods of the new template start and do not become ready: the old ones serve on.
    let kubelet = Kubelet::none_ready(&sandbox);
    sandbox.apply("shop", plain()).await;
    until(LIMIT, async || {
        let status = sandbox.child(DEPLOYMENT, "shop").await.data["status"].clone();
        let (updated, all) = (&status["updatedReplicas"], &status["replicas"]);
        let rolling = updated.as_i64() > Some(0) && all.as_i64() > updated.as_i64();
        if rolling { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    assert!(sandbox.find(SERVICE_ACCOUNT, "shop").await.is_some(), "the account went while it was in use");
    drop(kubelet);
    let _kubelet = sandbox.kubelet();
    until_gone(&sandbox, SERVICE_ACCOUNT).await;
}

#[tokio::test]
async fn pods_never_start_under_an_account_of_somebody_elses() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    sandbox.kubectl(&["create", "serviceaccount", "shop"]);
    sandbox.apply("shop", with(&json!({ "serviceAccount": { "create": true } }))).await;
    let told = sandbox.until_condition(LIMIT, "shop", "Degraded", "True", "NameTaken").await;
    assert!(told.message.contains("ServiceAccount"), "{told:?}");
    assert!(sandbox.find(DEPLOYMENT, "shop").await.is_none());
    sandbox.kubectl(&["delete", "serviceaccount", "shop"]);
    sandbox.until_ready("shop").await;
}

async fn until_gone(sandbox: &Sandbox, kind: ChildKind) {
    until(LIMIT, async || match sandbox.find(kind, "shop").await {
        None => Ok(()),
        Some(_) => Err(format!("{kind:?} is still there")),
    })
    .await;
}
