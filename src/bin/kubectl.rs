//! The plugin for kubectl: parse, wire, run. kubectl finds it in the PATH by its name.

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use cachedservice::kubectl::{
    CommandError,
    children::children,
    explain::{Question, explanation},
    purge::{Wanted, purge},
    sidecars::{ask_all, has_sidecar, token},
    top::{self, top},
    tree::{text, tree},
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;

/// CachedServices: how they fare, purges of their caches, why something is cached or not, and what is read most.
#[derive(Parser)]
#[command(name = "kubectl-cachedservice", bin_name = "kubectl cachedservice", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// The namespace; unset, that of the kubeconfig's context.
    #[arg(long, short, global = true)]
    namespace: Option<String>,

    /// The context of the kubeconfig; unset, its present one.
    #[arg(long, global = true)]
    context: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Show a CachedService with its objects, their state, and what its sidecars tell.
    Status(Status),
    /// Take responses, or keys of Redis, out of the caches of every replica, and wait until each has done so.
    Purge(Purge),
    /// Show whether a URL is answered from the cache, by which rule, and why not.
    Explain(Explain),
    /// Show which keys of the near-cache are hit most, of all replicas together.
    Top(Top),
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

#[derive(Args)]
struct Status {
    /// The name of the CachedService.
    name: String,
    /// The form of the output.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

#[derive(Args)]
struct Purge {
    /// The name of the CachedService.
    name: String,
    /// A URL, such as `https://shop.example.com/a?b=c`, or from its / on, of any host. May be given several times.
    #[arg(long)]
    key: Vec<String>,
    /// What URLs begin with, in the same forms. May be given several times.
    #[arg(long)]
    prefix: Vec<String>,
    /// A tag of responses (Cache-Tag, Surrogate-Key, or of a rule). May be given several times.
    #[arg(long)]
    tag: Vec<String>,
    /// A key of Redis, which the near-caches forget. May be given several times.
    #[arg(long, value_name = "KEY")]
    redis_key: Vec<String>,
    /// What keys of Redis begin with. May be given several times.
    #[arg(long, value_name = "PREFIX")]
    redis_prefix: Vec<String>,
    /// Have these keys deleted in Redis, too.
    #[arg(long)]
    delete_in_redis: bool,
    /// All that is stored in memory, and responses in Redis.
    #[arg(long)]
    everything: bool,
    /// Have it validated before it is used again, instead of taking it out.
    #[arg(long)]
    soft: bool,
    /// How long to wait for the replicas, in seconds; 0 waits for none.
    #[arg(long, default_value_t = 60)]
    timeout: u64,
    /// The form of the output.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

#[derive(Args)]
struct Explain {
    /// The name of the CachedService.
    name: String,
    /// The URL as clients send it, with the host.
    url: String,
    /// A field of the request, as 'NAME: VALUE'. May be given several times.
    #[arg(long, short = 'H')]
    header: Vec<String>,
    /// The method of the request.
    #[arg(long, default_value = "GET")]
    method: String,
    /// The form of the output.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

#[derive(Args)]
struct Top {
    /// The name of the CachedService.
    name: String,
    /// How many keys to show.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// For how long the replicas count, in seconds.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=60))]
    seconds: u16,
    /// The form of the output.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match Box::pin(run(Cli::parse())).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is as it was wanted.
async fn run(cli: Cli) -> Result<bool, CommandError> {
    let (client, namespace) = connect(cli.context, cli.namespace).await?;
    match cli.command {
        Command::Status(wanted) => Box::pin(status(&client, &namespace, wanted)).await,
        Command::Purge(wanted) => Box::pin(order(&client, &namespace, wanted)).await,
        Command::Explain(Explain { name, url, header, method, output }) => {
            let question = Question::parse(&url, &method, &header)?;
            let told = Box::pin(explanation(&client, &namespace, &name, &question)).await?;
            match output {
                Output::Text => print!("{told}"),
                Output::Json => println!("{}", json!(told)),
            }
            Ok(told.is_answered())
        }
        Command::Top(Top { name, limit, seconds, output }) => {
            let wanted = top::Wanted { seconds, limit: limit.into() };
            let told = Box::pin(top(&client, &namespace, &name, wanted)).await?;
            match output {
                Output::Text => print!("{told}"),
                Output::Json => println!("{}", json!(told)),
            }
            Ok(told.is_answered())
        }
    }
}

async fn order(client: &Client, namespace: &str, flags: Purge) -> Result<bool, CommandError> {
    let (timeout, output) = (flags.timeout, flags.output);
    let wanted = Wanted {
        service: flags.name,
        keys: flags.key,
        prefixes: flags.prefix,
        tags: flags.tag,
        redis_keys: flags.redis_key,
        redis_prefixes: flags.redis_prefix,
        delete_in_redis: flags.delete_in_redis,
        everything: flags.everything,
        soft: flags.soft,
    };
    let told = purge(client, namespace, wanted, Duration::from_secs(timeout)).await?;
    match output {
        Output::Text => print!("{told}"),
        Output::Json => println!("{}", json!(told)),
    }
    Ok(told.is_complete || timeout == 0)
}

async fn status(client: &Client, namespace: &str, wanted: Status) -> Result<bool, CommandError> {
    let children = children(client, namespace, &wanted.name).await?;
    let told = if children.pods.iter().any(has_sidecar) {
        match token(client, namespace, &wanted.name).await {
            Ok(token) => ask_all(client, namespace, &children.pods, "/status", &token).await,
            Err(error) => {
                eprintln!("the sidecars are not asked: {error}");
                BTreeMap::new()
            }
        }
    } else {
        BTreeMap::new()
    };
    let root = tree(&children, &told);
    match wanted.output {
        Output::Text => print!("{}", text(&root)),
        Output::Json => println!("{}", json!(root)),
    }
    Ok(true)
}

async fn connect(
    context: Option<String>,
    namespace: Option<String>,
) -> Result<(Client, String), CommandError> {
    let unusable = |error: &dyn std::fmt::Display| {
        CommandError::Wrong(format!("the kubeconfig cannot be used: {error}; see `kubectl config view`"))
    };
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    let kubeconfig = Kubeconfig::read().map_err(|error| unusable(&error))?;
    let config =
        Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| unusable(&error))?;
    let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).map_err(|error| unusable(&error))?;
    Ok((client, namespace))
}
