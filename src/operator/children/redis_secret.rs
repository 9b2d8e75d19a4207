//! Password, URL and ACL file of Redis.

use k8s_openapi::api::core::v1::Secret;

use crate::{
    api::names::REDIS,
    operator::plan::{Credentials, Identity},
};

pub(super) fn secret(identity: &Identity, credentials: &Credentials) -> Secret {
    Secret {
        metadata: identity.child(&identity.redis_name(), REDIS),
        type_: Some("Opaque".to_owned()),
        data: Some(credentials.data(identity)),
        ..Secret::default()
    }
}
