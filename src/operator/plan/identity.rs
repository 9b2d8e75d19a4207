//! Names, labels and the owner of the children.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};

use super::Invalid;
use crate::api::{
    CachedService,
    names::{
        APP_NAME_LABEL, COMPONENT_LABEL, MANAGED_BY, MANAGED_BY_LABEL, NAME_LABEL, REDIS_PORT, peers_name,
        redis_name, sidecar_name,
    },
};

/// Names, labels and the owner of the children.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Identity {
    /// Name of the CachedService and of the application's objects.
    pub name: String,
    /// Namespace of all of them.
    pub namespace: String,
    /// Identity of the CachedService in time.
    pub uid: String,
    /// Labels of the user's, for every child.
    pub extra_labels: BTreeMap<String, String>,
    /// Annotations of the user's, for every child.
    pub extra_annotations: BTreeMap<String, String>,
}

impl Identity {
    pub(super) fn of(service: &CachedService) -> Result<Self, Invalid> {
        let missing =
            |field: &str| Invalid::new(field, "is missing; apply the CachedService to a cluster first");
        Ok(Self {
            name: service.meta().name.clone().ok_or_else(|| missing("metadata.name"))?,
            namespace: service.namespace().ok_or_else(|| missing("metadata.namespace"))?,
            uid: service.uid().ok_or_else(|| missing("metadata.uid"))?,
            extra_labels: service.spec.labels.clone(),
            extra_annotations: service.spec.annotations.clone(),
        })
    }

    /// Name of the Redis objects.
    #[must_use]
    pub fn redis_name(&self) -> String {
        redis_name(&self.name)
    }

    /// The URL of the Redis that the operator runs, where it has no password.
    #[must_use]
    pub fn open_redis_url(&self) -> String {
        format!("redis://{}.{}.svc:{REDIS_PORT}/0", self.redis_name(), self.namespace)
    }

    /// Name of the sidecars' ConfigMap and Secret.
    #[must_use]
    pub fn sidecar_name(&self) -> String {
        sidecar_name(&self.name)
    }

    /// Name of the Service of the pods that requests are spread over.
    #[must_use]
    pub fn peers_name(&self) -> String {
        peers_name(&self.name)
    }

    /// The operator's labels of a child, and of the pods of `component`.
    #[must_use]
    pub fn labels(&self, component: &str) -> BTreeMap<String, String> {
        let mut labels = self.selector_labels(component);
        labels.insert(APP_NAME_LABEL.to_owned(), self.name.clone());
        labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
        labels
    }

    /// Selects the pods of `component`. Frozen: a selector cannot change.
    #[must_use]
    pub fn selector(&self, component: &str) -> LabelSelector {
        LabelSelector { match_labels: Some(self.selector_labels(component)), ..LabelSelector::default() }
    }

    /// The labels that select the pods of `component`.
    #[must_use]
    pub fn selector_labels(&self, component: &str) -> BTreeMap<String, String> {
        BTreeMap::from([
            (NAME_LABEL.to_owned(), self.name.clone()),
            (COMPONENT_LABEL.to_owned(), component.to_owned()),
        ])
    }

    /// Metadata of the child `name` of `component`.
    #[must_use]
    pub fn child(&self, name: &str, component: &str) -> ObjectMeta {
        let mut labels = self.extra_labels.clone();
        labels.extend(self.labels(component));
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.namespace.clone()),
            labels: Some(labels),
            annotations: Some(self.extra_annotations.clone()).filter(|annotations| !annotations.is_empty()),
            owner_references: Some(vec![self.owner()]),
            ..ObjectMeta::default()
        }
    }

    /// As [`Self::child`], with annotations of its own, which count before those of every child.
    #[must_use]
    pub fn annotated_child(
        &self,
        name: &str,
        component: &str,
        annotations: &BTreeMap<String, String>,
    ) -> ObjectMeta {
        let mut metadata = self.child(name, component);
        if !annotations.is_empty() {
            metadata.annotations.get_or_insert_default().extend(annotations.clone());
        }
        metadata
    }

    fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: CachedService::api_version(&()).into_owned(),
            kind: CachedService::kind(&()).into_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            // `kubectl delete --cascade=foreground` waits for the children.
            block_owner_deletion: Some(true),
        }
    }
}
