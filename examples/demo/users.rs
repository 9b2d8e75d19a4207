//! Users, from the nearest that has them: the memory of the pod, Redis, Postgres.
//!
//! The first of these is the sidecar's, behind `REDIS_URL`, and nothing is to be seen of it here.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use redis::{Cmd, ExistenceCheck, SetExpiry, SetOptions};
use serde::Deserialize;

use crate::database::{Database, User};
use crate::serve::{Away, Service, query};

/// How long Redis keeps a user, in seconds.
const KEPT: u64 = 3600;

/// How a user was come by (RFC 9211).
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The longest time that Postgres can be made to wait.
const LONGEST_WAIT_MS: u32 = 2000;

pub(crate) fn routes() -> Router<Arc<Service>> {
    Router::new().route("/users/{id}", get(get_user).put(update_user))
}

#[derive(Deserialize)]
struct Read {
    /// Whether to go past the caches, as where there are none.
    #[serde(default)]
    uncached: bool,
    /// Time in milliseconds that Postgres waits, as where it has more to do.
    #[serde(default)]
    wait: u32,
}

async fn get_user(
    State(service): State<Arc<Service>>,
    Path(id): Path<i64>,
    Query(read): Query<Read>,
) -> Result<Response, Away> {
    let how = if read.uncached {
        "redis; fwd=bypass"
    } else {
        match query::<Option<Vec<u8>>>(&service, &Cmd::get(key(id))).await {
            Ok(Some(user)) => return Ok(answer("redis; hit", user)),
            Ok(None) => "redis; fwd=miss",
            // Postgres has it all the same.
            Err(_) => "redis; fwd=miss; detail=away",
        }
    };
    let wait = Duration::from_millis(read.wait.min(LONGEST_WAIT_MS).into());
    let Some(user) = database(&service)?.user(id, wait).await.map_err(Away)? else {
        return Ok(nobody(id));
    };
    let user = json(&user)?;
    if !read.uncached {
        // Only if it is still not there: what an update has written meanwhile is newer.
        let options =
            SetOptions::default().conditional_set(ExistenceCheck::NX).with_expiration(SetExpiry::EX(KEPT));
        // Where Redis does not take it, the next one asks Postgres, too.
        let _ = query::<()>(&service, &Cmd::set_options(key(id), &user, options)).await;
    }
    Ok(answer(how, user))
}

#[derive(Deserialize)]
struct Update {
    name: String,
}

/// Writes through: Postgres first, and then what all replicas read.
async fn update_user(
    State(service): State<Arc<Service>>,
    Path(id): Path<i64>,
    Json(update): Json<Update>,
) -> Result<Response, Away> {
    let Some(user) = database(&service)?.rename(id, &update.name).await.map_err(Away)? else {
        return Ok(nobody(id));
    };
    let user = json(&user)?;
    query::<()>(&service, &Cmd::set_ex(key(id), &user, KEPT)).await.map_err(|Away(why)| {
        Away(format!("user {id} is changed, but Redis may still have the old one: send it again ({why})"))
    })?;
    Ok(answer("redis; fwd=method; stored", user))
}

fn key(id: i64) -> String {
    format!("user:{id}")
}

fn database(service: &Service) -> Result<&Database, Away> {
    service.database.as_ref().ok_or_else(|| Away("no database is configured: set DATABASE_URL".to_owned()))
}

fn json(user: &User) -> Result<Vec<u8>, Away> {
    serde_json::to_vec(user).map_err(|error| Away(error.to_string()))
}

/// A user as JSON. Caches on the way are to keep none: they would not hear of an update.
fn answer(how: &'static str, user: Vec<u8>) -> Response {
    let fields = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store"), (CACHE_STATUS, how)];
    (fields, user).into_response()
}

fn nobody(id: i64) -> Response {
    (StatusCode::NOT_FOUND, [(CACHE_CONTROL, "no-store")], format!("no user {id}\n")).into_response()
}
