//! How the sidecars are told to spread requests over the replicas.

use k8s_openapi::{
    api::core::v1::{HTTPGetAction, PodTemplateSpec, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{Identity, Invalid};
use crate::{
    api::{
        BalancingHealthCheck, BalancingMode, Breaker, CachedServiceSpec, RetryBudget,
        names::{APP_CONTAINER, APP_OWN_PORT_NAME, APP_PORT_NAME},
        parse_duration,
    },
    settings::balancing::{Balancing, BreakerLimits, HealthCheck, Mode, RetryBudget as Repetitions},
};

/// What they are told, if the spec wants it.
pub(super) fn balancing(
    spec: &CachedServiceSpec,
    template: &PodTemplateSpec,
    identity: &Identity,
) -> Result<Option<Balancing>, Invalid> {
    let Some(wanted) = spec.balancing() else { return Ok(None) };
    let RetryBudget { percent, min_per_second } = wanted.retry_budget;
    let told = Balancing {
        mode: match wanted.mode {
            BalancingMode::RoundRobin => Mode::RoundRobin,
            BalancingMode::OwnFirst => Mode::OwnFirst,
        },
        peers_host: format!("{}.{}.svc", identity.peers_name(), identity.namespace),
        health: health(spec, template, &wanted.health_check)?,
        breaker: breaker(&wanted.breaker)?,
        retries: Repetitions {
            percent: number("retryBudget.percent", percent)?,
            least_per_second: number("retryBudget.minPerSecond", min_per_second)?,
        },
        max_concurrent: match wanted.max_concurrent {
            Some(most) => number("maxConcurrent", most)?,
            None => u32::MAX,
        },
    };
    Ok(Some(told))
}

fn health(
    spec: &CachedServiceSpec,
    template: &PodTemplateSpec,
    wanted: &BalancingHealthCheck,
) -> Result<Option<HealthCheck>, Invalid> {
    let path = wanted.path.clone().or_else(|| path_of_readiness(spec, template));
    let Some(mut path) = path.filter(|_| wanted.enabled) else { return Ok(None) };
    if !path.starts_with('/') {
        // As the kubelet asks for it.
        path.insert(0, '/');
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        let problem = format!(
            "{path:?}, the path of the readiness probe, cannot be asked for as it is; write another here"
        );
        return Err(Invalid::new("spec.balancing.healthCheck.path", problem));
    }
    Ok(Some(HealthCheck {
        path,
        interval_ms: milliseconds("healthCheck.interval", &wanted.interval)?,
        timeout_ms: milliseconds("healthCheck.timeout", &wanted.timeout)?,
        unhealthy_after: number("healthCheck.failureThreshold", wanted.failure_threshold)?,
        healthy_after: number("healthCheck.successThreshold", wanted.success_threshold)?,
    }))
}

/// The path of the readiness probe, if it asks the application itself, in plain HTTP.
fn path_of_readiness(spec: &CachedServiceSpec, template: &PodTemplateSpec) -> Option<String> {
    let switch = &spec.probes.readiness;
    if !switch.enabled {
        return None;
    }
    let containers = template.spec.iter().flat_map(|spec| &spec.containers);
    let in_template = containers
        .filter(|container| container.name == APP_CONTAINER)
        .find_map(|app| app.readiness_probe.as_ref());
    let Some(probe) = switch.custom.as_ref().or(in_template) else { return Some(spec.probes.path.clone()) };
    let is_other = probe.exec.is_some() || probe.grpc.is_some() || probe.tcp_socket.is_some();
    match &probe.http_get {
        Some(asked) => asks_application(asked, spec.port)
            .then(|| asked.path.clone().unwrap_or_else(|| without_a_path(spec, probe))),
        // It changes other fields of the operator's probe.
        None => (!is_other && switch.custom.is_none()).then(|| spec.probes.path.clone()),
    }
}

/// What is asked for where no path is written: by Kubernetes the root, and of a probe that was merged
/// with the operator's, the path of that.
fn without_a_path(spec: &CachedServiceSpec, probe: &Probe) -> String {
    let is_whole = spec.probes.readiness.custom.as_ref() == Some(probe);
    if is_whole { "/".to_owned() } else { spec.probes.path.clone() }
}

fn asks_application(asked: &HTTPGetAction, port: i32) -> bool {
    let is_plain = asked.scheme.as_deref().is_none_or(|scheme| scheme == "HTTP");
    let is_its_port = match &asked.port {
        IntOrString::Int(number) => *number == port,
        IntOrString::String(name) => [APP_PORT_NAME, APP_OWN_PORT_NAME].contains(&name.as_str()),
    };
    is_plain && is_its_port && asked.host.is_none()
}

fn breaker(wanted: &Breaker) -> Result<BreakerLimits, Invalid> {
    Ok(BreakerLimits {
        consecutive_failures: number("breaker.consecutiveFailures", wanted.consecutive_failures)?,
        failure_percent: number("breaker.failurePercent", wanted.failure_percent)?,
        least_requests: number("breaker.minRequests", wanted.min_requests)?,
        open_ms: milliseconds("breaker.openTime", &wanted.open_time)?,
        longest_open_ms: milliseconds("breaker.maxOpenTime", &wanted.max_open_time)?,
    })
}

fn milliseconds(field: &str, text: &str) -> Result<u64, Invalid> {
    let refuse = |problem: String| Invalid::new(format!("spec.balancing.{field}"), problem);
    let duration = parse_duration(text).map_err(|error| refuse(error.to_string()))?;
    u64::try_from(duration.as_millis()).map_err(|_| refuse(format!("{text} is too long; write at most 24h")))
}

fn number(field: &str, number: i32) -> Result<u32, Invalid> {
    let refuse = |_| Invalid::new(format!("spec.balancing.{field}"), "write a number that is not negative");
    u32::try_from(number).map_err(refuse)
}
