//! Names that users and other programs see: labels, annotations, containers,
//! ports, field managers. Each stands here once.

use crate::api::CachedService;
use kube::ResourceExt;

/// Label on every child and every pod: the name of its CachedService. The
/// operator's watches select by it, and it is part of the frozen pod selectors.
pub const NAME_LABEL: &str = "cachedservice.dev/name";
/// Label that tells the application's pods from Redis's; part of the frozen pod selectors.
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// Label with the name of what a child or pod belongs to.
pub const APP_NAME_LABEL: &str = "app.kubernetes.io/name";
/// Label that says who manages a child.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// The labels of Kubernetes' own vocabulary that the operator sets.
pub const OWN_LABELS: [&str; 3] = [APP_NAME_LABEL, COMPONENT_LABEL, MANAGED_BY_LABEL];
/// What all other labels and annotations of the operator begin with.
pub const OWN_PREFIX: &str = "cachedservice.dev/";
/// Value of [`COMPONENT_LABEL`] on what belongs to the application.
pub const APP: &str = "app";
/// Value of [`COMPONENT_LABEL`] on what belongs to Redis.
pub const REDIS: &str = "redis";
/// Value of `app.kubernetes.io/managed-by` on every child.
pub const MANAGED_BY: &str = "cachedservice-operator";

/// Label on the claim of a Redis: `true` where it has no owner and so outlives its
/// CachedService. The next one of the name takes it up.
pub const RETAINED_LABEL: &str = "cachedservice.dev/retained";

/// Annotation on every child: a digest of what the operator applied last.
pub const APPLIED_ANNOTATION: &str = "cachedservice.dev/applied";
/// Annotation on pod templates: a digest of the credentials the pods started with.
pub const CREDENTIALS_ANNOTATION: &str = "cachedservice.dev/credentials";
/// Annotation on Redis's pod template: a digest of the configuration file.
pub const CONFIG_ANNOTATION: &str = "cachedservice.dev/config";
/// Annotation on the application's pod template: digests of the ConfigMaps and
/// Secrets that it refers to, where their changes are to roll it.
pub const REFERENCES_ANNOTATION: &str = "cachedservice.dev/references";
/// Annotation on pod templates: the revision of the operator's defaults in
/// it, so that a later operator can leave running pods as they are.
pub const TEMPLATE_REVISION_ANNOTATION: &str = "cachedservice.dev/template-revision";
/// Annotation on the application's pod template: a digest of the sidecar's token, which the application
/// gets at its start.
pub const TOKEN_ANNOTATION: &str = "cachedservice.dev/token";
/// Annotation on the application's pod template: a digest of the template, by
/// which the pods of the present one are told from those that are on their way out.
pub const TEMPLATE_ANNOTATION: &str = "cachedservice.dev/template";

/// Annotation on a CachedService: with the value `true` the operator changes nothing of its children.
pub const PAUSED_ANNOTATION: &str = "cachedservice.dev/paused";
/// Annotation on a CachedService: with each new value every child is looked at and applied anew.
pub const RECONCILE_AT_ANNOTATION: &str = "cachedservice.dev/reconcile-at";

/// Name of the application's container.
pub const APP_CONTAINER: &str = "app";
/// Name of the application's port, in the pod and in the Service.
pub const APP_PORT_NAME: &str = "http";
/// Name of the application's own port in pods whose port `http` is the sidecar's.
pub const APP_OWN_PORT_NAME: &str = "app";
/// Name of the sidecar's container.
pub const SIDECAR_CONTAINER: &str = "sidecar";
/// Port on which the sidecar takes the application's requests.
pub const SIDECAR_HTTP_PORT: i32 = 9800;
/// Port of the sidecar's health, metrics and purges.
pub const SIDECAR_ADMIN_PORT: i32 = 9801;
/// Port on 127.0.0.1 on which the sidecar is the application's Redis, while the near-cache is on.
pub const SIDECAR_REDIS_PORT: i32 = 6379;
/// Name of the port of health, metrics and purges.
pub const SIDECAR_ADMIN_PORT_NAME: &str = "sidecar-admin";
/// Environment variable with the address of the sidecar's purges.
pub const ADMIN_URL_ENV: &str = "CACHEDSERVICE_ADMIN_URL";
/// Environment variable with the token that they ask for.
pub const ADMIN_TOKEN_ENV: &str = "CACHEDSERVICE_ADMIN_TOKEN";
/// Name of Redis's container.
pub const REDIS_CONTAINER: &str = "redis";
/// Port of Redis.
pub const REDIS_PORT: i32 = 6379;
/// Environment variable with the address and the password of Redis.
pub const REDIS_URL_ENV: &str = "REDIS_URL";
/// Environment variable with the port that the application listens on.
pub const PORT_ENV: &str = "PORT";

/// Key of the generated Secret: the password.
pub const SECRET_PASSWORD: &str = "password";
/// Key of the generated Secret: the URL that the application gets.
pub const SECRET_URL: &str = "url";
/// Key of the generated Secret: the ACL file that Redis reads.
pub const SECRET_ACL: &str = "users.acl";
/// Key of the sidecar's Secret: the token.
pub const SECRET_TOKEN: &str = "token";
/// Key of the generated Secrets: keys the digests in [`CREDENTIALS_ANNOTATION`] and
/// [`REFERENCES_ANNOTATION`], so that nobody who can read pods can try passwords against them.
pub const SECRET_SALT: &str = "digest-key";

/// Field manager of the children.
pub const FIELD_MANAGER: &str = "cachedservice-operator";
/// Field manager that holds a Deployment's `spec.replicas` while it passes
/// from the operator to the autoscaler.
pub const SCALE_FIELD_MANAGER: &str = "cachedservice-operator-scale";
/// Field manager of the status.
pub const STATUS_FIELD_MANAGER: &str = "cachedservice-operator-status";

/// Name of the Redis objects of the CachedService `name`.
#[must_use]
pub fn redis_name(name: &str) -> String {
    format!("{name}-redis")
}

/// The channel in Redis on which the application of the CachedService `name` publishes purges.
#[must_use]
pub fn purge_channel(namespace: &str, name: &str) -> String {
    format!("cachedservice:{namespace}/{name}:purge")
}

/// Name of the ConfigMap and the Secret of the sidecars of the CachedService `name`.
#[must_use]
pub fn sidecar_name(name: &str) -> String {
    format!("{name}-sidecar")
}

/// Name of the Service whose addresses are those of the ready pods, while requests are spread over them.
#[must_use]
pub fn peers_name(name: &str) -> String {
    format!("{name}-peers")
}

/// Name of the ConfigMap with the record of purges, which need not be there.
#[must_use]
pub fn purges_name(name: &str) -> String {
    format!("{name}-purges")
}

/// Name of the Secret that keys the digests in [`REFERENCES_ANNOTATION`].
#[must_use]
pub fn digest_key_name(name: &str) -> String {
    format!("{name}-digest-key")
}

/// `namespace/name` of a CachedService, for logs and errors.
#[must_use]
pub fn full_name(service: &CachedService) -> String {
    format!("{}/{}", service.namespace().unwrap_or_default(), service.name_any())
}
