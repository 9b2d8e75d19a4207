//! The account under which the application's pods run.

use k8s_openapi::api::core::v1::ServiceAccount;

use crate::{
    api::{self, names::APP},
    operator::plan::Identity,
};

pub(super) fn service_account(identity: &Identity, wanted: &api::ServiceAccount) -> ServiceAccount {
    let mut metadata = identity.child(&identity.name, APP);
    if !wanted.annotations.is_empty() {
        metadata.annotations.get_or_insert_default().extend(wanted.annotations.clone());
    }
    ServiceAccount {
        metadata,
        // Each pod says for itself whether it gets a token.
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
