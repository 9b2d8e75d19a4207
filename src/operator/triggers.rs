//! Orders to reconcile a CachedService: from all watches, and from reconciles
//! that want to be repeated.

use std::{future::pending, sync::Arc, time::Duration};

use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{
    queue::{Lane, Queue},
    store::Store,
};
use crate::{api::CachedService, telemetry::Metrics};

/// Of so many turns at a time one may be of the second lane.
const SLOTS_FOR_ONE_OF_THE_SECOND: u16 = 4;

/// The queue, shared by those who order and the one who hands out the turns.
#[derive(Clone)]
pub struct Triggers(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue<ObjectRef<CachedService>>>,
    /// Something may wait, or be due earlier.
    changed: Notify,
    services: Store<CachedService>,
    metrics: Metrics,
}

impl Triggers {
    /// An empty queue, for so many turns at a time.
    #[must_use]
    pub fn new(services: Store<CachedService>, metrics: Metrics, concurrency: u16) -> Self {
        let queue = Queue::new(usize::from(concurrency / SLOTS_FOR_ONE_OF_THE_SECOND).max(1));
        Self(Arc::new(Shared { queue: Mutex::new(queue), changed: Notify::new(), services, metrics }))
    }

    /// Orders a reconcile.
    pub fn send(&self, service: ObjectRef<CachedService>) {
        self.change(|queue| queue.order(service, Lane::Second));
    }

    /// Orders a reconcile where something is missing.
    pub fn send_first(&self, service: ObjectRef<CachedService>) {
        self.change(|queue| queue.order(service, Lane::First));
    }

    /// Orders a reconcile of every CachedService.
    pub fn send_all(&self) {
        for service in self.0.services.references() {
            self.send(service);
        }
    }

    /// Waits for the next turn and begins it: what happens from now on needs another one.
    pub async fn begin(&self) -> ObjectRef<CachedService> {
        loop {
            let (begun, due) = {
                let mut queue = self.0.queue.lock();
                let now = Instant::now();
                let begun = queue.begin(now);
                self.0.metrics.set_queue_depth(queue.depth());
                (begun, queue.next_due(now))
            };
            if let Some(service) = begun {
                return service;
            }
            let due = async move {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = self.0.changed.notified() => {}
                () = due => {}
            }
        }
    }

    /// Ends a turn. There is another after `again` at the latest, if that is given.
    pub fn end(&self, service: &ObjectRef<CachedService>, again: Option<Duration>) {
        let again = again.map(|delay| Instant::now() + delay);
        self.change(|queue| queue.end(service, again));
    }

    fn change(&self, change: impl FnOnce(&mut Queue<ObjectRef<CachedService>>)) {
        let mut queue = self.0.queue.lock();
        change(&mut queue);
        self.0.metrics.set_queue_depth(queue.depth());
        drop(queue);
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::operator::store::store;

    fn triggers() -> Triggers {
        Triggers::new(store().0, Metrics::default(), 16)
    }

    #[tokio::test]
    async fn an_order_wakes_who_waits_for_a_turn() {
        let triggers = triggers();
        let mut turn = Box::pin(triggers.begin());
        assert!((&mut turn).now_or_never().is_none());
        triggers.send(ObjectRef::new("shop"));
        assert_eq!(turn.await.name, "shop");
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_was_asked_for_comes_by_itself() {
        let triggers = triggers();
        triggers.send(ObjectRef::new("shop"));
        let service = triggers.begin().await;
        let ended = Instant::now();
        triggers.end(&service, Some(Duration::from_secs(5)));
        assert_eq!(triggers.begin().await.name, "shop");
        assert!(ended.elapsed() >= Duration::from_secs(5));
    }
}
