//! Every default stands in the schema, and is the same that the operator reads.

use cachedservice::api::CachedServiceSpec;
use serde_json::{Value, json};

use crate::{Writer, sandbox, schema, spec};

/// Specs that leave out as much as they can, each in another place.
fn sparse() -> Vec<Value> {
    vec![
        json!({}),
        json!({ "autoscaling": {}, "probes": {}, "service": {}, "redis": {}, "shutdown": {} }),
        json!({ "disruptionBudget": {}, "rollout": {}, "topologySpreadConstraints": [], "affinity": {} }),
        json!({ "serviceAccount": {} }),
        json!({ "disruptionBudget": { "minAvailable": "50%" }, "rollout": { "maxSurge": 1 } }),
        json!({ "probes": { "startup": {}, "readiness": {}, "liveness": {} }, "redis": { "auth": {} } }),
        json!({ "resources": {}, "redis": { "resources": {} } }),
        json!({ "resources": { "limits": { "cpu": 1 } }, "redis": { "resources": { "limits": { "cpu": "1" } } } }),
        json!({ "autoscaling": { "minReplicas": 3 }, "service": { "port": 81 }, "shutdown": { "drain": "1s" } }),
        json!({ "redis": { "mode": "External", "external": { "urlSecretRef": { "name": "cache" } } } }),
        json!({ "cache": {} }),
        json!({ "balancing": {} }),
        json!({ "balancing": { "healthCheck": {}, "breaker": {}, "retryBudget": {} } }),
        json!({ "balancing": { "healthCheck": { "path": "/" }, "breaker": { "openTime": "1s" }, "retryBudget": { "percent": 0 } } }),
        json!({ "cache": { "http": {} }, "sidecar": {} }),
        json!({ "cache": { "http": { "rules": [{ "paths": ["/"] }, { "cookies": [], "headers": [{ "name": "a" }] }] } } }),
        json!({ "cache": { "application": {} } }),
        json!({ "cache": { "application": { "pool": {}, "rules": [{ "prefix": "a", "ttl": "1s" }] } } }),
        json!({ "cache": { "application": { "pool": { "max": 30 } } } }),
        json!({ "probes": { "liveness": { "custom": { "httpGet": { "port": 80 } } } } }),
    ]
}

#[tokio::test]
async fn the_api_server_fills_in_what_the_operator_would_assume() {
    let sandbox = sandbox().await;
    let writer = Writer::new(&sandbox);
    for changes in sparse() {
        let written = spec(&changes);
        let assumed: CachedServiceSpec = serde_json::from_value(written.clone()).unwrap();
        let filled_in = writer.ask("shop", &written).await.unwrap();
        let read: CachedServiceSpec = serde_json::from_value(filled_in.clone()).unwrap();
        assert_eq!(read, assumed, "{changes}");
        // Nothing is left to be assumed that a reader of the object would not see.
        assert_eq!(without_nulls(serde_json::to_value(&assumed).unwrap()), integers_as_text(filled_in));
    }
}

#[tokio::test]
async fn the_defaults_are_seen_with_kubectl_get() {
    let sandbox = sandbox().await;
    Writer::new(&sandbox).write("shop", &spec(&json!({}))).await.unwrap();
    let yaml = sandbox.kubectl(&["get", "cachedservice", "shop", "--output", "yaml"]);
    for line in [
        "port: 8080",
        "minReplicas: 2",
        "maxReplicas: 10",
        "targetCPUUtilization: 70",
        "path: /healthz",
        "progressDeadline: 10m",
        "evictionPolicy: allkeys-lfu",
        "memory: 256Mi",
        "mode: Standalone",
        "runAsNonRoot: false",
        "maxSurge: 25%",
        "strategy: RollingUpdate",
        "timeout: 30s",
        "type: ClusterIP",
        "cpu: 50m",
        "cpu: 100m",
    ] {
        assert!(yaml.contains(line), "{line} is missing in\n{yaml}");
    }
}

#[test]
fn a_default_within_a_default_is_the_same() {
    fn check(path: &str, schema: &Value) {
        for (name, child) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if let (Some(outer), Some(inner)) = (schema["default"].get(name), child.get("default")) {
                assert_eq!(outer, inner, "{path}");
            }
            check(&path, child);
        }
    }
    check("", &schema());
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        other => other,
    }
}

/// Quantities may be written as numbers and are read as text.
fn integers_as_text(mut value: Value) -> Value {
    for pointer in ["/resources/limits/cpu", "/redis/resources/limits/cpu"] {
        if let Some(quantity) = value.pointer_mut(pointer).filter(|quantity| quantity.is_number()) {
            *quantity = json!(quantity.to_string());
        }
    }
    value
}
