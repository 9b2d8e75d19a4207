//! What all reconciles share.

use std::{collections::HashMap, sync::Arc, time::Duration};

use kube::{Client, ResourceExt, api::ObjectMeta, runtime::reflector::ObjectRef};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    apply::Change, digest::digest, error::APPLIED_AT_MOST, events::Events, external::Externals,
    ordered::Ordered, plan::Defaults, purges::Purges, references::References, sidecars::Sidecars,
    store::Store, triggers::Triggers, watched::PROVISIONAL, watches::Watches,
};
use crate::{
    api::{CachedService, CachedServiceStatus},
    telemetry::Metrics,
};

/// What all reconciles share.
pub struct Context {
    /// Counted, fenced and bounded in time.
    pub client: Client,
    /// The children of all CachedServices.
    pub watches: Arc<Watches>,
    /// The Redises that the operator does not run.
    pub externals: Arc<Externals>,
    /// What applications refer to.
    pub references: Arc<References>,
    /// What is to be forgotten of caches.
    pub purges: Arc<Purges>,
    /// What the sidecars tell.
    pub sidecars: Arc<Sidecars>,
    /// The CachedServices as the watch shows them.
    pub services: Store<CachedService>,
    /// Orders to reconcile.
    pub triggers: Triggers,
    /// What the installation sets.
    pub defaults: Defaults,
    /// Kubernetes Events.
    pub events: Events,
    /// Counters and histograms.
    pub metrics: Metrics,
    /// What is remembered of each CachedService between two reconciles.
    pub memory: Mutex<HashMap<ObjectRef<CachedService>, Memory>>,
}

/// What is remembered of a CachedService between two reconciles.
#[derive(Default)]
pub struct Memory {
    /// Whether the last reconcile failed, otherwise than by waiting.
    pub failed: bool,
    /// Failures in a row that may pass by themselves.
    pub transient_failures: u32,
    /// What was applied within the last minute: kind, digest and when.
    pub applied: Vec<(&'static str, String, Instant)>,
    /// What was changed and not yet told as Events.
    pub changes: Vec<Change>,
    /// When its status was last written.
    pub status_written: Option<Instant>,
    /// The status that was written last, while the watch may not show it yet.
    pub written: Option<Box<Written>>,
    /// A digest of the status that was sent last.
    pub told: Option<String>,
    /// The newest version of its record of purges that can be read.
    pub record: Option<u64>,
    /// What the Deployment controller was told last.
    pub ordered: Option<Ordered>,
}

/// A status that the API server has taken.
pub struct Written {
    /// When.
    pub at: Instant,
    /// Of which CachedService.
    pub uid: Option<String>,
    /// Its version since.
    pub version: Option<u64>,
    /// What was written.
    pub status: CachedServiceStatus,
}

impl Written {
    /// From the answer of the API server.
    #[must_use]
    pub fn now(answer: CachedService) -> Self {
        Self {
            at: Instant::now(),
            uid: answer.uid(),
            version: version(&answer),
            status: answer.status.unwrap_or_default(),
        }
    }
}

impl Context {
    /// The newest status known: the watch's, or what was written a moment ago.
    pub fn latest_status(&self, service: &CachedService) -> CachedServiceStatus {
        let memory = self.memory.lock();
        let written = memory
            .get(&ObjectRef::from_obj(service))
            .and_then(|memory| memory.written.as_ref())
            .filter(|written| {
                written.at.elapsed() < PROVISIONAL
                    && written.uid == service.uid()
                    && written.version > version(service)
            })
            .map(|written| written.status.clone());
        written.or_else(|| service.status.clone()).unwrap_or_default()
    }

    /// Changes what is remembered of a CachedService.
    pub fn remember<T>(
        &self,
        service: &ObjectRef<CachedService>,
        change: impl FnOnce(&mut Memory) -> T,
    ) -> T {
        change(self.memory.lock().entry(service.clone()).or_default())
    }

    /// A record of purges was written or read, and stands as it should.
    pub fn knows_record(&self, service: &ObjectRef<CachedService>, record: &ObjectMeta) {
        // One that is gone meanwhile is not remembered for this.
        if let Some(memory) = self.memory.lock().get_mut(service) {
            memory.record = memory.record.max(version_of(record));
        }
    }

    /// Whether the record of purges is the one that was known last, or from before it.
    pub fn is_known_record(&self, service: &ObjectRef<CachedService>, record: &ObjectMeta) -> bool {
        let version = version_of(record);
        version.is_some() && self.memory.lock().get(service).is_some_and(|memory| version <= memory.record)
    }

    /// Whether a child is changed or deleted by somebody as often as it is applied.
    pub fn is_contested(&self, service: &ObjectRef<CachedService>, kind: &str, digest: &str) -> bool {
        self.remember(service, |memory| {
            memory.applied.retain(|(_, _, at)| at.elapsed() < CONTEST);
            let times = memory.applied.iter().filter(|applied| applied.0 == kind && applied.1 == digest);
            times.count() >= APPLIED_AT_MOST
        })
    }

    /// Drops what has become too old to matter.
    pub fn tidy(&self) {
        for memory in self.memory.lock().values_mut() {
            memory.applied.retain(|(_, _, at)| at.elapsed() < CONTEST);
            memory.applied.shrink_to_fit();
            memory.written.take_if(|written| written.at.elapsed() >= PROVISIONAL);
        }
    }

    /// The same was applied to a child once more.
    pub fn applied(&self, service: &ObjectRef<CachedService>, kind: &'static str, digest: &str) {
        let now = Instant::now();
        self.remember(service, |memory| memory.applied.push((kind, digest.to_owned(), now)));
    }

    /// Whether a CachedService changed in nothing but its status, and that to what was sent last.
    pub fn is_echo(&self, before: &CachedService, now: &CachedService) -> bool {
        let memory = self.memory.lock();
        let told = memory.get(&ObjectRef::from_obj(now)).and_then(|memory| memory.told.as_ref());
        told.is_some_and(|told| now.status.as_ref().is_some_and(|status| *told == digest_of(status)))
            && is_same_but_for_status(before, now)
    }

    /// All CachedServices of which something is remembered.
    pub fn remembered(&self) -> Vec<ObjectRef<CachedService>> {
        self.memory.lock().keys().cloned().collect()
    }

    /// A CachedService is gone.
    pub fn forget(&self, service: &ObjectRef<CachedService>) {
        self.memory.lock().remove(service);
        self.externals.forget(service);
        self.sidecars.want(service, false);
        self.watches.http_routes.forget(service);
        self.watches.pod_monitors.forget(service);
        self.references.forget(service);
    }
}

/// A short name for a status.
#[must_use]
pub fn digest_of(status: &CachedServiceStatus) -> String {
    // It has no maps with keys other than strings, and so can always be written.
    digest([serde_json::to_string(status).unwrap_or_default().as_str()])
}

fn is_same_but_for_status(before: &CachedService, now: &CachedService) -> bool {
    let identity = |service: &CachedService| {
        let metadata = &service.metadata;
        // Annotations make no new generation; of these the store holds the switches alone.
        (
            metadata.uid.clone(),
            metadata.generation,
            metadata.deletion_timestamp.clone(),
            metadata.annotations.clone(),
        )
    };
    identity(before) == identity(now)
}

fn version(service: &CachedService) -> Option<u64> {
    version_of(&service.metadata)
}

fn version_of(metadata: &ObjectMeta) -> Option<u64> {
    metadata.resource_version.as_ref().and_then(|text| text.parse().ok())
}

/// Over how long it is counted how often the same was applied.
const CONTEST: Duration = Duration::from_mins(1);

/// Figures are written at most this often.
pub const FIGURES_PERIOD: Duration = Duration::from_mins(1);
/// A change of what a rollout counts, and of nothing else, is written no more often: while many pods
/// come up one after the other, the number of writes does not grow with theirs.
pub const PROGRESS_PERIOD: Duration = Duration::from_secs(2);
