//! From nothing to many: the operator beside a bare client.

use std::{
    collections::BTreeMap,
    error::Error,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use cachedservice::api::CachedService;
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, PostParams},
};

use crate::{
    Common, REDIS_IMAGE,
    census::{CHILDREN, Census, Milestones},
    contestant::{Contestant, Usage, requests, usage},
    figures::{median, megabytes, ratio},
};

/// No round takes longer, however slow the machine.
const LIMIT: Duration = Duration::from_mins(30);
/// Nothing changes any more, once nothing has changed for so long.
const QUIET: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(200);

/// Measures from nothing to many.
#[derive(Args)]
pub struct Creation {
    /// CachedServices in a round.
    #[arg(long)]
    services: usize,
    /// Pairs of rounds that count.
    #[arg(long)]
    pairs: usize,
    #[arg(long)]
    bare_client: PathBuf,
    #[arg(long)]
    bare_kubeconfig: PathBuf,
    /// The process of the API server.
    #[arg(long)]
    api_server: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Operator,
    Bare,
}

impl Who {
    fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Bare => "bare",
        }
    }
}

/// What one round has shown.
struct Round {
    exist: Duration,
    ready: Duration,
    /// Until the CachedServices said so themselves.
    reported: Option<Duration>,
    usage: Usage,
    api_server_cpu: Duration,
    requests: BTreeMap<String, u64>,
    /// The part of it that came before all children existed.
    before: Spent,
}

/// What was spent, by the contestant and for it.
struct Spent {
    cpu: Duration,
    api_server_cpu: Duration,
    requests: u64,
}

/// Plays the rounds and prints what they have shown.
pub async fn run(common: Common, creation: Creation, client: Client) -> Result<(), Box<dyn Error>> {
    let template = common.template()?;
    let bench = Bench { client, template, common, creation };
    let services = bench.creation.services;
    println!("warming up");
    let few = services.div_ceil(10);
    for who in [Who::Operator, Who::Bare] {
        bench.round(who, &format!("warm-{}", who.name()), few).await?;
    }
    let mut pairs = Vec::new();
    for number in 1..=bench.creation.pairs {
        let play = async |who: Who| {
            let round = bench.round(who, &format!("bench-{}-{number}", who.name()), services).await?;
            println!("pair {number}  {:9} {round}", who.name());
            Ok::<_, Box<dyn Error>>(round)
        };
        let (operator, bare) = (play(Who::Operator).await?, play(Who::Bare).await?);
        let (exist, ready) = (ratio(operator.exist, bare.exist), ratio(operator.ready, bare.ready));
        println!("pair {number}  ratio     exist {exist:6.2}    ready {ready:6.2}");
        pairs.push((operator, bare));
    }
    report(&bench, &pairs);
    Ok(())
}

impl std::fmt::Display for Round {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (exist, ready) = (self.exist.as_secs_f64(), self.ready.as_secs_f64());
        write!(f, "exist {exist:6.2} s  ready {ready:6.2} s")?;
        if let Some(reported) = self.reported {
            write!(f, "  reported {:6.2} s", reported.as_secs_f64())?;
        }
        let (cpu, server) = (self.usage.cpu.as_secs_f64(), self.api_server_cpu.as_secs_f64());
        let (peak, at_the_end) = (megabytes(self.usage.peak_memory), megabytes(self.usage.memory));
        write!(f, "  CPU {cpu:.2} s  memory {at_the_end} MB, peak {peak} MB  API server {server:.2} s")?;
        let (cpu, server) = (self.before.cpu.as_secs_f64(), self.before.api_server_cpu.as_secs_f64());
        let requests = self.before.requests;
        write!(f, "; of it until all exist: CPU {cpu:.2} s  API server {server:.2} s  requests {requests}")
    }
}

struct Bench {
    common: Common,
    creation: Creation,
    client: Client,
    template: CachedService,
}

impl Bench {
    async fn round(&self, who: Who, namespace: &str, services: usize) -> Result<Round, Box<dyn Error>> {
        self.create(namespace, services).await?;
        let mut census = Census::begin(&self.client, namespace, services).await?;
        let server_before = usage(self.creation.api_server)?.cpu;
        let mut contestant = self.start(who, namespace)?;
        let result = self.measure(who, &mut contestant, &mut census, server_before).await;
        let round = result.map_err(|error| format!("{namespace}: {error}"))?;
        contestant.stop()?;
        drop(census);
        self.delete(namespace).await?;
        Ok(round)
    }

    async fn measure(
        &self,
        who: Who,
        contestant: &mut Contestant,
        census: &mut Census,
        server_before: Duration,
    ) -> Result<Round, Box<dyn Error>> {
        let is_done = |milestones: &Milestones| {
            milestones.exist.is_some()
                && milestones.ready.is_some()
                && (who == Who::Bare || milestones.reported.is_some())
        };
        let began = Instant::now();
        let spent = |contestant: &Contestant| {
            Ok::<_, Box<dyn Error>>(Spent {
                cpu: contestant.usage()?.cpu,
                api_server_cpu: usage(self.creation.api_server)?.cpu.saturating_sub(server_before),
                requests: self.requests(who)?.values().sum(),
            })
        };
        until(contestant, census, began, |milestones| milestones.exist.is_some()).await?;
        let before = spent(contestant)?;
        let reached = until(contestant, census, began, is_done).await?;
        while census.quiet_for() < QUIET && began.elapsed() < LIMIT {
            tokio::time::sleep(POLL).await;
        }
        let since = |milestone: Option<Instant>| milestone.map(|at| at.duration_since(contestant.started));
        let whole = spent(contestant)?;
        Ok(Round {
            exist: since(reached.exist).unwrap_or_default(),
            ready: since(reached.ready).unwrap_or_default(),
            reported: since(reached.reported),
            usage: contestant.usage()?,
            api_server_cpu: whole.api_server_cpu,
            requests: self.requests(who)?,
            before,
        })
    }

    /// The requests of the contestant; of the bare client it is known what it sends.
    fn requests(&self, who: Who) -> Result<BTreeMap<String, u64>, Box<dyn Error>> {
        match who {
            Who::Operator => requests(self.common.admin_address),
            Who::Bare => Ok(BTreeMap::new()),
        }
    }

    fn start(&self, who: Who, namespace: &str) -> Result<Contestant, Box<dyn Error>> {
        match who {
            Who::Operator => self.common.start_operator(namespace),
            Who::Bare => {
                let concurrency = self.common.concurrency.to_string();
                let arguments = [
                    ["--namespace", namespace].as_slice(),
                    &["--concurrency", &concurrency, "--redis-image", REDIS_IMAGE],
                ]
                .concat();
                let log = self.common.logs.join(format!("{namespace}.log"));
                Contestant::start(
                    &self.creation.bare_client,
                    &arguments,
                    &self.creation.bare_kubeconfig,
                    &log,
                )
            }
        }
    }

    async fn create(&self, namespace: &str, services: usize) -> Result<(), Box<dyn Error>> {
        let named = |name: &str| ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let object = Namespace { metadata: named(namespace), ..Namespace::default() };
        let parameters = PostParams::default();
        Api::<Namespace>::all(self.client.clone()).create(&parameters, &object).await?;
        let api: Api<CachedService> = Api::namespaced(self.client.clone(), namespace);
        stream::iter(0..services)
            .map(|number| {
                let metadata = named(&format!("service-{number:04}"));
                let service = CachedService { metadata, ..self.template.clone() };
                let (api, parameters) = (&api, &parameters);
                async move { api.create(parameters, &service).await }
            })
            .buffer_unordered(8)
            .try_collect::<Vec<_>>()
            .await?;
        Ok(())
    }

    /// Deletes a namespace and waits until nothing is left of it.
    async fn delete(&self, namespace: &str) -> Result<(), Box<dyn Error>> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.delete(namespace, &DeleteParams::background()).await?;
        let began = Instant::now();
        while namespaces.get_opt(namespace).await?.is_some() {
            if began.elapsed() > LIMIT {
                return Err(format!("the namespace {namespace} does not go away").into());
            }
            tokio::time::sleep(POLL).await;
        }
        // The controllers' last work on it is not to fall into the next round.
        tokio::time::sleep(QUIET).await;
        Ok(())
    }
}

/// Waits until `is_reached`, while the contestant runs and the time is not up.
async fn until(
    contestant: &mut Contestant,
    census: &mut Census,
    began: Instant,
    is_reached: impl Fn(&Milestones) -> bool,
) -> Result<Milestones, Box<dyn Error>> {
    loop {
        contestant.check()?;
        match census.wait(Duration::from_secs(2), &is_reached).await {
            Ok(reached) => return Ok(reached),
            Err(how_far) if began.elapsed() > LIMIT => return Err(how_far.into()),
            Err(_) => {}
        }
    }
}

fn report(bench: &Bench, pairs: &[(Round, Round)]) {
    let services = bench.creation.services;
    let median_of = |figure: &dyn Fn(&(Round, Round)) -> f64| median(pairs.iter().map(figure).collect());
    println!("\nmedians of {} pairs, {services} CachedServices with {CHILDREN} children each", pairs.len());
    println!("                       operator       bare");
    let row = |label: &str, figure: &dyn Fn(&Round) -> f64, unit: &str| {
        let (operator, bare) = (median_of(&|pair| figure(&pair.0)), median_of(&|pair| figure(&pair.1)));
        println!("{label:21} {operator:7.2} {unit:2} {bare:7.2} {unit:2}");
    };
    row("all children exist", &|round| round.exist.as_secs_f64(), "s");
    row("all pods available", &|round| round.ready.as_secs_f64(), "s");
    row("CPU", &|round| round.usage.cpu.as_secs_f64(), "s");
    row("memory at the end", &|round| megabytes(round.usage.memory).into(), "MB");
    row("peak memory", &|round| megabytes(round.usage.peak_memory).into(), "MB");
    row("CPU of the API server", &|round| round.api_server_cpu.as_secs_f64(), "s");
    let reported = median_of(&|pair| pair.0.reported.unwrap_or_default().as_secs_f64());
    println!("all CachedServices Ready {reported:4.2} s");

    println!("\nAPI requests per CachedService");
    #[allow(clippy::cast_precision_loss)] // Counts of a few thousand.
    let per_service = |count: u64| count as f64 / services as f64;
    let mut seen: Vec<&str> =
        pairs.iter().flat_map(|pair| pair.0.requests.keys().map(String::as_str)).collect();
    seen.sort_unstable();
    seen.dedup();
    let count = |round: &Round, name: &str| round.requests.get(name).copied().unwrap_or_default();
    for name in &seen {
        println!("  {name:36} {:5.2}", median_of(&|pair| per_service(count(&pair.0, name))));
    }
    let all = median_of(&|pair| per_service(pair.0.requests.values().sum()));
    println!("  {:36} {all:5.2}   (bare: {CHILDREN}.00, all apply)", "all");
    let without_events = |round: &Round| {
        let events = |name: &str| name.ends_with(" events");
        round.requests.iter().filter(|(name, _)| !events(name)).map(|(_, count)| count).sum()
    };
    let writes = median_of(&|pair| per_service(without_events(&pair.0)));
    println!(
        "  {:36} {writes:5.2}   (children + 2 + at most 3 of status: {}.00)",
        "all but Events",
        CHILDREN + 5
    );

    let exist = median_of(&|pair| ratio(pair.0.exist, pair.1.exist));
    let ready = median_of(&|pair| ratio(pair.0.ready, pair.1.ready));
    println!("\nlogs of the contestants: {}", relative(&bench.common.logs).display());
    println!("ratio N={services} exist {exist:.2} ready {ready:.2}");
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(path)
}
