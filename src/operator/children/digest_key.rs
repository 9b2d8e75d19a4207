//! The key of the digests in the application's pod template.

use k8s_openapi::api::core::v1::Secret;

use crate::{
    api::names::{APP, digest_key_name},
    operator::plan::{DigestKey, Identity},
};

pub(super) fn secret(identity: &Identity, key: &DigestKey) -> Secret {
    Secret {
        metadata: identity.child(&digest_key_name(&identity.name), APP),
        type_: Some("Opaque".to_owned()),
        data: Some(key.data()),
        ..Secret::default()
    }
}
