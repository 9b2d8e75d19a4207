//! One TCP connection, to see whether something stands in between.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

/// What `demo connect` can be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where to, as HOST:PORT.
    address: String,
    /// How long to wait for an answer, in milliseconds.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    within: u32,
}

/// Prints what became of the connection: `open`, `refused` by the other end, or
/// `unanswered`, as where a network policy drops it.
pub(crate) async fn run(options: Options) -> Result<(), String> {
    let Options { address, within } = options;
    let limit = Duration::from_millis(within.into());
    let outcome = match timeout(limit, TcpStream::connect(&address)).await {
        Ok(Ok(_)) => "open",
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => "refused",
        Ok(Err(error)) => return Err(format!("cannot connect to {address}: {error}")),
        Err(_) => "unanswered",
    };
    println!("{outcome}");
    Ok(())
}
