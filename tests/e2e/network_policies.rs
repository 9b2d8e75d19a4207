//! That the cluster keeps to network policies, without which no test of one says anything.

use std::{
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    sandbox,
    support::{
        Connection::{Open, Refused, Unanswered},
        Sandbox, until,
    },
};

/// A server in a namespace, which listens on 8080 and 9090, a Service before it, and two clients;
/// and a client in another namespace.
struct Pods {
    shop: Sandbox,
    other: Sandbox,
    server: String,
}

impl Pods {
    async fn start() -> Self {
        let shop = sandbox().await;
        let other = Sandbox::new(shop.cluster).await;
        let (server, ..) = tokio::join!(
            shop.start_pod("server", &[("app", "server")], &[8080, 9090]),
            shop.start_pod("friend", &[("role", "friend")], &[8080]),
            shop.start_pod("stranger", &[("role", "stranger")], &[8080]),
            other.start_pod("foreigner", &[("role", "friend")], &[8080]),
        );
        shop.kubectl(&["expose", "pod", "server", "--name", "behind", "--port=80", "--target-port=8080"]);
        Self { shop, other, server }
    }

    fn server(&self, port: u16) -> String {
        format!("{}:{port}", self.server)
    }

    /// The Service's name, which is known in both namespaces.
    fn service(&self) -> String {
        format!("behind.{}:80", self.shop.namespace)
    }

    async fn set_policy(&self, spec: Value) {
        let policies: Api<NetworkPolicy> = self.shop.api();
        let policy = json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": { "name": "policy" },
            "spec": spec,
        });
        let parameters = PatchParams::apply("test").force();
        policies.patch("policy", &parameters, &Patch::Apply(policy)).await.expect("apply the policy");
    }

    fn label(&self, pod: &str, role: &str) {
        self.shop.kubectl(&["label", "pod", pod, "--overwrite", &format!("role={role}")]);
    }
}

/// Lets these peers of the server reach its port 8080.
fn ingress_from(peer: &Value) -> Value {
    json!({
        "podSelector": { "matchLabels": { "app": "server" } },
        "policyTypes": ["Ingress"],
        "ingress": [{ "from": [peer], "ports": [{ "port": "port-8080" }] }],
    })
}

#[tokio::test]
async fn a_forbidden_connection_is_blocked_and_an_allowed_one_is_not() {
    let pods = Pods::start().await;
    let Pods { shop, other, .. } = &pods;
    let service = pods.service();
    // Without a policy nothing is blocked: what is seen below comes from the policies.
    for address in [pods.server(8080), pods.server(9090)] {
        assert_eq!(shop.connect("stranger", &address), Open);
        assert_eq!(other.connect("foreigner", &address), Open);
    }
    assert_eq!(shop.connect("friend", &pods.server(7070)), Refused);
    shop.until_connection("stranger", &service, Open).await;

    pods.set_policy(ingress_from(&json!({ "podSelector": { "matchLabels": { "role": "friend" } } }))).await;
    shop.until_connection("stranger", &pods.server(8080), Unanswered).await;
    assert_eq!(shop.connect("stranger", &service), Unanswered);
    assert_eq!(shop.connect("friend", &pods.server(8080)), Open);
    assert_eq!(shop.connect("friend", &service), Open);
    assert_eq!(shop.connect("friend", &pods.server(9090)), Unanswered);
    // The label counts only in the policy's own namespace.
    assert_eq!(other.connect("foreigner", &pods.server(8080)), Unanswered);
    assert_eq!(other.connect("foreigner", &service), Unanswered);
    // To itself and to the node, a pod is never closed: it stays Ready.
    assert_eq!(shop.connect("server", &pods.server(9090)), Open);

    pods.label("stranger", "friend");
    shop.until_connection("stranger", &pods.server(8080), Open).await;
    pods.label("friend", "stranger");
    shop.until_connection("friend", &service, Unanswered).await;
    pods.label("friend", "friend");
    shop.until_connection("friend", &service, Open).await;

    let namespace = json!({ "kubernetes.io/metadata.name": other.namespace });
    pods.set_policy(ingress_from(&json!({ "namespaceSelector": { "matchLabels": namespace } }))).await;
    other.until_connection("foreigner", &service, Open).await;
    assert_eq!(other.connect("foreigner", &pods.server(9090)), Unanswered);
    assert_eq!(shop.connect("friend", &pods.server(8080)), Unanswered);

    pods.set_policy(json!({
        "podSelector": { "matchLabels": { "role": "friend" } },
        "policyTypes": ["Egress"],
        "egress": [{ "ports": [{ "port": 9090 }] }],
    }))
    .await;
    shop.until_connection("friend", &pods.server(8080), Unanswered).await;
    assert_eq!(shop.connect("friend", &service), Unanswered);
    assert_eq!(shop.connect("friend", &pods.server(9090)), Open);
    assert_eq!(other.connect("foreigner", &service), Open);

    shop.api::<NetworkPolicy>().delete("policy", &DeleteParams::default()).await.unwrap();
    shop.until_connection("friend", &service, Open).await;
}

#[tokio::test]
async fn a_changed_policy_holds_within_two_seconds_and_a_new_pod_is_isolated_and_ready() {
    let pods = Pods::start().await;
    let nobody = json!({ "podSelector": {}, "policyTypes": ["Ingress"] });
    let started = Instant::now();
    pods.set_policy(nobody).await;
    pods.until_reached_from_outside(false).await;
    println!("closed after {:?}", started.elapsed());

    // The kubelet's probes come from the node, and get through.
    let late = pods.shop.start_pod("late", &[], &[8080]).await;
    assert_eq!(pods.shop.connect("friend", &format!("{late}:8080")), Unanswered);

    let started = Instant::now();
    pods.shop.api::<NetworkPolicy>().delete("policy", &DeleteParams::default()).await.unwrap();
    pods.until_reached_from_outside(true).await;
    println!("open after {:?}", started.elapsed());
}

impl Pods {
    /// Waits until the server is reached from this machine, or is not: the node passes on what
    /// comes from here, as from any other place outside of the cluster.
    async fn until_reached_from_outside(&self, wanted: bool) {
        let server: SocketAddr = self.server(8080).parse().unwrap();
        until(Duration::from_secs(10), async || {
            let reached = TcpStream::connect_timeout(&server, Duration::from_millis(200)).is_ok();
            if reached == wanted { Ok(()) } else { Err(format!("reached: {reached}")) }
        })
        .await;
    }
}
