//! Who sets the number of pods, and that it never drops in between.

use std::time::Duration;

use cachedservice::api::names::FIELD_MANAGER;
use futures::{StreamExt, stream};
use k8s_openapi::api::{apps::v1::Deployment, autoscaling::v2::HorizontalPodAutoscaler};
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    sandbox,
    support::{
        Faults, ReplicaHistory, Sandbox,
        child::{AUTOSCALER, DEPLOYMENT, uid},
        until,
    },
};

const LIMIT: Duration = Duration::from_secs(10);

fn autoscaled(min_replicas: i32) -> Value {
    json!({ "image": "example.com/shop:1", "autoscaling": { "minReplicas": min_replicas } })
}

fn fixed(replicas: i32) -> Value {
    json!({ "image": "example.com/shop:1", "autoscaling": { "enabled": false }, "replicas": replicas })
}

#[tokio::test]
async fn what_the_autoscaler_sets_is_never_written_over() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let mut operator = installation.start("first");
    let _kubelet = sandbox.kubelet();
    sandbox.apply("shop", autoscaled(2)).await;
    sandbox.until_ready("shop").await;
    let history = ReplicaHistory::start(&sandbox).await;
    until_handed_over(&sandbox).await;

    scale(&sandbox, 7).await;
    let mut edited = autoscaled(2);
    edited["image"] = json!("example.com/shop:2");
    sandbox.apply("shop", edited.clone()).await;
    sandbox.until_ready("shop").await;
    edited["autoscaling"] = json!({ "minReplicas": 3, "maxReplicas": 8 });
    sandbox.apply("shop", edited.clone()).await;
    sandbox.until_ready("shop").await;

    assert!(operator.terminate().await.success());
    edited["service"] = json!({ "port": 81 });
    edited["image"] = json!("example.com/shop:3");
    sandbox.apply("shop", edited).await;
    let _operator = installation.start("second");
    sandbox.until_ready("shop").await;
    assert_eq!(history.values("shop").await, [2, 7]);
}

#[tokio::test]
async fn autoscaling_off_sets_the_number_and_on_again_keeps_it() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    sandbox.apply("shop", autoscaled(2)).await;
    sandbox.until_ready("shop").await;
    let history = ReplicaHistory::start(&sandbox).await;

    sandbox.apply("shop", fixed(5)).await;
    sandbox.until_ready("shop").await;
    sandbox.patch(DEPLOYMENT, "shop", json!({ "spec": { "replicas": 4 } })).await;
    until_replicas(&sandbox, 5).await;

    sandbox.apply("shop", autoscaled(2)).await;
    until_handed_over(&sandbox).await;
    sandbox.until_ready("shop").await;
    assert_eq!(history.values("shop").await, [2, 5, 4, 5]);
}

#[tokio::test]
async fn a_deployment_deleted_under_load_comes_back_at_what_the_autoscaler_wants() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let _operator = installation.start("only");
    let _kubelet = sandbox.kubelet();
    sandbox.apply("shop", autoscaled(2)).await;
    sandbox.until_ready("shop").await;
    scale(&sandbox, 7).await;
    // Without CPU figures the autoscaler's controller keeps the number that it wanted last.
    let wants = json!({ "status": { "desiredReplicas": 7, "currentReplicas": 7 } });
    let autoscalers = sandbox.api::<HorizontalPodAutoscaler>();
    autoscalers.patch_status("shop", &PatchParams::default(), &Patch::Merge(wants)).await.unwrap();
    let history = ReplicaHistory::start(&sandbox).await;

    let gone = uid(&sandbox.child(DEPLOYMENT, "shop").await);
    sandbox.children(DEPLOYMENT).delete("shop", &DeleteParams::background()).await.unwrap();
    until(Duration::from_secs(2), async || match sandbox.find(DEPLOYMENT, "shop").await {
        Some(deployment) if uid(&deployment) != gone => Ok(()),
        _ => Err("the Deployment is not back".to_owned()),
    })
    .await;
    until_handed_over(&sandbox).await;
    sandbox.until_ready("shop").await;
    assert_eq!(history.values("shop").await, [7]);
}

#[tokio::test]
async fn killed_after_any_write_of_a_creation_no_replica_is_lost() {
    let killed = each_death(16, async |faults| {
        let sandbox = sandbox().await;
        let history = ReplicaHistory::start(&sandbox).await;
        sandbox.apply("shop", autoscaled(3)).await;
        let died = die_and_come_back(&sandbox, &faults).await;
        assert_eq!(history.values("shop").await, [3], "after write {}", faults.writes());
        died
    })
    .await;
    // Eight children, and two more steps of the hand-over.
    assert!(killed >= 10, "only {killed} writes were followed by a death");
}

#[tokio::test]
async fn killed_after_any_write_of_a_hand_over_no_replica_is_lost() {
    let killed = each_death(8, async |faults| {
        let sandbox = sandbox().await;
        let installation = sandbox.install().await;
        sandbox.apply("shop", fixed(5)).await;
        let operator = installation.start_in_process(&Faults::none()).await;
        until_replicas(&sandbox, 5).await;
        operator.stop().await;

        let history = ReplicaHistory::start(&sandbox).await;
        sandbox.apply("shop", autoscaled(2)).await;
        let died = die_and_come_back(&sandbox, &faults).await;
        assert_eq!(history.values("shop").await, [5], "after write {}", faults.writes());
        died
    })
    .await;
    // Two steps of the hand-over, and the autoscaler.
    assert!(killed >= 3, "only {killed} writes were followed by a death");
}

/// Plays a story with a death after the first write, after the second, and so
/// on; returns in how many the death came about.
async fn each_death(up_to: usize, story: impl AsyncFn(Faults) -> bool) -> usize {
    let stories = (1..=up_to).map(|number| story(Faults::dead_after_write(number)));
    let died: Vec<bool> = stream::iter(stories).buffer_unordered(4).collect().await;
    died.into_iter().filter(|died| *died).count()
}

/// Runs an operator that dies where `faults` says, and then one that does not.
/// False, if the first had nothing left to write.
async fn die_and_come_back(sandbox: &Sandbox, faults: &Faults) -> bool {
    let installation = sandbox.install().await;
    let operator = installation.start_in_process(faults).await;
    let died = tokio::select! {
        () = faults.until_dead() => true,
        () = until_handed_over(sandbox) => false,
    };
    operator.die().await;
    let operator = installation.start_in_process(&Faults::none()).await;
    until_handed_over(sandbox).await;
    sandbox.until_created("shop").await;
    operator.stop().await;
    died
}

/// Sets the number of pods as the autoscaler's controller would.
async fn scale(sandbox: &Sandbox, replicas: i32) {
    let deployments = sandbox.api::<Deployment>();
    let manager =
        PatchParams { field_manager: Some("kube-controller-manager".to_owned()), ..PatchParams::default() };
    let scale = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
    deployments.patch_scale("shop", &manager, &scale).await.unwrap();
}

async fn until_replicas(sandbox: &Sandbox, replicas: i32) {
    until(LIMIT, async || {
        let deployment = sandbox.find(DEPLOYMENT, "shop").await;
        let present = deployment.map(|deployment| deployment.data["spec"]["replicas"].clone());
        if present == Some(json!(replicas)) { Ok(()) } else { Err(format!("{present:?}")) }
    })
    .await;
}

/// Waits until there is an autoscaler and the operator owns the number of pods no more.
async fn until_handed_over(sandbox: &Sandbox) {
    // From the start of an operator on, of which several may run at once.
    until(LIMIT * 3, async || {
        sandbox.find(AUTOSCALER, "shop").await.ok_or("there is no autoscaler")?;
        let deployment = sandbox.find(DEPLOYMENT, "shop").await.ok_or("there is no Deployment")?;
        let of_the_operator = |manager: Option<&str>| manager == Some(FIELD_MANAGER);
        let owned = deployment.managed_fields().iter().any(|entry| {
            let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
            of_the_operator(entry.manager.as_deref())
                && fields.is_some_and(|fields| fields.pointer("/f:spec/f:replicas").is_some())
        });
        if owned { Err("the operator owns spec.replicas".to_owned()) } else { Ok(()) }
    })
    .await;
}
