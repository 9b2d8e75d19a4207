//! Many CachedServices that are there: memory, restarts, edits, rest.

use std::{
    collections::{BTreeMap, HashSet},
    error::Error,
    path::PathBuf,
    time::{Duration, Instant},
};

use cachedservice::api::CachedService;
use clap::{Args, ValueEnum};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, EnvVar, Namespace, Secret},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use rand::{RngExt, distr::Alphanumeric};
use tokio::sync::watch;

use crate::{
    Common,
    contestant::{Contestant, all_requests, exposition, is_read_of_many, metric, requests},
    edits,
    figures::megabytes,
    stage::Stage,
};

/// CachedServices in a namespace.
pub const IN_A_NAMESPACE: usize = 1000;
/// Requests of ours that are under way at a time.
const AT_A_TIME: usize = 16;
/// Longest way to a fleet that is Ready.
const LIMIT: Duration = Duration::from_hours(2);
const PROGRESS: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
/// So long after the last work, memory that is free has been given back.
const SETTLED: Duration = Duration::from_secs(30);
/// A restart is told of after so long at most.
const RESTART_LIMIT: Duration = Duration::from_mins(15);
/// The contents of an object that is no business of the operator's.
const UNRELATED_BYTES: usize = 16 * 1024;

/// Measures many that are there.
#[derive(Args)]
pub struct Fleet {
    /// CachedServices in all. Those that are missing are created first.
    #[arg(long)]
    services: usize,
    /// What is measured.
    #[arg(long, value_delimiter = ',')]
    sections: Vec<Section>,
    /// Edits that are measured.
    #[arg(long, default_value_t = 300)]
    edits: usize,
    /// For how many seconds nothing happens.
    #[arg(long, default_value_t = 600)]
    idle: u64,
    /// Secrets and ConfigMaps of others.
    #[arg(long, default_value_t = 10_000)]
    unrelated: usize,
    #[arg(long)]
    bare_kubeconfig: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    Memory,
    Edits,
    Idle,
    Restart,
    Unrelated,
}

/// Creates what is missing and measures.
pub async fn run(common: Common, fleet: Fleet, client: Client) -> Result<(), Box<dyn Error>> {
    let has = |section| fleet.sections.contains(&section);
    let services = fleet.services;
    create_missing(&common, &client, services).await?;
    let stage = Stage::play(&client);
    let mut operator = common.start_operator("fleet")?;
    until_ready(&client, services, &mut operator).await?;
    until_at_rest(&common, &mut operator, services).await?;
    if has(Section::Memory) {
        tokio::time::sleep(SETTLED).await;
        tell_memory(&operator, services, "at rest after the creation")?;
    }
    if has(Section::Edits) {
        edits::run(&client, &fleet.bare_kubeconfig, fleet.edits, services).await?;
        until_at_rest(&common, &mut operator, services).await?;
    }
    if has(Section::Idle) {
        tokio::time::sleep(SETTLED).await;
        idle(&common, Duration::from_secs(fleet.idle), services).await?;
    }
    if has(Section::Restart) || has(Section::Unrelated) {
        operator = restart(&common, operator, services, "restart").await?;
    }
    if has(Section::Unrelated) {
        unrelated(&client, fleet.unrelated).await?;
        tell_memory(&operator, services, &format!("beside {} objects of others", fleet.unrelated))?;
        operator = restart(&common, operator, services, "restart beside them").await?;
        clear_unrelated(&client).await?;
    }
    operator.stop()?;
    drop(stage);
    Ok(())
}

/// Each is a little different: image, variables, sizes.
fn service(template: &CachedService, number: usize) -> CachedService {
    const WORDS: [&str; 12] = [
        "DATABASE", "QUEUE", "SEARCH", "MAIL", "BILLING", "ACCOUNTS", "LOG", "TRACE", "FEATURE", "REGION",
        "CURRENCY", "PARTNER",
    ];
    const ENDS: [&str; 5] = ["URL", "TIMEOUT", "LEVEL", "TOKEN_FILE", "LIMIT"];
    let mut service = template.clone();
    service.metadata = ObjectMeta { name: Some(name(number)), ..ObjectMeta::default() };
    service.spec.image =
        format!("registry.example.com/team-{}/service-{number}:1.{}", number % 40, number % 7);
    let variables = (0..number % 6).map(|place| {
        let (word, end) =
            (WORDS[(number + 5 * place) % WORDS.len()], ENDS[(number / 7 + place) % ENDS.len()]);
        EnvVar {
            name: format!("{word}_{end}"),
            value: Some(format!("value-{number}-{place}")),
            value_from: None,
        }
    });
    service.spec.env = variables.collect();
    service
}

pub fn namespace(number: usize) -> String {
    format!("fleet-{}", number / IN_A_NAMESPACE)
}

pub fn name(number: usize) -> String {
    format!("service-{number:05}")
}

async fn create_missing(common: &Common, client: &Client, services: usize) -> Result<(), Box<dyn Error>> {
    let template = common.template()?;
    let began = Instant::now();
    let mut present = HashSet::new();
    for number in (0..services).step_by(IN_A_NAMESPACE) {
        let namespace = namespace(number);
        create_namespace(client, &namespace).await?;
        let api: Api<CachedService> = Api::namespaced(client.clone(), &namespace);
        present.extend(api.list_metadata(&ListParams::default()).await?.iter().map(ResourceExt::name_any));
    }
    let missing: Vec<usize> = (0..services).filter(|number| !present.contains(&name(*number))).collect();
    println!("{} CachedServices are there, {} are created", present.len(), missing.len());
    stream::iter(missing)
        .map(|number| {
            let api: Api<CachedService> = Api::namespaced(client.clone(), &namespace(number));
            let service = service(&template, number);
            async move { api.create(&PostParams::default(), &service).await }
        })
        .buffer_unordered(AT_A_TIME)
        .try_for_each(async |_| Ok(()))
        .await?;
    println!("created after {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

pub async fn create_namespace(client: &Client, name: &str) -> Result<(), Box<dyn Error>> {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    let api: Api<Namespace> = Api::all(client.clone());
    api.patch(name, &PatchParams::apply("bench"), &Patch::Apply(&namespace)).await?;
    Ok(())
}

/// Waits until every CachedService says Ready of its present generation.
async fn until_ready(
    client: &Client,
    services: usize,
    operator: &mut Contestant,
) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let (sender, mut count) = watch::channel(0);
    let api: Api<CachedService> = Api::all(client.clone());
    let follow = async {
        let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
        let mut ready = HashSet::new();
        while let Some(event) = events.next().await {
            if let Ok(Event::Apply(service) | Event::InitApply(service)) = event {
                if is_ready(&service) {
                    ready.insert(service.name_any())
                } else {
                    ready.remove(&service.name_any())
                };
                sender.send_replace(ready.len());
            }
        }
    };
    let wait = async {
        loop {
            operator.check()?;
            let reached = count.wait_for(|count| *count >= services);
            let reached = tokio::time::timeout(PROGRESS, reached).await.map(|reached| reached.map(drop));
            match reached {
                Ok(reached) => return Ok::<(), Box<dyn Error>>(reached?),
                Err(_) if began.elapsed() > LIMIT => return Err("the fleet does not become Ready".into()),
                Err(_) => println!("{} of {services} are Ready", *count.borrow()),
            }
        }
    };
    tokio::select! {
        () = follow => return Err("a watch ended".into()),
        reached = wait => reached?,
    }
    println!("all {services} are Ready, after {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

fn is_ready(service: &CachedService) -> bool {
    service.status.as_ref().is_some_and(|status| {
        status.observed_generation == service.metadata.generation
            && status
                .conditions
                .iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}

/// Waits until the operator has looked at all of them and nothing waits for its turn.
async fn until_at_rest(
    common: &Common,
    operator: &mut Contestant,
    services: usize,
) -> Result<Instant, Box<dyn Error>> {
    #[allow(clippy::cast_precision_loss)] // Some thousands.
    let services = services as f64;
    let began = Instant::now();
    loop {
        operator.check()?;
        // It does not listen from the first moment on.
        let metrics = exposition(common.admin_address).unwrap_or_default();
        let of = |name: &str| metric(&metrics, &format!("cachedservice_{name}"));
        let is_at_rest = of("queue_depth") + of("reconciles_in_flight") < 1.0;
        if is_at_rest && of("reconcile_duration_seconds_count") >= services && of("resources") >= services {
            return Ok(Instant::now());
        }
        if began.elapsed() > RESTART_LIMIT {
            return Err(format!("the operator does not come to rest:\n{metrics}").into());
        }
        tokio::time::sleep(POLL).await;
    }
}

fn tell_memory(operator: &Contestant, services: usize, when: &str) -> Result<(), Box<dyn Error>> {
    let usage = operator.usage()?;
    let (resident, peak) = (megabytes(usage.memory), megabytes(usage.peak_memory));
    println!("memory N={services} {when}: {resident} MB resident, {peak} MB at most");
    Ok(())
}

async fn idle(common: &Common, period: Duration, services: usize) -> Result<(), Box<dyn Error>> {
    let before = all_requests(common.admin_address)?;
    tokio::time::sleep(period).await;
    let mut asked = all_requests(common.admin_address)?;
    for (name, count) in &mut asked {
        *count -= before.get(name).copied().unwrap_or_default();
    }
    asked.retain(|_, count| *count > 0);
    let told: Vec<String> = asked.iter().map(|(name, count)| format!("{count} {name}")).collect();
    println!("idle N={services} for {} s: {}", period.as_secs(), told.join(", "));
    let others = asked.keys().filter(|name| !name.ends_with(" leases") && !is_read_of_many(name));
    println!("idle N={services} beside Lease and watches: {} kinds of requests", others.count());
    Ok(())
}

/// Ends the operator and measures how long another takes to verify everything.
async fn restart(
    common: &Common,
    operator: Contestant,
    services: usize,
    what: &str,
) -> Result<Contestant, Box<dyn Error>> {
    operator.stop()?;
    let mut operator = common.start_operator(&what.replace(' ', "-"))?;
    let verified = until_at_rest(common, &mut operator, services).await?;
    let took = verified.duration_since(operator.started).as_secs_f64();
    let cpu = operator.usage()?.cpu.as_secs_f64();
    tokio::time::sleep(SETTLED).await;
    let written: BTreeMap<_, _> = requests(common.admin_address)?;
    let asked: u64 = all_requests(common.admin_address)?
        .iter()
        .filter(|(name, _)| is_read_of_many(name))
        .map(|(_, count)| count)
        .sum();
    println!(
        "{what} N={services}: all verified after {took:.1} s (CPU {cpu:.1} s), {asked} watches and lists, other requests: {written:?}"
    );
    tell_memory(&operator, services, &format!("after the {what}"))?;
    Ok(operator)
}

const UNRELATED: &str = "unrelated";

/// Large Secrets and ConfigMaps of others, half of each.
async fn unrelated(client: &Client, count: usize) -> Result<(), Box<dyn Error>> {
    create_namespace(client, UNRELATED).await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), UNRELATED);
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), UNRELATED);
    stream::iter(0..count / 2)
        .map(|number| {
            let (secrets, config_maps) = (&secrets, &config_maps);
            let metadata = ObjectMeta { name: Some(format!("large-{number}")), ..ObjectMeta::default() };
            let text: String =
                rand::rng().sample_iter(Alphanumeric).take(UNRELATED_BYTES).map(char::from).collect();
            let data = [("data".to_owned(), ByteString(text.clone().into_bytes()))].into();
            let secret = Secret { metadata: metadata.clone(), data: Some(data), ..Secret::default() };
            let data = [("data".to_owned(), text)].into();
            let config_map = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
            async move {
                secrets.create(&PostParams::default(), &secret).await?;
                config_maps.create(&PostParams::default(), &config_map).await
            }
        })
        .buffer_unordered(AT_A_TIME)
        .try_for_each(async |_| Ok(()))
        .await?;
    println!("{count} Secrets and ConfigMaps of {} KiB are there", UNRELATED_BYTES / 1024);
    Ok(())
}

async fn clear_unrelated(client: &Client) -> Result<(), Box<dyn Error>> {
    let (delete, all) = (DeleteParams::default(), ListParams::default());
    Api::<Secret>::namespaced(client.clone(), UNRELATED).delete_collection(&delete, &all).await?;
    Api::<ConfigMap>::namespaced(client.clone(), UNRELATED).delete_collection(&delete, &all).await?;
    Ok(())
}
