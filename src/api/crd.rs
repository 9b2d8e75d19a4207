//! The CustomResourceDefinition, made from the types of this module.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use super::CachedService;

/// The definition of the resource.
#[must_use]
pub fn crd() -> CustomResourceDefinition {
    CachedService::crd()
}

/// The definition as YAML: the contents of `crds/`.
///
/// # Errors
/// When the definition cannot be written as YAML, which would be a bug.
pub fn crd_yaml() -> Result<String, serde_saphyr::ser_error::Error> {
    serde_saphyr::to_string(&crd())
}
