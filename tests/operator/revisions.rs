//! The revisions of the operator's defaults: an upgrade of the operator restarts nothing, and who
//! wants the new defaults gets them.

use std::time::Duration;

use cachedservice::api::CachedService;
use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    sandbox,
    support::{
        AuditMark, Installation, Sandbox,
        child::{ChildKind, DEPLOYMENT, STATEFUL_SET, uid},
        condition, until,
    },
};

const LIMIT: Duration = Duration::from_secs(10);
const REVISION: &str = "cachedservice.dev/template-revision";

fn of_revision(revision: Value) -> Value {
    json!({ "image": "example.com/shop:1", "templateRevision": revision })
}

fn unpinned() -> Value {
    json!({ "image": "example.com/shop:1" })
}

#[tokio::test]
async fn what_an_earlier_operator_made_stays_until_the_user_wants_otherwise() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let mut operator = installation.start("first");
    let _kubelet = sandbox.kubelet();
    // What version 0.1.0 made: revision 1, and a status that knows of none.
    sandbox.apply("shop", of_revision(json!(1))).await;
    sandbox.until_ready("shop").await;
    assert!(operator.terminate().await.success());
    forget_revision(&sandbox).await;
    sandbox.apply("shop", unpinned()).await;
    let before = templates(&sandbox).await;

    let mark = sandbox.audit_mark().await;
    let _operator = installation.start("second");
    sandbox.until_ready("shop").await;
    let told = sandbox.until_condition(LIMIT, "shop", "UpToDate", "False", "NewTemplateRevision").await;
    assert!(told.message.contains("write spec.templateRevision: 2"), "{told:?}");
    assert_eq!(revisions(&sandbox).await, (Some(1), 2));
    for kind in ["Ready", "Degraded"] {
        let condition = condition(&sandbox.service("shop").await, kind).unwrap();
        assert!(["Serving", "AllWell"].contains(&condition.reason.as_str()), "{condition:?}");
    }
    sandbox.until_renewed(mark, &installation.user, 3).await;
    assert_eq!(templates(&sandbox).await, before);
    let written = workloads_written(&sandbox, mark, &installation).await;
    assert!(written.is_empty(), "{written:?}");

    // As the message says.
    let command = told.message.split("as by: kubectl ").nth(1).unwrap().replace('\'', "");
    sandbox.kubectl(&command.split(' ').collect::<Vec<_>>());
    until_revision(&sandbox, "2").await;
    sandbox.until_condition(LIMIT, "shop", "UpToDate", "True", "NewestTemplate").await;
    sandbox.until_ready("shop").await;
    assert_eq!(replica_sets(&sandbox).await, 2, "the pods were not rolled");
    let app = &templates(&sandbox).await[0];
    assert_eq!(app["spec"]["containers"][0]["resources"]["requests"]["ephemeral-storage"], "64Mi");

    // Once it is taken over, it is what runs.
    sandbox.apply("shop", unpinned()).await;
    sandbox.until_ready("shop").await;
    assert_eq!(revisions(&sandbox).await, (Some(2), 2));

    sandbox.apply("shop", of_revision(json!(1))).await;
    until_revision(&sandbox, "1").await;
    sandbox.until_ready("shop").await;
    assert_eq!(templates(&sandbox).await, before);
    assert_eq!(replica_sets(&sandbox).await, 2, "the pods of before came back");
}

#[tokio::test]
async fn a_new_service_gets_the_newest_revision() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    sandbox.apply("shop", unpinned()).await;
    until_revision(&sandbox, "2").await;
    sandbox.until_condition(LIMIT, "shop", "UpToDate", "True", "NewestTemplate").await;
    assert_eq!(revisions(&sandbox).await, (Some(2), 2));
}

#[tokio::test]
async fn a_deployment_that_was_deleted_comes_back_with_its_revision() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    sandbox.apply("shop", of_revision(json!(1))).await;
    until_revision(&sandbox, "1").await;
    sandbox.apply("shop", unpinned()).await;
    sandbox.until_condition(LIMIT, "shop", "UpToDate", "False", "NewTemplateRevision").await;

    let before = templates(&sandbox).await;
    let gone = uid(&sandbox.child(DEPLOYMENT, "shop").await);
    sandbox.children(DEPLOYMENT).delete("shop", &DeleteParams::background()).await.unwrap();
    until(LIMIT, async || match sandbox.find(DEPLOYMENT, "shop").await {
        Some(deployment) if uid(&deployment) != gone => Ok(()),
        _ => Err("the Deployment is not back".to_owned()),
    })
    .await;
    assert_eq!(templates(&sandbox).await, before);
}

#[tokio::test]
async fn a_revision_that_somebody_else_writes_is_set_back() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    sandbox.apply("shop", unpinned()).await;
    until_revision(&sandbox, "2").await;
    sandbox.until_condition(LIMIT, "shop", "UpToDate", "True", "NewestTemplate").await;
    let before = templates(&sandbox).await;
    for theirs in ["1", "7"] {
        let patch =
            json!({ "spec": { "template": { "metadata": { "annotations": { REVISION: theirs } } } } });
        sandbox.patch(DEPLOYMENT, "shop", patch).await;
        until(LIMIT, async || {
            let now = templates(&sandbox).await;
            if now == before { Ok(()) } else { Err(now[0]["metadata"]["annotations"].to_string()) }
        })
        .await;
    }
}

/// What the pods of application and Redis are made from.
async fn templates(sandbox: &Sandbox) -> [Value; 2] {
    let template = async |kind: ChildKind| sandbox.child(kind, "shop").await.data["spec"]["template"].clone();
    [template(DEPLOYMENT).await, template(STATEFUL_SET).await]
}

async fn until_revision(sandbox: &Sandbox, revision: &str) {
    until(LIMIT, async || {
        for kind in [DEPLOYMENT, STATEFUL_SET] {
            let object = sandbox.find(kind, "shop").await.ok_or_else(|| format!("no {kind:?}"))?;
            let present = &object.data["spec"]["template"]["metadata"]["annotations"][REVISION];
            if present != revision {
                return Err(format!("{kind:?} has revision {present}"));
            }
        }
        Ok(())
    })
    .await;
}

async fn revisions(sandbox: &Sandbox) -> (Option<i32>, i32) {
    let status = sandbox.service("shop").await.status.unwrap();
    let revisions = status.template_revision.unwrap();
    (revisions.current, revisions.newest)
}

async fn replica_sets(sandbox: &Sandbox) -> usize {
    let sets: Api<ReplicaSet> = sandbox.api();
    sets.list(&ListParams::default()).await.unwrap().items.len()
}

/// Takes from the status what the first version did not write.
async fn forget_revision(sandbox: &Sandbox) {
    let services = sandbox.api::<CachedService>();
    let patch = Patch::Merge(json!({ "status": { "templateRevision": null } }));
    services.patch_status("shop", &PatchParams::default(), &patch).await.unwrap();
    assert!(sandbox.service("shop").await.status.unwrap().template_revision.is_none());
}

async fn workloads_written(sandbox: &Sandbox, mark: AuditMark, installation: &Installation) -> Vec<String> {
    let written = sandbox.writes_since(mark, &installation.user).await;
    let workloads = written
        .into_iter()
        .filter(|write| write.resource().ends_with("sets") || write.resource() == "deployments");
    workloads.map(|write| write.uri).collect()
}
