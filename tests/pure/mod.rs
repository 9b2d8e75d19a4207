//! What the tests of the pure parts share: no cluster, no clock.

// Each test binary uses its own part of this.
#![allow(dead_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod generate;

use std::{collections::BTreeMap, sync::Arc};

use cachedservice::{
    api::{
        CachedServiceStatus,
        names::{FIELD_MANAGER, SECRET_PASSWORD, SECRET_SALT, SECRET_TOKEN, TEMPLATE_REVISION_ANNOTATION},
    },
    operator::{
        children::Children,
        observe::{Look, Seen},
        plan::{Credentials, Defaults, DigestKey, OperatorPods, SidecarToken},
        seen::{SeenDeployment, Sighting},
    },
};
use k8s_openapi::ByteString;
use serde::Serialize;
use serde_json::{Value, json};

/// What the installation sets.
pub fn defaults() -> Defaults {
    Defaults {
        redis_image: "docker.io/library/redis:8.2".to_owned(),
        exporter_image: "docker.io/oliver006/redis_exporter:v1".to_owned(),
        sidecar_image: "registry.example.com/cachedservice-sidecar:v1".to_owned(),
        operator_pods: Some(OperatorPods {
            namespace: "cachedservice-system".to_owned(),
            labels: [("app.kubernetes.io/name".to_owned(), "cachedservice-operator".to_owned())].into(),
        }),
    }
}

/// A namespace in which there is nothing yet. The credentials are always the same.
pub fn nothing() -> Seen {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let data =
        [(SECRET_PASSWORD.to_owned(), bytes("test-password")), (SECRET_SALT.to_owned(), bytes("test-salt"))];
    let token =
        [(SECRET_TOKEN.to_owned(), bytes("test-token")), (SECRET_SALT.to_owned(), bytes("test-salt"))];
    Seen {
        token: SidecarToken::read(&token.into(), SidecarToken::random()),
        redis_secret: Sighting::Absent,
        redis_config: Sighting::Absent,
        redis_service: Sighting::Absent,
        redis_policy: Sighting::Absent,
        redis_claim: Sighting::Absent,
        redis_monitor: Sighting::Absent,
        app_policy: Sighting::Absent,
        ingress: Sighting::Absent,
        http_route: Sighting::Absent,
        app_monitor: Sighting::Absent,
        stateful_set: Sighting::Absent,
        service: Sighting::Absent,
        peers_service: Sighting::Absent,
        digest_key: Sighting::Absent,
        sidecar_secret: Sighting::Absent,
        sidecar_config: Sighting::Absent,
        service_account: Sighting::Absent,
        disruption_budget: Sighting::Absent,
        deployment: Sighting::Absent,
        autoscaler: Sighting::Absent,
        credentials: Credentials::read(&data.into(), Credentials::random()),
        key: DigestKey::read(&[(SECRET_SALT.to_owned(), bytes("test-key"))].into(), DigestKey::random()),
        references: BTreeMap::new(),
        external: None,
        troubles: Vec::new(),
        draining: false,
        sidecars: None,
        redis_refusal: None,
        interrupted: None,
        status: CachedServiceStatus::default(),
        provisional: false,
        look: Look::Watches,
    }
}

/// A Deployment that the operator made, of this revision of its defaults.
pub fn running(template_revision: i32) -> Sighting<SeenDeployment> {
    let owned = format!("f:{TEMPLATE_REVISION_ANNOTATION}");
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "managedFields": [{ "manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": {
                "f:spec": { "f:template": { "f:metadata": { "f:annotations": { owned: {} } } } },
            } }],
        },
        "spec": { "template": { "metadata": { "annotations": {
            TEMPLATE_REVISION_ANNOTATION: template_revision.to_string(),
        } } } },
    });
    Sighting::Ours(Arc::new(serde_json::from_value(deployment).expect("a Deployment")))
}

/// The children as they go to the API server.
pub fn manifests(children: &Children) -> Vec<Value> {
    let Children {
        redis_secret,
        redis_config,
        redis_service,
        redis_policy,
        redis_claim,
        stateful_set,
        redis_monitor,
        service,
        peers_service,
        app_policy,
        ingress,
        http_route,
        digest_key,
        sidecar_secret,
        sidecar_config,
        service_account,
        disruption_budget,
        deployment,
        autoscaler,
        app_monitor,
    } = children;
    [
        redis_secret.as_ref().map(manifest),
        redis_config.as_ref().map(manifest),
        redis_service.as_ref().map(manifest),
        redis_policy.as_ref().map(manifest),
        redis_claim.as_ref().map(manifest),
        stateful_set.as_ref().map(manifest),
        redis_monitor.as_ref().map(manifest),
        Some(manifest(service)),
        peers_service.as_ref().map(manifest),
        app_policy.as_ref().map(manifest),
        ingress.as_ref().map(manifest),
        http_route.as_ref().map(manifest),
        digest_key.as_ref().map(manifest),
        sidecar_secret.as_ref().map(manifest),
        sidecar_config.as_ref().map(manifest),
        service_account.as_ref().map(manifest),
        disruption_budget.as_ref().map(manifest),
        Some(manifest(deployment)),
        autoscaler.as_ref().map(manifest),
        app_monitor.as_ref().map(manifest),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn manifest<K: Serialize>(object: &K) -> Value {
    serde_json::to_value(object).expect("a child is JSON")
}
