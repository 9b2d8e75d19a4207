//! The yardstick of `make bench`: applies the children of every CachedService
//! of a namespace by server-side apply, one request each, and does nothing else.
//! What it sends is what the operator would send, byte for byte.

use std::{collections::BTreeMap, error::Error, fmt::Debug};

use cachedservice::{
    api::{
        CachedService, CachedServiceStatus,
        names::{APPLIED_ANNOTATION, FIELD_MANAGER},
    },
    operator::{
        children::{Children, children},
        digest::digest,
        observe::{Look, Seen},
        plan::{Credentials, Defaults, DigestKey, Plan, Replicas, SidecarToken, plan},
        seen::Sighting,
    },
};
use clap::Parser;
use futures::{TryStreamExt, stream};
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Config, Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams, ValidationDirective},
    core::PartialObjectMeta,
};
use serde::Serialize;
use serde_json::{Value, json};

#[derive(Parser)]
struct Cli {
    /// Where the CachedServices are.
    #[arg(long)]
    namespace: String,
    /// How many CachedServices are worked on at a time.
    #[arg(long)]
    concurrency: usize,
    /// The image of Redis.
    #[arg(long)]
    redis_image: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    // The same runtime as the operator's.
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    let client = Client::try_from(Config::infer().await?)?;
    let services: Api<CachedService> = Api::namespaced(client.clone(), &cli.namespace);
    let defaults = Defaults { redis_image: cli.redis_image, ..Defaults::default() };
    let services = services.list(&ListParams::default()).await?;
    stream::iter(services.items.into_iter().map(Ok))
        .try_for_each_concurrent(cli.concurrency, |service| {
            let (client, defaults) = (&client, &defaults);
            async move {
                let plan = plan(&service, &nothing_seen(), defaults)?;
                // Boxed: the futures of all kinds together are large.
                Box::pin(apply_all(client, &plan)).await
            }
        })
        .await?;
    // Stays, so that its memory and CPU time can be read.
    futures::future::pending().await
}

async fn apply_all(client: &Client, plan: &Plan) -> Result<(), Box<dyn Error>> {
    let Children {
        redis_secret,
        redis_config,
        redis_service,
        redis_policy,
        redis_claim,
        stateful_set,
        redis_monitor,
        service,
        peers_service,
        app_policy,
        ingress,
        http_route,
        digest_key,
        sidecar_secret,
        sidecar_config,
        service_account,
        disruption_budget,
        deployment,
        autoscaler,
        app_monitor,
    } = children(plan);
    apply(client, redis_secret, |_| {}).await?;
    apply(client, redis_config, |_| {}).await?;
    apply(client, redis_service, |_| {}).await?;
    apply(client, redis_policy, |_| {}).await?;
    apply(client, redis_claim, |_| {}).await?;
    apply(client, stateful_set, |_| {}).await?;
    apply(client, redis_monitor, |_| {}).await?;
    apply(client, Some(service), |_| {}).await?;
    apply(client, peers_service, |_| {}).await?;
    apply(client, app_policy, |_| {}).await?;
    apply(client, ingress, |_| {}).await?;
    apply(client, http_route, |_| {}).await?;
    apply(client, digest_key, |_| {}).await?;
    apply(client, sidecar_secret, |_| {}).await?;
    apply(client, sidecar_config, |_| {}).await?;
    apply(client, service_account, |_| {}).await?;
    apply(client, disruption_budget, |_| {}).await?;
    let replicas = |value: &mut Value| {
        // Written beside what the digest covers, as the operator does.
        if let Replicas::Autoscaled { handover, .. } = plan.replicas {
            value["spec"]["replicas"] = json!(handover);
        }
    };
    apply(client, Some(deployment), replicas).await?;
    apply(client, autoscaler, |_| {}).await?;
    apply(client, app_monitor, |_| {}).await
}

async fn apply<K>(client: &Client, child: Option<K>, add: impl Fn(&mut Value)) -> Result<(), Box<dyn Error>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize,
{
    let Some(child) = child else { return Ok(()) };
    let mut value = serde_json::to_value(&child)?;
    value["metadata"]["annotations"][APPLIED_ANNOTATION] = json!(digest([value.to_string().as_str()]));
    add(&mut value);
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::default()
    };
    // Of the answer, no more is read than has to be.
    let namespace = child.namespace().unwrap_or_default();
    let api: Api<PartialObjectMeta<K>> = Api::namespaced(client.clone(), &namespace);
    api.patch(&child.name_any(), &parameters, &Patch::Apply(&value)).await?;
    Ok(())
}

fn nothing_seen() -> Seen {
    Seen {
        redis_secret: Sighting::Absent,
        redis_config: Sighting::Absent,
        redis_service: Sighting::Absent,
        redis_policy: Sighting::Absent,
        redis_claim: Sighting::Absent,
        redis_monitor: Sighting::Absent,
        app_policy: Sighting::Absent,
        ingress: Sighting::Absent,
        http_route: Sighting::Absent,
        app_monitor: Sighting::Absent,
        stateful_set: Sighting::Absent,
        service: Sighting::Absent,
        peers_service: Sighting::Absent,
        digest_key: Sighting::Absent,
        sidecar_secret: Sighting::Absent,
        sidecar_config: Sighting::Absent,
        service_account: Sighting::Absent,
        disruption_budget: Sighting::Absent,
        deployment: Sighting::Absent,
        autoscaler: Sighting::Absent,
        credentials: Credentials::read(&BTreeMap::new(), Credentials::random()),
        key: DigestKey::random(),
        token: SidecarToken::random(),
        sidecars: None,
        references: BTreeMap::new(),
        external: None,
        troubles: Vec::new(),
        draining: false,
        redis_refusal: None,
        interrupted: None,
        status: CachedServiceStatus::default(),
        provisional: false,
        look: Look::Watches,
    }
}
