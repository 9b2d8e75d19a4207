//! Measures the operator. `tests/bench/run` prepares the cluster and runs this;
//! docs/performance.md says what is measured, and how.

mod census;
mod contestant;
mod creation;
mod edits;
mod figures;
mod fleet;
mod stage;

use std::{error::Error, net::SocketAddr, path::PathBuf};

use cachedservice::api::CachedService;
use clap::{Args, Parser, Subcommand};
use contestant::Contestant;
use creation::Creation;
use fleet::Fleet;
use kube::Client;

const REDIS_IMAGE: &str = "docker.io/library/redis:8.2";

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    what: What,
}

/// What all measurements need.
#[derive(Args)]
struct Common {
    /// CachedServices that a contestant works on at a time.
    #[arg(long)]
    concurrency: usize,
    /// The CachedService that is created.
    #[arg(long)]
    manifest: PathBuf,
    #[arg(long)]
    operator: PathBuf,
    #[arg(long)]
    operator_kubeconfig: PathBuf,
    /// The namespace of the operator's Lease.
    #[arg(long)]
    lease_namespace: String,
    /// Where the operator serves its metrics.
    #[arg(long)]
    admin_address: SocketAddr,
    /// The folder of the contestants' logs.
    #[arg(long)]
    logs: PathBuf,
}

impl Common {
    fn template(&self) -> Result<CachedService, Box<dyn Error>> {
        Ok(serde_saphyr::from_str(&std::fs::read_to_string(&self.manifest)?)?)
    }

    fn start_operator(&self, log: &str) -> Result<Contestant, Box<dyn Error>> {
        let (admin, concurrency) = (self.admin_address.to_string(), self.concurrency.to_string());
        let arguments = [
            ["run", "--identity=bench"].as_slice(),
            &["--lease-namespace", &self.lease_namespace, "--admin-address", &admin],
            &["--concurrency", &concurrency, "--redis-image", REDIS_IMAGE],
        ]
        .concat();
        let log = self.logs.join(format!("{log}.log"));
        Contestant::start(&self.operator, &arguments, &self.operator_kubeconfig, &log)
    }
}

#[derive(Subcommand)]
enum What {
    /// From nothing to many, beside a bare client.
    Creation(Creation),
    /// Many that are there.
    Fleet(Fleet),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    let client = Client::try_default().await?;
    match cli.what {
        What::Creation(creation) => creation::run(cli.common, creation, client).await,
        What::Fleet(fleet) => fleet::run(cli.common, fleet, client).await,
    }
}
