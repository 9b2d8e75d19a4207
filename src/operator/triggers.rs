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

    /// A reconcile begins: what happens from now on needs another one.
    pub fn begun(&self, service: &ObjectRef<CachedService>) {
        let mut waiting = self.waiting.lock();
        waiting.remove(service);
        self.metrics.set_queue_depth(waiting.len());
    }
}
