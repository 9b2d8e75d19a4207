//! What an installation of the operator is made of: a service account, and the
//! rights that the Helm chart gives it.

use std::{
    fs,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use cachedservice::{
    operator::{
        client::{REQUEST_TIMEOUT, configured, guard},
        lease::Leadership,
    },
    telemetry::Metrics,
};
use k8s_openapi::{
    api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::ServiceAccount,
        rbac::v1::RoleBinding,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, PostParams},
    client::ClientBuilder,
    config::Kubeconfig,
};

use super::{
    Cluster, Faults, InProcess, OPERATOR, OPERATOR_NAMESPACE, Operator, Sandbox,
    cluster::{apply_yaml, repository, tool},
};

/// Release, service account, Role and Lease bear this name.
pub const RELEASE: &str = "cachedservice-operator";

/// The operator of this build.
const BINARY: &str = env!("CARGO_BIN_EXE_cachedservice-operator");

/// A service account with the chart's rights, and its kubeconfig.
pub struct Installation {
    /// The namespace of the service account and the Lease.
    pub namespace: String,
    /// Whether that is the only namespace that is looked after.
    pub(super) is_alone: bool,
    /// How the audit log names it.
    pub user: String,
    pub(super) kubeconfig_path: PathBuf,
    kubeconfig: Kubeconfig,
    cluster: &'static Cluster,
}

impl Installation {
    pub(super) async fn in_namespace(sandbox: &Sandbox) -> Self {
        apply_yaml(&sandbox.client, &rendered(&sandbox.namespace)).await;
        Self::of_account(sandbox, RELEASE).await
    }

    /// A second service account with the same rights in the same namespace, for
    /// another replica: the audit log tells the two apart.
    pub async fn sibling(&self, sandbox: &Sandbox) -> Self {
        const SIBLING: &str = "cachedservice-operator-sibling";
        let account = ServiceAccount { metadata: named(SIBLING), ..ServiceAccount::default() };
        let accounts: Api<ServiceAccount> = sandbox.api();
        accounts.create(&PostParams::default(), &account).await.expect("create a service account");
        let bindings: Api<RoleBinding> = sandbox.api();
        for binding in bindings.list(&ListParams::default()).await.expect("list RoleBindings") {
            let mut subjects = binding.subjects.clone();
            for subject in subjects.iter_mut().flatten() {
                SIBLING.clone_into(&mut subject.name);
            }
            let name = format!("{}-sibling", binding.name_any());
            let binding = RoleBinding { metadata: named(&name), subjects, ..binding };
            bindings.create(&PostParams::default(), &binding).await.expect("create a RoleBinding");
        }
        Self::of_account(sandbox, SIBLING).await
    }

    /// That of a chart that Helm has installed for all namespaces.
    pub async fn of_the_chart(cluster: &'static Cluster) -> Self {
        let (client, namespace) = (cluster.client().await, OPERATOR_NAMESPACE.to_owned());
        let mut installed = Self::of_account(&Sandbox { cluster, client, namespace }, OPERATOR).await;
        installed.is_alone = false;
        installed
    }

    async fn of_account(sandbox: &Sandbox, account: &str) -> Self {
        let Sandbox { cluster, namespace, .. } = sandbox;
        let accounts: Api<ServiceAccount> = sandbox.api();
        let request = TokenRequest { spec: Some(TokenRequestSpec::default()), ..TokenRequest::default() };
        let token = accounts.create_token_request(account, &PostParams::default(), &request).await;
        let token = token.expect("a token").status.and_then(|status| status.token).expect("a token");
        let kubeconfig = cluster.kubeconfig_with_token(namespace, &token);
        let kubeconfig_path = scratch(&format!("{namespace}-{account}.kubeconfig"));
        write_private(&kubeconfig_path, &kubeconfig.to_string());
        Self {
            namespace: namespace.clone(),
            is_alone: true,
            user: format!("system:serviceaccount:{namespace}:{account}"),
            kubeconfig: serde_json::from_value(kubeconfig).expect("a kubeconfig"),
            kubeconfig_path,
            cluster,
        }
    }

    /// Starts the operator's binary.
    pub fn start(&self, identity: &str) -> Operator {
        self.start_with(identity, &[])
    }

    /// Starts the operator's binary with further arguments.
    pub fn start_with(&self, identity: &str, arguments: &[&str]) -> Operator {
        Operator::start(self, Path::new(BINARY), identity, arguments, &[])
    }

    /// Starts the operator's binary of another version.
    pub fn start_binary(&self, binary: &Path, identity: &str) -> Operator {
        Operator::start(self, binary, identity, &[], &[])
    }

    /// Starts the operator's binary with further environment variables.
    pub fn start_in(&self, environment: &[(&str, &str)], identity: &str) -> Operator {
        Operator::start(self, Path::new(BINARY), identity, &[], environment)
    }

    /// Starts the binary that goes into the image: this build's own has no optimisation.
    pub fn start_shipped(&self, identity: &str) -> Operator {
        let target = format!("target/{}-unknown-linux-gnu/image", std::env::consts::ARCH);
        let shipped = repository().join(target).join("cachedservice-operator");
        assert!(shipped.exists(), "{} is missing; make it with images/build operator", shipped.display());
        Operator::start(self, &shipped, identity, &[], &[])
    }

    /// Starts the control loop in this process, without an election; `faults`
    /// stands between it and the API server.
    pub async fn start_in_process(&self, faults: &Faults) -> InProcess {
        self.start_impatient(faults, REQUEST_TIMEOUT).await
    }

    /// As [`Self::start_in_process`], with another time-out for requests.
    pub async fn start_impatient(&self, faults: &Faults, timeout: Duration) -> InProcess {
        let config = configured(self.cluster.config(self.kubeconfig.clone()).await);
        let connection = ClientBuilder::try_from(config).expect("a connection").with_layer(faults);
        let metrics = Metrics::default();
        let client = guard(connection, &Leadership::always(), &metrics, timeout);
        InProcess::start(client, &self.namespace, metrics)
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        // It holds a token; whoever wants to look on after a failure finds the log.
        let _ = fs::remove_file(&self.kubeconfig_path);
    }
}

/// A file of this run, below the target directory.
pub(super) fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

/// The chart's service account, roles and bindings for an operator of one namespace.
pub(super) fn rendered(namespace: &str) -> String {
    let chart = repository().join("charts/cachedservice-operator");
    let watch = format!("watchNamespace={namespace}");
    tool(&[
        "helm",
        "template",
        RELEASE,
        chart.to_str().expect("a path in UTF-8"),
        "--namespace",
        namespace,
        "--set",
        &watch,
        "--set",
        "image.repository=not-pulled",
        "--show-only",
        "templates/serviceaccount.yaml",
        "--show-only",
        "templates/rbac.yaml",
    ])
}

fn write_private(path: &PathBuf, text: &str) {
    use std::io::Write;
    let mut file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path);
    file.as_mut().expect("a file below target").write_all(text.as_bytes()).expect("write");
}
