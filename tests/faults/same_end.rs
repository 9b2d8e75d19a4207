//! Whatever happened on the way, the end is the same, object by object.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    apps::v1::{ReplicaSet, StatefulSet},
    core::v1::Pod,
};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams},
    core::PartialObjectMeta,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    alone,
    mix::{Mix, SEED, pause, redis_elsewhere},
    sandbox,
    support::{AuditMark, Faults, Installation, Operator, Sandbox},
};

/// How soon after the last fault all is as it would be without. A name that is still taken is looked
/// at every 15 s, and backoffs come up to a minute.
const LIMIT: Duration = Duration::from_secs(120);
/// Of the tests that share a run without faults.
const STEPS: usize = 40;

#[tokio::test]
async fn killed_at_random_times_again_and_again() {
    let (sandbox, _turn) = sandbox().await;
    // `make faults` sets it to 500.
    let wanted: usize = std::env::var("FAULTS_RECONCILES").map_or(80, |number| number.parse().unwrap());
    let mix = Mix::of(wanted / 4);
    let end = mix.end_without_faults(sandbox.cluster).await;

    let _redis = redis_elsewhere(&sandbox).await;
    let installation = sandbox.install().await;
    let _kubelet = sandbox.kubelet();
    let mut random = StdRng::seed_from_u64(!*SEED);
    let mut steps = mix.steps().iter();
    let (mut reconciles, mut kills) = (0, 0);
    let began = Instant::now();
    while reconciles < wanted || steps.len() > 0 {
        assert!(began.elapsed() < Duration::from_secs(900), "only {reconciles} reconciles, {kills} kills");
        // No election: the next one would wait for the end of the lease.
        let mut operator = installation.start_with(&format!("killed-{kills}"), &["--leader-elect=false"]);
        let life = Duration::from_millis(random.random_range(100..2000));
        // Every second dies wherever it is, the others some time after their first work.
        let works = |operator: &Operator| kills % 2 == 0 || operator.reconciles() > 0;
        let started = Instant::now();
        let mut dies = works(&operator).then(|| started + life);
        while dies.is_none_or(|dies| Instant::now() < dies) {
            assert!(started.elapsed() < LIMIT, "it has nothing to do:\n{}", operator.log());
            dies = dies.or_else(|| works(&operator).then(|| Instant::now() + life));
            if let Some(step) = steps.next() {
                step.take(&sandbox).await;
            }
            pause().await;
        }
        reconciles += operator.reconciles();
        operator.kill();
        kills += 1;
    }
    println!("{kills} kills during {reconciles} reconciles, in {:?}", began.elapsed());
    let _operator = installation.start_with("last", &["--leader-elect=false"]);
    sandbox.until_like(LIMIT, &end).await;
}

#[tokio::test]
async fn with_the_api_server_killed_in_the_middle_of_the_work() {
    disturbed(async |sandbox, installation, began| {
        for writes in [10, 60] {
            sandbox.until_written(began, &installation.user, writes).await;
            let cluster = sandbox.cluster;
            tokio::task::spawn_blocking(|| cluster.restart("apiserver")).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn with_etcd_paused_for_twenty_seconds() {
    disturbed(async |sandbox, installation, began| {
        sandbox.until_written(began, &installation.user, 20).await;
        let paused = sandbox.cluster.pause("etcd");
        // The fault itself: longer than the lease.
        tokio::time::sleep(Duration::from_secs(20)).await;
        drop(paused);
    })
    .await;
}

#[tokio::test]
async fn with_a_tenth_of_all_answers_replaced_by_errors() {
    let (sandbox, _turn) = sandbox().await;
    let mix = Mix::of(STEPS);
    let end = mix.end_without_faults(sandbox.cluster).await;

    let _redis = redis_elsewhere(&sandbox).await;
    let installation = sandbox.install().await;
    let _kubelet = sandbox.kubelet();
    let faults = Faults::at_random(*SEED, 0.1);
    let _operator = installation.start_impatient(&faults, Duration::from_secs(1)).await;
    mix.play(&sandbox).await;
    sandbox.until_like(LIMIT, &end).await;
    let drawn = faults.drawn();
    println!("409, 429, 500 and silence in place of an answer: {drawn:?} times");
    assert!(drawn.iter().all(|times| *times > 0), "not every fault happened: {drawn:?}");
}

/// Plays a mix while `fault` happens, and compares. The operator is started anew where it ends, as by
/// its Deployment.
async fn disturbed(fault: impl AsyncFnOnce(&Sandbox, &Installation, AuditMark)) {
    let (sandbox, _turn) = alone().await;
    let mix = Mix::of(STEPS);
    let end = mix.end_without_faults(sandbox.cluster).await;

    let _redis = redis_elsewhere(&sandbox).await;
    let installation = sandbox.install().await;
    let _kubelet = sandbox.kubelet();
    let began = sandbox.audit_mark().await;
    let work = async {
        tokio::join!(mix.play(&sandbox), fault(&sandbox, &installation, began));
        tokio::select! {
            () = sandbox.until_like(LIMIT, &end) => {}
            () = collect_lost_pods(&sandbox) => {}
        }
    };
    let starts = supervised(&installation, work).await;
    println!("the operator was started {starts} times");
}

/// Deletes pods of which the controller is gone, for ever.
///
/// Where a StatefulSet was deleted and another made at its name while Kubernetes' garbage collector had
/// no watch, its next list shows it a changed object and no deletion (kubernetes/kubernetes#120862), and it
/// never collects what the first one had. Such a pod keeps its name from the StatefulSet that is there.
async fn collect_lost_pods(sandbox: &Sandbox) {
    // Longer than the garbage collector takes for what it knows of.
    const LOOKS: usize = 10;
    let mut lost = BTreeMap::<String, usize>::new();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        // Pods first: a controller is there before its pods are.
        let pods = sandbox.api::<Pod>().list_metadata(&ListParams::default()).await;
        let sets = sandbox.api::<StatefulSet>().list_metadata(&ListParams::default()).await;
        let replica_sets = sandbox.api::<ReplicaSet>().list_metadata(&ListParams::default()).await;
        let (Ok(pods), Ok(sets), Ok(replica_sets)) = (pods, sets, replica_sets) else { continue };
        let mut present: Vec<Option<String>> = sets.iter().map(ResourceExt::uid).collect();
        present.extend(replica_sets.iter().map(ResourceExt::uid));
        let without = |pod: &&PartialObjectMeta<Pod>| {
            pod.metadata.deletion_timestamp.is_none()
                && pod.owner_references().iter().any(|owner| !present.contains(&Some(owner.uid.clone())))
        };
        let now: Vec<String> = pods.iter().filter(without).map(ResourceExt::name_any).collect();
        lost.retain(|name, _| now.contains(name));
        for name in now {
            let looks = lost.entry(name.clone()).or_default();
            *looks += 1;
            if *looks >= LOOKS {
                println!("the garbage collector has lost the pod {name}");
                let at_once = DeleteParams::default().grace_period(0);
                let _ = sandbox.api::<Pod>().delete(&name, &at_once).await;
            }
        }
    }
}

/// Keeps an operator running until `work` is over; returns how often it was started.
async fn supervised(installation: &Installation, work: impl Future<Output = ()>) -> usize {
    let mut work = std::pin::pin!(work);
    let mut starts = 0;
    loop {
        let identity = format!("kept-{starts}");
        let mut operator = installation.start(&identity);
        starts += 1;
        tokio::select! {
            () = &mut work => return starts,
            _ = operator.ended(Duration::MAX) => {}
        }
    }
}
