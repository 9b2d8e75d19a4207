//! The admin port: probes of the kubelet, purges of the operator and of the application, and the order
//! to drain. It has a thread of its own.
//!
//! | request | from | answer |
//! | --- | --- | --- |
//! | `GET /livez`, `/readyz` | anybody | 200, or 503 and why |
//! | `GET /metrics` | anybody | what Prometheus reads |
//! | `GET /status` | with the token | what is loaded, as JSON |
//! | `GET /peer?nonce=…&address=…` | anybody | where the application is, and a proof of being of the service |
//! | `GET /explain?url=…` | with the token | what would become of a request, and why, as JSON |
//! | `GET /top?seconds=…&limit=…` | with the token | which keys of the near-cache are hit most in that time, as JSON |
//! | `POST /purges` | with the token: the operator | the record's last number, all of whose purges are done |
//! | `POST /deletions` | with the token: the operator | how far it is to delete keys in Redis |
//! | `POST /purge` | with the token, from this pod: the application | whom the purge has reached |
//! | `POST /drain` | with the token, from this pod: the preStop hook | each answer is the last of its connection |

mod apart;
mod copy;
pub mod explain;
mod listening;
mod near_cache;
mod orders;
mod peer;
mod purging;
mod token;

use std::{future::Future, net::SocketAddr, pin::Pin, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::{ConnectInfo, DefaultBodyLimit, FromRequest, RawQuery, Request, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Semaphore, task::spawn_blocking};

pub use apart::serve_apart;
pub use orders::drain;
pub use token::Token;

pub use copy::Copy;

use super::{
    breaker,
    cache::purges::{Force, Target},
    health::Health,
    heartbeat::{Beat, Heartbeat},
    http::Front,
    metrics,
    near_cache::server::Relay,
    redis::{Orders, Warmed},
    upstream::Origin,
};
use crate::telemetry::OPEN_METRICS;

/// Of so many replicas of the application it is told one by one at most.
const REPLICAS: usize = 64;
/// So many times at once the figures are written for somebody; two collectors may come at the same time. More than
/// a few would take the time from the probes.
const FIGURES: usize = 4;
static WRITING: Semaphore = Semaphore::const_new(FIGURES);
/// Larger than any record that the operator keeps.
const LARGEST_BODY: usize = 1 << 20;

/// Purges the other replicas; why they could not be reached, where they could not.
pub type PurgeOthers =
    Arc<dyn Fn(Vec<Target>, Force) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// What the admin port tells of and orders about.
pub struct Admin {
    /// The cache.
    pub front: Arc<Front>,
    /// The near-cache, where there is one.
    pub near: Option<Arc<Relay>>,
    /// What is loaded.
    pub health: Arc<Health>,
    /// Who may order something.
    pub token: Token,
    /// Where the operator's record is kept for after a restart.
    pub copy: Option<Copy>,
    /// The way to the other replicas, where they share something.
    pub others: Option<PurgeOthers>,
    /// What it may be asked to purge.
    pub orders: Orders,
    /// Whose sidecar this is.
    pub pod: Pod,
}

/// The pod that a sidecar is in. It says so where it acknowledges: at an address another pod may be by then.
#[derive(Clone, Debug, Default)]
pub struct Pod {
    /// Its name, if it was told.
    pub name: Option<String>,
    /// Its identity, if it was told.
    pub uid: Option<String>,
}

/// Serves the admin port, for ever.
async fn serve(listener: TcpListener, admin: Arc<Admin>, heartbeat: Arc<Heartbeat>) {
    let of_traffic = heartbeat.clone();
    let router = Router::new()
        .route("/livez", get(async move || livez(of_traffic.look())))
        .route("/readyz", get(async move |admin: State<Arc<Admin>>| readyz(&admin, heartbeat.look())))
        .route("/metrics", get(metrics_of))
        .route("/status", get(status))
        .route("/explain", get(explained))
        .route("/top", get(near_cache::top))
        .route("/peer", get(peer::peer))
        .route("/purges", post(purging::purges))
        .route("/deletions", post(purging::deletions))
        .route("/purge", post(purging::purge))
        .route("/drain", post(begin_drain))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(admin);
    listening::listen(listener, router).await;
}

/// Why a request is refused.
enum Refusal {
    /// It has not the token.
    Unauthorized(&'static str),
    /// It is not from this pod.
    Elsewhere,
    /// What is wrong with it.
    Wrong(String),
    /// It is for a sidecar with another tier.
    Off(&'static str),
    /// It could not be carried out.
    Failed(String),
    /// Others ask the same.
    Busy,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Unauthorized(why) => {
                (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], format!("{why}\n")).into_response()
            }
            Self::Elsewhere => (StatusCode::FORBIDDEN, "only from within the pod\n").into_response(),
            Self::Wrong(why) => (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
            Self::Off(tier) => (StatusCode::CONFLICT, format!("{tier} is off here\n")).into_response(),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "others ask for it\n").into_response(),
            Self::Failed(why) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n")).into_response(),
        }
    }
}

impl Admin {
    fn check_token(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        match self.token.is_in(headers.get(AUTHORIZATION).map(HeaderValue::as_bytes)) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refusal::Unauthorized("Authorization: Bearer and the token of this service")),
            Err(error) => {
                tracing::error!(%error, "the file with the token cannot be read");
                Err(Refusal::Unauthorized("the token cannot be read here"))
            }
        }
    }
}

/// The application and the preStop hook share the pod's loopback device with the sidecar.
fn check_is_local(peer: SocketAddr) -> Result<(), Refusal> {
    if peer.ip().to_canonical().is_loopback() { Ok(()) } else { Err(Refusal::Elsewhere) }
}

fn json_of(status: StatusCode, value: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

fn livez(beat: Beat) -> Response {
    verdict("ok\n", beat.dead())
}

fn readyz(admin: &Admin, beat: Beat) -> Response {
    let draining = || admin.front.is_draining().then(|| "draining".to_owned());
    verdict("ready\n", admin.health.loaded().unready().or_else(draining).or_else(|| beat.unready()))
}

fn verdict(well: &'static str, why_not: Option<String>) -> Response {
    match why_not {
        None => well.into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

/// It names no client and no page, so it has no token, which Prometheus would have to be given.
async fn metrics_of(State(admin): State<Arc<Admin>>) -> Result<Response, Refusal> {
    let place = WRITING.try_acquire().map_err(|_| Refusal::Busy)?;
    // On another thread: the probes are answered by this one.
    let told =
        spawn_blocking(move || metrics::encode(&admin.front, admin.near.as_ref(), &admin.health)).await;
    drop(place);
    let told = told.map_err(|error| Refusal::Failed(error.to_string()))?;
    let told = told.map_err(|error| Refusal::Failed(error.to_string()))?;
    Ok(([(CONTENT_TYPE, OPEN_METRICS)], told).into_response())
}

fn word(state: breaker::State) -> &'static str {
    match state {
        breaker::State::Closed => "closed",
        breaker::State::HalfOpen => "half-open",
        breaker::State::Open => "open",
    }
}

/// What is known of the application's replicas.
fn upstream(origin: &Origin) -> Value {
    let replicas = origin.figures();
    let open = replicas.iter().filter(|replica| replica.breaker != breaker::State::Closed);
    let breakers = replicas.iter().take(REPLICAS).map(|replica| {
        json!({
            "replica": replica.address.to_string(),
            "own": replica.is_own,
            "breaker": word(replica.breaker),
            "healthy": replica.is_healthy,
        })
    });
    json!({
        "replicas": replicas.len(),
        "healthy": replicas.iter().filter(|replica| replica.is_healthy).count(),
        "open": open.map(|replica| replica.address.to_string()).collect::<Vec<_>>(),
        "breakers": breakers.collect::<Vec<_>>(),
        "localOnly": origin.is_local_only(),
        "peers": peer::seen(origin),
    })
}

async fn status(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Result<Response, Refusal> {
    admin.check_token(&headers)?;
    let loaded = admin.health.loaded();
    let (memory, origin) = (admin.front.memory(), admin.front.origin());
    let sums = admin.front.figures().sums();
    let status = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pod": admin.pod.name,
        "uid": admin.pod.uid,
        "ready": loaded.unready().is_none() && !admin.front.is_draining(),
        "draining": admin.front.is_draining(),
        "settings": loaded.settings,
        "settingsRefused": loaded.settings_refused,
        "settingsUnknown": (!loaded.settings_unknown.is_empty()).then_some(&loaded.settings_unknown),
        "settingsReduced": (!loaded.settings_reduced.is_empty()).then_some(&loaded.settings_reduced),
        "epoch": memory.purged(),
        "purgesRefused": loaded.purges_refused,
        "memory": { "bytes": memory.bytes(), "limit": memory.limit() },
        "hits": sums.hits,
        "misses": sums.misses,
        "hitRatio": sums.hit_ratio(),
        "warmed": admin.front.shared().and_then(|shared| shared.warmed()).map(warmed),
        "savedRequests": sums.saved(origin.requests()),
        "nearCache": admin.near.as_deref().map(near_cache::near_cache),
        "redis": admin.front.shared().map(|shared| json!({ "breaker": word(shared.breaker()) })),
        "upstream": upstream(origin),
    });
    Ok(json_of(StatusCode::OK, &status))
}

/// What would become of a request.
async fn explained(
    State(admin): State<Arc<Admin>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    admin.check_token(&headers)?;
    let question = explain::question(&query.unwrap_or_default()).map_err(Refusal::Wrong)?;
    let explanation = serde_json::to_value(admin.front.explain(&question).await);
    let explanation = explanation.map_err(|error| Refusal::Failed(error.to_string()))?;
    Ok(json_of(StatusCode::OK, &explanation))
}

/// What a replica has begun with.
fn warmed(warmed: Warmed) -> Value {
    let Warmed { entries, bytes, took, ended } = warmed;
    json!({ "entries": entries, "bytes": bytes, "seconds": took.as_secs_f64(), "ended": ended.as_str() })
}

/// The body of a request whose token was looked at before: nobody else is waited for.
async fn body(request: Request) -> Result<Bytes, Response> {
    Bytes::from_request(request, &()).await.map_err(IntoResponse::into_response)
}

async fn begin_drain(
    State(admin): State<Arc<Admin>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Result<&'static str, Refusal> {
    check_is_local(peer)?;
    admin.check_token(&headers)?;
    tracing::info!("draining: each answer is the last of its connection");
    admin.front.drain();
    Ok("draining\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pod_itself_is_local() {
        let is_local = |peer: &str| check_is_local(peer.parse().unwrap()).is_ok();
        assert!(["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"].into_iter().all(is_local));
        assert!(!["10.0.0.1:1", "[::ffff:10.0.0.1]:1", "[fe80::1]:1"].into_iter().any(is_local));
    }
}
