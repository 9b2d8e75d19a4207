//! The turns: the sidecars of one CachedService after those of another.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use kube::runtime::reflector::ObjectRef;
use tokio::{task::JoinSet, time::sleep};

use super::{pods::ServiceKey, reading::Asked, token};
use crate::operator::context::Context;

/// However many there are, two turns begin so far apart: at 10,000 CachedServices they take most of the
/// minute, and with more of them it takes longer until each has had its turn.
const APART: Duration = Duration::from_millis(4);
/// So many turns at a time: those of pods that hang take a second and more.
const TURNS: usize = 64;
/// So many sidecars of one CachedService at a time.
const AT_A_TIME: usize = 8;

/// Reads sidecars, for ever.
pub(in crate::operator) async fn follow(context: Arc<Context>) {
    let mut turns = JoinSet::new();
    loop {
        tokio::select! {
            service = context.sidecars.schedule.next(), if turns.len() < TURNS => {
                turns.spawn(turn(service, context.clone()));
                sleep(APART).await;
            }
            Some(_) = turns.join_next() => {}
        }
    }
}

async fn turn(service: ServiceKey, context: Arc<Context>) {
    let (sidecars, (namespace, name)) = (&context.sidecars, &service);
    let running = sidecars.pods.of(&service);
    if running.is_empty() {
        return;
    }
    let Some(token) = token(&context.watches.secrets, namespace, name) else { return };
    let asking = stream::iter(running).map(|(pod, address)| {
        let token = &token;
        async move { Asked { pod, told: sidecars.caller.read(address, token).await } }
    });
    // In the order of the pods.
    let told: Vec<Asked> = asking.buffered(AT_A_TIME).collect().await;
    if sidecars.keep(&service, told) {
        context.triggers.send(ObjectRef::new(name).within(namespace));
    }
}
