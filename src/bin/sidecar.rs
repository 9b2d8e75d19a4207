//! The sidecar's command line: parse, wire, run.

use std::{
    env, fs,
    io::{ErrorKind, IsTerminal, stderr},
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use cachedservice::{
    settings::{NearCache, POD_NAME, POD_UID, Read, Settings, balancing::POD_ADDRESSES, digest, memory},
    sidecar::{
        admin::{self, Admin, Pod, PurgeOthers, Token},
        container, files,
        follow::{cache_of, fit, follow_purges, follow_settings, near_fitting, note_loaded},
        health::Health,
        http::{Front, server::serve, unattended::Left},
        near_cache::{
            deletions::Deletions,
            server::{Bounds, Relay, listen},
        },
        redis::{LOOKUP, Orders, Shared},
        room::Room,
        upstream::{Origin, peers::addresses},
    },
};
use clap::{Parser, Subcommand};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
};

/// Gives memory back a few seconds after it was needed, as that of the operator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Requests that came before the end are answered for so long. With what follows it ends within 30 seconds, after
/// which the kubelet ends it.
const GRACE: Duration = Duration::from_secs(27);
/// How long Redis may take to answer where no request waits for it, but a purge.
const PURGE: Duration = Duration::from_secs(1);
/// How long the other replicas have for the last of what was changed.
const LAST_NEWS: Duration = Duration::from_secs(2);
/// How long the near-cache waits at least for what Redis was asked last. A second, that all ends in time.
const LAST_REPLIES: Duration = Duration::from_millis(500);
/// How long whoever reads the access log has for the last of it.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The proxy with the caching tiers, in a pod beside the application.
#[derive(Parser)]
#[command(name = "cachedservice-sidecar", version)]
struct Flags {
    /// The file with the settings, which the operator writes.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "/etc/cachedservice/settings/settings.json"
    )]
    settings: PathBuf,

    /// The port of the application of this pod. Unset: that of the settings, which may be those of the
    /// pods that take the place of this one already.
    #[arg(long, value_name = "PORT")]
    app_port: Option<u16>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Have the sidecar that runs send clients elsewhere, and wait as long as the settings say: for the
    /// preStop hook.
    Drain,
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(stderr).with_ansi(stderr().is_terminal()).init();
    let Flags { settings: file, app_port, command } = Flags::parse();
    let ended = match (load(&file, app_port), command) {
        (Err(error), _) => Err(error),
        (Ok(loaded), Some(Command::Drain)) => admin::drain(&loaded.settings).await,
        (Ok(loaded), None) => match wire(file, loaded).await {
            Ok(sidecar) => run(sidecar).await,
            Err(error) => Err(error),
        },
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Settings, and a short name for their text.
struct Loaded {
    settings: Settings,
    digest: String,
    unknown: Vec<String>,
}

fn load(file: &Path, app_port: Option<u16>) -> Result<Loaded, String> {
    let name = file.display();
    let text = fs::read_to_string(file).map_err(|error| format!("cannot read {name}: {error}"))?;
    let read = Settings::read(&text).map_err(|error| format!("{name}: {error}"))?;
    let Read { mut settings, unknown } = read;
    settings.app_port = app_port.unwrap_or(settings.app_port);
    Ok(Loaded { settings, digest: digest(&text), unknown })
}

/// All that runs, before it does.
struct Sidecar {
    file: PathBuf,
    settings: Settings,
    front: Arc<Front>,
    health: Arc<Health>,
    admin: Arc<Admin>,
    requests: TcpListener,
    orders: TcpListener,
    near: Option<(TcpListener, Arc<Relay>)>,
    ended: Signal,
}

async fn wire(file: PathBuf, loaded: Loaded) -> Result<Sidecar, String> {
    let Loaded { settings, digest, unknown } = loaded;
    let ended = signal(SignalKind::terminate()).map_err(|error| format!("no signals: {error}"))?;
    let own = addresses(&env::var(POD_ADDRESSES).unwrap_or_default());
    let origin = Origin::of(&settings, own);
    let orders = orders(&settings);
    let front = match settings.redis.as_ref().filter(|_| settings.http.is_some()) {
        Some(redis) => Front::sharing(cache_of(&settings), origin, redis, LOOKUP, orders.clone()),
        None => Front::before(cache_of(&settings), origin),
    };
    front.access_log().switch(settings.access_log);
    let health = Arc::new(Health::new());
    note_loaded(&health, digest, unknown);
    let application = near_fitting(&settings, container::memory(), 0);
    let limit = memory::for_http(container::memory(), application.as_ref());
    let amounts = application.as_ref().zip(settings.application.as_ref());
    fit(&front, &cache_of(&settings), amounts, limit, &health);
    if settings.purges_file.is_none() {
        health.purges_read();
    } else {
        front.memory().await_record();
    }
    let token = Token::of(settings.token_file.as_deref().map(Path::new));
    let copy = settings.purges_copy.as_deref().map(|copy| admin::Copy::at(Path::new(copy)));
    let told = |name: &str| env::var(name).ok().filter(|told| !told.is_empty());
    let pod = Pod { name: told(POD_NAME), uid: told(POD_UID) };
    let near = near(&settings, application).await?;
    let relay = near.as_ref().map(|(_, relay)| relay.clone());
    if let Some(relay) = &relay {
        let memory = relay.near().clone();
        front.memory().purge_beside(move |targets| memory.purge(targets));
    }
    let shared = front.shared().cloned().or_else(|| purges(&settings, &front, &orders));
    let others = shared.clone().map(others);
    let admin = Arc::new(Admin {
        front: front.clone(),
        near: relay,
        health: health.clone(),
        token,
        copy,
        others,
        orders,
        pod,
    });
    let requests = bind(settings.http_port).await?;
    let orders = bind(settings.admin_port).await?;
    Ok(Sidecar { file, settings, front, health, admin, requests, orders, near, ended })
}

/// Where the application asks its Redis, if it is to ask here.
async fn near(
    settings: &Settings,
    application: Option<NearCache>,
) -> Result<Option<(TcpListener, Arc<Relay>)>, String> {
    let (Some(application), Some(redis)) = (application, &settings.redis) else { return Ok(None) };
    let listener = listen(application.port).await?;
    let bounds = Bounds::within(memory::CLIENTS, memory::values(&application));
    Ok(Some((listener, Relay::to(Path::new(&redis.url_file), &application, bounds))))
}

/// What the application may order purges of.
fn orders(settings: &Settings) -> Orders {
    let redis = settings.redis.as_ref().filter(|_| settings.application.is_some());
    let deletions = redis.map(|redis| Deletions::to(Path::new(&redis.url_file)));
    Orders { http: settings.http.is_some(), deletions }
}

/// What the replicas share where they have a near-cache alone: purges of the application.
fn purges(settings: &Settings, front: &Front, orders: &Orders) -> Option<Arc<Shared>> {
    let redis = settings.redis.as_ref().filter(|_| orders.deletions.is_some())?;
    Some(Shared::start(redis, front.memory().clone(), Room::beside(0, 0), PURGE, orders.clone()))
}

/// The way by which a purge of the application reaches the other replicas.
fn others(shared: Arc<Shared>) -> PurgeOthers {
    Arc::new(move |targets, force| {
        let shared = shared.clone();
        Box::pin(async move { shared.purge(targets, force).await })
    })
}

async fn run(sidecar: Sidecar) -> Result<(), String> {
    files::allow_most();
    let Sidecar { file, settings, front, health, admin, requests, orders, near, mut ended } = sidecar;
    if let Some(purges) = settings.purges_file.clone() {
        let (memory, health) = (front.memory().clone(), health.clone());
        let copy = settings.purges_copy.clone();
        tokio::spawn(async move {
            let copy = copy.as_deref().map(Path::new);
            follow_purges(Path::new(&purges), copy, memory, health).await;
        });
    }
    if let Some(shared) = front.shared().filter(|_| settings.http.is_some()).cloned() {
        let health = health.clone();
        tokio::spawn(async move {
            // What is purged then is not read for nothing.
            health.until_purges_read().await;
            let warmed = shared.warm().await;
            tracing::info!(?warmed, "begins with what the other replicas use most");
            health.warmed();
        });
    } else {
        health.warmed();
    }
    admin::serve_apart(orders, admin).map_err(|error| format!("the admin port is not served: {error}"))?;
    let near = near.map(|(listener, relay)| (tokio::spawn(relay.clone().serve(listener)), relay));
    tracing::info!(port = settings.http_port, app = settings.app_port, "serving");
    health.serving();
    let followed = {
        let (front, health) = (front.clone(), health.clone());
        let relay = near.as_ref().map(|(_, relay)| relay.clone());
        let limit = container::memory;
        tokio::spawn(async move { follow_settings(&file, settings, front, relay, health, limit).await })
    };
    let draining = front.clone();
    let (told, ordered) = tokio::sync::oneshot::channel();
    let stop = async move {
        ended.recv().await;
        let _ = told.send(Instant::now());
        draining.drain();
        tracing::info!("ending: no new connections, and the requests that came are answered");
    };
    serve(requests, front.clone(), stop, GRACE).await;
    // The requests that were under way may have needed it up to here.
    if let Some((accepting, relay)) = near {
        accepting.abort();
        let since = ordered.await.map_or(GRACE, |ordered| ordered.elapsed());
        relay.end(GRACE.saturating_sub(since).max(LAST_REPLIES)).await;
    }
    if let Some(Left { unattended, untold }) = front.until_all_told(LAST_NEWS).await {
        tracing::warn!(unattended, untold, "ending before the other replicas know all that has changed");
    }
    front.access_log().flush(LAST_LINES);
    followed.abort();
    Ok(())
}

/// On all addresses of the pod, of both kinds where it has both.
async fn bind(port: u16) -> Result<TcpListener, String> {
    let of_both = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await;
    match of_both {
        Err(error) if error.kind() == ErrorKind::AddrInUse => Err(error),
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
        bound => bound,
    }
    .map_err(|error| format!("cannot listen on port {port}: {error}"))
}
