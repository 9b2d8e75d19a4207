//! The turns: the sidecars of one CachedService after those of another.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use kube::runtime::reflector::ObjectRef;
use tokio::{task::JoinSet, time::sleep};

use super::{
    pods::ServiceKey,
    reading::{Reading, check_is_of},
    token,
};
use crate::operator::context::Context;

/// However many there are, two turns begin so far apart: at 10,000 CachedServices they take most of the
/// minute, and with more of them it takes longer until each has had its turn.
const APART: Duration = Duration::from_millis(4);
/// So many turns at a time: those of pods that hang take a second and more.
const TURNS: usize = 64;
/// So many sidecars of one CachedService at a time.
const AT_A_TIME: usize = 8;
/// So long after it failed a question is put once more: mostly a blip is over by then.
const AGAIN: Duration = Duration::from_secs(2);

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
    let asking = stream::iter(running).map(|(pod, place)| {
        let (token, service) = (&token, &service);
        async move {
            let (of, at) = (&pod, &place);
            let ask = || async move {
                let told = sidecars.caller.read(at.address, token).await?;
                check_is_of((told.pod.as_deref(), told.uid.as_deref()), of, &at.uid)?;
                Ok(told)
            };
            let told = twice(ask, || sidecars.pods.of(service).get(of) == Some(at)).await;
            (pod, told)
        }
    });
    // In the order of the pods.
    let told: Vec<_> = asking.buffered(AT_A_TIME).collect().await;
    if sidecars.keep(&service, told) {
        context.triggers.send(ObjectRef::new(name).within(namespace));
    }
}

/// Asks once more where there was no answer, while the sidecar is there still.
async fn twice<F: Future<Output = Result<Reading, String>>>(
    ask: impl Fn() -> F,
    is_there: impl Fn() -> bool,
) -> F::Output {
    let first = ask().await;
    if first.is_ok() {
        return first;
    }
    sleep(AGAIN).await;
    if is_there() { ask().await } else { first }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// How often is asked, and what comes of it, where the first `blips` questions have no answer.
    async fn asked(blips: u32, is_there: bool) -> (u32, bool) {
        let times = Cell::new(0);
        let ask = || {
            times.set(times.get() + 1);
            let told = if times.get() > blips { Ok(Reading::default()) } else { Err("no answer".to_owned()) };
            std::future::ready(told)
        };
        let told = twice(ask, || is_there).await;
        (times.get(), told.is_ok())
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_asked_once_more_unless_it_is_gone() {
        assert_eq!(asked(0, true).await, (1, true));
        assert_eq!(asked(1, true).await, (2, true));
        assert_eq!(asked(2, true).await, (2, false));
        assert_eq!(asked(1, false).await, (1, false));
    }
}
