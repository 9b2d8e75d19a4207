//! The annotations by which users steer the operator.

use std::time::Duration;

use cachedservice::api::CachedService;
use futures::StreamExt;
use kube::{
    api::{DeleteParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};

use crate::{
    sandbox,
    support::{
        AuditEntry, AuditMark, Installation, Sandbox,
        child::{AUTOSCALER, CHILDREN, DEPLOYMENT, DISRUPTION_BUDGET, SERVICE, uid},
        condition, until,
    },
};

const LIMIT: Duration = Duration::from_secs(10);
const PAUSED: &str = "cachedservice.dev/paused";
const RECONCILE_AT: &str = "cachedservice.dev/reconcile-at";

#[tokio::test]
async fn while_paused_nothing_of_the_children_is_changed_and_afterwards_all_of_it() {
    let sandbox = sandbox().await;
    let shop = sandbox.serve("shop").await;

    annotate(&sandbox, &format!("{PAUSED}=true"));
    sandbox.until_condition(LIMIT, "shop", "Paused", "True", "PausedByAnnotation").await;
    let mark = sandbox.audit_mark().await;
    // A creation, a correction, a change, a change of who sets the replicas, and a deletion are due.
    sandbox.children(DISRUPTION_BUDGET).delete("shop", &DeleteParams::background()).await.unwrap();
    sandbox.patch(SERVICE, "shop", json!({ "spec": { "selector": { "else": "where" } } })).await;
    let fixed = json!({ "image": "example.com/shop:2", "autoscaling": { "enabled": false }, "replicas": 5 });
    sandbox.apply("shop", fixed).await;
    let waits = [
        "PodDisruptionBudget shop would be created",
        "Service shop would be set back",
        "Deployment shop would be changed",
        "HorizontalPodAutoscaler shop would be deleted",
    ];
    let paused = until(LIMIT, async || {
        let service = sandbox.service("shop").await;
        let paused = condition(&service, "Paused").unwrap();
        let tells = waits.iter().all(|wait| paused.message.contains(wait));
        let is_current = paused.observed_generation == service.metadata.generation;
        if tells && is_current { Ok(paused) } else { Err(format!("{paused:?}")) }
    })
    .await;
    let ready = sandbox.until_condition(LIMIT, "shop", "Ready", "False", "PausedByAnnotation").await;
    assert!(ready.message.contains(waits[2]), "{ready:?}");
    // What runs is told of: the pods of the generation before.
    let service = sandbox.service("shop").await;
    let application = condition(&service, "ApplicationReady").unwrap();
    assert_eq!((application.status.as_str(), application.reason.as_str()), ("True", "Available"));
    assert!(application.observed_generation < service.metadata.generation, "{application:?}");
    assert_eq!(condition(&service, "Degraded").unwrap().status, "False");

    sandbox.until_renewed(mark, &shop.installation.user, 4).await;
    let written = children_written(&sandbox, mark, &shop.installation).await;
    assert!(written.is_empty(), "{written:#?}");

    // As the message says.
    let command = paused.message.split("kubectl ").nth(1).unwrap().split(';').next().unwrap();
    sandbox.kubectl(&command.split(' ').collect::<Vec<_>>());
    sandbox.until_ready("shop").await;
    sandbox.until_condition(LIMIT, "shop", "Paused", "False", "NotPaused").await;
    let deployment = sandbox.child(DEPLOYMENT, "shop").await;
    assert_eq!(deployment.data["spec"]["replicas"], 5);
    assert_eq!(deployment.data["spec"]["template"]["spec"]["containers"][0]["image"], "example.com/shop:2");
    assert!(sandbox.find(AUTOSCALER, "shop").await.is_none());
    assert!(sandbox.find(DISRUPTION_BUDGET, "shop").await.is_some());
    assert_eq!(sandbox.child(SERVICE, "shop").await.data["spec"]["selector"]["else"], Value::Null);
    let told: Vec<_> = sandbox.events("shop").await.into_iter().map(|(reason, _)| reason).collect();
    assert!(["Paused", "Resumed"].iter().all(|reason| told.iter().any(|told| told == reason)), "{told:?}");
}

#[tokio::test]
async fn what_is_changed_by_hand_during_a_pause_takes_nothing_from_ready() {
    let sandbox = sandbox().await;
    let _shop = sandbox.serve("shop").await;
    annotate(&sandbox, &format!("{PAUSED}=true"));
    sandbox.until_condition(LIMIT, "shop", "Ready", "True", "PausedByAnnotation").await;

    let by_hand = json!({ "spec": { "template": { "spec": {
        "containers": [{ "name": "app", "image": "example.com/shop:mended" }],
    } } } });
    sandbox.patch(DEPLOYMENT, "shop", by_hand).await;
    until(LIMIT, async || {
        let paused = condition(&sandbox.service("shop").await, "Paused").unwrap().message;
        if paused.contains("Deployment shop would be set back") { Ok(()) } else { Err(paused) }
    })
    .await;
    sandbox.until_condition(LIMIT, "shop", "Ready", "True", "PausedByAnnotation").await;
    let image = |deployment: &kube::core::DynamicObject| {
        deployment.data["spec"]["template"]["spec"]["containers"][0]["image"].clone()
    };
    assert_eq!(image(&sandbox.child(DEPLOYMENT, "shop").await), "example.com/shop:mended");

    annotate(&sandbox, &format!("{PAUSED}=false"));
    sandbox.until_ready("shop").await;
    assert_eq!(image(&sandbox.child(DEPLOYMENT, "shop").await), "example.com/shop:1");
}

#[tokio::test]
async fn a_pause_of_unclear_value_holds_and_says_what_to_write() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let service: CachedService = serde_json::from_value(json!({
        "apiVersion": "cachedservice.dev/v1alpha1",
        "kind": "CachedService",
        "metadata": { "name": "shop", "annotations": { PAUSED: "yes" } },
        "spec": { "image": "example.com/shop:1" },
    }))
    .unwrap();
    sandbox.api().create(&PostParams::default(), &service).await.unwrap();
    let paused = sandbox.until_condition(LIMIT, "shop", "Paused", "True", "InvalidAnnotation").await;
    assert!(
        paused.message.contains(r#"is "yes", which counts as "true"; write "true" or "false""#),
        "{paused:?}"
    );
    sandbox.until_condition(LIMIT, "shop", "Ready", "False", "PausedByAnnotation").await;
    for kind in CHILDREN {
        assert!(sandbox.find(kind, "shop").await.is_none(), "{kind:?} was made");
    }
    annotate(&sandbox, &format!("{PAUSED}=false"));
    sandbox.until_created("shop").await;
}

#[tokio::test]
async fn what_is_paused_goes_with_all_its_objects_when_it_is_deleted() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    sandbox.apply("shop", json!({ "image": "example.com/shop:1" })).await;
    sandbox.until_created("shop").await;
    annotate(&sandbox, &format!("{PAUSED}=true"));
    sandbox.until_condition(LIMIT, "shop", "Paused", "True", "PausedByAnnotation").await;
    sandbox.delete("shop").await;
    until(Duration::from_secs(60), async || {
        for kind in CHILDREN {
            if sandbox.find(kind, "shop").await.is_some() {
                return Err(format!("{kind:?} is still there"));
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn an_order_to_reconcile_looks_at_every_child_and_applies_it_anew_once() {
    let sandbox = sandbox().await;
    let mut shop = sandbox.serve("shop").await;
    let mut before = Vec::new();
    for kind in CHILDREN {
        before.push(uid(&sandbox.child(kind, "shop").await));
    }

    let mark = sandbox.audit_mark().await;
    annotate(&sandbox, &format!("{RECONCILE_AT}=first"));
    until_handled(&sandbox, "first").await;
    let asked = sandbox.audit_since(mark, &shop.installation.user).await;
    for kind in CHILDREN {
        let name = format!("/{}", kind.name("shop"));
        let about = |entry: &&AuditEntry| {
            entry.resource() == kind.resource().plural
                && entry.uri.split('?').next().is_some_and(|path| path.ends_with(&name))
        };
        let verbs: Vec<_> = asked.iter().filter(about).map(|entry| entry.verb.as_str()).collect();
        assert_eq!(verbs, ["get", "patch"], "{kind:?}: {asked:#?}");
    }
    let mut after = Vec::new();
    for kind in CHILDREN {
        after.push(uid(&sandbox.child(kind, "shop").await));
    }
    assert_eq!(after, before);
    let told = sandbox.events("shop").await;
    assert!(told.iter().all(|(reason, _)| reason != "Corrected" && reason != "Configured"), "{told:?}");

    assert!(shop.operator.terminate().await.success());
    let mark = sandbox.audit_mark().await;
    let operator = shop.installation.start("second");
    operator.until_leading(LIMIT).await;
    sandbox.until_renewed(mark, &shop.installation.user, 3).await;
    let written = children_written(&sandbox, mark, &shop.installation).await;
    assert!(written.is_empty(), "{written:#?}");
}

#[tokio::test]
async fn an_order_to_reconcile_ends_though_somebody_deletes_what_it_makes() {
    let sandbox = sandbox().await;
    let _shop = sandbox.serve("shop").await;
    let budgets = sandbox.children(DISRUPTION_BUDGET);
    let others = budgets.clone();
    let deleting = tokio::spawn(async move {
        let changes = watcher(others.clone(), watcher::Config::default()).default_backoff().applied_objects();
        let mut changes = std::pin::pin!(changes);
        while changes.next().await.is_some() {
            while let Err(error) = others.delete("shop", &DeleteParams::background()).await {
                if matches!(&error, kube::Error::Api(status) if status.is_not_found()) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    });
    until(LIMIT, async || match budgets.get_opt("shop").await.unwrap() {
        None => Ok(()),
        Some(_) => Err("nobody deletes it".to_owned()),
    })
    .await;
    annotate(&sandbox, &format!("{RECONCILE_AT}=now"));
    until_handled(&sandbox, "now").await;
    deleting.abort();
}

#[tokio::test]
async fn an_order_to_reconcile_waits_for_the_end_of_a_pause() {
    let sandbox = sandbox().await;
    let shop = sandbox.serve("shop").await;
    annotate(&sandbox, &format!("{PAUSED}=true"));
    sandbox.until_condition(LIMIT, "shop", "Paused", "True", "PausedByAnnotation").await;
    let mark = sandbox.audit_mark().await;
    annotate(&sandbox, &format!("{RECONCILE_AT}=later"));
    sandbox.until_renewed(mark, &shop.installation.user, 2).await;
    assert_eq!(handled(&sandbox).await, None);
    assert!(children_written(&sandbox, mark, &shop.installation).await.is_empty());
    annotate(&sandbox, &format!("{PAUSED}-"));
    until_handled(&sandbox, "later").await;
}

/// As a user would.
fn annotate(sandbox: &Sandbox, annotation: &str) {
    sandbox.kubectl(&["annotate", "--overwrite", "csvc/shop", annotation]);
}

async fn handled(sandbox: &Sandbox) -> Option<String> {
    sandbox.service("shop").await.status.and_then(|status| status.last_handled_reconcile_at)
}

async fn until_handled(sandbox: &Sandbox, order: &str) {
    until(LIMIT, async || {
        let handled = handled(sandbox).await;
        if handled.as_deref() == Some(order) { Ok(()) } else { Err(format!("{handled:?}")) }
    })
    .await;
}

/// The writes to children since `mark`.
async fn children_written(
    sandbox: &Sandbox,
    mark: AuditMark,
    installation: &Installation,
) -> Vec<AuditEntry> {
    let mut written = sandbox.writes_since(mark, &installation.user).await;
    written.retain(|write| !["cachedservices", "events"].contains(&write.resource()));
    written
}
