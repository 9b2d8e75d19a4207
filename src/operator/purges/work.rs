//! The open purges of one CachedService: into the record, to the pods, into their statuses.
//!
//! ```text
//! record (append, optimistic) ▸ list of pods (newest) ▸ the record to each that has not acknowledged ▸ status
//! ```
//!
//! A pod that is made after the record was written mounts it; one that was made before is in the list. So
//! the list comes after the write, and each step may be done again: who dies between two of them leaves
//! nothing that the next one has to know.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::{StreamExt, future::join, stream};
use hyper::body::Bytes;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    runtime::reflector::ObjectRef,
};
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::{
    Purges,
    desk::{Bell, Orders},
    keeping::{Keeping, Obstacle, ready},
    pods::{Replica, replicas},
    progress::{Asked, Held, asked, held},
};
use crate::{
    api::{
        CachePurge, CachePurgeStatus, CachedService,
        names::{APP, COMPONENT_LABEL, NAME_LABEL, STATUS_FIELD_MANAGER},
    },
    operator::{
        context::Context,
        error::{in_words, reason_of},
        events::{EventType, News},
    },
};

/// Pauses between two rounds, doubled from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A CachedService that was made with its purge may be shown a moment after it.
const PATIENCE: Duration = Duration::from_secs(1);
/// While pods acknowledge, the status of a purge is written this often at most.
const STATUS_PERIOD: Duration = Duration::from_secs(1);
/// A pod that has not acknowledged after this time is told of by an Event.
const SLOW: Duration = Duration::from_secs(5);
/// So many sidecars are asked at a time.
const AT_A_TIME: usize = 256;

/// What is remembered from round to round.
#[derive(Default)]
struct Memory {
    keeping: Keeping,
    /// Up to which number each pod has acknowledged, by UID.
    acknowledged: BTreeMap<String, u64>,
    /// Why a pod did not answer, by UID.
    failures: BTreeMap<String, String>,
    told: HashMap<String, Told>,
    held_since: Option<Instant>,
    /// Rounds since the last order came.
    rounds: u32,
    newest: u64,
}

/// What was told of a purge, by its UID.
struct Told {
    status: CachePurgeStatus,
    at: Option<Instant>,
    first: Instant,
    is_slow: bool,
}

/// Works until no purge of the CachedService is open.
pub(super) async fn work(
    service: &ObjectRef<CachedService>,
    bell: &Bell,
    purges: &Purges,
    context: &Context,
) {
    let mut memory = Memory::default();
    while let Some(orders) = purges.desk.take(service) {
        memory.forget_others(&orders);
        let pause = round(service, bell, purges, context, &orders, &mut memory).await;
        match pause {
            // A call ends it.
            Some(pause) => drop(timeout(pause, bell.rung.notified()).await),
            None => bell.rung.notified().await,
        }
    }
}

/// One round. How long until the next, if it is not to wait for a call.
async fn round(
    service: &ObjectRef<CachedService>,
    bell: &Bell,
    purges: &Purges,
    context: &Context,
    orders: &Orders,
    memory: &mut Memory,
) -> Option<Duration> {
    // Before it is looked: what appears from here on calls.
    bell.is_held.store(true, Ordering::Release);
    let ready = match ready(service, context) {
        Ok(ready) => ready,
        Err(why) => {
            let waited = memory.held_since.get_or_insert_with(Instant::now).elapsed();
            if waited < PATIENCE {
                return Some(PATIENCE.saturating_sub(waited));
            }
            return hold(context, orders, memory, &why).await;
        }
    };
    memory.held_since = None;
    bell.is_held.store(false, Ordering::Release);

    let recorded = match memory.keeping.record(&ready, context, orders).await {
        Ok(recorded) => recorded,
        Err(obstacle) => return obstructed(context, orders, memory, obstacle).await,
    };
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &ready.identity.namespace);
    let ours = format!("{NAME_LABEL}={},{COMPONENT_LABEL}={APP}", service.name);
    // Without a version, which makes sure that it is the newest.
    let replicas = match pods.list(&ListParams::default().labels(&ours)).await {
        Ok(pods) => replicas(&pods.items),
        Err(error) => return obstructed(context, orders, memory, Obstacle::Api(error)).await,
    };
    let newest = recorded.epochs.values().copied().max().unwrap_or_default();
    if newest > memory.newest {
        memory.newest = newest;
        memory.rounds = 0;
    }
    memory.forget_pods(&replicas);

    let record = Bytes::from(recorded.text.clone());
    let answers = {
        let acknowledged = &memory.acknowledged;
        let open: Vec<_> = replicas
            .iter()
            .filter(|replica| acknowledged.get(&replica.uid).is_none_or(|epoch| *epoch < newest))
            .filter_map(|replica| Some((replica.uid.clone(), replica.address?)))
            .collect();
        let asking = stream::iter(open).map(async |(uid, address)| {
            (uid, purges.caller.hand(address, &ready.token, record.clone()).await)
        });
        asking.buffer_unordered(AT_A_TIME).collect::<Vec<_>>()
    };
    // That it has begun is told while the pods are asked.
    let beginning = memory.statuses(orders, &recorded.epochs, &replicas, true);
    let (began, answers) = join(tell_all(context, beginning), answers).await;
    memory.note(began);
    for (uid, answer) in answers {
        match answer {
            Ok(epoch) => {
                memory.failures.remove(&uid);
                memory.acknowledged.insert(uid, epoch);
            }
            Err(why) => {
                memory.failures.insert(uid, why);
            }
        }
    }
    let statuses = memory.statuses(orders, &recorded.epochs, &replicas, false);
    let told = tell_all(context, statuses).await;
    let is_over = finish(context, purges, memory, told).await;
    memory.rounds = memory.rounds.saturating_add(1);
    // Nothing is left but what has come meanwhile.
    if is_over && memory.told.values().all(|told| told.status.is_complete()) {
        return Some(Duration::ZERO);
    }
    tell_slow(context, orders, memory).await;
    Some(FIRST_PAUSE.saturating_mul(1 << (memory.rounds - 1).min(10)).min(LONGEST_PAUSE))
}

/// Tells of a purge for which something is missing, and waits for that.
async fn hold(context: &Context, orders: &Orders, memory: &mut Memory, why: &Held) -> Option<Duration> {
    let now = Timestamp::now();
    let statuses = memory.changed(orders, |purge, before| held(before, purge.metadata.generation, why, now));
    let wanted = statuses.len();
    let told = tell_all(context, statuses).await;
    let all = told.iter().filter(|(_, _, result)| result.is_ok()).count() == wanted;
    memory.note(told);
    (!all).then_some(LONGEST_PAUSE)
}

/// Tells what the API server refuses, and tries again.
async fn obstructed(
    context: &Context,
    orders: &Orders,
    memory: &mut Memory,
    obstacle: Obstacle,
) -> Option<Duration> {
    memory.rounds = memory.rounds.saturating_add(1);
    let pause = FIRST_PAUSE.saturating_mul(1 << memory.rounds.min(10)).min(LONGEST_PAUSE);
    let why = match obstacle {
        Obstacle::Held(why) => why,
        Obstacle::Api(error) => {
            tracing::warn!(%error, "cannot carry out a purge yet");
            Held { reason: reason_of(&error), message: in_words(&error) }
        }
    };
    // What passes by itself soon is not told.
    if pause == LONGEST_PAUSE || why.reason != "Retrying" {
        let _ = hold(context, orders, memory, &why).await;
    }
    Some(pause)
}

type Status = (Arc<CachePurge>, CachePurgeStatus);
type Outcome = (Arc<CachePurge>, CachePurgeStatus, kube::Result<()>);

impl Memory {
    fn forget_others(&mut self, orders: &Orders) {
        let open: BTreeSet<_> = orders.open.iter().filter_map(|purge| purge.uid()).collect();
        self.told.retain(|uid, _| open.contains(uid));
    }

    fn forget_pods(&mut self, replicas: &[Replica]) {
        let present: BTreeSet<_> = replicas.iter().map(|replica| replica.uid.as_str()).collect();
        self.acknowledged.retain(|uid, _| present.contains(uid.as_str()));
        self.failures.retain(|uid, _| present.contains(uid.as_str()));
    }

    /// The statuses of the open purges that say something new: those that begin, or those that are due.
    fn statuses(
        &mut self,
        orders: &Orders,
        epochs: &BTreeMap<String, u64>,
        replicas: &[Replica],
        beginning: bool,
    ) -> Vec<Status> {
        let (acknowledged, failures) = (self.acknowledged.clone(), self.failures.clone());
        let now = Timestamp::now();
        let statuses = self.changed(orders, |purge, before| {
            let epoch = epochs.get(&purge.uid().unwrap_or_default()).copied().unwrap_or_default();
            let progress = Asked { epoch, replicas, acknowledged: &acknowledged, failures: &failures };
            asked(before, purge.metadata.generation, &progress, now)
        });
        let is_due = |purge: &CachePurge, status: &CachePurgeStatus| {
            let told = purge.uid().and_then(|uid| self.told.get(&uid));
            let is_first = told.is_none_or(|told| told.status.start_time.is_none());
            let is_due = told.and_then(|told| told.at).is_none_or(|at| at.elapsed() >= STATUS_PERIOD);
            if beginning { is_first && !status.is_complete() } else { is_due || status.is_complete() }
        };
        statuses.into_iter().filter(|(purge, status)| is_due(purge, status)).collect()
    }

    /// What is to be told of each open purge, where that is something else than before.
    fn changed(
        &mut self,
        orders: &Orders,
        status: impl Fn(&CachePurge, &CachePurgeStatus) -> CachePurgeStatus,
    ) -> Vec<Status> {
        let mut changed = Vec::new();
        for purge in &orders.open {
            let told = self.told.entry(purge.uid().unwrap_or_default()).or_insert_with(|| Told {
                status: purge.status.clone().unwrap_or_default(),
                at: None,
                first: Instant::now(),
                is_slow: false,
            });
            let status = status(purge, &told.status);
            if status != told.status {
                changed.push((purge.clone(), status));
            }
        }
        changed
    }

    fn note(&mut self, outcomes: Vec<Outcome>) {
        for (purge, status, result) in outcomes {
            let told = purge.uid().and_then(|uid| self.told.get_mut(&uid));
            if let (Some(told), Ok(())) = (told, result) {
                told.status = status;
                told.at = Some(Instant::now());
            }
        }
    }
}

async fn tell_all(context: &Context, statuses: Vec<Status>) -> Vec<Outcome> {
    let telling = stream::iter(statuses).map(async |(purge, status)| {
        let result = tell(context, &purge, &status).await;
        (purge, status, result)
    });
    telling.buffer_unordered(AT_A_TIME).collect().await
}

async fn tell(context: &Context, purge: &CachePurge, status: &CachePurgeStatus) -> kube::Result<()> {
    let (namespace, name) = (purge.namespace().unwrap_or_default(), purge.name_any());
    let api: Api<CachePurge> = Api::namespaced(context.client.clone(), &namespace);
    let patch = json!({
        "apiVersion": CachePurge::api_version(&()),
        "kind": CachePurge::kind(&()),
        "metadata": { "name": name, "uid": purge.uid() },
        "status": status,
    });
    let parameters = PatchParams::apply(STATUS_FIELD_MANAGER).force();
    match api.patch_status(&name, &parameters, &Patch::Apply(&patch)).await {
        Ok(_) => Ok(()),
        // It was deleted, or deleted and made anew: the watch tells.
        Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => Ok(()),
        Err(error) => {
            tracing::warn!(namespace, name, error = in_words(&error), "cannot write the status of a purge");
            Err(error)
        }
    }
}

/// Notes what was told, and takes what is complete from the desk. Whether something was.
async fn finish(context: &Context, purges: &Purges, memory: &mut Memory, told: Vec<Outcome>) -> bool {
    let complete: Vec<_> = told
        .iter()
        .filter(|(_, status, result)| status.is_complete() && result.is_ok())
        .map(|(purge, status, _)| CachePurge { status: Some(status.clone()), ..CachePurge::clone(purge) })
        .collect();
    memory.note(told);
    for purge in complete.iter().filter(|purge| purges.desk.complete(purge)).collect::<Vec<_>>() {
        let note = purge.status.iter().filter_map(CachePurgeStatus::complete).map(|it| it.message.clone());
        let note = note.collect();
        let news = News { type_: EventType::Normal, reason: "Purged", action: "Purge", note };
        context.events.tell(&purge.object_ref(&()), &news).await;
    }
    !complete.is_empty()
}

/// Tells once of each purge for which a pod does not answer.
async fn tell_slow(context: &Context, orders: &Orders, memory: &mut Memory) {
    for purge in &orders.open {
        let told = purge.uid().and_then(|uid| memory.told.get_mut(&uid));
        let Some(told) = told.filter(|told| !told.is_slow && !told.status.is_complete()) else { continue };
        if told.first.elapsed() < SLOW || told.status.pending.is_empty() {
            continue;
        }
        told.is_slow = true;
        let note = told.status.complete().map(|condition| condition.message.clone()).unwrap_or_default();
        let news = News { type_: EventType::Warning, reason: "NotAcknowledged", action: "Purge", note };
        context.events.tell(&purge.object_ref(&()), &news).await;
    }
}
