//! Judges what runs already: clients read and write random keys through the addresses of pods and straight to the
//! Redis behind them, and the last line says what is wrong with what they saw.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{process::ExitCode, time::Duration};

use clap::Parser;

mod checker;
mod history;
mod load;
mod reads;
mod session;
mod slots;
mod writes;

#[derive(Parser)]
struct Flags {
    /// The URL of a pod's sidecar, `redis://HOST:PORT` (`?protocol=resp3` for that protocol); more than once for more
    #[arg(long = "pod", required = true)]
    pods: Vec<String>,
    /// The URL of the Redis behind all of them
    #[arg(long)]
    redis: String,
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    #[arg(long, default_value_t = 8)]
    clients_per_pod: usize,
    /// Clients that only read
    #[arg(long, default_value_t = 2)]
    readers_per_pod: usize,
    #[arg(long, default_value_t = 4)]
    direct_clients: usize,
    /// Keys of each of the four kinds
    #[arg(long, default_value_t = 50)]
    keys: usize,
    /// Without values that live for milliseconds
    #[arg(long)]
    lasting: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Flags { pods, redis, seconds, clients_per_pod, readers_per_pod, direct_clients, keys, lasting } =
        Flags::parse();
    let load =
        Load { pods, redis, clients_per_pod, readers_per_pod, direct_clients, keys, is_expiring: !lasting };
    let history = load.start().end_after(Duration::from_secs(seconds)).await;
    let verdict = checker::check(&history, checker::Bounds::default());
    print!("{verdict}");
    if verdict.flaws.is_empty() && verdict.staleness.reads > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

use load::Load;
