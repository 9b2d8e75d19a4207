//! The record of a CachedService in its ConfigMap.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
    runtime::reflector::ObjectRef,
};
use serde_json::json;

use super::{
    desk::names_nothing,
    progress::Held,
    record::{Order, Stands, knows_all, number, off, read, with_orders},
};
use crate::{
    api::{
        CachePurge, CachePurgeSpec, CachedService,
        names::{APP, FIELD_MANAGER, purges_name, sidecar_name},
    },
    operator::{
        context::Context,
        ownership::{is_controlled_by, is_of_predecessor, owner_in_words},
        plan::{Identity, PURGES_FILE},
        sidecars::token,
    },
    settings::purges::{PurgeRecord, Tiers},
};

/// Writes of others that are lived through in one round.
pub(super) const CONFLICTS: usize = 5;

/// A CachedService whose purges are recorded. Whether its pods have a cache is the pods' matter: those of
/// before may still serve when its spec says otherwise, and what is stored may be used again later.
pub(super) struct Served {
    /// Whose the record is.
    pub(super) identity: Identity,
    /// What its sidecars ask for, if it is made.
    pub(super) token: Option<String>,
    /// What its spec has on.
    pub(super) tiers: Tiers,
}

/// A CachedService; or what is missing.
pub(super) fn served(service: &ObjectRef<CachedService>, context: &Context) -> Result<Served, Held> {
    let namespace = service.namespace.clone().unwrap_or_default();
    let present =
        context.services.get(service).filter(|present| present.metadata.deletion_timestamp.is_none());
    let Some(present) = present else {
        let message = format!(
            "there is no CachedService {} in this namespace; create it, or delete this purge",
            service.name
        );
        return Err(Held { reason: "ServiceNotFound", message });
    };
    let token = token(&context.watches.secrets, &namespace, &service.name);
    let identity = Identity {
        name: service.name.clone(),
        namespace,
        uid: present.uid().unwrap_or_default(),
        extra_labels: present.spec.labels.clone(),
        extra_annotations: present.spec.annotations.clone(),
    };
    let (http, application) = (present.spec.http_cache().is_some(), present.spec.near_cache().is_some());
    Ok(Served { identity, token, tiers: Tiers { http, application } })
}

/// What there is to tell while the sidecars cannot be asked.
pub(super) fn without_token(service: &str) -> Held {
    let message = format!("the Secret {} with the sidecars' token is not there", sidecar_name(service));
    Held { reason: "Waiting", message }
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
    /// The number of its last purge.
    pub(super) last: u64,
    /// The number of each order, by UID. One that was deleted meanwhile may have none.
    pub(super) epochs: BTreeMap<String, u64>,
    /// The tier that is off of those that are about one, by UID.
    pub(super) off: BTreeMap<String, &'static str>,
}

/// What is known of the ConfigMap.
#[derive(Default)]
pub(super) struct Keeping(Option<Seen>);

struct Seen {
    record: PurgeRecord,
    /// It has to be written.
    is_begun: bool,
    /// Of which CachedService.
    owner: String,
    /// The version of the ConfigMap; none while there is none.
    version: Option<String>,
}

impl Keeping {
    /// The record with these orders in it, written where something was missing. It has all numbers that are
    /// `known` from elsewhere.
    pub(super) async fn record(
        &mut self,
        Served { identity, tiers, .. }: &Served,
        context: &Context,
        open: &[Arc<CachePurge>],
        known: &BTreeSet<u64>,
    ) -> Result<Kept, Obstacle> {
        let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &identity.namespace);
        let service = ObjectRef::new(&identity.name).within(&identity.namespace);
        let mut conflicts = 0;
        loop {
            let now = milliseconds(Timestamp::now());
            let is_current = |seen: &Seen| seen.owner == identity.uid && knows_all(&seen.record, known);
            let seen = match self.0.take().filter(is_current) {
                Some(seen) => seen,
                None => fetch(&api, identity, known, now).await?,
            };
            let fetched = missing(&seen.record, open, context).await?;
            let recorded = with_orders(seen.record, &orders(open, &fetched), now);
            let text = serde_json::to_string(&recorded.record).map_err(kube::Error::SerdeError)?;
            let written = match seen.version {
                Some(version) if !recorded.is_new && !seen.is_begun => Ok(Some(version)),
                version => {
                    let written = write(&api, identity, version.as_deref(), &text).await;
                    written.map(|written| {
                        context.knows_record(&service, &written.metadata);
                        written.resource_version()
                    })
                }
            };
            match written {
                Ok(version) => {
                    let (record, owner) = (recorded.record, seen.owner);
                    let (last, off) = (record.last(), off(&record, *tiers));
                    self.0 = Some(Seen { record, is_begun: false, owner, version });
                    return Ok(Kept { text, last, epochs: recorded.epochs, off });
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

    /// Whether the record that was written stands in the ConfigMap still, with all numbers that purges were told
    /// with. Where it does not, the next look at it begins there.
    pub(super) async fn stands(&mut self, identity: &Identity, context: &Context) -> Result<bool, Obstacle> {
        let Some(seen) = &self.0 else { return Ok(false) };
        let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &identity.namespace);
        let written = seen.record.purges.iter().map(|purge| &purge.epoch);
        let known = written.chain([&seen.record.forgotten]).copied().collect();
        let stands = fetch(&api, identity, &known, 0).await.map(|found| !found.is_begun);
        if !matches!(stands, Ok(true)) {
            self.0 = None;
        }
        stands
    }
}

/// What is to be purged by those that are to be recorded, where it was not kept; none where it is gone.
async fn missing(
    record: &PurgeRecord,
    open: &[Arc<CachePurge>],
    context: &Context,
) -> kube::Result<BTreeMap<String, Option<CachePurgeSpec>>> {
    let mut found = BTreeMap::new();
    for purge in open.iter().filter(|purge| names_nothing(&purge.spec)) {
        let uid = purge.uid().unwrap_or_default();
        if number(record, &uid, told(purge)).is_some() {
            continue;
        }
        let namespace = purge.namespace().unwrap_or_default();
        let api: Api<CachePurge> = Api::namespaced(context.client.clone(), &namespace);
        // By a list, as there is no right to get one.
        let named = ListParams::default().fields(&format!("metadata.name={}", purge.name_any()));
        let present = api.list(&named).await?.into_iter().find(|present| present.uid() == purge.uid());
        found.insert(uid, present.map(|present| present.spec));
    }
    Ok(found)
}

/// The orders that are there still.
fn orders<'a>(
    open: &'a [Arc<CachePurge>],
    fetched: &'a BTreeMap<String, Option<CachePurgeSpec>>,
) -> Vec<Order<'a>> {
    let order = |purge: &'a Arc<CachePurge>| {
        let uid = purge.metadata.uid.as_deref().unwrap_or_default();
        let spec = match fetched.get(uid) {
            Some(fetched) => fetched.as_ref()?,
            None => &purge.spec,
        };
        Some(Order { uid, spec, epoch: told(purge) })
    };
    open.iter().filter_map(order).collect()
}

fn told(purge: &CachePurge) -> Option<u64> {
    purge.status.as_ref().and_then(|status| status.epoch)
}

async fn fetch(
    api: &Api<ConfigMap>,
    identity: &Identity,
    known: &BTreeSet<u64>,
    now: u64,
) -> Result<Seen, Obstacle> {
    let owner = identity.uid.clone();
    let Some(map) = api.get_opt(&purges_name(&identity.name)).await? else {
        let Stands { record, is_begun } = read(None, known, now);
        return Ok(Seen { record, is_begun, owner, version: None });
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
    let Stands { record, is_begun } = read(text.map(String::as_str), known, now);
    Ok(Seen { record, is_begun, owner, version: map.resource_version() })
}

/// Writes a record over the version that was seen, or a new one.
async fn write(
    api: &Api<ConfigMap>,
    identity: &Identity,
    version: Option<&str>,
    text: &str,
) -> kube::Result<ConfigMap> {
    let manager = Some(FIELD_MANAGER.to_owned());
    if let Some(version) = version {
        let patch = json!({ "metadata": { "resourceVersion": version }, "data": { PURGES_FILE: text } });
        let parameters = PatchParams { field_manager: manager, ..PatchParams::default() };
        api.patch(&purges_name(&identity.name), &parameters, &Patch::Merge(&patch)).await
    } else {
        let parameters = PostParams { field_manager: manager, ..PostParams::default() };
        api.create(&parameters, &new_map(identity, text)).await
    }
}

/// The ConfigMap of a record that is not there yet.
pub(super) fn new_map(identity: &Identity, text: &str) -> ConfigMap {
    let metadata = identity.child(&purges_name(&identity.name), APP);
    let data = BTreeMap::from([(PURGES_FILE.to_owned(), text.to_owned())]);
    ConfigMap { metadata, data: Some(data), ..ConfigMap::default() }
}

/// Since the beginning of Unix time.
pub(super) fn milliseconds(now: Timestamp) -> u64 {
    u64::try_from(now.as_millisecond()).unwrap_or_default()
}
