//! The sidecars' token, and the URL of a Redis that has no password.

use k8s_openapi::{ByteString, api::core::v1::Secret};

use crate::{
    api::names::{APP, SECRET_URL},
    operator::plan::{Identity, SidecarPlan},
};

pub(super) fn secret(identity: &Identity, sidecar: &SidecarPlan) -> Secret {
    let mut data = sidecar.token.data();
    // Also where Redis has a password, and where nothing is cached: pods from before may still have to start.
    data.insert(SECRET_URL.to_owned(), ByteString(identity.open_redis_url().into_bytes()));
    Secret {
        metadata: identity.child(&identity.sidecar_name(), APP),
        type_: Some("Opaque".to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}
