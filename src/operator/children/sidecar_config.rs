//! The sidecars' settings. A change of them rolls no pod: the sidecars read them again.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use crate::{
    api::names::APP,
    operator::plan::{Identity, SETTINGS_FILE, SidecarPlan},
};

pub(super) fn config_map(identity: &Identity, sidecar: &SidecarPlan) -> ConfigMap {
    ConfigMap {
        metadata: identity.child(&identity.sidecar_name(), APP),
        data: Some(BTreeMap::from([(SETTINGS_FILE.to_owned(), sidecar.settings.clone())])),
        ..ConfigMap::default()
    }
}
