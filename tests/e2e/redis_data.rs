//! What Redis keeps: on a volume, and of a copy that was taken.

use std::{fs, path::PathBuf, time::Duration};

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, PodCondition, Secret},
};
use kube::{
    Api, ResourceExt,
    api::{ObjectMeta, PostParams},
};
use serde_json::{Value, json};

use crate::{
    ask,
    redis::{in_redis, leaving_at_once, redis_cli, script, set_policy},
    sandbox,
    support::{Sandbox, until},
};

#[tokio::test]
async fn a_key_outlives_the_pod_and_the_cached_service_until_its_deletion_is_written() {
    let sandbox = sandbox().await;
    let volume = Volume::make(&sandbox).await;
    let claims: Api<PersistentVolumeClaim> = sandbox.api();
    sandbox.apply("shop", kept_on(&volume, "Retain")).await;
    sandbox.until_ready("shop").await;
    until_redis_runs(&sandbox, None).await;
    assert_eq!(redis_cli(&sandbox, "set basket 3"), "OK\n");

    let first = sandbox.api::<Pod>().get("shop-redis-0").await.unwrap().uid();
    sandbox.kubectl(&["delete", "pod", "shop-redis-0"]);
    until_redis_runs(&sandbox, first).await;
    assert_eq!(redis_cli(&sandbox, "get basket"), "3\n");

    let (claim, password) = (claims.get("shop-redis").await.unwrap().uid(), password(&sandbox).await);
    delete_with_redis(&sandbox).await;
    sandbox.apply("shop", kept_on(&volume, "Delete")).await;
    sandbox.until_ready("shop").await;
    until_redis_runs(&sandbox, None).await;
    assert_eq!(claims.get("shop-redis").await.unwrap().uid(), claim);
    assert_eq!(redis_cli(&sandbox, "get basket"), "3\n");
    assert_ne!(self::password(&sandbox).await, password);
    let answer = until(Duration::from_secs(5), async || ask(&sandbox, "/").await).await;
    assert!(answer["hits"].is_i64(), "the application counts in Redis: {answer}");

    delete_with_redis(&sandbox).await;
    until(Duration::from_secs(10), async || {
        let claim = claims.get_opt("shop-redis").await.map_err(|error| error.to_string())?;
        claim.map_or(Ok(()), |claim| Err(format!("the claim is left: {:?}", claim.metadata.labels)))
    })
    .await;
}

/// What the operations guide says under "Restore from a copy".
#[tokio::test]
async fn a_copy_of_the_data_is_restored_once_the_policy_lets_redis_connect() {
    let sandbox = sandbox().await;
    sandbox.apply("shop", leaving_at_once()).await;
    sandbox.until_ready("shop").await;
    redis_cli(&sandbox, "set basket copied");
    // By default Redis waits five seconds for a second replica.
    redis_cli(&sandbox, "config set repl-diskless-sync-delay 0");
    let copy = copy_of_redis(&sandbox);
    redis_cli(&sandbox, "set basket later");
    let copy = ConfigMap {
        metadata: ObjectMeta { name: Some("copy".to_owned()), ..ObjectMeta::default() },
        binary_data: Some([("shop.rdb".to_owned(), ByteString(copy))].into()),
        ..ConfigMap::default()
    };
    sandbox.api().create(&PostParams::default(), &copy).await.unwrap();
    let (copy, _) = tokio::join!(
        start_redis(&sandbox, "copy", documented_server()),
        start_redis(&sandbox, "other", "redis-server --protected-mode no"),
    );
    let replicate = documented("replicaof 203.0.113.7 6379").replace("203.0.113.7", &copy);

    in_redis(&sandbox, &replicate).unwrap();
    // What no policy holds back needs no longer than this.
    let other = ["exec", "other", "--", "redis-cli"];
    sandbox.kubectl(&[&other[..], &["replicaof", &copy, "6379"]].concat());
    until_linked(|| sandbox.try_kubectl(&[&other[..], &["info", "replication"]].concat())).await;
    let link = in_redis(&sandbox, &documented("info replication")).unwrap();
    assert!(link.contains("master_link_status:down"), "{link}");
    // It tries less and less often, so that it had better begin anew.
    in_redis(&sandbox, &documented("replicaof no one")).unwrap();
    assert_eq!(redis_cli(&sandbox, "get basket"), "later\n");

    set_policy(&sandbox, json!({ "enabled": false })).await;
    sandbox.until_ready("shop").await;
    in_redis(&sandbox, &replicate).unwrap();
    until_linked(|| in_redis(&sandbox, &documented("info replication"))).await;
    assert_eq!(redis_cli(&sandbox, "get basket"), "copied\n");
    assert!(redis_cli(&sandbox, "set basket new").contains("READONLY"));
    in_redis(&sandbox, &documented("replicaof no one")).unwrap();
    assert_eq!(redis_cli(&sandbox, "set basket new"), "OK\n");
}

/// A volume of the machine's own, of a class that no other claim names; goes away when dropped.
struct Volume<'a> {
    sandbox: &'a Sandbox,
    folder: PathBuf,
}

impl<'a> Volume<'a> {
    async fn make(sandbox: &'a Sandbox) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(&sandbox.namespace);
        fs::create_dir(&folder).unwrap();
        let volume = Self { sandbox, folder };
        let node = json!({ "key": "kubernetes.io/hostname", "operator": "In", "values": ["node-1"] });
        let manifest = json!({
            "metadata": { "name": volume.name() },
            "spec": {
                "storageClassName": volume.name(),
                "capacity": { "storage": "1Gi" },
                "accessModes": ["ReadWriteOnce"],
                // Unlike one of the kind hostPath, it is made the group's that the pod runs as.
                "local": { "path": volume.folder },
                "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [node] }] } },
            },
        });
        let volumes: Api<PersistentVolume> = Api::all(sandbox.client.clone());
        let manifest = serde_json::from_value(manifest).unwrap();
        volumes.create(&PostParams::default(), &manifest).await.unwrap();
        volume
    }

    /// Also that of its class: no two tests have the same.
    fn name(&self) -> &str {
        &self.sandbox.namespace
    }
}

impl Drop for Volume<'_> {
    fn drop(&mut self) {
        // A test that failed leaves its claim, until its namespace goes.
        let _ = self.sandbox.try_kubectl(&["delete", "persistentvolume", self.name(), "--wait=false"]);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn kept_on(volume: &Volume<'_>, when_deleted: &str) -> Value {
    let mut spec = leaving_at_once();
    spec["redis"] = json!({ "persistence": {
        "enabled": true,
        "size": "1Gi",
        "storageClassName": volume.name(),
        "whenDeleted": when_deleted,
    } });
    spec
}

async fn password(sandbox: &Sandbox) -> ByteString {
    let secret: Secret = sandbox.api().get("shop-redis").await.unwrap();
    secret.data.unwrap().remove("password").unwrap()
}

/// Waits until Redis is told to be ready, in another pod than the one that was there before.
async fn until_redis_runs(sandbox: &Sandbox, before: Option<String>) {
    let pods: Api<Pod> = sandbox.api();
    until(Duration::from_secs(30), async || {
        let pod = pods.get("shop-redis-0").await.map_err(|error| error.to_string())?;
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        let ready = |condition: &PodCondition| condition.type_ == "Ready" && condition.status == "True";
        if pod.uid() == before || !conditions.into_iter().flatten().any(ready) {
            return Err(format!("not ready: {:?}", pod.status));
        }
        Ok(())
    })
    .await;
    sandbox.until_condition(Duration::from_secs(5), "shop", "RedisReady", "True", "Available").await;
}

/// Deletes the service, and waits until the pod is gone too that uses the claim.
async fn delete_with_redis(sandbox: &Sandbox) {
    sandbox.delete("shop").await;
    let pods: Api<Pod> = sandbox.api();
    until(Duration::from_secs(30), async || {
        let left = pods.get_opt("shop-redis-0").await.map_err(|error| error.to_string())?;
        left.map_or(Ok(()), |pod| Err(format!("{:?} is left", pod.status)))
    })
    .await;
}

/// A script as it stands in the operations guide.
fn documented(act: &str) -> String {
    let script = script(act);
    assert!(guide().contains(&format!("'{script}'")), "the guide does not say {script}");
    script
}

fn guide() -> String {
    fs::read_to_string("docs/operations.md").unwrap()
}

fn copy_of_redis(sandbox: &Sandbox) -> Vec<u8> {
    let script = documented("--rdb -");
    let command = ["exec", "shop-redis-0", "--container", "redis", "--", "sh", "-c", &script];
    sandbox.kubectl_for_bytes(&command).unwrap()
}

/// How the operations guide starts a Redis from the copy.
fn documented_server() -> &'static str {
    const SERVER: &str = "redis-server --dbfilename shop.rdb --port 6379 --protected-mode no";
    assert!(guide().lines().any(|line| line == SERVER), "the guide does not say {SERVER}");
    SERVER
}

/// Starts a Redis in a pod that no policy selects, where it finds the copy, and returns its address.
async fn start_redis(sandbox: &Sandbox, name: &str, server: &str) -> String {
    let at_once = ["--repl-diskless-sync-delay", "0"];
    let ping = r#"[ "$(redis-cli ping)" = PONG ]"#;
    let pod = json!({
        "metadata": { "name": name },
        "spec": {
            "containers": [{
                "name": "redis",
                "image": "localhost/cachedservice-redis:7.0",
                "command": server.split(' ').chain(at_once).collect::<Vec<_>>(),
                "readinessProbe": { "exec": { "command": ["sh", "-c", ping] }, "periodSeconds": 1 },
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
                "volumeMounts": [{ "name": "copy", "mountPath": "/data/shop.rdb", "subPath": "shop.rdb" }],
            }],
            "volumes": [{ "name": "copy", "configMap": { "name": "copy" } }],
            "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
        },
    });
    sandbox.run_pod(name, pod).await
}

/// Waits until `info replication` says that the replica has all of the data.
async fn until_linked(info: impl Fn() -> Result<String, String>) {
    until(Duration::from_secs(15), async || {
        let link = info()?;
        if link.contains("master_link_status:up") { Ok(()) } else { Err(link) }
    })
    .await;
}
