//! The open purges of one CachedService: into the record, to the pods, into their statuses.
//!
//! ```text
//! record (append, optimistic) ▸ list of pods (newest) ▸ the record to each that has not acknowledged ▸
//! the record is still there ▸ status
//! ```
//!
//! A pod that is made after the record was written mounts it; one that was made before is in the list. So
//! the list comes after the write, and each step may be done again: who dies between two of them leaves
//! nothing that the next one has to know.

use std::{sync::atomic::Ordering, time::Duration};

use futures::{StreamExt, future::join, stream};
use hyper::body::Bytes;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams, runtime::reflector::ObjectRef};
use tokio::time::{Instant, timeout};

use super::{
    Purges,
    answer::acknowledged,
    desk::{Bell, Orders},
    keeping::{Kept, Obstacle, Served, served, without_token},
    memory::{Answers, Memory},
    pods::{Replica, replicas},
    progress::Held,
    telling::{finish, tell_all, tell_held, tell_slow},
};
use crate::{
    api::{
        CachedService,
        names::{APP, COMPONENT_LABEL, NAME_LABEL},
    },
    operator::{
        context::Context,
        error::{in_words, reason_of},
    },
};

/// The pause before a first repetition, doubled from one to the next.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest one where the API server does not answer as it should.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest one where pods do not: they may not for hours.
const LONGEST_PAUSE_OF_PODS: Duration = Duration::from_mins(1);
/// A longer pause is ended by what the watches show of the service, as that a pod has come up.
const UNCALLED: Duration = Duration::from_secs(2);
/// A CachedService that was made with its purge may be shown a moment after it.
const PATIENCE: Duration = Duration::from_secs(1);
/// So many sidecars are asked at a time.
const AT_A_TIME: usize = 256;

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
        // Before it is looked: what appears from here on calls.
        bell.is_held.store(true, Ordering::Release);
        let pause = round(service, purges, context, &orders, &mut memory).await;
        if pause.is_some_and(|pause| pause < UNCALLED) {
            bell.is_held.store(false, Ordering::Release);
        }
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
    purges: &Purges,
    context: &Context,
    orders: &Orders,
    memory: &mut Memory,
) -> Option<Duration> {
    let served = match served(service, context) {
        Ok(served) => served,
        Err(why) => {
            let waited = memory.held_since.get_or_insert_with(Instant::now).elapsed();
            if waited < PATIENCE {
                return Some(PATIENCE.saturating_sub(waited));
            }
            let is_told = tell_held(context, orders, memory, &why).await;
            return (!is_told).then_some(LONGEST_PAUSE);
        }
    };
    memory.held_since = None;
    match carry_out(service, &served, purges, context, orders, memory).await {
        Ok(pause) => Some(pause),
        Err(obstacle) => Some(obstructed(context, orders, memory, obstacle).await),
    }
}

/// Records, asks and tells. How long until the next round.
async fn carry_out(
    service: &ObjectRef<CachedService>,
    served: &Served,
    purges: &Purges,
    context: &Context,
    orders: &Orders,
    memory: &mut Memory,
) -> Result<Duration, Obstacle> {
    let known = orders.numbers.union(&memory.unknown).copied().collect();
    let recorded = memory.keeping.record(&served.identity, context, &orders.open, &known).await?;
    purges.desk.recorded(&orders.open);
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &served.identity.namespace);
    let ours = format!("{NAME_LABEL}={},{COMPONENT_LABEL}={APP}", service.name);
    // Without a version, which makes sure that it is the newest.
    let pods = pods.list(&ListParams::default().labels(&ours)).await?;
    let replicas = replicas(&pods.items, &service.name);
    let newest = recorded.epochs.values().copied().max().unwrap_or_default();
    if newest > memory.newest {
        memory.newest = newest;
        memory.rounds = 0;
    }
    memory.forget_pods(&replicas);
    memory.rounds = memory.rounds.saturating_add(1);
    let pause = pause_after(memory.rounds, LONGEST_PAUSE_OF_PODS);

    match &served.token {
        Some(token) => {
            // That it has begun is told while the pods are asked.
            let beginning = memory.statuses(orders, &recorded.epochs, &replicas, true);
            let asking = ask(purges, memory, &replicas, token, &recorded, newest);
            let (began, answers) = join(tell_all(context, beginning), asking).await;
            memory.note(began);
            if memory.take_in(answers) {
                // The record is begun anew after what they know.
                return Ok(pause);
            }
        }
        // Who has no sidecar is not asked for anything.
        None if replicas.is_empty() => {}
        None => {
            tell_held(context, orders, memory, &without_token(&service.name)).await;
            return Ok(pause);
        }
    }
    let statuses = memory.statuses(orders, &recorded.epochs, &replicas, false);
    let is_complete = statuses.iter().any(|(_, status)| status.is_complete());
    if is_complete && !memory.keeping.stands(&served.identity, context).await? {
        // Those that start would not know them.
        return Ok(FIRST_PAUSE);
    }
    let told = tell_all(context, statuses).await;
    let is_over = finish(context, purges, memory, told).await;
    // Nothing is left but what has come meanwhile.
    if is_over && memory.told.values().all(|told| told.status.is_complete()) {
        return Ok(Duration::ZERO);
    }
    tell_slow(context, orders, memory).await;
    Ok(pause)
}

/// The pause after so many rounds.
fn pause_after(rounds: u32, longest: Duration) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << rounds.saturating_sub(1).min(10)).min(longest)
}

/// Hands the record to those that have not acknowledged the newest purge.
fn ask(
    purges: &Purges,
    memory: &Memory,
    replicas: &[Replica],
    token: &str,
    recorded: &Kept,
    newest: u64,
) -> impl Future<Output = Answers> {
    let (record, last) = (Bytes::from(recorded.text.clone()), recorded.last);
    let is_open = |replica: &&Replica| {
        replica.address.is_some() && memory.acknowledged.get(&replica.uid).is_none_or(|epoch| *epoch < newest)
    };
    let open: Vec<_> = replicas.iter().filter(is_open).cloned().collect();
    let asking = stream::iter(open).map(move |replica| {
        let record = record.clone();
        async move {
            let answer = match replica.address {
                Some(address) => purges.caller.hand(address, token, record).await,
                None => Err("it has no address yet".to_owned()),
            };
            let answer = answer.and_then(|told| acknowledged(&told, &replica, last));
            (replica.uid, answer)
        }
    });
    asking.buffer_unordered(AT_A_TIME).collect()
}

/// Tells what the API server refuses, and tries again.
async fn obstructed(context: &Context, orders: &Orders, memory: &mut Memory, obstacle: Obstacle) -> Duration {
    memory.rounds = memory.rounds.saturating_add(1);
    let pause = pause_after(memory.rounds, LONGEST_PAUSE);
    let why = match obstacle {
        Obstacle::Held(why) => why,
        Obstacle::Api(error) => {
            tracing::warn!(%error, "cannot carry out a purge yet");
            Held { reason: reason_of(&error), message: in_words(&error) }
        }
    };
    // What passes by itself soon is not told.
    if pause == LONGEST_PAUSE || why.reason != "Retrying" {
        tell_held(context, orders, memory, &why).await;
    }
    pause
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_does_not_answer_is_asked_ever_more_seldom_but_every_minute() {
        let pauses: Vec<_> = (1..100).map(|rounds| pause_after(rounds, LONGEST_PAUSE_OF_PODS)).collect();
        assert_eq!(pauses[..3], [100, 200, 400].map(Duration::from_millis));
        assert!(pauses.is_sorted());
        assert_eq!(pauses[20..], [Duration::from_mins(1); 79]);
        assert_eq!(pause_after(u32::MAX, LONGEST_PAUSE), LONGEST_PAUSE);
    }
}
