//! The operator's command line: parse, wire, run.

use std::{
    convert::Infallible,
    error::Error,
    future::pending,
    io::{self, Write},
    net::SocketAddr,
    time::Duration,
};

use cachedservice::{
    api::{crd, crd_yaml, parse_duration, purge_crd},
    operator::{
        client::connect,
        controller::{self, Settings},
        lease::{Election, Leadership, LeaseConfig, Outlook},
        plan::{Defaults, OperatorPods},
        watches::Scope,
    },
    telemetry::{
        Health, LogFormat, Metrics, Readiness, admin_router, init_logs, serve_admin, traces::Traces,
    },
};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use futures::FutureExt;
use rand::{RngExt, distr::Alphanumeric};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Gives memory back a few seconds after it was needed; docs/performance.md compares.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Turns CachedServices into Deployments, autoscalers, Redises and Services.
#[derive(Parser)]
#[command(name = "cachedservice-operator", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the operator, inside a cluster or with the current kubeconfig.
    Run(Box<Run>),
    /// Print the CustomResourceDefinitions as YAML.
    Crd {
        /// This one alone.
        kind: Option<Kind>,
    },
}

/// The resources that the operator looks after.
#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Cachedservices,
    Cachepurges,
}

/// What the SDK of OpenTelemetry reads by itself.
const TRACES: &str = "\
Traces go to the collector that OTEL_EXPORTER_OTLP_ENDPOINT names, by OTLP over HTTP; without it there are none. \
OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG, OTEL_SERVICE_NAME and the other variables \
of OpenTelemetry hold as it says.";

#[derive(Args)]
#[command(after_help = TRACES)]
struct Run {
    /// Look after this namespace only; unset, after all.
    #[arg(long, env = "CACHEDSERVICE_NAMESPACE")]
    namespace: Option<String>,

    /// The image of Redis where a CachedService names none.
    #[arg(long, env = "CACHEDSERVICE_REDIS_IMAGE", default_value = "docker.io/library/redis:8.2")]
    redis_image: String,

    /// The image of Redis's exporter where a CachedService names none.
    #[arg(
        long,
        env = "CACHEDSERVICE_EXPORTER_IMAGE",
        default_value = "docker.io/oliver006/redis_exporter:v1.74.0"
    )]
    exporter_image: String,

    /// The image of the sidecar, which is of the same release as the operator.
    #[arg(
        long,
        env = "CACHEDSERVICE_SIDECAR_IMAGE",
        default_value = concat!("localhost/cachedservice-sidecar:", env!("CARGO_PKG_VERSION"))
    )]
    sidecar_image: String,

    /// The labels of the operator's own pods, by which network policies let it
    /// connect to Redis, as `key=value`; unset, they do not.
    #[arg(long, env = "CACHEDSERVICE_POD_LABELS", value_delimiter = ',', value_parser = parse_label)]
    pod_labels: Vec<(String, String)>,

    /// How many CachedServices are reconciled at a time.
    #[arg(long, env = "CACHEDSERVICE_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,

    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, env = "CACHEDSERVICE_ADMIN_ADDRESS", default_value = "0.0.0.0:8080")]
    admin_address: SocketAddr,

    /// Elect a leader among the replicas; `false` only where there is one for certain.
    #[arg(long, env = "CACHEDSERVICE_LEADER_ELECT", default_value_t = true, action = ArgAction::Set)]
    leader_elect: bool,

    /// The namespace of the Lease; unset, that of the pod or the kubeconfig.
    #[arg(long, env = "POD_NAMESPACE")]
    lease_namespace: Option<String>,

    /// The name of the Lease.
    #[arg(long, env = "CACHEDSERVICE_LEASE_NAME", default_value = "cachedservice-operator")]
    lease_name: String,

    /// What this replica calls itself in the Lease and in Events; unset, a random name.
    #[arg(long, env = "POD_NAME")]
    identity: Option<String>,

    /// How long a Lease that is not renewed keeps others out.
    #[arg(long, env = "CACHEDSERVICE_LEASE_DURATION", default_value = "15s", value_parser = parse_duration)]
    lease_duration: Duration,

    /// How long after its last renewal a leader goes on writing.
    #[arg(long, env = "CACHEDSERVICE_RENEW_DEADLINE", default_value = "10s", value_parser = parse_duration)]
    renew_deadline: Duration,

    /// How often a leader renews and a standby tries.
    #[arg(long, env = "CACHEDSERVICE_RETRY_PERIOD", default_value = "2s", value_parser = parse_duration)]
    retry_period: Duration,

    /// How logs are written.
    #[arg(long, env = "CACHEDSERVICE_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,

    /// What is logged: a level, or levels by module (info,cachedservice=debug).
    #[arg(long, env = "CACHEDSERVICE_LOG_FILTER", default_value = "info")]
    log_filter: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    match Cli::parse().command {
        Command::Crd { kind } => print_crds(kind)?,
        Command::Run(settings) => {
            // For all TLS. It fails only where it is set already.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            let traces = Traces::from_environment(runtime.handle())?;
            init_logs(settings.log_format, &settings.log_filter, traces.as_ref())?;
            runtime.block_on(async {
                let ended = run(*settings).await;
                if let Some(traces) = traces {
                    traces.end().await;
                }
                ended
            })?;
        }
    }
    Ok(())
}

fn print_crds(kind: Option<Kind>) -> Result<(), Box<dyn Error>> {
    let definitions = match kind {
        Some(Kind::Cachedservices) => vec![crd()],
        Some(Kind::Cachepurges) => vec![purge_crd()],
        None => vec![crd(), purge_crd()],
    };
    let documents: Result<Vec<_>, _> = definitions.iter().map(crd_yaml).collect();
    match io::stdout().write_all(documents?.join("---\n").as_bytes()) {
        // The reader has seen enough (`| head`).
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

async fn run(settings: Run) -> Result<(), Box<dyn Error>> {
    let config = kube::Config::infer().await?;
    let identity = settings.identity.unwrap_or_else(random_identity);
    let own_namespace = settings.lease_namespace.unwrap_or_else(|| config.default_namespace.clone());
    let lease = LeaseConfig {
        namespace: own_namespace.clone(),
        name: settings.lease_name,
        identity: identity.clone(),
        duration: settings.lease_duration,
        renew_deadline: settings.renew_deadline,
        retry_period: settings.retry_period,
    };
    let (election, leadership) = if settings.leader_elect {
        let (election, leadership) = Election::new(lease)?;
        (Some(election), leadership)
    } else {
        (None, Leadership::always())
    };
    let (metrics, health) = (Metrics::default(), Health::new());
    let client = connect(config, &leadership, &metrics)?;

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::info!("told to stop");
        let _ = stop.send(true);
    });
    let stopping = until(stopped).shared();

    let listener = TcpListener::bind(settings.admin_address).await.map_err(|error| {
        format!("cannot listen on {}: {error}; choose another --admin-address", settings.admin_address)
    })?;
    let (drain, drained) = watch::channel(false);
    let drained = until(drained).shared();
    let admin =
        tokio::spawn(serve_admin(listener, admin_router(metrics.clone(), health.clone()), drained.clone()));
    let outlook = election.as_ref().map(Election::outlook);
    let electing = election.map(|election| tokio::spawn(election.run(client.clone(), drained.clone())));

    tracing::info!(identity, version = env!("CARGO_PKG_VERSION"), "started");
    let leads = tokio::select! {
        () = leadership.wait_until_leader() => true,
        () = stopping.clone() => false,
        never = follow(outlook, &health) => match never {},
    };
    if leads {
        metrics.set_leader(true);
        health.set_readiness(Readiness::Syncing);
        let settings = Settings {
            scope: settings.namespace.map_or(Scope::Cluster, Scope::Namespace),
            concurrency: settings.concurrency,
            defaults: Defaults {
                redis_image: settings.redis_image,
                exporter_image: settings.exporter_image,
                sidecar_image: settings.sidecar_image,
                operator_pods: Some(settings.pod_labels).filter(|labels| !labels.is_empty()).map(|labels| {
                    OperatorPods { namespace: own_namespace, labels: labels.into_iter().collect() }
                }),
            },
            identity,
        };
        let shutdown = stopping.clone();
        tokio::select! {
            () = controller::run(client, settings, metrics.clone(), health.clone(), shutdown) => {}
            () = leadership.lost() => {
                // What it knows may be old: a fresh start is the simplest way to know again.
                return Err("lost the lease; another replica leads or the API server is out of reach".into());
            }
        }
        metrics.set_leader(false);
    }
    health.set_readiness(Readiness::Draining);
    // From here on nothing is written: the lease can go to the next.
    let _ = drain.send(true);
    if let Some(electing) = electing {
        electing.await?;
    }
    admin.await??;
    tracing::info!("stopped");
    if !leads || stopping.peek().is_some() { Ok(()) } else { Err("a watch ended; see the log".into()) }
}

async fn until(mut flag: watch::Receiver<bool>) {
    // The sender lives as long as the process.
    let _ = flag.wait_for(|set| *set).await;
}

/// Keeps `/readyz` at what the election says of the Lease.
async fn follow(outlook: Option<watch::Receiver<Outlook>>, health: &Health) -> Infallible {
    let Some(mut outlook) = outlook else { return pending().await };
    loop {
        health.set_readiness(match outlook.borrow_and_update().clone() {
            Outlook::Unknown => Readiness::Starting,
            Outlook::StandingBy => Readiness::StandingBy,
            Outlook::OutOfReach { lease, cause } => Readiness::LeaseOutOfReach { lease, cause },
        });
        if outlook.changed().await.is_err() {
            return pending().await;
        }
    }
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is no label; write key=value, several with a comma between them"))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn random_identity() -> String {
    let suffix: String = rand::rng().sample_iter(Alphanumeric).take(8).map(char::from).collect();
    format!("cachedservice-operator-{suffix}")
}
