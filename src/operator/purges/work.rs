//! The open purges of one CachedService: into the record, to the pods, into their statuses.
//!
//! ```text
//! keys deleted in Redis ▸ record (append, optimistic) ▸ list of pods (newest) ▸
//! the record to each that has not acknowledged ▸ the record is still there ▸ status
//! ```
//!
//! A pod that is made after the record was written mounts it; one that was made before is in the list. So
//! the list comes after the write, and each step may be done again: who dies between two of them leaves
//! nothing that the next one has to know.

use std::time::Duration;

use futures::{FutureExt, StreamExt, future::join, stream};
use hyper::body::Bytes;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams, runtime::reflector::ObjectRef};
use tokio::time::{Instant, timeout};

use super::{
    Purges,
    answer::acknowledged,
    deleting::delete,
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
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest one where pods do not: they may not for hours.
const LONGEST_PAUSE_OF_PODS: Duration = Duration::from_mins(1);
/// A longer pause is ended by what the watches show of the service, as that a pod has come up; but not before this,
/// as each round lists the pods, and while they roll there is something to see all the time.
const UNCALLED: Duration = Duration::from_secs(2);
/// So many pods are listed at a time.
const PAGE: u32 = 500;
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
        let _ = bell.called.notified().now_or_never();
        let pause = round(service, purges, context, &orders, &mut memory).await;
        wait(bell, pause).await;
    }
}

/// Waits until the next round: for another purge, for what the watches show of the service, or until the pause is over.
async fn wait(bell: &Bell, pause: Option<Duration>) {
    let called =
        async || tokio::select! { () = bell.rung.notified() => {}, () = bell.called.notified() => {} };
    let Some(pause) = pause else { return called().await };
    let spared = pause.min(UNCALLED);
    if timeout(spared, bell.rung.notified()).await.is_err() && spared < pause {
        let _ = timeout(pause.saturating_sub(spared), called()).await;
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
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &served.identity.namespace);
    let ours = format!("{NAME_LABEL}={},{COMPONENT_LABEL}={APP}", service.name);
    let present = async || Ok::<_, Obstacle>(replicas(&list_all(&pods, &ours).await?, &service.name));
    let is_to_delete = orders.open.iter().any(|purge| memory.is_to_delete(purge));
    let able = if is_to_delete { present().await? } else { Vec::new() };
    let (orders, more) = &delete(served, &able, purges, context, orders, memory).await;
    if let Some(pause) = more.filter(|_| orders.open.is_empty()) {
        return Ok(pause);
    }
    let known = orders.numbers.union(&memory.unknown).copied().collect();
    let recorded = memory.keeping.record(served, context, &orders.open, &known).await?;
    purges.desk.recorded(&orders.open);
    let replicas = present().await?;
    let newest = recorded.epochs.values().copied().max().unwrap_or_default();
    if newest > memory.newest {
        memory.newest = newest;
        memory.rounds = 0;
    }
    memory.forget_pods(&replicas);
    memory.rounds = memory.rounds.saturating_add(1);
    let pause = pause_after(memory.rounds, LONGEST_PAUSE_OF_PODS).min(more.unwrap_or(Duration::MAX));

    match &served.token {
        Some(token) => {
            // That it has begun is told while the pods are asked.
            let beginning = memory.statuses(orders, &recorded, &replicas, true);
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
    let statuses = memory.statuses(orders, &recorded, &replicas, false);
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

/// All pods with these labels. Without a version, which makes sure that they are the newest.
async fn list_all(pods: &Api<Pod>, labels: &str) -> kube::Result<Vec<Pod>> {
    let mut parameters = ListParams::default().labels(labels).limit(PAGE);
    let mut all = Vec::new();
    loop {
        let page = pods.list(&parameters).await?;
        all.extend(page.items);
        parameters.continue_token = page.metadata.continue_.filter(|next| !next.is_empty());
        if parameters.continue_token.is_none() {
            return Ok(all);
        }
    }
}

/// The pause after so many rounds.
pub(super) fn pause_after(rounds: u32, longest: Duration) -> Duration {
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
    use http::{Request, Response};
    use http_body_util::Full;
    use kube::{Client, client::Body};
    use serde_json::json;
    use tower::service_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_changes_all_the_time_does_not_have_the_pods_listed_all_the_time() {
        let bell = Bell::default();
        let minute = Some(Duration::from_mins(1));
        let waited = async |pause| {
            let began = Instant::now();
            wait(&bell, pause).await;
            began.elapsed()
        };
        bell.called.notify_one();
        assert_eq!(waited(minute).await, UNCALLED);
        assert_eq!(waited(minute).await, Duration::from_mins(1), "the call was heard");
        bell.rung.notify_one();
        assert_eq!(waited(minute).await, Duration::ZERO, "another purge waits for nothing");
        bell.called.notify_one();
        assert_eq!(waited(None).await, Duration::ZERO, "nothing is listed for who is not there");
        bell.called.notify_one();
        assert_eq!(waited(Some(FIRST_PAUSE)).await, FIRST_PAUSE);
    }

    #[tokio::test]
    async fn many_pods_are_listed_a_page_at_a_time() {
        let api = service_fn(async |request: Request<Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            assert!(query.contains("limit=500") && !query.contains("resourceVersion"), "{query}");
            let (name, next) = if query.contains("continue=more") { ("b", "") } else { ("a", "more") };
            let page = json!({
                "kind": "PodList", "apiVersion": "v1", "metadata": { "continue": next },
                "items": [{ "metadata": { "name": name } }],
            });
            Response::builder().body(Full::new(Bytes::from(page.to_string())))
        });
        let pods = list_all(&Api::namespaced(Client::new(api, "n"), "n"), "a=b").await.unwrap();
        let names: Vec<_> = pods.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn a_pod_that_does_not_answer_is_asked_ever_more_seldom_but_every_minute() {
        let pauses: Vec<_> = (1..100).map(|rounds| pause_after(rounds, LONGEST_PAUSE_OF_PODS)).collect();
        assert_eq!(pauses[..3], [100, 200, 400].map(Duration::from_millis));
        assert!(pauses.is_sorted());
        assert_eq!(pauses[20..], [Duration::from_mins(1); 79]);
        assert_eq!(pause_after(u32::MAX, LONGEST_PAUSE), LONGEST_PAUSE);
    }
}
