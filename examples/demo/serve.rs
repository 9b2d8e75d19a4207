//! The HTTP service.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::map_response_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use redis::{Cmd, RedisError};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::database::Database;
use crate::store::Store;
use crate::termination;
use crate::users;
use crate::work::Burner;

/// Names the pod that answered, for counting replicas from outside.
pub(crate) const POD_HEADER: HeaderName = HeaderName::from_static("x-pod");

/// The key that `GET /` counts in.
const HITS: &str = "demo:hits";

/// The key that counts how many pages were made.
const MADE: &str = "demo:made";

/// The least and the most CPU time that one request can ask for.
const WORK_MS: (u64, u64) = (1, 1000);

/// The longest time that a page can be made to wait, in milliseconds.
const LONGEST_WAIT_MS: u64 = 10_000;

/// How long accepted requests may take to finish after SIGTERM. It lies under
/// the 30 s that Kubernetes gives by default.
const DRAIN: Duration = Duration::from_secs(20);

/// What `demo serve` can be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// TCP port to listen on, on all addresses.
    #[arg(long, env = "PORT", default_value_t = 8080)]
    port: u16,
    /// Redis, as redis://[user[:password]@]host[:port][/database].
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    redis_url: Option<String>,
    /// Postgres with the users, as postgres://USER:PASSWORD@HOST[:PORT]/DATABASE.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
}

pub(crate) struct Service {
    pod: String,
    store: Option<Store>,
    pub(crate) database: Option<Database>,
    burner: Burner,
}

/// Serves until SIGTERM or SIGINT.
pub(crate) async fn run(options: Options) -> Result<(), String> {
    let store = options.redis_url.as_deref().map(Store::new).transpose().map_err(|e| {
        format!("REDIS_URL is no Redis URL ({e}); write redis://[user[:password]@]host[:port][/database]")
    })?;
    let database = options.database_url.as_deref().map(Database::new).transpose().map_err(|e| {
        format!(
            "DATABASE_URL is no URL of Postgres ({e}); write postgres://USER:PASSWORD@HOST[:PORT]/DATABASE"
        )
    })?;
    let pod = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let stop = termination().map_err(|e| format!("cannot listen for signals: {e}"))?;
    let overdue = termination().map_err(|e| format!("cannot listen for signals: {e}"))?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, options.port))
        .await
        .map_err(|e| format!("cannot listen on port {}: {e}; set PORT to a free one", options.port))?;
    println!(
        "demo {} on {pod}: serving on port {}, Redis {}, Postgres {}",
        env!("CARGO_PKG_VERSION"),
        options.port,
        if store.is_some() { "from REDIS_URL" } else { "not configured" },
        if database.is_some() { "from DATABASE_URL" } else { "not configured" },
    );

    let service = Arc::new(Service { pod, store, database: database.clone(), burner: Burner::new() });
    let serving = async {
        let server = axum::serve(listener, router(service)).with_graceful_shutdown(stop);
        server.await.map_err(|e| format!("serving failed: {e}"))?;
        if let Some(database) = database {
            database.end().await;
        }
        Ok(())
    };
    tokio::select! {
        result = serving => result,
        () = async { overdue.await; sleep(DRAIN).await } => Err(format!(
            "requests still ran {} s after SIGTERM and were cut off", DRAIN.as_secs(),
        )),
    }
}

fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/", get(hit))
        // Says that the process serves. It must not look at Redis: a Redis
        // that is away would then take down every replica with it.
        .route("/healthz", get(async || "ok\n"))
        .route("/work", get(work))
        .route("/pages/{name}", get(page))
        .route("/redis/{key}", get(read).put(write))
        .merge(users::routes())
        .layer(map_response_with_state(service.clone(), name_pod))
        .with_state(service)
}

async fn name_pod(State(service): State<Arc<Service>>, mut response: Response) -> Response {
    if let Ok(pod) = HeaderValue::from_str(&service.pod) {
        response.headers_mut().insert(POD_HEADER, pod);
    }
    response
}

/// Counts the hit, and answers just the same when Redis is away.
async fn hit(State(service): State<Arc<Service>>) -> Json<Value> {
    let start = Instant::now();
    let counted = query::<u64>(&service, &Cmd::incr(HITS, 1)).await;
    let (hits, redis) = match counted {
        Ok(hits) => (Some(hits), "ok".to_owned()),
        Err(away) => (None, away.0),
    };
    Json(json!({
        "pod": service.pod,
        "hits": hits,
        "redis": redis,
        "spent_ms": milliseconds(start.elapsed()),
    }))
}

#[derive(Deserialize)]
struct Work {
    /// CPU time in milliseconds.
    ms: Option<u64>,
}

async fn work(State(service): State<Arc<Service>>, Query(work): Query<Work>) -> Response {
    let start = Instant::now();
    let wanted = work.ms.unwrap_or(20).clamp(WORK_MS.0, WORK_MS.1);
    match service.burner.burn(Duration::from_millis(wanted)).await {
        Ok(used) => Json(json!({
            "pod": service.pod,
            "cpu_ms": milliseconds(used),
            "spent_ms": milliseconds(start.elapsed()),
        }))
        .into_response(),
        Err(message) => (StatusCode::INTERNAL_SERVER_ERROR, message + "\n").into_response(),
    }
}

#[derive(Deserialize)]
struct Page {
    /// For how long caches may keep it, in seconds; unset, a minute.
    fresh: Option<u32>,
    /// Whether it says nothing of that, as the pages of most applications.
    #[serde(default)]
    silent: bool,
    /// CPU time in milliseconds that it takes to make it.
    ms: Option<u64>,
    /// Time in milliseconds that it waits, as for a database.
    wait: Option<u64>,
}

/// A page with its name and `pages` as tags. Says how many were made so far, and when it was begun, in
/// microseconds since 1970.
async fn page(
    State(service): State<Arc<Service>>,
    Path(name): Path<String>,
    Query(page): Query<Page>,
) -> Response {
    let begun = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let made = query::<u64>(&service, &Cmd::incr(MADE, 1)).await.ok();
    if let Some(wanted) = page.ms
        && let Err(message) =
            service.burner.burn(Duration::from_millis(wanted.clamp(WORK_MS.0, WORK_MS.1))).await
    {
        return (StatusCode::INTERNAL_SERVER_ERROR, message + "\n").into_response();
    }
    if let Some(wanted) = page.wait {
        sleep(Duration::from_millis(wanted.min(LONGEST_WAIT_MS))).await;
    }
    let tags = [("cache-tag", format!("pages,{name}"))];
    let fresh = page.fresh.unwrap_or(60);
    let freshness = (!page.silent).then(|| [(CACHE_CONTROL, format!("max-age={fresh}"))]);
    let begun_us = u64::try_from(begun.as_micros()).ok();
    let body = Json(json!({ "page": name, "pod": service.pod, "made": made, "begun_us": begun_us }));
    (tags, freshness, body).into_response()
}

async fn read(State(service): State<Arc<Service>>, Path(key): Path<String>) -> Response {
    match query::<Option<Vec<u8>>>(&service, &Cmd::get(&key)).await {
        // What Redis holds now: a cache could not know.
        Ok(Some(value)) => ([(CACHE_CONTROL, "no-store")], value).into_response(),
        Ok(None) => (StatusCode::NOT_FOUND, format!("no key {key}\n")).into_response(),
        Err(away) => away.into_response(),
    }
}

async fn write(State(service): State<Arc<Service>>, Path(key): Path<String>, value: Bytes) -> Response {
    match query::<()>(&service, &Cmd::set(&key, &*value)).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(away) => away.into_response(),
    }
}

/// Why Redis or Postgres did not answer.
pub(crate) struct Away(pub(crate) String);

impl From<RedisError> for Away {
    fn from(error: RedisError) -> Self {
        Self(error.to_string())
    }
}

impl IntoResponse for Away {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, self.0 + "\n").into_response()
    }
}

pub(crate) async fn query<T: redis::FromRedisValue>(service: &Service, command: &Cmd) -> Result<T, Away> {
    let store = service.store.as_ref().ok_or_else(|| Away("not configured: set REDIS_URL".to_owned()))?;
    Ok(store.query(command).await?)
}

/// Milliseconds with three digits after the point.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
