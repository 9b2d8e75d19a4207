//! The autoscaler under real load, and who owns the number of pods.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::StreamExt;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;

use crate::{
    demo, operator, sandbox,
    support::{
        Faults, OPERATOR, OPERATOR_NAMESPACE, Sandbox,
        child::{AUTOSCALER, DEPLOYMENT},
        until,
    },
};

/// Until pods are available, under load too.
const POD_START: Duration = Duration::from_secs(15);

#[tokio::test]
async fn the_autoscaler_follows_the_load_and_keeps_the_number() {
    let sandbox = sandbox().await;
    sandbox.apply("shop", demo()).await;
    sandbox.until_ready("shop").await;
    let history = History::of(&sandbox).await;
    let mark = sandbox.audit_mark().await;
    sandbox.load("http://shop/work?ms=20", 240, "8").await;

    let high = until_replicas(&sandbox, |replicas| replicas > 2).await;
    until(Duration::from_secs(60), async || {
        let status = sandbox.service("shop").await.status.unwrap_or_default();
        let follows = status.desired_replicas > 2 && !status.cpu.clone().unwrap_or_default().starts_with('?');
        if follows { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    let writes = sandbox.writes_since(mark, &operator()).await;
    let of_deployment: Vec<_> = writes
        .iter()
        .filter(|write| write.resource() == "deployments" && write.uri.contains(&sandbox.namespace))
        .collect();
    assert!(of_deployment.is_empty(), "the operator wrote while the autoscaler scaled: {of_deployment:#?}");

    // The Deployment is deleted under load: it comes back with what the autoscaler wants.
    let uid = sandbox.child(DEPLOYMENT, "shop").await.uid();
    sandbox.api::<Deployment>().delete("shop", &DeleteParams::default()).await.unwrap();
    until(Duration::from_secs(2), async || {
        let back = sandbox.find(DEPLOYMENT, "shop").await.filter(|back| back.uid() != uid);
        let replicas = back.and_then(|back| back.data["spec"]["replicas"].as_i64());
        if replicas >= Some(high) { Ok(()) } else { Err(format!("{replicas:?}, was {high}")) }
    })
    .await;
    sandbox.until_condition(Duration::from_secs(90), "shop", "Ready", "True", "Serving").await;

    // The leader dies while autoscaling is switched off and on.
    let mut fixed = demo();
    fixed["autoscaling"] = json!({ "enabled": false });
    fixed["replicas"] = json!(4);
    sandbox.apply("shop", fixed).await;
    until_replicas(&sandbox, |replicas| replicas == 4).await;
    until(Duration::from_secs(10), async || {
        sandbox.find(AUTOSCALER, "shop").await.map_or(Ok(()), |_| Err("the autoscaler is left".to_owned()))
    })
    .await;
    kill_operator_pods(&sandbox).await;
    sandbox.apply("shop", demo()).await;
    until(Duration::from_secs(60), async || {
        sandbox.find(AUTOSCALER, "shop").await.map(drop).ok_or_else(|| "no autoscaler".to_owned())
    })
    .await;
    sandbox.until_condition(Duration::from_secs(60), "shop", "Ready", "True", "Serving").await;
    let (seen, longest) = history.end();
    assert!(seen.iter().all(|replicas| *replicas >= 2), "never below the least: {seen:?}");
    println!("fewer than 2 pods were available for {longest:?} at most");
    assert!(longest < POD_START, "fewer than 2 pods were available for {longest:?}");
}

#[tokio::test]
async fn killed_between_any_two_steps_of_a_hand_over_no_pod_is_missed() {
    let sandbox = sandbox().await;
    let away = OperatorAway::of(&sandbox).await;
    let installation = sandbox.install().await;
    let mut fixed = demo();
    fixed["autoscaling"] = json!({ "enabled": false });
    fixed["replicas"] = json!(3);
    // Two steps of the hand-over, and the autoscaler.
    for write in 1..=3 {
        sandbox.apply("shop", fixed.clone()).await;
        let operator = installation.start_in_process(&Faults::none()).await;
        sandbox.until_ready("shop").await;
        operator.stop().await;
        assert!(sandbox.find(AUTOSCALER, "shop").await.is_none());
        let history = History::of(&sandbox).await;

        sandbox.apply("shop", demo()).await;
        let faults = Faults::dead_after_write(write);
        let operator = installation.start_in_process(&faults).await;
        tokio::time::timeout(Duration::from_secs(30), faults.until_dead()).await.expect("it dies");
        operator.die().await;
        let operator = installation.start_in_process(&Faults::none()).await;
        sandbox.until_ready("shop").await;
        sandbox.child(AUTOSCALER, "shop").await;
        operator.stop().await;
        let (replicas, longest) = history.end();
        assert_eq!(replicas, [3], "after write {write}");
        assert!(longest.is_zero(), "after write {write} fewer than 2 pods were available for {longest:?}");
    }
    drop(away);
}

/// The operator of the chart does not run until this is dropped.
struct OperatorAway<'a>(&'a Sandbox);

impl<'a> OperatorAway<'a> {
    async fn of(sandbox: &'a Sandbox) -> Self {
        let away = Self(sandbox);
        away.scale(0);
        let pods: Api<Pod> = Api::namespaced(sandbox.client.clone(), OPERATOR_NAMESPACE);
        until(Duration::from_secs(60), async || {
            let left = pods.list(&ListParams::default()).await.unwrap().items.len();
            if left == 0 { Ok(()) } else { Err(format!("{left} pods of the operator")) }
        })
        .await;
        away
    }

    fn scale(&self, replicas: u8) {
        let replicas = format!("--replicas={replicas}");
        let scale = ["scale", "deployment", OPERATOR, &replicas, "--namespace", OPERATOR_NAMESPACE];
        self.0.kubectl(&scale);
    }
}

impl Drop for OperatorAway<'_> {
    fn drop(&mut self) {
        self.scale(2);
        let rollout = ["rollout", "status", "deployment", OPERATOR, "--timeout=60s"];
        self.0.kubectl(&[&rollout[..], &["--namespace", OPERATOR_NAMESPACE]].concat());
    }
}

#[tokio::test]
async fn scaling_to_zero_is_told() {
    let sandbox = sandbox().await;
    sandbox.apply("shop", demo()).await;
    sandbox.until_ready("shop").await;
    sandbox.kubectl(&["scale", "deployment", "shop", "--replicas=0"]);
    sandbox.until_condition(Duration::from_secs(20), "shop", "Ready", "False", "ScaledToZero").await;
    sandbox.kubectl(&["scale", "deployment", "shop", "--replicas=1"]);
    sandbox.until_condition(Duration::from_secs(60), "shop", "Ready", "True", "Serving").await;
}

async fn until_replicas(sandbox: &Sandbox, wanted: impl Fn(i64) -> bool) -> i64 {
    until(Duration::from_secs(120), async || {
        let replicas = sandbox.child(DEPLOYMENT, "shop").await.data["spec"]["replicas"].as_i64();
        replicas.filter(|replicas| wanted(*replicas)).ok_or_else(|| format!("{replicas:?} replicas"))
    })
    .await
}

/// As a node that dies would: no time to end in order.
async fn kill_operator_pods(sandbox: &Sandbox) {
    let pods: Api<Pod> = Api::namespaced(sandbox.client.clone(), OPERATOR_NAMESPACE);
    let at_once = DeleteParams::default().grace_period(0);
    for pod in pods.list(&ListParams::default()).await.unwrap() {
        pods.delete(&pod.name_any(), &at_once).await.unwrap();
    }
}

/// Every value of `spec.replicas` that the Deployment `shop` had, and how many pods were available when.
struct History(Arc<Mutex<Vec<Sight>>>, tokio::task::JoinHandle<()>);

struct Sight {
    at: Instant,
    /// None where there was no Deployment.
    replicas: Option<i32>,
    available: i32,
}

impl History {
    async fn of(sandbox: &Sandbox) -> Self {
        let seen = Arc::<Mutex<Vec<Sight>>>::default();
        let config = watcher::Config::default().fields("metadata.name=shop");
        let mut events = watcher(sandbox.api::<Deployment>(), config).default_backoff().boxed();
        let (listed, is_listed) = tokio::sync::oneshot::channel();
        let task = tokio::spawn({
            let seen = seen.clone();
            async move {
                let mut listed = Some(listed);
                while let Some(event) = events.next().await {
                    let sight = match event {
                        Ok(watcher::Event::InitDone) => {
                            listed.take().map(|listed| listed.send(()));
                            continue;
                        }
                        Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                            let status = object.status.unwrap_or_default();
                            (object.spec.replicas, status.available_replicas.unwrap_or_default())
                        }
                        Ok(watcher::Event::Delete(_)) => (None, 0),
                        _ => continue,
                    };
                    let (replicas, available) = sight;
                    seen.lock().unwrap().push(Sight { at: Instant::now(), replicas, available });
                }
            }
        });
        is_listed.await.expect("the watch goes on");
        Self(seen, task)
    }

    /// The values without repetitions in a row, and the longest time with fewer than two pods available.
    fn end(self) -> (Vec<i32>, Duration) {
        self.1.abort();
        let seen = self.0.lock().unwrap();
        let mut replicas: Vec<i32> = seen.iter().filter_map(|sight| sight.replicas).collect();
        replicas.dedup();
        let (mut longest, mut short_since) = (Duration::ZERO, None);
        for sight in seen.iter() {
            let since = *short_since.get_or_insert(sight.at);
            longest = longest.max(sight.at - since);
            if sight.available >= 2 {
                short_since = None;
            }
        }
        (replicas, longest)
    }
}
