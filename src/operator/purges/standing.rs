//! The record of a CachedService while nothing is purged: that it is there, and can be read.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    runtime::reflector::ObjectRef,
};
use serde_json::json;

use super::{
    keeping::{CONFLICTS, milliseconds, new_map},
    record::{Stands, read},
};
use crate::{
    api::names::{APP, FIELD_MANAGER, purges_name},
    operator::{
        context::Context,
        ownership::{is_controlled_by, is_of_predecessor, owner_in_words},
        plan::{Identity, PURGES_FILE},
    },
    settings::purges::PurgeRecord,
};

/// What stands at the name of a record.
pub enum Standing {
    /// A record that can be read.
    Readable(ConfigMap),
    /// A new one.
    Begun(ConfigMap),
    /// One that is begun anew in the place of what could not be read, or that has its labels again.
    Mended(ConfigMap),
    /// What an earlier CachedService of this name left.
    Leaving,
    /// Something that somebody else controls: who, in words.
    Foreign(String),
}

/// Sees that there is a record, as pods that start wait for one. `is_shown` says whether the watch has something
/// at its name. What cannot be read is begun anew: with a number above all that are known, so that its absence
/// counts as a loss.
///
/// # Errors
/// When the API server refuses it.
pub async fn see_to_record(context: &Context, identity: &Identity, is_shown: bool) -> kube::Result<Standing> {
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &identity.namespace);
    let name = purges_name(&identity.name);
    let service = ObjectRef::new(&identity.name).within(&identity.namespace);
    let (mut is_shown, mut tries) = (is_shown, 0);
    loop {
        tries += 1;
        // Before it is read: what is told of a purge stands in the record by then.
        let known = context.purges.desk.numbers(&service);
        let found = if is_shown { api.get_opt(&name).await? } else { None };
        if let Some(why) = found.as_ref().and_then(|map| not_ours(map, identity)) {
            return Ok(why);
        }
        let text = found.as_ref().and_then(|map| map.data.as_ref()?.get(PURGES_FILE));
        let now = milliseconds(Timestamp::now());
        let Stands { record, is_begun } = read(text.map(String::as_str), &known, now);
        let written = match found {
            Some(map) if !is_begun && has_labels(&map, identity) => return Ok(Standing::Readable(map)),
            Some(map) => mend(&api, identity, &map, &record).await.map(Standing::Mended),
            None => {
                let parameters =
                    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
                let map = new_map(identity, &in_json(&record)?);
                api.create(&parameters, &map).await.map(Standing::Begun)
            }
        };
        match written {
            // Somebody has made, changed or deleted it: look.
            Err(kube::Error::Api(answer)) if [404, 409].contains(&answer.code) && tries < CONFLICTS => {
                is_shown = true;
            }
            result => return result,
        }
    }
}

fn not_ours(map: &ConfigMap, identity: &Identity) -> Option<Standing> {
    if is_of_predecessor(&map.metadata, &identity.name, &identity.uid) {
        return Some(Standing::Leaving);
    }
    let is_ours = is_controlled_by(&map.metadata, &identity.uid);
    (!is_ours).then(|| Standing::Foreign(owner_in_words(&map.metadata)))
}

/// Without them no watch shows it.
fn has_labels(map: &ConfigMap, identity: &Identity) -> bool {
    identity.labels(APP).iter().all(|(key, value)| map.labels().get(key) == Some(value))
}

/// Writes over the version that was seen.
async fn mend(
    api: &Api<ConfigMap>,
    identity: &Identity,
    seen: &ConfigMap,
    record: &PurgeRecord,
) -> kube::Result<ConfigMap> {
    let patch = json!({
        "metadata": { "resourceVersion": seen.resource_version(), "labels": identity.labels(APP) },
        "data": { PURGES_FILE: in_json(record)? },
    });
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    api.patch(&seen.name_any(), &parameters, &Patch::Merge(&patch)).await
}

fn in_json(record: &PurgeRecord) -> kube::Result<String> {
    serde_json::to_string(record).map_err(kube::Error::SerdeError)
}
