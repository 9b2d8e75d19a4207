//! A child as it goes to the API server. PURE.

use std::borrow::Cow;

use k8s_openapi::{
    Resource as _,
    api::{
        apps::v1::{Deployment, StatefulSet},
        autoscaling::v2::HorizontalPodAutoscaler,
        core::v1::Secret,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;
use serde::Serialize;
use serde_json::{Value, json};

use super::Act;
use crate::{
    api::names::APPLIED_ANNOTATION,
    operator::{digest::digest, error::ChildError},
};

/// A child as it goes to the API server. Without `Debug`, as it may hold a password.
#[derive(Clone)]
pub(super) struct Desired {
    pub(super) kind: &'static str,
    pub(super) name: String,
    /// Carries its own digest as an annotation.
    pub(super) value: Value,
    pub(super) digest: String,
}

impl Desired {
    pub(super) fn of<D: Resource<DynamicType = ()> + Serialize>(
        wanted: &D,
        name: &str,
    ) -> Result<Self, ChildError> {
        let kind = kind_name::<D>();
        let mut value = serde_json::to_value(wanted).map_err(|source| ChildError::Serialise {
            kind,
            name: name.to_owned(),
            source,
        })?;
        let digest = digest([value.to_string().as_str()]);
        value["metadata"]["annotations"][APPLIED_ANNOTATION] = json!(digest);
        Ok(Self { kind, name: name.to_owned(), value, digest })
    }

    /// Bound to the object that was seen: if that is gone, the API server
    /// answers with a conflict and creates nothing.
    pub(super) fn for_live(&self, live: &ObjectMeta) -> Self {
        let mut bound = self.clone();
        bound.value["metadata"]["uid"] = json!(live.uid);
        bound
    }

    /// Bound to a free name. Server-side apply changes what stands at the name,
    /// but only if its version is the one that was sent; what does not exist is
    /// created whatever was sent. Version 1 is that of the empty store, and no
    /// object has it.
    pub(super) fn for_free_name(&self) -> Self {
        let mut bound = self.clone();
        bound.value["metadata"]["resourceVersion"] = json!("1");
        bound
    }

    /// Whether this is what was applied to the object last, whatever became of it since.
    pub(super) fn was_applied_to(&self, live: &ObjectMeta) -> bool {
        live.annotations.as_ref().and_then(|all| all.get(APPLIED_ANNOTATION)) == Some(&self.digest)
    }

    pub(super) fn foreign(&self, owner: &str) -> ChildError {
        ChildError::Foreign { kind: self.kind, name: self.name.clone(), owner: owner.to_owned() }
    }

    pub(super) fn leaving(&self) -> ChildError {
        leaving(self.kind, &self.name)
    }

    pub(super) fn paused(&self, act: Act) -> ChildError {
        ChildError::Paused { act, kind: self.kind, name: self.name.clone() }
    }

    pub(super) fn contested(&self) -> ChildError {
        ChildError::Contested { kind: self.kind, name: self.name.clone() }
    }

    pub(super) fn taken(&self) -> ChildError {
        ChildError::Taken { kind: self.kind, name: self.name.clone() }
    }

    pub(super) fn refused(&self, act: &'static str, source: kube::Error) -> ChildError {
        ChildError::Refused { act, kind: self.kind, name: self.name.clone(), source }
    }
}

/// An earlier CachedService has left what stands at the name.
pub(super) fn leaving(kind: &'static str, name: &str) -> ChildError {
    let what = "the garbage collector, which clears away that of an earlier CachedService of this name";
    ChildError::Waiting { kind, name: name.to_owned(), what: what.to_owned() }
}

/// The name of a kind, as a label that lives as long as the program.
pub(super) fn kind_name<K: Resource<DynamicType = ()>>() -> &'static str {
    /// A type that inherits its kind from another hands out a copy of it.
    const INHERITED: [&str; 4] =
        [Deployment::KIND, StatefulSet::KIND, HorizontalPodAutoscaler::KIND, Secret::KIND];
    match K::kind(&()) {
        Cow::Borrowed(kind) => kind,
        Cow::Owned(kind) => INHERITED.into_iter().find(|known| *known == kind).unwrap_or("object"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::seen::{
        SeenAutoscaler, SeenConfigMap, SeenDeployment, SeenDisruptionBudget, SeenSecret, SeenService,
        SeenStatefulSet,
    };

    #[test]
    fn every_kind_that_is_deleted_is_told_by_its_name() {
        let names = [
            kind_name::<SeenDeployment>(),
            kind_name::<SeenStatefulSet>(),
            kind_name::<SeenAutoscaler>(),
            kind_name::<SeenSecret>(),
            kind_name::<SeenService>(),
            kind_name::<SeenConfigMap>(),
            kind_name::<SeenDisruptionBudget>(),
        ];
        assert!(!names.contains(&"object"), "{names:?}");
    }
}
