//! The record of a CachedService in its ConfigMap.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    runtime::reflector::ObjectRef,
};
use serde_json::json;

use super::{
    desk::Orders,
    progress::Held,
    record::{Order, read, with_orders},
};
use crate::{
    api::{
        CachedService,
        names::{APP, FIELD_MANAGER, SECRET_TOKEN, purges_name, sidecar_name},
    },
    operator::{
        context::Context,
        ownership::{is_controlled_by, is_of_predecessor, owner_in_words},
        plan::{Identity, PURGES_FILE},
        watched::Found,
    },
    settings::purges::PurgeRecord,
};

/// Writes of others that are lived through in one round.
const CONFLICTS: usize = 5;

/// A CachedService whose pods take purges.
pub(super) struct Ready {
    /// Whose the record is.
    pub(super) identity: Identity,
    /// What its sidecars ask for.
    pub(super) token: String,
}

/// Whether a CachedService has sidecars; or what is missing.
pub(super) fn ready(service: &ObjectRef<CachedService>, context: &Context) -> Result<Ready, Held> {
    let held = |reason, message| Held { reason, message };
    let namespace = service.namespace.clone().unwrap_or_default();
    let present =
        context.services.get(service).filter(|present| present.metadata.deletion_timestamp.is_none());
    let Some(present) = present else {
        let message = format!(
            "there is no CachedService {} in this namespace; create it, or delete this purge",
            service.name
        );
        return Err(held("ServiceNotFound", message));
    };
    if present.spec.http_cache().is_none() {
        let message = format!(
            "the CachedService {} caches nothing; set spec.cache.http in it, or delete this purge",
            service.name
        );
        return Err(held("CacheOff", message));
    }
    let secret = match context.watches.secrets.find(&namespace, &sidecar_name(&service.name)) {
        Found::Known(secret) | Found::Provisional(secret) => Some(secret),
        Found::Unknown => None,
    };
    let token = secret.and_then(|secret| String::from_utf8(secret.data.get(SECRET_TOKEN)?.0.clone()).ok());
    let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
    let Some(token) = token else {
        let message =
            format!("the Secret {} with the sidecars' token is not made yet", sidecar_name(&service.name));
        return Err(held("Waiting", message));
    };
    let identity = Identity {
        name: service.name.clone(),
        namespace,
        uid: present.uid().unwrap_or_default(),
        extra_labels: present.spec.labels.clone(),
        extra_annotations: present.spec.annotations.clone(),
    };
    Ok(Ready { identity, token })
}

/// What keeps a purge from its record or from the pods.
pub(super) enum Obstacle {
    /// Somebody has to do something.
    Held(Held),
    /// The API server's answer.
    Api(kube::Error),
}

impl From<kube::Error> for Obstacle {
    fn from(error: kube::Error) -> Self {
        Self::Api(error)
    }
}

/// A record that stands in the ConfigMap.
pub(super) struct Kept {
    /// As it stands there.
    pub(super) text: String,
    /// The number of each order, by UID.
    pub(super) epochs: BTreeMap<String, u64>,
}

/// What is known of the ConfigMap.
#[derive(Default)]
pub(super) struct Keeping(Option<Seen>);

struct Seen {
    record: PurgeRecord,
    /// Of which CachedService.
    owner: String,
    /// The version of the ConfigMap; none while there is none.
    version: Option<String>,
}

impl Keeping {
    /// The record with these orders in it, written where something was missing.
    pub(super) async fn record(
        &mut self,
        ready: &Ready,
        context: &Context,
        orders: &Orders,
    ) -> Result<Kept, Obstacle> {
        let open: Vec<_> = orders
            .open
            .iter()
            .map(|purge| Order {
                uid: purge.metadata.uid.as_deref().unwrap_or_default(),
                spec: &purge.spec,
                epoch: purge.status.as_ref().and_then(|status| status.epoch),
            })
            .collect();
        let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &ready.identity.namespace);
        let mut conflicts = 0;
        loop {
            let now = milliseconds(Timestamp::now());
            let seen = match self.0.take().filter(|seen| seen.owner == ready.identity.uid) {
                Some(seen) => seen,
                None => fetch(&api, &ready.identity, orders.greatest, now).await?,
            };
            let recorded = with_orders(seen.record, &open, orders.greatest, now);
            let text = serde_json::to_string(&recorded.record).map_err(kube::Error::SerdeError)?;
            let version = match &seen.version {
                Some(version) if !recorded.is_new => Ok(version.clone()),
                version => write(&api, &ready.identity, version.as_deref(), &text).await,
            };
            match version {
                Ok(version) => {
                    let owner = seen.owner;
                    self.0 = Some(Seen { record: recorded.record, owner, version: Some(version) });
                    return Ok(Kept { text, epochs: recorded.epochs });
                }
                // Somebody has made, changed or deleted it: look again.
                Err(kube::Error::Api(answer))
                    if (answer.code == 409 || answer.code == 404) && conflicts < CONFLICTS =>
                {
                    conflicts += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

async fn fetch(api: &Api<ConfigMap>, identity: &Identity, greatest: u64, now: u64) -> Result<Seen, Obstacle> {
    let owner = identity.uid.clone();
    let Some(map) = api.get_opt(&purges_name(&identity.name)).await? else {
        return Ok(Seen { record: read(None, greatest, now), owner, version: None });
    };
    if is_of_predecessor(&map.metadata, &identity.name, &identity.uid) {
        let message = "the record of an earlier CachedService of this name is being cleared away";
        return Err(Obstacle::Held(Held { reason: "Retrying", message: message.to_owned() }));
    }
    if !is_controlled_by(&map.metadata, &identity.uid) {
        let message = format!(
            "ConfigMap {} exists and is controlled by {}, not by this CachedService; rename the CachedService or delete that ConfigMap",
            map.name_any(),
            owner_in_words(&map.metadata)
        );
        return Err(Obstacle::Held(Held { reason: "NameTaken", message }));
    }
    let text = map.data.as_ref().and_then(|data| data.get(PURGES_FILE));
    // An empty one of ours was emptied by somebody.
    let text = text.map_or("", String::as_str);
    Ok(Seen { record: read(Some(text), greatest, now), owner, version: map.resource_version() })
}

/// Writes a record over the version that was seen, or a new one. The version that it has since.
async fn write(
    api: &Api<ConfigMap>,
    identity: &Identity,
    version: Option<&str>,
    text: &str,
) -> kube::Result<String> {
    let name = purges_name(&identity.name);
    let data = BTreeMap::from([(PURGES_FILE.to_owned(), text.to_owned())]);
    let manager = Some(FIELD_MANAGER.to_owned());
    let written = if let Some(version) = version {
        let patch = json!({ "metadata": { "resourceVersion": version }, "data": data });
        let parameters = PatchParams { field_manager: manager, ..PatchParams::default() };
        api.patch(&name, &parameters, &Patch::Merge(&patch)).await?
    } else {
        let metadata = identity.child(&name, APP);
        let map = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
        let parameters = PostParams { field_manager: manager, ..PostParams::default() };
        api.create(&parameters, &map).await?
    };
    Ok(written.resource_version().unwrap_or_default())
}

/// Since the beginning of Unix time.
fn milliseconds(now: Timestamp) -> u64 {
    u64::try_from(now.as_millisecond()).unwrap_or_default()
}
