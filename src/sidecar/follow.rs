//! The settings and the record of purges, as their files change.

use std::{io, path::Path, sync::Arc, time::Duration};

use tokio::{
    task::spawn_blocking,
    time::{Interval, MissedTickBehavior, interval},
};

use super::{
    file::{Look, Watched},
    health::Health,
    http::Front,
    memory::Memory,
    near_cache::server::Relay,
};
use crate::settings::{
    HttpCache, NearCache, Read, Settings, SettingsError, digest, memory, purges::PurgeRecord,
};

/// How often the files are looked at. The kubelet takes about a minute to put them there.
const PERIOD: Duration = Duration::from_secs(1);

/// The settings of the cache; without a cache all is passed on.
#[must_use]
pub fn cache_of(settings: &Settings) -> HttpCache {
    settings.http.clone().unwrap_or(HttpCache { memory: 0, max_object: 0, rules: Vec::new() })
}

/// Has the front store what the settings say, and take as many connections as there is room for beside, in a
/// container of `limit` bytes. Where it holds more connections than that, or the settings are those of pods with more
/// memory, it stores less: what is told, with what the near-cache has of what it wants.
pub fn fit(
    front: &Front,
    wanted: &HttpCache,
    near: Option<(&NearCache, &NearCache)>,
    limit: Option<u64>,
    health: &Health,
) {
    let (stored, max_object) = (wanted.memory, wanted.max_object);
    front.limit_connections(memory::connections(limit, stored, max_object));
    let (memory, max_object) = memory::fitting(limit, front.most_connections(), stored, max_object);
    front.reload(HttpCache { memory, max_object, rules: wanted.rules.clone() });
    let (memory, max_object) = front.stores();
    let mut amounts =
        vec![("http.memory", memory, wanted.memory), ("http.maxObject", max_object, wanted.max_object)];
    amounts.extend(near.map(|(has, wanted)| ("application.memory", has.memory, wanted.memory)));
    note_reduced(health, &amounts);
}

/// The settings of the near-cache with as much memory as fits into a container of `limit` bytes, where it began with
/// so much.
#[must_use]
pub fn near_fitting(settings: &Settings, limit: Option<u64>, began: u64) -> Option<NearCache> {
    let wanted = settings.application.as_ref()?;
    let memory = memory::near_fitting(limit, settings.http.as_ref(), wanted, began);
    Some(NearCache { memory, ..wanted.clone() })
}

/// Has the front, and the near-cache where there is one, go by what the file says, for ever; what is wrong changes
/// nothing. They take no more memory than the container has, which `limit` tells.
pub async fn follow_settings(
    file: &Path,
    mut running: Settings,
    front: Arc<Front>,
    near: Option<Arc<Relay>>,
    health: Arc<Health>,
    limit: fn() -> Option<u64>,
) {
    let mut watched = Watched::new(file);
    let mut looks = looks();
    let began = near_fitting(&running, limit(), 0).map_or(0, |application| application.memory);
    loop {
        looks.tick().await;
        let text = match watched.look() {
            Ok(Look::Same) => continue,
            Ok(Look::Absent) => Err("the file is gone".to_owned()),
            Ok(Look::Text(text)) => Ok(text),
            Err(error) => Err(error.to_string()),
        };
        let reloaded = text.and_then(|text| {
            let read = running.reloaded(&text).map_err(|error| error.to_string())?;
            Ok((read, digest(&text)))
        });
        match reloaded {
            Ok((Read { settings, unknown }, digest)) => {
                if settings != running {
                    let fitting = near_fitting(&settings, limit(), began);
                    let left = memory::for_http(limit(), fitting.as_ref());
                    let amounts = fitting.as_ref().zip(settings.application.as_ref());
                    fit(&front, &cache_of(&settings), amounts, left, &health);
                    front.origin().reload(&settings);
                    front.access_log().switch(settings.access_log);
                    if let (Some(near), Some(application)) = (&near, &fitting) {
                        near.reload(application);
                    }
                    tracing::info!(digest, "other settings hold from here on");
                    running = settings;
                }
                note_loaded(&health, digest, unknown);
            }
            Err(why) => {
                if health.settings_refused(&why) {
                    tracing::error!(
                        "the settings of the file are not taken, and those before hold on: {why}"
                    );
                }
            }
        }
    }
}

/// Notes which settings hold, and tells what of the file does not.
pub fn note_loaded(health: &Health, digest: String, unknown: Vec<String>) {
    let fields = unknown.join(", ");
    if health.settings_loaded(digest, unknown) {
        tracing::warn!(
            "the settings have fields of a later release, by which this one does not go: {fields}; rules with such fields keep their requests from the cache"
        );
    }
}

/// Notes what the caches have less of than their settings say.
fn note_reduced(health: &Health, amounts: &[(&str, u64, u64)]) {
    let less = amounts.iter().filter(|(_, has, wanted)| has < wanted);
    let reduced: Vec<_> = less.map(|(field, has, wanted)| format!("{field}: {has} of {wanted}")).collect();
    let fields = reduced.join(", ");
    if health.settings_reduced(reduced) {
        tracing::warn!(
            "this container has less room than the settings ask for, until its pod is made anew: {fields}"
        );
    }
}

/// Purges by what the file says, for ever. No file is a record without purges, with which nothing is taken
/// from what replicas that know some have stored. Before it, by what was
/// handed to this sidecar before its container was started again.
pub async fn follow_purges(file: &Path, copy: Option<&Path>, memory: Arc<Memory>, health: Arc<Health>) {
    let copied = copy.map(|copy| record(Watched::new(copy).look())).transpose();
    match copied {
        // Nothing is stored yet.
        Ok(copied) => drop(copied.flatten().map(|record| memory.purge_by_record(&record))),
        // What the file has is the best that is known then.
        Err(error) => tracing::error!("the record that was kept cannot be read: {error}"),
    }
    let mut watched = Watched::new(file);
    let mut looks = looks();
    loop {
        looks.tick().await;
        match record(watched.look()) {
            Ok(None) => {}
            Ok(Some(record)) => {
                let memory = memory.clone();
                // It looks at all that is stored, which may be much.
                let purged = spawn_blocking(move || {
                    let epoch = memory.purge_by_record(&record);
                    memory.record_is_read();
                    epoch
                });
                if let Ok(epoch) = purged.await {
                    tracing::debug!(epoch, "purged by the file");
                    health.purges_read();
                }
            }
            Err(error) => {
                if health.purges_refused(&error.to_string()) {
                    tracing::error!("the record of purges cannot be read: {error}");
                }
            }
        }
    }
}

/// What is new in the file.
fn record(look: io::Result<Look>) -> Result<Option<PurgeRecord>, RecordError> {
    match look? {
        Look::Same => Ok(None),
        Look::Absent => Ok(Some(PurgeRecord::empty())),
        Look::Text(text) => Ok(Some(PurgeRecord::parse(&text)?)),
    }
}

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum RecordError {
    File(#[from] io::Error),
    Content(#[from] SettingsError),
}

fn looks() -> Interval {
    let mut looks = interval(PERIOD);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}
