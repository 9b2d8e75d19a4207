//! The CustomResourceDefinitions, made from the types of this module.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use super::{CachePurge, CachedService};

/// The definition of the resource.
#[must_use]
pub fn crd() -> CustomResourceDefinition {
    CachedService::crd()
}

/// The definition of the purges.
#[must_use]
pub fn purge_crd() -> CustomResourceDefinition {
    CachePurge::crd()
}

/// A definition as YAML: a file of `crds/`.
///
/// # Errors
/// When the definition cannot be written as YAML, which would be a bug.
pub fn crd_yaml(definition: &CustomResourceDefinition) -> Result<String, serde_saphyr::ser_error::Error> {
    serde_saphyr::to_string(definition)
}
