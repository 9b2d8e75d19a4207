//! A real API server with its controllers and no node, from `tests/cluster`.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    time::Duration,
};

use cachedservice::api::CachedService;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{Deployment, StatefulSet},
        coordination::v1::Lease,
        core::v1::{Namespace, Node, Pod},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::DynamicObject,
    discovery::ApiResource,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{AuditMark, until};

/// Label on the namespaces that a test binary made; its value is the binary.
pub(super) const TEST_LABEL: &str = "cachedservice.dev/test";
/// The test binary that this is compiled into.
pub(super) const TEST_BINARY: &str = env!("CARGO_CRATE_NAME");

/// Name of the Helm release, its Deployment and its service account.
pub const OPERATOR: &str = "cachedservice-operator";
/// Namespace of the Helm release.
pub const OPERATOR_NAMESPACE: &str = "cachedservice-system";

/// The demo application's image, as `images/build` names it.
pub const DEMO_IMAGE: &str = concat!("localhost/cachedservice-demo:", env!("CARGO_PKG_VERSION"));

/// The chart, from the repository's root.
pub const CHART: &str = "charts/cachedservice-operator";

/// A running cluster, with the CRDs installed.
pub struct Cluster {
    pub(super) name: &'static str,
    kubeconfig: Kubeconfig,
    pub(super) audit_log: PathBuf,
    /// Up to where the audit log has been looked through for warnings; before this process began,
    /// others have.
    pub(super) checked: Mutex<u64>,
    /// The Pod Security Standard that the namespaces of tests are held to.
    pub(super) pod_security: &'static str,
}

/// On a cluster with pods: what the operator makes is to be fit for the strictest.
const RESTRICTED: &str = "restricted";
/// Without pods there is nothing to protect, and specs can be short.
const PRIVILEGED: &str = "privileged";

impl Cluster {
    /// The cluster `name`, started if it is not running. One for each test binary.
    pub async fn up(name: &'static str) -> &'static Self {
        static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
        let cluster = CLUSTER.get_or_init(|| async {
            let cluster = Self::start(name, "control-plane", PRIVILEGED).await;
            install_crds(&cluster.client().await).await;
            cluster
        });
        let cluster = cluster.await;
        assert_eq!(cluster.name, name, "a test binary has one cluster");
        cluster
    }

    /// The cluster with a real node, started if it is not running; it holds the
    /// images and, installed by Helm, the operator. One for each test binary.
    pub async fn with_node() -> &'static Self {
        static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
        CLUSTER
            .get_or_init(|| async {
                let cluster = Self::start("full", "full", RESTRICTED).await;
                cluster.restrict(OPERATOR_NAMESPACE).await;
                cluster.install_by_helm();
                cluster
            })
            .await
    }

    /// A new cluster with nodes that only play pods, and with nothing installed; one of the same name
    /// is taken away. One for each test binary.
    pub async fn anew_with_fake_nodes(name: &'static str) -> &'static Self {
        static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
        let cluster = CLUSTER.get_or_init(|| async {
            tool(&["down", "--name", name]);
            Self::start(name, "scale", PRIVILEGED).await
        });
        cluster.await
    }

    async fn start(name: &'static str, mode: &str, pod_security: &'static str) -> Self {
        // It fails only where it is set already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        tool(&["up", "--mode", mode, "--audit", "--name", name]);
        let kubeconfig = tool(&["kubeconfig", "--name", name]);
        let audit_log = PathBuf::from(tool(&["audit-log", "--name", name]).trim());
        let cluster = Self {
            name,
            kubeconfig: Kubeconfig::read_from(kubeconfig.trim()).expect("the cluster's kubeconfig"),
            checked: Mutex::new(AuditMark::end_of(&audit_log).0),
            audit_log,
            pod_security,
        };
        let client = cluster.client().await;
        cluster.forget_earlier_runs(&client).await;
        cluster
    }

    /// The administrator's client. Bound to the runtime that it is made in.
    pub async fn client(&self) -> Client {
        Client::try_from(self.config(self.kubeconfig.clone()).await).expect("a client")
    }

    /// Makes a namespace that is held to this cluster's Pod Security Standard.
    async fn restrict(&self, namespace: &str) {
        let manifest = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": { "name": namespace, "labels": self.namespace_labels() },
        });
        apply(&self.client().await, manifest).await;
    }

    /// The labels of a namespace that is held to this cluster's Pod Security Standard: pods that do
    /// not fit are refused, and of what would make such pods the audit log tells.
    pub(super) fn namespace_labels(&self) -> BTreeMap<String, String> {
        let modes = ["enforce", "audit", "warn"].into_iter();
        modes
            .map(|mode| (format!("pod-security.kubernetes.io/{mode}"), self.pod_security.to_owned()))
            .collect()
    }

    /// Kills a part of the control plane, starts it and waits until it is healthy.
    pub fn restart(&self, part: &str) {
        tool(&["restart", "--name", self.name, part]);
    }

    /// Stops a part of the control plane until the answer is dropped, as on a machine that hangs.
    pub fn pause(&self, part: &'static str) -> Paused<'_> {
        tool(&["kill", "--name", self.name, part, "--signal", "STOP"]);
        Paused { cluster: self, part }
    }

    /// The address and certificate authority of this cluster with other credentials.
    /// The file by which programs reach it.
    pub fn kubeconfig_path(&self) -> String {
        tool(&["kubeconfig", "--name", self.name]).trim().to_owned()
    }

    pub(super) fn kubeconfig_with_token(&self, namespace: &str, token: &str) -> Value {
        let mut kubeconfig = serde_json::to_value(&self.kubeconfig).expect("a kubeconfig is JSON");
        kubeconfig["users"][0]["user"] = json!({ "token": token });
        kubeconfig["contexts"][0]["context"]["namespace"] = namespace.into();
        kubeconfig
    }

    pub(super) async fn config(&self, kubeconfig: Kubeconfig) -> Config {
        let options = KubeConfigOptions::default();
        Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("a client configuration")
    }

    fn install_by_helm(&self) {
        let built = Command::new(repository().join("images/build")).status().expect("run images/build");
        assert!(built.success(), "images/build failed");
        let archive = |image| repository().join("target/images").join(image).display().to_string();
        let archives =
            ["operator.tar", "sidecar.tar", "demo.tar", "redis.tar", "exporter.tar", "postgres.tar"]
                .map(archive);
        let archives = archives.iter().map(String::as_str);
        tool(&["load", "--name", self.name].into_iter().chain(archives).collect::<Vec<_>>());
        self.helm(&["upgrade", "--install", OPERATOR, CHART]);
    }

    /// Installs a chart as the operator's release, or upgrades to it, where no image is needed.
    pub fn install(&self, chart: &Path) {
        let chart = chart.to_str().expect("a path in UTF-8");
        let helm = ["helm", "--name", self.name, "--", "upgrade", "--install", OPERATOR, chart];
        let settings = ["--namespace", OPERATOR_NAMESPACE, "--create-namespace", "--wait", "--timeout=2m"];
        tool(&[&helm[..], &settings, &["--set=image.repository=not-pulled"]].concat());
    }

    /// Runs Helm on the operator's release, with the images of this cluster.
    pub fn helm(&self, arguments: &[&str]) -> String {
        let command = ["helm", "--name", self.name, "--"];
        let mut settings = vec!["--namespace", OPERATOR_NAMESPACE];
        let build = format!("--set-string=podAnnotations.build={}", operator_build());
        if arguments.first() == Some(&"upgrade") {
            settings.extend([
                &build,
                "--create-namespace",
                "--wait",
                "--timeout=2m",
                "--set=image.repository=localhost/cachedservice-operator",
                "--set=redis.image=localhost/cachedservice-redis:7.0",
            ]);
        }
        tool(&[&command[..], arguments, &settings].concat())
    }

    /// Deletes the namespaces that this test binary made, without waiting for their end.
    pub async fn forget_earlier_runs(&self, client: &Client) {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let earlier = ListParams::default().labels(&format!("{TEST_LABEL}={TEST_BINARY}"));
        let earlier = namespaces.list_metadata(&earlier).await.expect("list namespaces").items;
        let earlier: Vec<String> =
            earlier.into_iter().filter_map(|namespace| namespace.metadata.name).collect();
        // In a namespace that is on its way out, controllers would make pods anew, in vain, and
        // tell of it until nobody hears of anything else. So what makes pods goes first.
        for namespace in &earlier {
            clear::<CachedService>(client, namespace).await;
            clear::<StatefulSet>(client, namespace).await;
            clear::<Deployment>(client, namespace).await;
            clear_bare_pods(client, namespace).await;
        }
        let ours = ListParams::default().labels(&format!("{TEST_LABEL}={TEST_BINARY}"));
        clear_played_nodes(client, &ours).await;
        let pods: Api<Pod> = Api::all(client.clone());
        until(Duration::from_secs(60), async || {
            let pods = pods.list_metadata(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let left: Vec<String> = pods
                .items
                .iter()
                .filter(|pod| pod.metadata.namespace.as_ref().is_some_and(|name| earlier.contains(name)))
                .map(|pod| format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any()))
                .collect();
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("pods of earlier runs are still there: {left:?}"))
            }
        })
        .await;
        for namespace in &earlier {
            let _ = namespaces.delete(namespace, &DeleteParams::background()).await;
        }
    }
}

/// A part that hangs; dropped, it goes on.
pub struct Paused<'a> {
    cluster: &'a Cluster,
    part: &'static str,
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        tool(&["kill", "--name", self.cluster.name, self.part, "--signal", "CONT"]);
    }
}

/// Identifies the contents of the operator's image. Its tag is the same for all of a version, so
/// that without this pods of an earlier build would go on.
fn operator_build() -> String {
    let inputs = std::fs::read_to_string(repository().join("target/images/operator.tar.inputs"));
    let inputs = inputs.expect("the inputs of the image; images/build writes them");
    inputs.split_whitespace().nth(1).expect("a digest").to_owned()
}

async fn clear<K>(client: &Client, namespace: &str)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let objects: Api<K> = Api::namespaced(client.clone(), namespace);
    // The kind may not be known yet.
    let _ = objects.delete_collection(&DeleteParams::background(), &ListParams::default()).await;
}

/// Deletes the nodes that tests have played, and the pods on them, which nobody else ends.
async fn clear_played_nodes(client: &Client, ours: &ListParams) {
    let (nodes, pods): (Api<Node>, Api<Pod>) = (Api::all(client.clone()), Api::all(client.clone()));
    for node in nodes.list_metadata(ours).await.expect("list nodes") {
        let name = node.name_any();
        let on_it = ListParams::default().fields(&format!("spec.nodeName={name}"));
        let now = DeleteParams::default().grace_period(0);
        for pod in pods.list_metadata(&on_it).await.expect("list pods") {
            let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
            let _ = api.delete(&pod.name_any(), &now).await;
        }
        let _ = nodes.delete(&name, &DeleteParams::default()).await;
    }
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let _ = leases.delete_collection(&DeleteParams::default(), ours).await;
}

/// Deletes the pods that nothing controls, and that so go with nothing: those that send load.
async fn clear_bare_pods(client: &Client, namespace: &str) {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pods = api.list_metadata(&ListParams::default()).await.expect("list pods").items;
    for pod in pods.iter().filter(|pod| pod.owner_references().is_empty()) {
        // It may be gone by now.
        let _ = api.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await;
    }
}

/// Applies each document of a YAML text, as an administrator would.
pub(super) async fn apply_yaml(client: &Client, yaml: &str) {
    for document in serde_saphyr::from_multiple::<Value>(yaml).expect("YAML") {
        apply(client, document).await;
    }
}

async fn apply(client: &Client, document: Value) {
    let object: DynamicObject = serde_json::from_value(document).expect("a Kubernetes object");
    let types = object.types.as_ref().expect("apiVersion and kind");
    let resource = ApiResource::from_gvk(&types.try_into().expect("a group, version and kind"));
    let name = object.metadata.name.clone().expect("a name");
    let api: Api<DynamicObject> = match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let parameters = PatchParams::apply(TEST_BINARY).force();
    api.patch(&name, &parameters, &Patch::Apply(&object)).await.expect("apply");
}

async fn install_crds(client: &Client) {
    for kind in ["cachedservices", "cachepurges"] {
        let name = format!("{kind}.cachedservice.dev");
        let yaml = std::fs::read_to_string(repository().join(format!("crds/{name}.yaml")));
        let yaml = yaml.expect("the CRD; `make generate` writes it");
        apply_yaml(client, &yaml).await;
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        until(Duration::from_secs(10), async || {
            let crd = crds.get(&name).await.map_err(|error| error.to_string())?;
            let conditions = crd.status.and_then(|status| status.conditions).unwrap_or_default();
            let established = conditions
                .iter()
                .any(|condition| condition.type_ == "Established" && condition.status == "True");
            established.then_some(()).ok_or_else(|| format!("{name} is not established: {conditions:?}"))
        })
        .await;
    }
}

/// Runs the cluster tool and returns the text that it prints.
pub(super) fn tool(arguments: &[&str]) -> String {
    let printed = try_tool(arguments).unwrap_or_else(|error| panic!("{error}"));
    String::from_utf8(printed).expect("text")
}

/// Runs the cluster tool and returns what it prints, or what it says when it fails.
pub(super) fn try_tool(arguments: &[&str]) -> Result<Vec<u8>, String> {
    let output = Command::new("timeout")
        .arg("600")
        .arg(repository().join("tests/cluster/cluster"))
        .args(arguments)
        .current_dir(repository())
        .output()
        .expect("run tests/cluster/cluster");
    if output.status.success() {
        return Ok(output.stdout);
    }
    let [said, told] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    Err(format!("cluster {}: {said}{told}", arguments.join(" ")))
}

/// Where the cluster tool keeps its clusters (tests/cluster/README.md).
pub(super) fn state_folder() -> PathBuf {
    std::env::var_os("CACHEDSERVICE_STATE")
        .filter(|folder| !folder.is_empty())
        .map_or_else(|| PathBuf::from("/var/tmp/cachedservice-clusters"), PathBuf::from)
}

pub(super) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
