//! Runs the operator while it leads: watches, the queue, bounded concurrency,
//! and an orderly end.

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource,
    core::error_boundary::{DeserializeGuard, InvalidObject},
    runtime::{
        WatchStreamExt,
        events::{EventType, Recorder, Reporter},
        reflector::{self, ObjectRef},
        watcher,
    },
};
use tokio::{task::JoinSet, time};

use super::{
    context::Context,
    external::Externals,
    plan::Defaults,
    readable::readable,
    reconcile::turn,
    status::event,
    triggers::Triggers,
    watches::{Scope, Watches},
};
use crate::{
    api::CachedService,
    telemetry::{Health, Metrics, Readiness},
};

/// How long running reconciles may take to end after a shutdown was ordered.
const GRACE: Duration = Duration::from_secs(10);
/// How often the control loop shows that it is alive.
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
    let (services, writer) = reflector::store();
    let triggers = Triggers::new(services.clone(), metrics.clone());
    let watches = Arc::new(Watches::start(&client, &settings.scope, &triggers, &mut tasks));
    let reporter =
        Reporter { controller: "cachedservice-operator".to_owned(), instance: Some(settings.identity) };
    let context = Arc::new(Context {
        externals: Arc::new(Externals::new(client.clone(), triggers.clone())),
        recorder: Recorder::new(client.clone(), reporter),
        watches: watches.clone(),
        defaults: settings.defaults,
        services: services.clone(),
        triggers: triggers.clone(),
        metrics: metrics.clone(),
        memory: parking_lot::Mutex::default(),
        client: client.clone(),
    });

    let events =
        watcher(settings.scope.api::<DeserializeGuard<CachedService>>(&client), watcher::Config::default());
    tasks.spawn(follow_services(events, writer, context.clone(), services.clone()));

    let mut shutdown = Box::pin(futures::FutureExt::shared(futures::FutureExt::boxed(shutdown)));
    tokio::select! {
        // A reconcile before this would take everything for absent.
        ready = async { tokio::try_join!(watches.wait_until_ready(), services.wait_until_ready()) } => {
            if ready.is_err() {
                tracing::error!("a watch ended before its first list");
                return;
            }
        }
        () = &mut shutdown => return,
    }
    health.set_readiness(Readiness::Leading);
    tracing::info!("all watches are in step; reconciling");

    let turns = stream::unfold(&triggers, async |triggers| Some((triggers.begin().await, triggers)));
    let ended = turns
        .take_until(shutdown.clone())
        .for_each_concurrent(usize::from(settings.concurrency), |service| turn(service, &context));
    tokio::select! {
        () = ended => {}
        // In the task that takes the turns: where one of them blocks it, the heart stops.
        never = beat(&health) => match never {},
        // They end by a panic alone. What its store holds would be taken for the present for ever.
        Some(_) = tasks.join_next() => tracing::error!("a watch ended"),
        () = async { shutdown.await; time::sleep(GRACE).await } => {
            tracing::warn!("reconciles did not end in time and are abandoned; the next leader takes them up");
        }
    }
    tasks.shutdown().await;
}

async fn follow_services(
    events: impl futures::Stream<Item = watcher::Result<watcher::Event<DeserializeGuard<CachedService>>>> + Send,
    mut writer: reflector::store::Writer<CachedService>,
    context: Arc<Context>,
    services: reflector::Store<CachedService>,
) {
    let mut events = std::pin::pin!(events.default_backoff().modify(|service| {
        service.meta_mut().managed_fields = None;
        service.meta_mut().annotations = None;
    }));
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(kind = "CachedService", %error, "watch interrupted; starting it again");
                continue;
            }
        };
        let event = match readable(event, &services) {
            Ok(Some(event)) => event,
            Ok(None) => continue,
            Err(unreadable) => {
                tell_unreadable(&context, &unreadable).await;
                continue;
            }
        };
        // What the operator itself has just told is no news to it.
        let is_echo = matches!(&event, watcher::Event::Apply(service)
            if services.get(&ObjectRef::from_obj(service)).is_some_and(|before| context.is_echo(&before, service)));
        writer.apply_watcher_event(&event);
        context.metrics.set_resources(services.len());
        match &event {
            watcher::Event::Apply(_) if is_echo => {}
            watcher::Event::Apply(service) | watcher::Event::InitApply(service) => {
                let reference = ObjectRef::from_obj(service);
                let told = service.status.as_ref().and_then(|status| status.observed_generation);
                // Nothing was made of its present spec yet.
                if told == service.metadata.generation {
                    context.triggers.send(reference);
                } else {
                    context.triggers.send_first(reference);
                }
            }
            watcher::Event::Delete(service) => {
                let reference = ObjectRef::from_obj(service);
                context.forget(&reference);
                // A reconcile that runs now remembers it again; the turn after that forgets it.
                context.triggers.send(reference);
            }
            watcher::Event::InitDone => {
                context.triggers.send_all();
                // What vanished while the watch was broken is in no event: its turn finds it gone.
                for reference in context.remembered() {
                    context.triggers.send(reference);
                }
            }
            watcher::Event::Init => {}
        }
    }
}

/// Its status cannot be told without reading it, so an Event has to.
async fn tell_unreadable(context: &Context, unreadable: &InvalidObject) {
    let InvalidObject { error, metadata } = unreadable;
    let object = ObjectReference {
        api_version: Some(CachedService::api_version(&()).into_owned()),
        kind: Some(CachedService::kind(&()).into_owned()),
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        uid: metadata.uid.clone(),
        ..ObjectReference::default()
    };
    tracing::warn!(namespace = object.namespace, name = object.name, error, "cannot read a CachedService");
    let note = format!(
        "this operator cannot read it and leaves everything as it is; upgrade the operator, or write the spec for its version: {error}"
    );
    let event = event(EventType::Warning, "Unreadable", "Read", &note);
    if let Err(error) = context.recorder.publish(&event, &object).await {
        tracing::warn!(reason = event.reason, %error, "cannot write an Event");
    }
}

async fn beat(health: &Health) -> Infallible {
    let mut interval = time::interval(HEARTBEAT);
    loop {
        interval.tick().await;
        health.beat();
    }
}
