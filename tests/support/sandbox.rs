//! The namespace of one test.

use std::{thread, time::Duration};

use cachedservice::api::CachedService;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        core::v1::{ConfigMap, Namespace},
        events::v1::Event,
    },
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    Cluster, Installation, Kubelet, Operator,
    child::CHILDREN,
    cluster::{TEST_BINARY, TEST_LABEL, repository, tool, try_tool},
    until,
};

/// The namespace of one test, and an administrator's client.
pub struct Sandbox {
    pub cluster: &'static Cluster,
    pub client: Client,
    pub namespace: String,
}

/// What keeps a CachedService going, until it is dropped.
pub struct Serving {
    pub operator: Operator,
    pub kubelet: Kubelet,
    pub installation: Installation,
}

impl Sandbox {
    /// A new namespace.
    pub async fn new(cluster: &'static Cluster) -> Self {
        let client = cluster.client().await;
        let mut labels = cluster.namespace_labels();
        labels.insert(TEST_LABEL.to_owned(), TEST_BINARY.to_owned());
        let namespace = Namespace {
            metadata: ObjectMeta {
                generate_name: Some(format!("{TEST_BINARY}-")),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let made = namespaces.create(&PostParams::default(), &namespace).await.expect("create a namespace");
        Self { cluster, client, namespace: made.name_any() }
    }

    /// A new connection, after the API server was restarted.
    pub async fn reconnect(&mut self) {
        self.client = self.cluster.client().await;
    }

    /// The objects of a kind in this namespace.
    pub fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A service account for the operator, with the rights that the chart gives in this namespace.
    pub async fn install(&self) -> Installation {
        Installation::in_namespace(self).await
    }

    /// Plays a kubelet to which every pod becomes Ready.
    pub fn kubelet(&self) -> Kubelet {
        Kubelet::all_ready(self)
    }

    /// A least CachedService of this name that is Ready, and what brought it there.
    pub async fn serve(&self, name: &str) -> Serving {
        self.serve_spec(name, json!({ "image": "example.com/shop:1" })).await
    }

    /// A CachedService of this spec that is Ready, and what brought it there.
    pub async fn serve_spec(&self, name: &str, spec: Value) -> Serving {
        let installation = self.install().await;
        let operator = installation.start("first");
        let kubelet = self.kubelet();
        self.apply(name, spec).await;
        self.until_ready(name).await;
        Serving { operator, kubelet, installation }
    }

    /// Applies a CachedService of this spec, as `kubectl apply --server-side` would.
    pub async fn apply(&self, name: &str, spec: Value) -> CachedService {
        self.try_apply(name, spec).await.expect("apply the CachedService")
    }

    /// As [`Self::apply`], for a spec that the API server may refuse.
    pub async fn try_apply(&self, name: &str, spec: Value) -> kube::Result<CachedService> {
        let manifest = json!({
            "apiVersion": CachedService::api_version(&()),
            "kind": CachedService::kind(&()),
            "metadata": { "name": name, "namespace": self.namespace },
            "spec": spec,
        });
        self.api().patch(name, &PatchParams::apply(TEST_BINARY).force(), &Patch::Apply(manifest)).await
    }

    /// Deletes a CachedService, in a cluster that clears away what it leaves.
    pub async fn delete(&self, name: &str) {
        self.until_garbage_is_collected().await;
        let deleted = self.api::<CachedService>().delete(name, &DeleteParams::background()).await;
        deleted.expect("delete the CachedService");
    }

    /// Waits until the garbage collector knows the kind: it looks for new ones every 30 s, and
    /// tries what failed before with longer and longer pauses, so each try is with an object of its own.
    pub async fn until_garbage_is_collected(&self) {
        let owner = json!({
            "apiVersion": CachedService::api_version(&()),
            "kind": CachedService::kind(&()),
            "name": "nobody",
            "uid": "00000000-0000-4000-8000-000000000000",
        });
        let orphan = json!({ "metadata": { "generateName": "orphan-", "ownerReferences": [owner] } });
        let orphan: ConfigMap = serde_json::from_value(orphan).expect("a ConfigMap");
        let maps = self.api::<ConfigMap>();
        until(Duration::from_secs(60), async || {
            let made =
                maps.create(&PostParams::default(), &orphan).await.map_err(|error| error.to_string())?;
            let name = made.name_any();
            for _ in 0..100 {
                if maps.get_opt(&name).await.map_err(|error| error.to_string())?.is_none() {
                    return Ok(());
                }
                sleep(Duration::from_millis(50)).await;
            }
            let _ = maps.delete(&name, &DeleteParams::default()).await;
            Err(format!("nobody collected the ConfigMap {name}"))
        })
        .await;
    }

    /// Applies `examples/NAME.yaml` and returns its CachedService.
    pub async fn apply_example(&self, example: &str) -> CachedService {
        let path = repository().join("examples").join(example).with_extension("yaml");
        let yaml = std::fs::read_to_string(path).expect("an example");
        let manifest: Value = serde_saphyr::from_str(&yaml).expect("YAML");
        let name = manifest["metadata"]["name"].as_str().expect("a name").to_owned();
        self.apply(&name, manifest["spec"].clone()).await
    }

    /// The CachedService as it is now.
    pub async fn service(&self, name: &str) -> CachedService {
        self.api().get(name).await.expect("get the CachedService")
    }

    /// Waits until the condition `type_` of the present generation has this status and reason.
    #[track_caller]
    pub fn until_condition<'a>(
        &'a self,
        limit: Duration,
        name: &'a str,
        type_: &'a str,
        status: &'a str,
        reason: &'a str,
    ) -> impl Future<Output = Condition> + 'a {
        until(limit, async move || {
            let service = self.service(name).await;
            let found = condition(&service, type_);
            let current = found.as_ref().filter(|found| {
                found.status == status
                    && found.reason == reason
                    && found.observed_generation == service.metadata.generation
            });
            current.cloned().ok_or_else(|| format!("{name}: no {type_}={status} {reason}, but {found:?}"))
        })
    }

    /// Waits until every child is there and the status has been written.
    pub async fn until_created(&self, name: &str) {
        until(Duration::from_secs(10), async || {
            for kind in CHILDREN {
                self.find(kind, name).await.ok_or_else(|| format!("{kind:?} is missing"))?;
            }
            let service = self.service(name).await;
            condition(&service, "Ready").map(drop).ok_or_else(|| "no status".to_owned())
        })
        .await;
    }

    /// Reasons and notes of the Events about a CachedService.
    pub async fn events(&self, name: &str) -> Vec<(String, String)> {
        let events = self.api::<Event>().list(&ListParams::default()).await.expect("list Events");
        let about = |event: &Event| {
            let regarding = event.regarding.iter();
            let mut regarding = regarding.map(|object| (object.kind.as_deref(), object.name.as_deref()));
            regarding.any(|object| object == (Some("CachedService"), Some(name)))
        };
        let told = events.into_iter().filter(about);
        told.map(|event| (event.reason.unwrap_or_default(), event.note.unwrap_or_default())).collect()
    }

    /// All that users can read about a CachedService: itself and its Events.
    pub async fn everything_told(&self, name: &str) -> String {
        let service = serde_json::to_string(&self.service(name).await).expect("JSON");
        format!("{service}\n{:?}", self.events(name).await)
    }

    /// Runs kubectl as the administrator in this namespace and returns what it prints.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments).unwrap_or_else(|error| panic!("{error}"))
    }

    /// As [`Self::kubectl`], or what it says when it fails.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        self.kubectl_for_bytes(arguments).map(|bytes| String::from_utf8(bytes).expect("text"))
    }

    /// As [`Self::try_kubectl`], where it prints what need not be text.
    pub fn kubectl_for_bytes(&self, arguments: &[&str]) -> Result<Vec<u8>, String> {
        let cluster = ["kubectl", "--name", self.cluster.name, "--", "--warnings-as-errors"];
        try_tool(&[&cluster[..], &["--namespace", &self.namespace], arguments].concat())
    }

    /// Waits until the CachedService serves.
    #[track_caller]
    pub fn until_ready<'a>(&'a self, name: &'a str) -> impl Future<Output = Condition> + 'a {
        self.until_condition(Duration::from_secs(60), name, "Ready", "True", "Serving")
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.cluster.assert_nobody_was_warned();
        }
    }
}

/// A condition in the status.
pub fn condition(service: &CachedService, type_: &str) -> Option<Condition> {
    let conditions = &service.status.as_ref()?.conditions;
    conditions.iter().find(|condition| condition.type_ == type_).cloned()
}
