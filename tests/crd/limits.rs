//! Every length that the schema limits: full is accepted, one more is refused.

use serde_json::{Value, json};

use crate::{Writer, sandbox, spec, walk};

/// A limit of the schema.
struct Limit {
    path: String,
    keyword: &'static str,
    length: usize,
}

fn limits() -> Vec<Limit> {
    let mut limits = Vec::new();
    walk(&mut |path, schema| {
        for keyword in ["maxLength", "minLength", "maxItems", "minItems", "maxProperties"] {
            if let Some(length) = schema[keyword].as_u64() {
                let length = usize::try_from(length).unwrap();
                limits.push(Limit { path: path.to_owned(), keyword, length });
            }
        }
    });
    limits.retain(|limit| limit.path.starts_with("spec"));
    limits
}

/// Changes to the least spec that give the field at `path` this length.
fn filled(path: &str, length: usize) -> Value {
    let text = |unit: &str| json!(format!("{}{unit}", "0".repeat(length.saturating_sub(unit.len()))));
    let list = |item: fn(usize) -> Value| Value::Array((0..length).map(item).collect());
    let map = |value: &str| -> Value {
        Value::Object((0..length).map(|at| (format!("example.com/a{at}"), json!(value))).collect())
    };
    let resources = |which: &str| match which {
        "requests{}" | "limits{}" => json!({ which.trim_end_matches("{}"): { "cpu": text("1") } }),
        _ => json!({ which: map("1") }),
    };
    let name = || json!("a".repeat(length));
    let external = |reference: Value| json!({ "redis": { "mode": "External", "external": { "urlSecretRef": reference } } });
    let path_of_length = format!("/{}", "a".repeat(length.saturating_sub(1)));
    let hosts = list(|at| json!(format!("a{at}.example.com")));
    let route = |fields: Value| {
        let mut route = json!({ "parentRefs": [{ "name": "a" }] });
        route.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({ "httpRoute": route })
    };
    match path {
        "spec.image" => json!({ "image": name() }),
        "spec.command" => json!({ "command": list(|_| json!("a")) }),
        "spec.command[]" => json!({ "command": [name()] }),
        "spec.args" => json!({ "args": list(|_| json!("a")) }),
        "spec.args[]" => json!({ "args": [name()] }),
        "spec.env" => json!({ "env": list(|at| json!({ "name": format!("A{at}") })) }),
        "spec.envFrom" => json!({ "envFrom": list(|_| json!({ "configMapRef": { "name": "a" } })) }),
        "spec.imagePullSecrets" => {
            json!({ "imagePullSecrets": list(|at| json!({ "name": format!("a{at}") })) })
        }
        "spec.labels" => json!({ "labels": map("a") }),
        "spec.labels{}" => json!({ "labels": { "a": name() } }),
        "spec.annotations" => json!({ "annotations": map("a") }),
        "spec.podLabels" => json!({ "podLabels": map("a") }),
        "spec.podLabels{}" => json!({ "podLabels": { "a": name() } }),
        "spec.serviceAccount.name" => json!({ "serviceAccount": { "name": name() } }),
        "spec.serviceAccount.annotations" => {
            json!({ "serviceAccount": { "create": true, "annotations": map("a") } })
        }
        "spec.podAnnotations" => json!({ "podAnnotations": map("a") }),
        "spec.tolerations" => json!({ "tolerations": list(|_| json!({ "operator": "Exists" })) }),
        "spec.topologySpreadConstraints" => {
            json!({ "topologySpreadConstraints": list(|at| json!({ "topologyKey": format!("a{at}") })) })
        }
        "spec.nodeSelector" => json!({ "nodeSelector": map("a") }),
        "spec.priorityClassName" => json!({ "priorityClassName": name() }),
        "spec.probes.path" => json!({ "probes": { "path": format!("/{}", "a".repeat(length - 1)) } }),
        "spec.progressDeadline" => json!({ "progressDeadline": "1h".repeat(length).get(..length) }),
        "spec.shutdown.drain" => json!({ "shutdown": { "drain": "1h".repeat(length).get(..length) } }),
        "spec.shutdown.timeout" => json!({ "shutdown": { "timeout": "1h".repeat(length).get(..length) } }),
        "spec.autoscaling.metrics" => {
            json!({ "autoscaling": { "metrics": list(|_| json!({ "type": "Pods" })) } })
        }
        "spec.service.annotations" => json!({ "service": { "annotations": map("a") } }),
        "spec.service.clusterIP" => json!({ "service": { "clusterIP": name() } }),
        "spec.ingress.className" => json!({ "ingress": { "className": name() } }),
        "spec.ingress.hosts" => json!({ "ingress": { "hosts": hosts } }),
        "spec.ingress.hosts[]" => json!({ "ingress": { "hosts": [name()] } }),
        "spec.ingress.path" => json!({ "ingress": { "path": path_of_length } }),
        "spec.ingress.tlsSecretName" => json!({ "ingress": { "tlsSecretName": name() } }),
        "spec.ingress.annotations" => json!({ "ingress": { "annotations": map("a") } }),
        "spec.httpRoute.parentRefs" => {
            json!({ "httpRoute": { "parentRefs": list(|_| json!({ "name": "a" })) } })
        }
        "spec.httpRoute.parentRefs[].name" => route(json!({ "parentRefs": [{ "name": name() }] })),
        "spec.httpRoute.parentRefs[].namespace" => {
            route(json!({ "parentRefs": [{ "name": "a", "namespace": name() }] }))
        }
        "spec.httpRoute.parentRefs[].sectionName" => {
            route(json!({ "parentRefs": [{ "name": "a", "sectionName": name() }] }))
        }
        "spec.httpRoute.hostnames" => route(json!({ "hostnames": hosts })),
        "spec.httpRoute.hostnames[]" => route(json!({ "hostnames": [name()] })),
        "spec.httpRoute.path" => route(json!({ "path": path_of_length })),
        "spec.httpRoute.annotations" => route(json!({ "annotations": map("a") })),
        "spec.networkPolicy.redis.from" => {
            json!({ "networkPolicy": { "redis": { "from": list(|_| json!({})) } } })
        }
        "spec.networkPolicy.app.from" => {
            json!({ "networkPolicy": { "app": { "from": list(|_| json!({})) } } })
        }
        "spec.monitoring.portName" => json!({ "monitoring": { "portName": name() } }),
        "spec.monitoring.path" => json!({ "monitoring": { "path": name() } }),
        "spec.monitoring.interval" => {
            json!({ "monitoring": { "interval": "1h".repeat(length).get(..length) } })
        }
        "spec.monitoring.labels" => json!({ "monitoring": { "labels": map("a") } }),
        "spec.cache.http.memory" => json!({ "cache": { "http": { "memory": text("1Gi") } } }),
        "spec.cache.http.maxObjectSize" => json!({ "cache": { "http": { "maxObjectSize": text("1Mi") } } }),
        "spec.cache.http.rules" => {
            json!({ "cache": { "http": { "rules": list(|_| json!({ "bypass": true })) } } })
        }
        "spec.cache.application.memory" => json!({ "cache": { "application": { "memory": text("1Gi") } } }),
        "spec.cache.application.maxValueSize" => {
            json!({ "cache": { "application": { "maxValueSize": text("1Mi") } } })
        }
        "spec.cache.application.ttl" => {
            json!({ "cache": { "application": { "ttl": "1s".repeat(length).get(..length) } } })
        }
        "spec.cache.application.defaultTTL" => {
            json!({ "cache": { "application": { "defaultTTL": "1s".repeat(length).get(..length) } } })
        }
        "spec.cache.application.rules" => {
            let rules = list(|at| json!({ "prefix": format!("a{at}"), "ttl": "1s" }));
            json!({ "cache": { "application": { "rules": rules } } })
        }
        "spec.balancing.healthCheck.path" => {
            json!({ "balancing": { "healthCheck": { "path": path_of_length } } })
        }
        "spec.sidecar.image" => json!({ "sidecar": { "image": name() } }),
        "spec.redis.persistence.size" => json!({ "redis": { "persistence": { "size": text("1Gi") } } }),
        "spec.redis.persistence.storageClassName" => {
            json!({ "redis": { "persistence": { "storageClassName": name() } } })
        }
        "spec.redis.exporter.image" => json!({ "redis": { "exporter": { "image": name() } } }),
        "spec.redis.memory" => json!({ "redis": { "memory": text("1Gi") } }),
        "spec.redis.image" => json!({ "redis": { "image": name() } }),
        "spec.redis.tolerations" => {
            json!({ "redis": { "tolerations": list(|_| json!({ "operator": "Exists" })) } })
        }
        "spec.redis.nodeSelector" => json!({ "redis": { "nodeSelector": map("a") } }),
        "spec.redis.priorityClassName" => json!({ "redis": { "priorityClassName": name() } }),
        "spec.redis.external.urlSecretRef.name" => external(json!({ "name": name() })),
        "spec.redis.external.urlSecretRef.key" => external(json!({ "name": "a", "key": name() })),
        _ => filled_below(path, length, &resources),
    }
}

/// The same of a field of what stands in several places, or of one of a rule.
fn filled_below(path: &str, length: usize, resources: &dyn Fn(&str) -> Value) -> Value {
    if let Some(field) = path.strip_prefix("spec.cache.http.rules[].") {
        return json!({ "cache": { "http": { "rules": [rule(field, length)] } } });
    }
    if let Some(field) = path.strip_prefix("spec.cache.application.pool.") {
        let duration = "1s".repeat(length).get(..length).map(str::to_owned);
        return json!({ "cache": { "application": { "pool": { field: duration } } } });
    }
    if let Some(field) = path.strip_prefix("spec.cache.application.rules[].") {
        return json!({ "cache": { "application": { "rules": [near_cache_rule(field, length)] } } });
    }
    if let Some((owner, field)) = path.strip_prefix("spec.balancing.").and_then(|path| path.split_once('.')) {
        // Of seconds, as the bounds of these are minutes.
        let duration = "1s".repeat(length).get(..length).map(str::to_owned);
        return json!({ "balancing": { owner: { field: duration } } });
    }
    let (owner, which) = path.split_once("resources.").unwrap_or_else(|| panic!("how is {path} filled?"));
    let resources = resources(which);
    match owner {
        "spec." => json!({ "resources": resources }),
        "spec.sidecar." => json!({ "sidecar": { "resources": resources } }),
        "spec.redis." => json!({ "redis": { "resources": resources } }),
        "spec.redis.exporter." => json!({ "redis": { "exporter": { "resources": resources } } }),
        _ => panic!("how is {path} filled?"),
    }
}

fn rule(field: &str, length: usize) -> Value {
    let name = || "a".repeat(length);
    let names = || Value::Array((0..length).map(|at| json!(format!("a{at}"))).collect());
    let paths = || Value::Array((0..length).map(|at| json!(format!("/a{at}"))).collect());
    let duration = || "1h".repeat(length).get(..length).map(str::to_owned);
    match field {
        "paths" => json!({ "paths": paths() }),
        "paths[]" => json!({ "paths": [format!("/{}", "a".repeat(length - 1))] }),
        // There are two.
        "methods" => json!({ "methods": (0..length).map(|at| ["GET", "HEAD"][at % 2]).collect::<Vec<_>>() }),
        "headers" => {
            json!({ "headers": (0..length).map(|at| json!({ "name": format!("a{at}") })).collect::<Vec<_>>() })
        }
        "headers[].name" => json!({ "headers": [{ "name": name() }] }),
        "headers[].value" => json!({ "headers": [{ "name": "a", "value": name() }] }),
        "ttl" | "staleWhileRevalidate" | "staleIfError" => json!({ field: duration() }),
        "ignoredQueryParameters" | "cookies" | "tags" => json!({ field: names() }),
        "ignoredQueryParameters[]" | "cookies[]" | "tags[]" => {
            json!({ field.trim_end_matches("[]"): [name()] })
        }
        _ => panic!("how is {field} of a rule filled?"),
    }
}

fn near_cache_rule(field: &str, length: usize) -> Value {
    let digits = |unit: &str| format!("{}{unit}", "0".repeat(length.saturating_sub(unit.len())));
    match field {
        "prefix" => json!({ "prefix": "a".repeat(length), "ttl": "1s" }),
        "ttl" => json!({ "prefix": "a", "ttl": "1s".repeat(length).get(..length) }),
        "maxValueSize" => json!({ "prefix": "a", "maxValueSize": digits("1Mi") }),
        "defaultTTL" => {
            json!({ "prefix": "a", "addTTL": true, "defaultTTL": "1s".repeat(length).get(..length) })
        }
        "singleFlight.wait" => {
            json!({ "prefix": "a", "singleFlight": { "wait": "1s".repeat(length).get(..length) } })
        }
        "singleFlight.lease" => json!({ "prefix": "a", "singleFlight": {
            "lease": format!("{}1s", "0s".repeat(length).get(..length.saturating_sub(2)).unwrap()),
        } }),
        _ => panic!("how is {field} of a rule of the near-cache filled?"),
    }
}

#[tokio::test]
async fn a_full_field_is_accepted_and_one_more_is_refused() {
    let sandbox = sandbox().await;
    let writer = Writer::new(&sandbox);
    let limits = limits();
    assert!(limits.len() > 30, "{}", limits.len());
    for Limit { path, keyword, length } in limits {
        // Of few forms; their length is for the cost of their rules.
        let forms = ["imagePullPolicy", "maxSurge", "maxUnavailable", "minAvailable"];
        if forms.iter().any(|field| path.ends_with(field)) {
            continue;
        }
        let full = writer.ask("shop", &spec(&filled(&path, length))).await;
        full.unwrap_or_else(|refusal| panic!("{path} of {keyword} {length}: {refusal}"));
        let beyond = if keyword.starts_with("min") { length - 1 } else { length + 1 };
        let Err(refusal) = writer.ask("shop", &spec(&filled(&path, beyond))).await else {
            panic!("{path} of {beyond} is accepted");
        };
        let field = path.trim_end_matches("[]").trim_end_matches("{}");
        assert!(refusal.contains(field), "{path} of {beyond}: {refusal}");
    }
}
