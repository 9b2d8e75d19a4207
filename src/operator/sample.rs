//! What the unit tests of the pure parts start from.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry};
use serde_json::{Value, json};

use super::{
    apply::Applied,
    observe::{Look, Seen},
    plan::{Credentials, Defaults, DigestKey, Invalid, Plan, SidecarToken, plan},
    seen::{SeenAutoscaler, SeenDeployment, SeenStatefulSet, Sighting},
};
use crate::api::{
    CachedService, CachedServiceStatus,
    names::{
        APPLIED_ANNOTATION, FIELD_MANAGER, SECRET_PASSWORD, SECRET_SALT, SECRET_TOKEN, TEMPLATE_ANNOTATION,
        TEMPLATE_REVISION_ANNOTATION,
    },
};

/// The CachedService `prod/shop` in its third generation; `spec` needs no image.
pub(super) fn service(spec: Value) -> CachedService {
    let mut all = json!({ "image": "example.com/shop:1.4" });
    if let (Value::Object(all), Value::Object(given)) = (&mut all, spec) {
        all.extend(given);
    }
    serde_json::from_value(json!({
        "apiVersion": "cachedservice.dev/v1alpha1",
        "kind": "CachedService",
        "metadata": { "name": "shop", "namespace": "prod", "uid": "0-1", "generation": 3 },
        "spec": all,
    }))
    .unwrap()
}

/// A namespace in which there is nothing yet.
pub(super) fn nothing() -> Seen {
    Seen {
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
        credentials: credentials("first"),
        key: DigestKey::read(&BTreeMap::new(), DigestKey::random()),
        token: token(),
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

/// The credentials with this password.
pub(super) fn credentials(password: &str) -> Credentials {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let data = [(SECRET_PASSWORD.to_owned(), bytes(password)), (SECRET_SALT.to_owned(), bytes("salt"))];
    Credentials::read(&data.into(), Credentials::random())
}

fn token() -> SidecarToken {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let data = [(SECRET_TOKEN.to_owned(), bytes("token")), (SECRET_SALT.to_owned(), bytes("salt"))];
    SidecarToken::read(&data.into(), SidecarToken::random())
}

fn defaults() -> Defaults {
    Defaults {
        redis_image: "redis:8.2".to_owned(),
        exporter_image: "redis_exporter:v1".to_owned(),
        sidecar_image: "cachedservice-sidecar:v1".to_owned(),
        operator_pods: None,
    }
}

/// The plan for `prod/shop` with this spec.
pub(super) fn planned(spec: Value, seen: &Seen) -> Result<Plan, Invalid> {
    plan(&service(spec), seen, &defaults())
}

/// The digest of the pod template of [`deployment`].
pub(super) const TEMPLATE: &str = "t1";

/// The Deployment `shop` in its second generation, which its controller has seen.
pub(super) fn deployment(replicas: i32, status: &Value) -> SeenDeployment {
    let mut deployment: SeenDeployment = serde_json::from_value(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "shop", "namespace": "prod", "generation": 2 },
        "spec": {
            "replicas": replicas,
            "template": { "metadata": { "annotations": {
                TEMPLATE_ANNOTATION: TEMPLATE, TEMPLATE_REVISION_ANNOTATION: "2",
            } } },
        },
        "status": status,
    }))
    .unwrap();
    deployment.metadata.managed_fields = Some(vec![revision_is_of(FIELD_MANAGER)]);
    deployment.status.observed_generation.get_or_insert(2);
    deployment
}

/// The managed fields of an object with a pod template whose revision this manager wrote.
pub(super) fn revision_is_of(manager: &str) -> ManagedFieldsEntry {
    let annotation = format!("f:{TEMPLATE_REVISION_ANNOTATION}");
    serde_json::from_value(json!({
        "manager": manager,
        "operation": "Apply",
        "fieldsV1": {
            "f:spec": { "f:template": { "f:metadata": { "f:annotations": { annotation: {} } } } },
        },
    }))
    .unwrap()
}

/// The HorizontalPodAutoscaler `shop`.
pub(super) fn autoscaler(status: &Value) -> SeenAutoscaler {
    serde_json::from_value(json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": "shop", "namespace": "prod" },
        "status": status,
    }))
    .unwrap()
}

/// The StatefulSet `shop-redis` in its second generation, applied with `digest`.
pub(super) fn stateful_set(digest: &str, status: &Value) -> SeenStatefulSet {
    let mut set: SeenStatefulSet = serde_json::from_value(json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {
            "name": "shop-redis", "namespace": "prod", "uid": "0-2", "generation": 2,
            "annotations": { APPLIED_ANNOTATION: digest },
        },
        "status": status,
    }))
    .unwrap();
    set.status.observed_generation.get_or_insert(2);
    set
}

/// An apply that found every child as it should be, with what `seen` shows.
pub(super) fn applied(seen: &Seen) -> Applied {
    fn object<K>(sighting: &Sighting<K>) -> Option<std::sync::Arc<K>> {
        match sighting {
            Sighting::Ours(object) => Some(object.clone()),
            Sighting::Absent | Sighting::Leaving | Sighting::Foreign { .. } => None,
        }
    }
    Applied {
        redis_secret: Ok(object(&seen.redis_secret)),
        redis_config: Ok(object(&seen.redis_config)),
        redis_service: Ok(object(&seen.redis_service)),
        redis_policy: Ok(object(&seen.redis_policy)),
        redis_claim: Ok(object(&seen.redis_claim)),
        redis_monitor: Ok(object(&seen.redis_monitor)),
        app_policy: Ok(object(&seen.app_policy)),
        ingress: Ok(object(&seen.ingress)),
        http_route: Ok(object(&seen.http_route)),
        app_monitor: Ok(object(&seen.app_monitor)),
        stateful_set: Ok(object(&seen.stateful_set)),
        service: Ok(object(&seen.service)),
        peers_service: Ok(object(&seen.peers_service)),
        digest_key: Ok(object(&seen.digest_key)),
        sidecar_secret: Ok(object(&seen.sidecar_secret)),
        sidecar_config: Ok(object(&seen.sidecar_config)),
        service_account: Ok(object(&seen.service_account)),
        disruption_budget: Ok(object(&seen.disruption_budget)),
        deployment: Ok(object(&seen.deployment)),
        autoscaler: Ok(object(&seen.autoscaler)),
        changes: Vec::new(),
    }
}

/// An object that is ours.
pub(super) fn ours<K>(object: K) -> Sighting<K> {
    Sighting::Ours(std::sync::Arc::new(object))
}
