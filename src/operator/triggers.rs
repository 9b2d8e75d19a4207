//! Orders to reconcile a CachedService, from all watches, and how many wait.

use std::{collections::HashSet, sync::Arc};

use futures::{Stream, stream};
use kube::runtime::reflector::{ObjectRef, Store};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::{api::CachedService, telemetry::Metrics};

/// Where watches send their orders.
#[derive(Clone)]
pub struct Triggers {
    sender: mpsc::UnboundedSender<ObjectRef<CachedService>>,
    waiting: Arc<Mutex<HashSet<ObjectRef<CachedService>>>>,
    services: Store<CachedService>,
    metrics: Metrics,
}

impl Triggers {
    /// A sender, and the stream of what is sent. A CachedService that already
    /// waits is not sent again, so the stream never holds more than all of them.
    pub fn new(
        services: Store<CachedService>,
        metrics: Metrics,
    ) -> (Self, impl Stream<Item = ObjectRef<CachedService>> + Send + 'static) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let orders = stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|order| (order, receiver))
        });
        (Self { sender, waiting: Arc::default(), services, metrics }, orders)
    }

    /// Orders a reconcile.
    pub fn send(&self, service: ObjectRef<CachedService>) {
        let mut waiting = self.waiting.lock();
        if waiting.insert(service.clone()) {
            self.metrics.set_queue_depth(waiting.len());
            // Nobody listens any more only while the process ends.
            let _ = self.sender.send(service);
        }
    }

    /// Orders a reconcile of every CachedService.
    pub fn send_all(&self) {
        for service in self.services.state() {
            self.send(ObjectRef::from_obj(&*service));
        }
    }

    /// A reconcile begins: what happens from now on needs another one. Returns
    /// the CachedService as it is now. What the queue hands over may be older:
    /// it is read before the reconcile begins, and a change in between was not
    /// sent, because this order still waited.
    #[must_use]
    pub fn begun(&self, service: &ObjectRef<CachedService>) -> Option<Arc<CachedService>> {
        let mut waiting = self.waiting.lock();
        waiting.remove(service);
        self.metrics.set_queue_depth(waiting.len());
        drop(waiting);
        self.services.get(service)
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};
    use kube::runtime::{reflector, watcher::Event};
    use serde_json::json;

    use super::*;
    use crate::operator::sample::service;

    #[tokio::test]
    async fn a_change_between_the_queue_and_the_reconcile_is_not_lost() {
        let (services, mut writer) = reflector::store();
        let (triggers, orders) = Triggers::new(services.clone(), Metrics::default());
        let mut orders = std::pin::pin!(orders);
        let mut change = |image: &str| {
            let service = service(json!({ "image": image }));
            writer.apply_watcher_event(&Event::Apply(service.clone()));
            triggers.send(ObjectRef::from_obj(&service));
        };
        change("shop:1");
        let order = orders.next().await.unwrap();
        let queued = services.get(&order).unwrap();
        change("shop:2");
        assert!(orders.next().now_or_never().is_none(), "one order stands for both changes");
        let begun = triggers.begun(&order).unwrap();
        assert_eq!((queued.spec.image.as_str(), begun.spec.image.as_str()), ("shop:1", "shop:2"));
        change("shop:3");
        assert!(orders.next().now_or_never().is_some(), "a change from then on is an order of its own");
    }
}
