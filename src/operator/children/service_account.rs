//! The account under which the application's pods run.

use k8s_openapi::api::core::v1::ServiceAccount;

use crate::{
    api::{self, names::APP},
    operator::plan::Identity,
};

pub(super) fn service_account(identity: &Identity, wanted: &api::ServiceAccount) -> ServiceAccount {
    ServiceAccount {
        metadata: identity.annotated_child(&identity.name, APP, &wanted.annotations),
        // Each pod says for itself whether it gets a token.
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
