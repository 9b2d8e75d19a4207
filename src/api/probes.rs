//! Health probes of the application container.

use k8s_openapi::api::core::v1::Probe;
use kube::{KubeSchema, core::cel::Rule};
use serde::{Deserialize, Serialize};

use super::schema::rule;

/// Health probes of the application container. By default all three ask for
/// `path` over HTTP on `spec.port`; each try may take 3 seconds.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Probes {
    /// The HTTP path that answers 2xx or 3xx when the application is well, for
    /// every probe that is not replaced. Default `/healthz`.
    #[serde(default = "default_path")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rule(
        "self.startsWith('/')",
        "spec.probes.path: write a path that begins with '/', such as /healthz",
    ))]
    pub path: String,

    /// Holds the other two off until the application has started. Default: every
    /// second, restart after 120 failures.
    #[serde(default)]
    pub startup: ProbeSwitch,

    /// Takes a pod out of the Service while it fails. Default: every 5 seconds,
    /// out after 2 failures.
    #[serde(default)]
    pub readiness: ProbeSwitch,

    /// Restarts the container when it fails. Default: every 10 seconds, restart
    /// after 3 failures.
    #[serde(default)]
    pub liveness: ProbeSwitch,
}

impl Default for Probes {
    fn default() -> Self {
        Self {
            path: default_path(),
            startup: ProbeSwitch::default(),
            readiness: ProbeSwitch::default(),
            liveness: ProbeSwitch::default(),
        }
    }
}

/// One probe: on with the operator's default, replaced by a probe of yours, or off.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule(
        "self.enabled || !has(self.custom)",
        "probes: a probe that is switched off cannot have a custom probe; remove custom or set enabled to true",
    ),
)]
pub struct ProbeSwitch {
    /// Whether there is such a probe. Default true.
    #[serde(default = "default_enabled")]
    pub enabled: bool,

    /// A full Kubernetes probe that replaces the default one. Unset: the
    /// default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = rule(
            "[has(self.httpGet), has(self.tcpSocket), has(self.exec), has(self.grpc)].exists_one(handler, handler)",
            "probes: a custom probe needs exactly one of httpGet, tcpSocket, exec and grpc",
        ),
        validation = port_rule("httpGet"),
        validation = port_rule("tcpSocket"),
    )]
    pub custom: Option<Probe>,
}

impl Default for ProbeSwitch {
    fn default() -> Self {
        Self { enabled: default_enabled(), custom: None }
    }
}

/// A number that is no port may be larger than the operator could read.
fn port_rule(handler: &str) -> Rule {
    let port = format!("self.{handler}.port");
    rule(
        &format!(
            "!has(self.{handler}) || (type({port}) == string ? {port} != '' : {port} >= 1 && {port} <= 65535)"
        ),
        "probes: write a port from 1 to 65535, or the name of a port, such as http",
    )
}

fn default_path() -> String {
    "/healthz".to_owned()
}

fn default_enabled() -> bool {
    true
}
