//! Purges of the operator and of the application.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::StatusCode,
    response::Response,
};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::{Admin, Pod, Refusal, body, check_is_local, json_of};
use crate::{
    settings::{
        deletions::{self, Deletion, Progress},
        purges::{PurgeRecord, Target},
    },
    sidecar::{
        cache::purges::Source,
        near_cache::deletions::Deletions,
        purge_order::{self, Order},
    },
};

/// Takes the operator's record. It is answered when nothing of it is given any more.
pub(super) async fn purges(State(admin): State<Arc<Admin>>, request: Request) -> Result<Response, Refusal> {
    admin.check_token(request.headers())?;
    let body = match body(request).await {
        Ok(body) => body,
        Err(refused) => return Ok(refused),
    };
    let text = std::str::from_utf8(&body).map_err(|error| Refusal::Wrong(error.to_string()))?;
    let record = PurgeRecord::parse(text).map_err(|error| Refusal::Wrong(error.to_string()))?;
    let (purging, text) = (admin.clone(), text.to_owned());
    // It looks at all that is stored, which may be much.
    let purged = spawn_blocking(move || {
        let memory = purging.front.memory();
        let epoch = memory.purge_by_record(&record);
        // One from before the last is known, and was kept with it.
        let copy = purging.copy.as_ref().filter(|_| record.last() >= epoch);
        let kept = copy.map_or(Ok(()), |copy| copy.keep(&text, epoch));
        kept.map(|()| (epoch, memory.lost()))
    });
    let purged = purged.await.map_err(|error| Refusal::Failed(error.to_string()))?;
    // After a restart it would not be known.
    let (epoch, lost) =
        purged.map_err(|error| Refusal::Failed(format!("the record cannot be kept: {error}")))?;
    admin.front.memory().record_is_read();
    admin.health.purges_read();
    tracing::debug!(epoch, "purged by the operator");
    let Pod { name, uid } = &admin.pod;
    let answer =
        [("epoch", json!(epoch)), ("unknown", json!(lost)), ("pod", json!(name)), ("uid", json!(uid))];
    let answer = answer.into_iter().filter(|(_, value)| !value.is_null());
    let answer = answer.map(|(name, value)| (name.to_owned(), value)).collect();
    Ok(json_of(StatusCode::OK, &Value::Object(answer)))
}

/// Purges for the application, here and at the other replicas.
pub(super) async fn purge(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Result<Response, Refusal> {
    check_is_local(peer)?;
    admin.check_token(request.headers())?;
    let body = match body(request).await {
        Ok(body) => body,
        Err(refused) => return Ok(refused),
    };
    let order = purge_order::purge(&body, admin.orders.tiers()).map_err(Refusal::Wrong)?;
    // To its end, though the application may leave before: what it has ordered is to be gone everywhere.
    let purged = tokio::spawn(async move { purge_all(&admin, order).await });
    purged.await.map_err(|error| Refusal::Failed(error.to_string()))?
}

async fn purge_all(admin: &Admin, Order { targets, force, delete }: Order) -> Result<Response, Refusal> {
    let deleted = match admin.orders.deletions.as_ref().filter(|_| delete) {
        // First: nothing is made anew of what is old.
        Some(deletions) => match delete_all(deletions, &targets).await {
            Ok(deleted) => Some(deleted),
            Err(why) => {
                let answer = json!({ "replicas": "none", "why": why });
                return Ok(json_of(StatusCode::SERVICE_UNAVAILABLE, &answer));
            }
        },
        None => None,
    };
    let memory = admin.front.memory().clone();
    let targets = memory.about(targets);
    let here = targets.clone();
    let purged = spawn_blocking(move || memory.purge(&here, force, Source::Replica));
    purged.await.map_err(|error| Refusal::Failed(error.to_string()))?;
    let Some(others) = &admin.others else {
        let answer =
            json!({ "replicas": "this", "why": "the replicas share no Redis; a CachePurge reaches all" });
        return Ok(json_of(StatusCode::OK, &answer));
    };
    Ok(match others(targets, force).await {
        Ok(()) => {
            let told = [("replicas", Some(json!("all"))), ("deleted", deleted.map(|number| json!(number)))];
            let told = told.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            json_of(StatusCode::OK, &Value::Object(told.collect()))
        }
        // The same again does no harm.
        Err(why) => json_of(StatusCode::SERVICE_UNAVAILABLE, &json!({ "replicas": "this", "why": why })),
    })
}

/// Has what a purge names deleted in Redis; how many keys there were.
async fn delete_all(deletions: &Deletions, targets: &[Target]) -> Result<u64, String> {
    // Each call is an order of its own: what was there again since the last is deleted again.
    let order = Deletion::of(&format!("{:032x}", rand::random::<u128>()), targets);
    let Progress { state, deleted, .. } = deletions.run(order).await;
    match state {
        deletions::State::Done => Ok(deleted),
        deletions::State::Refused => {
            Err("Redis refuses SCAN or UNLINK to the user of its URL; the log of the sidecar has its words"
                .to_owned())
        }
        deletions::State::Unreachable | deletions::State::Running => {
            Err(format!("Redis was lost; {deleted} keys were deleted before, and memory was not purged"))
        }
    }
}

/// Deletes keys in Redis for the operator, which asks again until all are deleted.
pub(super) async fn deletions(
    State(admin): State<Arc<Admin>>,
    request: Request,
) -> Result<Response, Refusal> {
    admin.check_token(request.headers())?;
    let body = match body(request).await {
        Ok(body) => body,
        Err(refused) => return Ok(refused),
    };
    let order: Deletion = serde_json::from_slice(&body).map_err(|error| Refusal::Wrong(error.to_string()))?;
    if order.keys.iter().chain(&order.prefixes).any(String::is_empty) {
        return Err(Refusal::Wrong("an empty key or prefix names nothing; leave it out".to_owned()));
    }
    if let Some(own) = order.own() {
        return Err(Refusal::Wrong(format!("{own:?} is of the sidecars themselves")));
    }
    let deletions = admin.orders.deletions.as_ref().ok_or(Refusal::Off("cache.application"))?;
    let Progress { state, searched, deleted } = deletions.order(order);
    let Pod { name, uid } = &admin.pod;
    let told = json!({ "state": state, "searched": searched, "deleted": deleted, "pod": name, "uid": uid });
    Ok(json_of(StatusCode::OK, &told))
}
