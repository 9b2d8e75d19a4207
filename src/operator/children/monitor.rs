//! Where a Prometheus finds the metrics.

use super::redis_exporter::METRICS_PORT_NAME;
use crate::{
    api::names::{APP, APP_OWN_PORT_NAME, APP_PORT_NAME, NAME_LABEL, REDIS, SIDECAR_ADMIN_PORT_NAME},
    operator::{
        custom_kinds::{PodMetricsEndpoint, PodMonitor, PodMonitorSpec},
        plan::{Plan, StandaloneRedis},
    },
};

pub(super) fn of_application(plan: &Plan) -> Option<PodMonitor> {
    let monitoring = &plan.spec.monitoring;
    // Beside a sidecar, the port `http` is the sidecar's: the metrics are the application's own.
    let port = match monitoring.port_name.as_str() {
        APP_PORT_NAME if plan.sidecar.is_some() => APP_OWN_PORT_NAME,
        port => port,
    };
    let of_sidecar = plan.sidecar.is_some().then_some((SIDECAR_ADMIN_PORT_NAME, "/metrics"));
    let endpoints = [(port, monitoring.path.as_str())].into_iter().chain(of_sidecar);
    monitoring.enabled.then(|| monitor(plan, &plan.identity.name, APP, endpoints))
}

pub(super) fn of_redis(plan: &Plan, redis: &StandaloneRedis) -> Option<PodMonitor> {
    (plan.spec.monitoring.enabled && redis.exporter.is_some())
        .then(|| monitor(plan, &plan.identity.redis_name(), REDIS, [(METRICS_PORT_NAME, "/metrics")]))
}

/// Of the pods of a component, at these ports and paths.
fn monitor<'a>(
    plan: &Plan,
    name: &str,
    component: &str,
    endpoints: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> PodMonitor {
    let identity = &plan.identity;
    let monitoring = &plan.spec.monitoring;
    let mut metadata = identity.child(name, component);
    // The operator's own labels win: its watch selects by one of them.
    let ours = metadata.labels.take().unwrap_or_default();
    metadata.labels = Some(monitoring.labels.clone().into_iter().chain(ours).collect());
    PodMonitor {
        metadata,
        spec: PodMonitorSpec {
            selector: identity.selector(component),
            pod_target_labels: vec![NAME_LABEL.to_owned()],
            pod_metrics_endpoints: endpoints
                .into_iter()
                .map(|(port, path)| PodMetricsEndpoint {
                    port: port.to_owned(),
                    path: path.to_owned(),
                    interval: monitoring.interval.clone(),
                })
                .collect(),
        },
    }
}
