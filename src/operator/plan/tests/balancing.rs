//! What the sidecars are told of the other replicas.

use super::*;
use crate::settings::{
    Settings,
    balancing::{Balancing, BreakerLimits, HealthCheck, Mode, RetryBudget},
};

fn settings(spec: Value) -> Result<Settings, Invalid> {
    let sidecar = planned(spec, &nothing())?.sidecar.unwrap();
    Ok(Settings::parse(&sidecar.settings).unwrap())
}

fn told(balancing: Value) -> Result<Balancing, Invalid> {
    settings(json!({ "balancing": balancing })).map(|settings| settings.balancing.unwrap())
}

/// The path that replicas are asked for with these probes and this probe in the template.
fn path(probes: Value, in_template: Value) -> Option<String> {
    let template = json!({ "spec": { "containers": [{ "name": "app", "readinessProbe": in_template }] } });
    let spec = json!({ "balancing": {}, "probes": probes, "template": template });
    settings(spec).unwrap().balancing.unwrap().health.map(|health| health.path)
}

#[test]
fn there_is_a_sidecar_without_a_cache_and_it_caches_nothing() {
    let plan = planned(json!({ "balancing": {} }), &nothing()).unwrap();
    let sidecar = plan.sidecar.unwrap();
    assert!(sidecar.redis_url.is_none());
    let told = Settings::parse(&sidecar.settings).unwrap();
    assert_eq!((told.http, told.redis, told.purges_file, told.purges_copy), (None, None, None, None));
    assert!(told.balancing.is_some() && told.token_file.is_some());
    assert_eq!(json!(sidecar.resources)["limits"], json!({ "memory": "64Mi" }));
    assert!(planned(json!({ "balancing": { "enabled": false } }), &nothing()).unwrap().sidecar.is_none());
}

#[test]
fn with_a_cache_switched_off_balancing_goes() {
    let both =
        |balancing: Value| settings(json!({ "cache": { "http": {} }, "balancing": balancing })).unwrap();
    assert!(both(json!({})).balancing.is_some() && both(json!({})).redis.is_some());
    assert!(both(json!({ "enabled": false })).balancing.is_none());
}

#[test]
fn the_defaults_are_those_of_the_sidecar() {
    let expected = Balancing {
        mode: Mode::RoundRobin,
        peers_host: "shop-peers.prod.svc".to_owned(),
        health: Some(HealthCheck::of("/healthz")),
        breaker: BreakerLimits::default(),
        retries: RetryBudget::default(),
        max_concurrent: u32::MAX,
    };
    assert_eq!(told(json!({})), Ok(expected));
}

#[test]
fn each_field_is_told() {
    let written = json!({
        "mode": "OwnFirst", "maxConcurrent": 7,
        "healthCheck": {
            "path": "/well", "interval": "1500ms", "timeout": "20ms", "failureThreshold": 4, "successThreshold": 2,
        },
        "breaker": {
            "consecutiveFailures": 8, "failurePercent": 9, "minRequests": 10, "openTime": "11s", "maxOpenTime": "12m",
        },
        "retryBudget": { "percent": 0, "minPerSecond": 13 },
    });
    let expected = Balancing {
        mode: Mode::OwnFirst,
        peers_host: "shop-peers.prod.svc".to_owned(),
        health: Some(HealthCheck {
            path: "/well".to_owned(),
            interval_ms: 1500,
            timeout_ms: 20,
            unhealthy_after: 4,
            healthy_after: 2,
        }),
        breaker: BreakerLimits {
            consecutive_failures: 8,
            failure_percent: 9,
            least_requests: 10,
            open_ms: 11_000,
            longest_open_ms: 720_000,
        },
        retries: RetryBudget { percent: 0, least_per_second: 13 },
        max_concurrent: 7,
    };
    assert_eq!(told(written), Ok(expected));
    assert_eq!(told(json!({ "healthCheck": { "enabled": false, "path": "/well" } })).unwrap().health, None);
}

#[test]
fn the_path_is_that_of_the_readiness_probe() {
    let some = |path: &str| Some(path.to_owned());
    let custom = |probe: Value| path(json!({ "readiness": { "custom": probe } }), Value::Null);
    assert_eq!(path(json!({ "path": "/up" }), Value::Null), some("/up"));
    for port in [json!(8080), json!("http"), json!("app")] {
        assert_eq!(
            custom(json!({ "httpGet": { "path": "/ready", "port": port } })),
            some("/ready"),
            "{port}"
        );
    }
    assert_eq!(custom(json!({ "httpGet": { "path": "ready", "port": 8080 } })), some("/ready"));
    assert_eq!(custom(json!({ "httpGet": { "port": 8080 } })), some("/"));
    let in_template = |probe: Value| path(json!({ "path": "/up" }), probe);
    assert_eq!(in_template(json!({ "periodSeconds": 7 })), some("/up"));
    assert_eq!(in_template(json!({ "httpGet": { "port": "http" } })), some("/up"));
    assert_eq!(in_template(json!({ "httpGet": { "path": "/t", "port": "http" } })), some("/t"));
}

#[test]
fn where_the_readiness_probe_asks_something_else_no_replica_is_asked() {
    let custom = |probe: Value| path(json!({ "readiness": { "custom": probe } }), Value::Null);
    assert_eq!(path(json!({ "readiness": { "enabled": false } }), Value::Null), None);
    for probe in [
        json!({ "tcpSocket": { "port": 8080 } }),
        json!({ "exec": { "command": ["true"] } }),
        json!({ "httpGet": { "path": "/", "port": 9090 } }),
        json!({ "httpGet": { "path": "/", "port": "admin" } }),
        json!({ "httpGet": { "path": "/", "port": 8080, "scheme": "HTTPS" } }),
        json!({ "httpGet": { "path": "/", "port": 8080, "host": "example.com" } }),
    ] {
        assert_eq!(custom(probe.clone()), None, "{probe}");
    }
    assert_eq!(path(json!({}), json!({ "tcpSocket": { "port": 8080 } })), None);
}

#[test]
fn what_cannot_be_told_is_refused_under_its_path() {
    let field = |balancing: Value| told(balancing).unwrap_err().field;
    assert_eq!(
        field(json!({ "healthCheck": { "interval": "soon" } })),
        "spec.balancing.healthCheck.interval"
    );
    assert_eq!(field(json!({ "healthCheck": { "timeout": "0s" } })), "spec.balancing");
    assert_eq!(field(json!({ "breaker": { "openTime": "-1s" } })), "spec.balancing.breaker.openTime");
    assert_eq!(field(json!({ "retryBudget": { "percent": -1 } })), "spec.balancing.retryBudget.percent");
    let spec = json!({ "balancing": {}, "probes": { "path": "/a b" } });
    assert_eq!(settings(spec).unwrap_err().field, "spec.balancing.healthCheck.path");
}

#[test]
fn a_leaving_pod_drains_for_as_long_as_others_may_ask_it_unless_it_is_written() {
    let shutdown = |spec: Value| {
        let ShutdownPlan { drain_seconds, grace_seconds } = planned(spec, &nothing()).unwrap().shutdown;
        (drain_seconds, grace_seconds)
    };
    assert_eq!(shutdown(json!({})), (5, 35));
    assert_eq!(shutdown(json!({ "balancing": {} })), (12, 42));
    assert_eq!(shutdown(json!({ "balancing": { "enabled": false } })), (5, 35));
    assert_eq!(shutdown(json!({ "balancing": {}, "shutdown": { "drain": "20s" } })), (20, 50));
    assert_eq!(settings(json!({ "balancing": {} })).unwrap().drain_seconds, 12);
}
