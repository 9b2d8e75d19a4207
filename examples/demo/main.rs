//! The demo application: a small HTTP service that counts in Redis and burns
//! CPU on request, reads users through caches, and the bounded load that makes it scale.

mod ask;
mod connect;
mod database;
mod load;
mod serve;
mod store;
mod target;
mod update;
mod users;
mod work;

use std::io;
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// A small HTTP service for trying out a `CachedService`, and load for it.
#[derive(Parser)]
#[command(name = "demo", version)]
enum Command {
    /// Serve HTTP until SIGTERM, then finish the requests already accepted.
    Serve(serve::Options),
    /// Send bounded load to a URL; the last line printed is a JSON summary.
    Load(load::Options),
    /// Send one request and print the whole answer as JSON.
    Ask(ask::Options),
    /// Change a user through one replica and tell when another one answers with it.
    Update(update::Options),
    /// Open a TCP connection once and print what became of it.
    Connect(connect::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Command::parse() {
        Command::Serve(options) => serve::run(options).await,
        Command::Load(options) => load::run(options).await,
        Command::Ask(options) => ask::run(options).await,
        Command::Update(options) => update::run(options).await,
        Command::Connect(options) => connect::run(options).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// Completes at the first SIGTERM or SIGINT.
///
/// A process with id 1 has no default action for either, so that a container
/// that does not listen would be killed only after its whole grace period.
fn termination() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
