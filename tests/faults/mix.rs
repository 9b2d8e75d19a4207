//! What people do to the CachedServices of a namespace, drawn from a seed.

use std::{
    sync::{LazyLock, OnceLock},
    time::Duration,
};

use cachedservice::api::CachedService;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::support::{
    Cluster, Sandbox, Snapshot,
    child::{ChildKind, DISRUPTION_BUDGET, REDIS_CONFIG, REDIS_SECRET, SERVICE},
    condition,
    redis::{Redis, free_port},
    until,
};

/// Of all tests in this process; `FAULTS_SEED` repeats a run.
pub static SEED: LazyLock<u64> = LazyLock::new(|| {
    let wanted = std::env::var("FAULTS_SEED").ok().map(|seed| seed.parse().expect("FAULTS_SEED is a number"));
    wanted.unwrap_or_else(|| rand::rng().random())
});

/// One CachedService of each sort, by its name.
const NAMES: [&str; 7] = ["auto", "fixed", "turns", "open", "outside", "few", "wrong"];
/// Children that somebody deletes.
const LOST: [ChildKind; 4] = [SERVICE, DISRUPTION_BUDGET, REDIS_CONFIG, REDIS_SECRET];
const EXTERNAL: &str = "elsewhere";

/// Creations, edits and deletions in a fixed order.
#[derive(Debug)]
pub struct Mix(Vec<Step>);

#[derive(Debug)]
pub struct Step {
    name: &'static str,
    act: Act,
}

#[derive(Debug)]
enum Act {
    Apply(Value),
    Delete,
    /// A child is deleted, and has to come back.
    Lose(ChildKind),
}

impl Mix {
    /// The first `steps` steps from the seed; it begins with a creation of each sort.
    pub fn of(steps: usize) -> Self {
        println!("FAULTS_SEED={}", *SEED);
        let mut random = StdRng::seed_from_u64(*SEED);
        let mut present = NAMES.map(|_| false);
        let steps = (0..steps).map(|number| {
            let which = if number < NAMES.len() { number } else { random.random_range(0..NAMES.len()) };
            let act = match random.random_range(0..10) {
                0 | 1 if present[which] => Act::Delete,
                2 if present[which] => Act::Lose(LOST[random.random_range(0..LOST.len())]),
                _ => Act::Apply(spec(NAMES[which], &mut random)),
            };
            present[which] = !matches!(act, Act::Delete);
            Step { name: NAMES[which], act }
        });
        Self(steps.collect())
    }

    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Carries all steps out, with pauses in which the operator gets on with them.
    pub async fn play(&self, sandbox: &Sandbox) {
        for step in &self.0 {
            step.take(sandbox).await;
            pause().await;
        }
    }

    /// What it comes to without faults. It is found out once for each number of steps.
    pub async fn end_without_faults(&self, cluster: &'static Cluster) -> Snapshot {
        static KNOWN: Mutex<Vec<(usize, Snapshot)>> = Mutex::const_new(Vec::new());
        let mut known = KNOWN.lock().await;
        if let Some((_, snapshot)) = known.iter().find(|(steps, _)| *steps == self.0.len()) {
            return snapshot.clone();
        }
        let sandbox = Sandbox::new(cluster).await;
        let _redis = redis_elsewhere(&sandbox).await;
        let installation = sandbox.install().await;
        let operator = installation.start("undisturbed");
        let _kubelet = sandbox.kubelet();
        self.play(&sandbox).await;
        until(Duration::from_secs(120), async || {
            for service in sandbox.api::<CachedService>().list(&ListParams::default()).await.unwrap() {
                let progressing = condition(&service, "Progressing").ok_or("no status")?;
                let current = progressing.observed_generation == service.metadata.generation;
                if !current || progressing.status != "False" {
                    return Err(format!("{}: {progressing:?}", service.name_any()));
                }
            }
            Ok(())
        })
        .await;
        let snapshot = sandbox.settled_snapshot(&installation).await;
        assert!(snapshot.count("CachedService") > NAMES.len() / 2, "there is too little to compare");
        assert!(
            snapshot.count("Deployment") > 1 && snapshot.count("Pod") > 1,
            "there is too little to compare"
        );
        drop(operator);
        known.push((self.0.len(), snapshot.clone()));
        snapshot
    }
}

impl Step {
    /// Carries it out, also where the API server has to be asked more than once.
    pub async fn take(&self, sandbox: &Sandbox) {
        until(Duration::from_secs(90), async || match self.attempt(sandbox).await {
            // Done already: the answer was lost.
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            done => done.map_err(|error| error.to_string()),
        })
        .await;
    }

    async fn attempt(&self, sandbox: &Sandbox) -> kube::Result<()> {
        let background = DeleteParams::background();
        match &self.act {
            Act::Apply(spec) => sandbox.try_apply(self.name, spec.clone()).await.map(drop),
            Act::Delete => sandbox.api::<CachedService>().delete(self.name, &background).await.map(drop),
            Act::Lose(kind) => {
                sandbox.children(*kind).delete(&kind.name(self.name), &background).await.map(drop)
            }
        }
    }
}

/// As long as people take between two commands, when they are in a hurry.
pub async fn pause() {
    let pause = rand::rng().random_range(10..150);
    tokio::time::sleep(Duration::from_millis(pause)).await;
}

/// A Redis for the CachedServices that have one elsewhere, and the Secret that says where.
pub async fn redis_elsewhere(sandbox: &Sandbox) -> Redis {
    // The same in all namespaces that are compared.
    static PORT: OnceLock<u16> = OnceLock::new();
    let redis = Redis::start(*PORT.get_or_init(free_port), "elsewhere");
    let manifest = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": EXTERNAL },
        "stringData": { "url": format!("redis://:elsewhere@127.0.0.1:{}/0", redis.port) },
    });
    let secrets: Api<Secret> = sandbox.api();
    secrets.patch(EXTERNAL, &PatchParams::apply("faults"), &Patch::Apply(manifest)).await.unwrap();
    redis
}

/// A spec of the sort that the name stands for. Where two of a sort follow each other, the number of
/// pods does not depend on whether the operator saw the first.
fn spec(name: &str, random: &mut StdRng) -> Value {
    let mut spec = match name {
        "auto" => json!({ "autoscaling": {
            "minReplicas": 2,
            "maxReplicas": random.random_range(3..12),
            "targetCPUUtilization": random.random_range(50..90),
        } }),
        "fixed" => json!({ "autoscaling": { "enabled": false }, "replicas": random.random_range(1..4) }),
        "turns" if random.random() => json!({ "autoscaling": { "enabled": false }, "replicas": 3 }),
        "turns" => json!({ "autoscaling": { "minReplicas": 3, "maxReplicas": 8 } }),
        "open" => json!({ "redis": {
            "auth": { "enabled": random.random::<bool>() },
            "memory": format!("{}Mi", random.random_range(64..80)),
        } }),
        "outside" if random.random() => {
            json!({ "redis": { "mode": "External", "external": { "urlSecretRef": { "name": EXTERNAL } } } })
        }
        "outside" => json!({ "redis": { "evictionPolicy": "volatile-lru" } }),
        "few" => json!({ "autoscaling": { "enabled": false }, "replicas": random.random_range(0..2) }),
        "wrong" => json!({ "template": { "spec": { format!("nothing{}", random.random_range(0..5)): 1 } } }),
        _ => unreachable!("{name} is no sort"),
    };
    if spec["redis"]["mode"].is_null() {
        // In place of the operator's own, which is not the same in all of these tests.
        spec["redis"]["image"] = json!("example.com/redis:8");
    }
    spec["image"] = json!(format!("example.com/{name}:{}", random.random_range(1..5)));
    spec["service"] = json!({ "port": random.random_range(8000..8005) });
    spec
}
