//! The ConfigMaps and Secrets that the application refers to, and what stands in
//! its pod template so that a change of them rolls it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, PodTemplateSpec, Volume};

use super::DigestKey;
use crate::{
    api::{
        CachedService, CachedServiceSpec, RedisMode,
        names::{REFERENCES_ANNOTATION, redis_name},
    },
    operator::observe::Seen,
};

/// A ConfigMap or a Secret in the namespace of the application.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Of which kind.
    pub kind: ReferenceKind,
    /// Its name.
    pub name: String,
}

/// What can be referred to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReferenceKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

/// What is known of an object that is referred to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// It has not been read yet.
    Unknown,
    /// There is none.
    Absent,
    /// Its data have this digest.
    Digest(String),
    /// It cannot be read; why, in words.
    Unreadable(String),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ReferenceKind::ConfigMap => "ConfigMap",
            ReferenceKind::Secret => "Secret",
        };
        write!(f, "{kind}/{}", self.name)
    }
}

/// What the user's part of the application refers to, where its changes are to
/// roll it. Of a spec that is not valid: what could be read of it.
#[must_use]
pub fn references(service: &CachedService) -> BTreeSet<Reference> {
    let spec = &service.spec;
    if !spec.rollout.on_config_change {
        return BTreeSet::new();
    }
    let template = spec.template.clone().map(serde_json::from_value::<PodTemplateSpec>);
    let pod = template.and_then(Result::ok).and_then(|template| template.spec).unwrap_or_default();
    let containers = pod.init_containers.iter().flatten().chain(&pod.containers);
    let mut found = BTreeSet::new();
    for container in containers {
        found.extend(container.env.iter().flatten().flat_map(of_variable));
        found.extend(container.env_from.iter().flatten().flat_map(of_source));
    }
    found.extend(spec.env.iter().flat_map(of_variable));
    found.extend(spec.env_from.iter().flat_map(of_source));
    found.extend(pod.volumes.iter().flatten().flat_map(of_volume));
    found.retain(|reference| can_exist(&reference.name) && !is_of_redis(spec, service, reference));
    found
}

fn of_variable(variable: &EnvVar) -> impl Iterator<Item = Reference> {
    let source = variable.value_from.clone().unwrap_or_default();
    let config_map = source.config_map_key_ref.map(|key| config_map(key.name));
    config_map.into_iter().chain(source.secret_key_ref.map(|key| secret(key.name)))
}

fn of_source(source: &EnvFromSource) -> impl Iterator<Item = Reference> {
    let source = source.clone();
    let config_map = source.config_map_ref.map(|all| config_map(all.name));
    config_map.into_iter().chain(source.secret_ref.map(|all| secret(all.name)))
}

fn of_volume(volume: &Volume) -> Vec<Reference> {
    let mut found = Vec::new();
    found.extend(volume.config_map.iter().map(|files| config_map(files.name.clone())));
    found.extend(volume.secret.iter().filter_map(|files| files.secret_name.clone()).map(secret));
    let projected = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    for source in projected {
        found.extend(source.config_map.iter().map(|files| config_map(files.name.clone())));
        found.extend(source.secret.iter().map(|files| secret(files.name.clone())));
    }
    found
}

fn config_map(name: String) -> Reference {
    Reference { kind: ReferenceKind::ConfigMap, name }
}

fn secret(name: String) -> Reference {
    Reference { kind: ReferenceKind::Secret, name }
}

/// Whether an object can have this name: one that cannot is not asked for.
fn can_exist(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte))
}

/// The Secret of the operator's Redis has a digest of its own in the template.
fn is_of_redis(spec: &CachedServiceSpec, service: &CachedService, reference: &Reference) -> bool {
    spec.redis.mode == RedisMode::Standalone
        && spec.redis.auth.enabled
        && reference.kind == ReferenceKind::Secret
        && service.metadata.name.as_deref().map(redis_name).as_ref() == Some(&reference.name)
}

/// What the application refers to, in the form in which a change of it shows.
#[derive(Clone, Debug)]
pub struct Referred {
    /// Keys the digests.
    pub key: DigestKey,
    /// `KIND/NAME=DIGEST` of each object that is there, joined by commas.
    pub revisions: String,
}

impl Referred {
    /// `None` where changes of it are not to roll the application.
    pub(super) fn of(spec: &CachedServiceSpec, seen: &Seen) -> Option<Self> {
        spec.rollout.on_config_change.then(|| Self { key: seen.key.clone(), revisions: revisions(seen) })
    }
}

/// Of what is not there, or cannot be read, what the pods started with stays: that
/// it went is no reason to roll them, and when it comes back as it was, it is none either.
fn revisions(seen: &Seen) -> String {
    let live = seen.deployment.ours().and_then(|deployment| deployment.annotation(REFERENCES_ANNOTATION));
    let before: BTreeMap<&str, &str> =
        live.unwrap_or_default().split(',').filter_map(|entry| entry.split_once('=')).collect();
    let entries = seen.references.iter().filter_map(|(reference, content)| {
        let name = reference.to_string();
        let revision = match content {
            Content::Digest(content) => seen.key.revision(content),
            Content::Absent | Content::Unknown | Content::Unreadable(_) => {
                (*before.get(name.as_str())?).to_owned()
            }
        };
        Some(format!("{name}={revision}"))
    });
    entries.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::operator::sample;

    fn found(spec: serde_json::Value) -> Vec<String> {
        references(&sample::service(spec)).iter().map(ToString::to_string).collect()
    }

    fn everywhere() -> serde_json::Value {
        let key = |name: &str| json!({ "name": name, "key": "k", "optional": true });
        json!({
            "rollout": { "onConfigChange": true },
            "env": [
                { "name": "A", "valueFrom": { "configMapKeyRef": key("env-map") } },
                { "name": "B", "valueFrom": { "secretKeyRef": key("env-secret") } },
                { "name": "C", "value": "env-map-not" },
            ],
            "envFrom": [{ "configMapRef": { "name": "from-map" } }, { "secretRef": { "name": "from-secret" } }],
            "template": { "spec": {
                "initContainers": [
                    { "name": "i", "env": [{ "name": "A", "valueFrom": { "secretKeyRef": key("init-secret") } }] },
                ],
                "containers": [{ "name": "side", "envFrom": [{ "configMapRef": { "name": "side-map" } }] }],
                "volumes": [
                    { "name": "a", "configMap": { "name": "volume-map", "optional": true } },
                    { "name": "b", "secret": { "secretName": "volume-secret" } },
                    { "name": "c", "projected": { "sources": [
                        { "configMap": { "name": "projected-map" } }, { "secret": { "name": "projected-secret" } },
                    ] } },
                ],
            } },
        })
    }

    #[test]
    fn variables_and_volumes_of_all_containers_refer() {
        let expected = [
            "ConfigMap/env-map",
            "ConfigMap/from-map",
            "ConfigMap/projected-map",
            "ConfigMap/side-map",
            "ConfigMap/volume-map",
            "Secret/env-secret",
            "Secret/from-secret",
            "Secret/init-secret",
            "Secret/projected-secret",
            "Secret/volume-secret",
        ];
        assert_eq!(found(everywhere()), expected);
    }

    #[test]
    fn nothing_is_followed_where_changes_roll_nothing() {
        let mut spec = everywhere();
        spec["rollout"] = json!({});
        assert!(found(spec).is_empty());
    }

    #[test]
    fn the_secret_of_the_operators_redis_and_names_that_nothing_has_are_left_out() {
        let from = |names: [&str; 4]| -> serde_json::Value {
            names.iter().map(|name| json!({ "secretRef": { "name": name } })).collect()
        };
        let sources = from(["shop-redis", "", "a,b", "mine"]);
        let mut spec = json!({ "rollout": { "onConfigChange": true }, "envFrom": sources });
        assert_eq!(found(spec.clone()), ["Secret/mine"]);
        spec["redis"] = json!({ "auth": { "enabled": false } });
        assert_eq!(found(spec), ["Secret/mine", "Secret/shop-redis"]);
    }

    #[test]
    fn the_digest_of_a_content_depends_on_the_key() {
        let revisions = |key: &str| {
            let data =
                [(crate::api::names::SECRET_SALT.to_owned(), k8s_openapi::ByteString(key.into()))].into();
            let key = DigestKey::read(&data, DigestKey::random());
            let content = Content::Digest("d".to_owned());
            let seen =
                Seen { key, references: [(secret("db".to_owned()), content)].into(), ..sample::nothing() };
            revisions(&seen)
        };
        assert!(revisions("a").starts_with("Secret/db="));
        assert_eq!(revisions("a"), revisions("a"));
        assert_ne!(revisions("a"), revisions("b"));
    }
}
