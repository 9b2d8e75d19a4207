//! Runs the operator while it leads: watches, the queue, bounded concurrency,
//! and an orderly end.

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::{Client, core::error_boundary::DeserializeGuard, runtime::watcher};
use tokio::{task::JoinSet, time};

use super::{
    context::Context,
    events::Events,
    external::Externals,
    plan::Defaults,
    purges,
    reconcile::turn,
    references::References,
    services,
    sidecars::{self, Sidecars},
    store::{Store, store},
    streaming::watch_streamed,
    tally::tally,
    triggers::Triggers,
    watches::{Scope, WatchEnded, Watches},
};
use crate::{
    api::{CachePurge, CachedService},
    telemetry::{Health, Metrics, Readiness},
};

/// How long running reconciles may take to end after a shutdown was ordered.
const GRACE: Duration = Duration::from_secs(10);
/// How often the control loop shows that it is alive, and counts what is no event.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// What the operator runs with.
pub struct Settings {
    /// Where it looks.
    pub scope: Scope,
    /// How many CachedServices are reconciled at a time.
    pub concurrency: u16,
    /// What the installation sets.
    pub defaults: Defaults,
    /// Who writes the Events: the pod's name.
    pub identity: String,
}

/// Runs until `shutdown`; then running reconciles finish, or are abandoned after ten seconds.
pub async fn run(
    client: Client,
    settings: Settings,
    metrics: Metrics,
    health: Health,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let mut tasks = JoinSet::new();
    let (services, writer) = store();
    let triggers = Triggers::new(services.clone(), metrics.clone(), settings.concurrency);
    let sidecars = Arc::<Sidecars>::default();
    let watches =
        Arc::new(Watches::start(&client, &settings.scope, &triggers, &sidecars, &metrics, &mut tasks));
    let context = Arc::new(Context {
        references: Arc::new(References::new(client.clone(), triggers.clone(), metrics.clone())),
        externals: Arc::new(Externals::new(client.clone(), triggers.clone())),
        purges: Arc::default(),
        sidecars,
        events: Events::new(client.clone(), &settings.identity),
        watches: watches.clone(),
        defaults: settings.defaults,
        services: services.clone(),
        triggers: triggers.clone(),
        metrics: metrics.clone(),
        memory: parking_lot::Mutex::default(),
        client: client.clone(),
    });

    let events = watch_streamed(
        settings.scope.api::<DeserializeGuard<CachedService>>(&client),
        watcher::Config::default(),
    );
    tasks.spawn(services::follow(events, writer, context.clone(), services.clone()));

    let mut shutdown = Box::pin(futures::FutureExt::shared(futures::FutureExt::boxed(shutdown)));
    tokio::select! {
        // A reconcile before this would take everything for absent.
        ready = first_lists(&watches, &services) => {
            if ready.is_err() {
                tracing::error!("a watch ended before its first list");
                return;
            }
        }
        () = &mut shutdown => return,
    }
    let purged = watch_streamed(
        settings.scope.api::<DeserializeGuard<CachePurge>>(&client),
        watcher::Config::default(),
    );
    tasks.spawn(purges::follow(purged, context.clone()));
    tasks.spawn(sidecars::follow(context.clone()));
    health.set_readiness(Readiness::Leading);
    tracing::info!("all watches are in step; reconciling");

    let turns = stream::unfold(&triggers, async |triggers| Some((triggers.begin().await, triggers)));
    let ended = turns
        .take_until(shutdown.clone())
        .for_each_concurrent(usize::from(settings.concurrency), |service| turn(service, &context));
    tokio::select! {
        () = ended => {}
        // In the task that takes the turns: where one of them blocks it, the heart stops.
        never = beat(&health, &context) => match never {},
        // They end by a panic alone. What its store holds would be taken for the present for ever.
        Some(_) = tasks.join_next() => tracing::error!("a watch ended"),
        () = async { shutdown.await; time::sleep(GRACE).await } => {
            tracing::warn!("reconciles did not end in time and are abandoned; the next leader takes them up");
        }
    }
    tasks.shutdown().await;
}

async fn first_lists(watches: &Watches, services: &Store<CachedService>) -> Result<(), WatchEnded> {
    watches.wait_until_ready().await?;
    Ok(services.wait_until_ready().await?)
}

async fn beat(health: &Health, context: &Context) -> Infallible {
    let mut interval = time::interval(HEARTBEAT);
    let mut counted = 0;
    loop {
        interval.tick().await;
        health.beat();
        context.watches.interruptions.recount();
        context.tidy();
        context.metrics.set_oldest_purge(context.purges.oldest_open(Timestamp::now()));
        if context.services.version() != counted {
            counted = context.services.version();
            recount(context).await;
        }
    }
}

/// Counts the conditions of all CachedServices. There may be thousands to unpack: beside the task
/// that takes the turns.
async fn recount(context: &Context) {
    let (services, metrics) = (context.services.clone(), context.metrics.clone());
    let counting = tokio::task::spawn_blocking(move || {
        for count in tally(services.objects()) {
            metrics.set_conditions(count.condition, count.status, count.services);
        }
    });
    // It is abandoned with the process alone.
    let _ = counting.await;
}
