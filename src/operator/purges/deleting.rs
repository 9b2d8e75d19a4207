//! Keys that a purge deletes in Redis. One sidecar does that, before the purge is recorded and handed to all: what is made
//! anew from Redis after the purge is then not made from what was there before.
//!
//! The sidecar knows an order by the UID of the purge, and is asked how far it is until it is done. Where it is gone, or
//! cannot, another begins anew: to delete what is gone does no harm, and the purge is not complete before.

use std::{sync::Arc, time::Duration};

use hyper::body::Bytes;
use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    Purges,
    answer::deleted,
    desk::Orders,
    keeping::{Served, without_token},
    memory::Memory,
    pods::Replica,
    progress::{Deleting, Held, deleting, held, without_near_cache},
    telling::tell_all,
};
use crate::{
    api::{ApplicationPurge, CachePurge, CachePurgeStatus},
    operator::context::Context,
    settings::deletions::{Deletion, State},
};

/// So many sidecars are asked in a round until one of them does it.
const TRIES: usize = 4;
/// While one is at it, it is asked this often.
const PERIOD: Duration = Duration::from_millis(250);

/// What came of a round.
enum Came {
    /// One is at it, or was.
    Progress(Deleting),
    /// Nobody is.
    Held(Held),
}

/// Has keys deleted for the purges that want that. The others, with those of which all are deleted by now; and the pause
/// until it is to be gone on, where something is left.
pub(super) async fn delete(
    served: &Served,
    replicas: &[Replica],
    purges: &Purges,
    context: &Context,
    orders: &Orders,
    memory: &mut Memory,
) -> (Orders, Option<Duration>) {
    let (left, mut ready): (Vec<_>, Vec<_>) =
        orders.open.iter().cloned().partition(|purge| memory.is_to_delete(purge));
    let mut pause = None;
    if left.is_empty() {
        memory.deletions = 0;
    }
    memory.deletions = memory.deletions.saturating_add(u32::from(!left.is_empty()));
    for purge in left {
        let came = come(served, replicas, purges, &purge, memory).await;
        let is_under_way = matches!(&came, Came::Progress(_));
        tell(context, orders, memory, &purge, &came).await;
        if !memory.is_to_delete(&purge) {
            ready.push(purge);
            continue;
        }
        let later = super::work::pause_after(memory.deletions, super::work::LONGEST_PAUSE);
        let later = if is_under_way { PERIOD } else { later };
        pause = Some(pause.map_or(later, |pause: Duration| pause.min(later)));
    }
    (Orders { open: ready, numbers: orders.numbers.clone() }, pause)
}

/// Asks sidecars for one purge, first the one that is at it.
async fn come(
    served: &Served,
    replicas: &[Replica],
    purges: &Purges,
    purge: &CachePurge,
    memory: &mut Memory,
) -> Came {
    if !served.tiers.application {
        return Came::Held(without_near_cache());
    }
    let Some(token) = &served.token else { return Came::Held(without_token(&served.identity.name)) };
    let (uid, Some(wanted)) = (purge.uid().unwrap_or_default(), purge.spec.to_delete()) else {
        return Came::Progress(Deleting { is_done: true, ..Deleting::default() });
    };
    let order = order(&uid, wanted);
    let mut candidates: Vec<_> = replicas.iter().filter(|replica| replica.address.is_some()).collect();
    if !candidates.is_empty() {
        let first = usize::try_from(memory.deletions).unwrap_or_default() % candidates.len();
        candidates.rotate_left(first);
    }
    candidates.sort_by_key(|replica| memory.deleting.get(&uid) != Some(&replica.uid));
    let mut why = Vec::new();
    for replica in candidates.into_iter().take(TRIES) {
        let Some(address) = replica.address else { continue };
        let answer = purges.caller.delete(address, token, order.clone()).await;
        match answer.and_then(|told| deleted(&told, replica)) {
            Ok(progress) => {
                memory.deleting.insert(uid, replica.uid.clone());
                return Came::Progress(Deleting {
                    deleted: progress.deleted,
                    searched: progress.searched,
                    is_done: progress.state == State::Done,
                });
            }
            Err(reason) => why.push(format!("{}: {reason}", replica.name)),
        }
    }
    memory.deleting.remove(&uid);
    let message = if why.is_empty() {
        "no pod with a near-cache is there that could delete in Redis; it begins when one is".to_owned()
    } else {
        format!("no pod has deleted in Redis yet, they are asked again and again: {}", why.join("; "))
    };
    Came::Held(Held { reason: "Waiting", message })
}

fn order(uid: &str, wanted: &ApplicationPurge) -> Bytes {
    let ApplicationPurge { keys, prefixes, redis: _ } = wanted;
    let order = Deletion { id: uid.to_owned(), keys: keys.clone(), prefixes: prefixes.clone() };
    // What is made of texts can be written as JSON.
    Bytes::from(serde_json::to_vec(&order).unwrap_or_default())
}

/// Tells how far it is: at once where all are deleted, else now and then. Only what is told counts as done.
async fn tell(context: &Context, orders: &Orders, memory: &mut Memory, purge: &Arc<CachePurge>, came: &Came) {
    let is_due = memory.is_due(purge) || matches!(came, Came::Progress(Deleting { is_done: true, .. }));
    if !is_due {
        return;
    }
    let (now, generation) = (Timestamp::now(), purge.metadata.generation);
    let status = |before: &CachePurgeStatus| match came {
        Came::Progress(progress) => deleting(before, generation, progress, now),
        Came::Held(why) => held(before, generation, why, now),
    };
    let is_it = |other: &CachePurge| other.metadata.uid == purge.metadata.uid;
    let changed =
        memory.changed(orders, |other, before| if is_it(other) { status(before) } else { before.clone() });
    let told = tell_all(context, changed).await;
    memory.note(told);
}
