//! Where Redis keeps its data.
//!
//! A claim of the operator's own and not a template of the StatefulSet's, which
//! could not be changed: persistence can be switched on and off, and a claim
//! can grow.

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};

use crate::{
    api::{
        WhenDeleted,
        names::{REDIS, RETAINED_LABEL},
    },
    operator::plan::{Identity, PersistencePlan},
};

pub(super) fn claim(identity: &Identity, persistence: &PersistencePlan) -> PersistentVolumeClaim {
    let mut metadata = identity.child(&identity.redis_name(), REDIS);
    let retained = persistence.when_deleted == WhenDeleted::Retain;
    if retained {
        // What nobody owns, the garbage collector leaves alone.
        metadata.owner_references = None;
    }
    metadata.labels.get_or_insert_default().insert(RETAINED_LABEL.to_owned(), retained.to_string());
    PersistentVolumeClaim {
        metadata,
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), Quantity(persistence.size.clone()))].into()),
                limits: None,
            }),
            storage_class_name: persistence.storage_class_name.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}
