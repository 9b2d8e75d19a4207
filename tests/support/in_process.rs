//! The operator's control loop within the test, for faults at a chosen request.

use cachedservice::{
    operator::{
        controller::{Settings, run},
        plan::Defaults,
        watches::Scope,
    },
    telemetry::{Health, Metrics},
};
use kube::Client;
use tokio::{sync::oneshot, task::JoinHandle};

/// A running control loop; abandoned when dropped.
pub struct InProcess {
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
    pub metrics: Metrics,
}

impl InProcess {
    pub(super) fn start(client: Client, namespace: &str, metrics: Metrics) -> Self {
        // Shown with the output of the test, if it fails.
        let _ = tracing_subscriber::fmt().with_test_writer().try_init();
        let (stop, stopped) = oneshot::channel::<()>();
        let settings = Settings {
            scope: Scope::Namespace(namespace.to_owned()),
            concurrency: 4,
            defaults: Defaults {
                redis_image: "localhost/cachedservice-redis:7.0".to_owned(),
                sidecar_image: concat!("localhost/cachedservice-sidecar:", env!("CARGO_PKG_VERSION"))
                    .to_owned(),
                ..Defaults::default()
            },
            identity: "in-process".to_owned(),
        };
        let shutdown = async {
            let _ = stopped.await;
        };
        let task = tokio::spawn(run(client, settings, metrics.clone(), Health::new(), shutdown));
        Self { task, stop, metrics }
    }

    /// Ends it between two instructions, as SIGKILL would.
    pub async fn die(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// Ends it in good order.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.expect("the control loop ends in good order");
    }
}
