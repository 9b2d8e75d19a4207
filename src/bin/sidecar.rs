//! The sidecar: `cachedservice-sidecar --settings FILE`.

use std::{
    fs,
    io::{ErrorKind, IsTerminal, stderr},
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use axum::{Router, routing::get};
use cachedservice::{
    settings::{HttpCache, Settings},
    sidecar::http::{Front, server::serve},
};
use clap::Parser;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// Gives memory back a few seconds after it was needed, as that of the operator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Requests that came before the end are answered for so long.
const GRACE: Duration = Duration::from_secs(30);

/// The proxy with the caching tiers, in a pod beside the application.
#[derive(Parser)]
#[command(name = "cachedservice-sidecar", version)]
struct Flags {
    /// The file with the settings, which the operator writes.
    #[arg(long, value_name = "FILE")]
    settings: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(stderr).with_ansi(stderr().is_terminal()).init();
    match run(&Flags::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: &Flags) -> Result<(), String> {
    let file = flags.settings.display();
    let text = fs::read_to_string(&flags.settings).map_err(|error| format!("cannot read {file}: {error}"))?;
    let settings = Settings::parse(&text).map_err(|error| format!("{file}: {error}"))?;
    let mut ended = signal(SignalKind::terminate()).map_err(|error| format!("no signals: {error}"))?;
    let listener = bind(settings.http_port).await?;
    let admin = bind(settings.admin_port).await?;
    let probes =
        Router::new().route("/livez", get(|| async { "ok" })).route("/readyz", get(|| async { "ok" }));
    tokio::spawn(async move { axum::serve(admin, probes).await });
    // Without the cache all is passed on.
    let nothing = HttpCache { memory: 0, max_object: 0, rules: Vec::new() };
    let front = Front::new(settings.http.unwrap_or(nothing), settings.app_port);
    tracing::info!(port = settings.http_port, app = settings.app_port, "serving");
    let stop = async move {
        ended.recv().await;
        tracing::info!("ending: no new connections, and the requests that came are answered");
    };
    serve(listener, front, stop, GRACE).await;
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
