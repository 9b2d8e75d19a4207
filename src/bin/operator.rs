//! The operator's command line: parse, wire, run.

use clap::{Parser, Subcommand};

/// Turns CachedServices into Deployments, autoscalers, Redises and Services.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the CustomResourceDefinition as YAML.
    Crd,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Cli::parse().command {
        Command::Crd => print!("{}", cachedservice::api::crd_yaml()?),
    }
    Ok(())
}
