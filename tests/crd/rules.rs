//! Every CEL rule refuses with its message, and lets its neighbour through.

use std::collections::BTreeSet;

use cachedservice::{
    api::CachedService,
    operator::plan::{RedisPlan, plan},
};
use serde_json::{Value, json};

use crate::{Writer, pure, sandbox, schema, spec};

/// Changes to the least spec that are refused, with what the refusal says.
fn refused() -> Vec<(Value, &'static str)> {
    let fixed = |replicas: i32| json!({ "autoscaling": { "enabled": false }, "replicas": replicas });
    let external = json!({ "urlSecretRef": { "name": "cache" } });
    let probe_off = json!({ "enabled": false, "custom": { "tcpSocket": { "port": 80 } } });
    let switched_off = "probes: a probe that is switched off cannot have a custom probe; remove custom or set enabled to true";
    let duration = |field: &str| match field {
        "drain" => "spec.shutdown.drain: write a duration such as 500ms, 30s, 10m or 1h30m, at most 24h",
        "timeout" => "spec.shutdown.timeout: write a duration such as 500ms, 30s, 10m or 1h30m, at most 24h",
        _ => "spec.progressDeadline: write a duration such as 500ms, 30s, 10m or 1h30m, at most 24h",
    };
    let one_handler = "probes: a custom probe needs exactly one of httpGet, tcpSocket, exec and grpc";
    let probe_port = "probes: write a port from 1 to 65535, or the name of a port, such as http";
    let no_quantity = "resources: write quantities such as 250m or 1 for cpu and 256Mi or 1Gi for memory";
    let port = "spec.port: write a port from 1 to 65535";
    let service_port = "spec.service.port: write a port from 1 to 65535";
    let cpu = "spec.autoscaling.targetCPUUtilization: write a percentage of the CPU request from 1 to 100, such as 70";
    let memory_target =
        "spec.autoscaling.targetMemoryUtilization: write a percentage of the memory request from 1 to 100";
    let minimum = "spec.autoscaling.minReplicas: write a number from 1 to 10000; to stop the service, set autoscaling.enabled to false and replicas to 0";
    let maximum = "spec.autoscaling.maxReplicas: write a number from 1 to 10000";
    let range =
        "spec.autoscaling: minReplicas must not be above maxReplicas; raise maxReplicas or lower minReplicas";
    let replicas = "spec.replicas: write a number from 0 to 10000";
    let both = "spec.replicas: the autoscaler sets the number of pods; remove replicas, or set autoscaling.enabled to false";
    let memory = "spec.redis.memory: write a quantity of at least 32Mi, such as 256Mi or 2Gi";
    let memory_twice = "spec.redis.resources: leave memory out; spec.redis.memory sets its request, its limit and maxmemory together";
    let pull = "spec.imagePullPolicy: write Always, IfNotPresent or Never";
    let path = "spec.probes.path: write a path that begins with '/', such as /healthz";
    vec![
        (json!({ "port": 0 }), port),
        (json!({ "port": -1 }), port),
        (json!({ "port": 65536 }), port),
        (json!({ "service": { "port": 0 } }), service_port),
        (json!({ "service": { "port": 65536 } }), service_port),
        (json!({ "autoscaling": { "minReplicas": 0 } }), minimum),
        (json!({ "autoscaling": { "minReplicas": 10001, "maxReplicas": 10001 } }), minimum),
        (json!({ "autoscaling": { "maxReplicas": 0 } }), maximum),
        (json!({ "autoscaling": { "maxReplicas": 10001 } }), maximum),
        (json!({ "autoscaling": { "minReplicas": 4, "maxReplicas": 3 } }), range),
        // Against the default of the other.
        (json!({ "autoscaling": { "minReplicas": 11 } }), range),
        (json!({ "autoscaling": { "maxReplicas": 1 } }), range),
        (json!({ "autoscaling": { "targetCPUUtilization": 0 } }), cpu),
        (json!({ "autoscaling": { "targetCPUUtilization": 101 } }), cpu),
        (json!({ "autoscaling": { "targetMemoryUtilization": 0 } }), memory_target),
        (json!({ "autoscaling": { "targetMemoryUtilization": 101 } }), memory_target),
        (json!({ "replicas": 3 }), both),
        (json!({ "replicas": 3, "autoscaling": { "enabled": true } }), both),
        (fixed(-1), replicas),
        (fixed(10001), replicas),
        (
            json!({ "redis": { "mode": "External" } }),
            "spec.redis: mode External needs the Secret with the URL; write external: {urlSecretRef: {name: my-redis, key: url}}",
        ),
        (
            json!({ "redis": { "external": external } }),
            "spec.redis.external only goes with mode External; set mode to External or remove external",
        ),
        (
            json!({ "redis": { "mode": "External", "external": {} } }),
            "spec.redis.external.urlSecretRef: Required",
        ),
        (
            json!({ "redis": { "mode": "External", "external": { "urlSecretRef": {} } } }),
            "spec.redis.external.urlSecretRef.name: Required",
        ),
        (json!({ "redis": { "memory": "lots" } }), memory),
        (json!({ "redis": { "memory": "256 Mi" } }), memory),
        (json!({ "redis": { "memory": "" } }), memory),
        (json!({ "redis": { "memory": "31Mi" } }), memory),
        (json!({ "redis": { "memory": "-1Gi" } }), memory),
        (json!({ "redis": { "resources": { "requests": { "memory": "1Gi" } } } }), memory_twice),
        (json!({ "redis": { "resources": { "limits": { "memory": "1Gi" } } } }), memory_twice),
        (json!({ "redis": { "resources": { "limits": { "cpu": "much" } } } }), no_quantity),
        (json!({ "redis": { "resources": { "requests": { "cpu": "much" } } } }), no_quantity),
        (json!({ "resources": { "requests": { "cpu": "much" } } }), no_quantity),
        (json!({ "resources": { "limits": { "memory": "1 Gi" } } }), no_quantity),
        (json!({ "imagePullPolicy": "Sometimes" }), pull),
        (json!({ "imagePullPolicy": "always" }), pull),
        (json!({ "probes": { "path": "healthz" } }), path),
        (json!({ "probes": { "path": "" } }), path),
        (json!({ "probes": { "startup": probe_off } }), switched_off),
        (json!({ "probes": { "readiness": probe_off } }), switched_off),
        (json!({ "probes": { "liveness": probe_off } }), switched_off),
        (json!({ "shutdown": { "drain": "5" } }), duration("drain")),
        (json!({ "shutdown": { "drain": "-5s" } }), duration("drain")),
        (json!({ "shutdown": { "timeout": "1.5s" } }), duration("timeout")),
        (json!({ "shutdown": { "timeout": "" } }), duration("timeout")),
        (json!({ "progressDeadline": "soon" }), duration("progressDeadline")),
        (json!({ "progressDeadline": "1d" }), duration("progressDeadline")),
        (json!({ "progressDeadline": "10M" }), duration("progressDeadline")),
        (json!({ "progressDeadline": "24h1ms" }), duration("progressDeadline")),
        (json!({ "shutdown": { "drain": "99999999999999999999999999999h" } }), duration("drain")),
        (json!({ "shutdown": { "timeout": "999999h999999h999999h999999h" } }), duration("timeout")),
        (json!({ "probes": { "liveness": { "custom": {} } } }), one_handler),
        (
            json!({ "probes": { "startup": { "custom": { "exec": {}, "tcpSocket": { "port": 80 } } } } }),
            one_handler,
        ),
        (json!({ "probes": { "readiness": { "custom": { "httpGet": { "port": 0 } } } } }), probe_port),
        (json!({ "probes": { "readiness": { "custom": { "httpGet": { "port": 65536 } } } } }), probe_port),
        (json!({ "probes": { "readiness": { "custom": { "httpGet": { "port": "" } } } } }), probe_port),
        // More than the operator could read.
        (
            json!({ "probes": { "liveness": { "custom": { "tcpSocket": { "port": 4_294_967_296_u64 } } } } }),
            probe_port,
        ),
        // What the schema refuses by itself is to name what it takes.
        (
            json!({ "redis": { "evictionPolicy": "lru" } }),
            r#"Unsupported value: "lru": supported values: "noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl""#,
        ),
        (
            json!({ "redis": { "mode": "Cluster" } }),
            r#"Unsupported value: "Cluster": supported values: "Standalone", "External""#,
        ),
        (
            json!({ "service": { "type": "ExternalName" } }),
            r#"Unsupported value: "ExternalName": supported values: "ClusterIP", "NodePort", "LoadBalancer""#,
        ),
        (json!({ "image": null }), "spec.image: Required value"),
        (json!({ "port": "8080" }), "spec.port in body must be of type integer"),
        (json!({ "autoscaling": { "enabled": "yes" } }), "must be of type boolean"),
        (json!({ "template": "yaml" }), "must be of type object"),
        (json!({ "env": [{ "value": "x" }] }), "spec.env[0].name: Required value"),
        (json!({ "env": [{ "name": "A" }, { "name": "A" }] }), "spec.env[1]: Duplicate value"),
        (
            json!({ "imagePullSecrets": [{ "name": "a" }, { "name": "a" }] }),
            "spec.imagePullSecrets[1]: Duplicate value",
        ),
        (json!({ "replica": 3 }), r#"unknown field "spec.replica""#),
        (json!({ "redis": { "memmory": "1Gi" } }), r#"unknown field "spec.redis.memmory""#),
    ]
}

/// Changes that are accepted: the neighbours of what is refused.
fn accepted() -> Vec<Value> {
    let fixed = |replicas: i32| json!({ "autoscaling": { "enabled": false }, "replicas": replicas });
    let external = json!({ "urlSecretRef": { "name": "cache" } });
    let custom = json!({ "custom": { "tcpSocket": { "port": 80 } } });
    vec![
        json!({}),
        json!({ "port": 1 }),
        json!({ "port": 65535 }),
        json!({ "service": { "port": 1 } }),
        json!({ "service": { "port": 65535 } }),
        json!({ "autoscaling": { "minReplicas": 1, "maxReplicas": 1 } }),
        json!({ "autoscaling": { "minReplicas": 10000, "maxReplicas": 10000 } }),
        json!({ "autoscaling": { "minReplicas": 10 } }),
        json!({ "autoscaling": { "maxReplicas": 2 } }),
        json!({ "autoscaling": { "targetCPUUtilization": 1, "targetMemoryUtilization": 1 } }),
        json!({ "autoscaling": { "targetCPUUtilization": 100, "targetMemoryUtilization": 100 } }),
        fixed(0),
        fixed(10000),
        json!({ "autoscaling": { "enabled": false } }),
        json!({ "redis": { "mode": "External", "external": external } }),
        json!({ "redis": { "memory": "32Mi" } }),
        json!({ "redis": { "memory": "0.5Gi" } }),
        json!({ "redis": { "memory": "33554432" } }),
        json!({ "redis": { "memory": "4e9" } }),
        json!({ "redis": { "resources": { "requests": { "cpu": 1 }, "limits": { "cpu": "1500m" } } } }),
        json!({ "redis": { "resources": {} } }),
        json!({ "resources": { "requests": { "cpu": 1, "memory": 1_073_741_824 }, "limits": { "cpu": "2" } } }),
        json!({ "imagePullPolicy": "Always" }),
        json!({ "imagePullPolicy": "IfNotPresent" }),
        json!({ "imagePullPolicy": "Never" }),
        json!({ "probes": { "path": "/" } }),
        json!({ "probes": { "startup": custom, "readiness": custom, "liveness": custom } }),
        json!({ "probes": { "startup": { "enabled": false }, "readiness": { "enabled": false } } }),
        json!({ "shutdown": { "drain": "0s", "timeout": "1h30m10s500ms" } }),
        json!({ "progressDeadline": "1500ms" }),
        json!({ "progressDeadline": "24h", "shutdown": { "drain": "23h59m60s", "timeout": "86400000ms" } }),
        json!({ "probes": { "liveness": { "custom": { "grpc": { "port": 1 } } } } }),
        json!({ "probes": { "liveness": { "custom": { "exec": { "command": ["true"] } } } } }),
        json!({ "probes": { "liveness": { "custom": { "httpGet": { "port": "http" } } } } }),
        json!({ "probes": { "liveness": { "custom": { "tcpSocket": { "port": 65535 } } } } }),
        json!({ "redis": { "evictionPolicy": "volatile-ttl", "mode": "Standalone" } }),
        json!({ "service": { "type": "NodePort" } }),
        json!({ "service": { "clusterIP": "None" } }),
        json!({ "env": [{ "name": "A" }, { "name": "B", "value": "" }] }),
        json!({ "template": { "whatever": ["the", "plan", "reads", "this"] } }),
    ]
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_in_words_that_help() {
    let sandbox = sandbox().await;
    let writer = Writer::new(&sandbox);
    for (changes, message) in refused() {
        match writer.ask("shop", &spec(&changes)).await {
            Ok(_) => panic!("accepted: {changes}"),
            Err(refusal) => assert!(refusal.contains(message), "{changes}\n{refusal}"),
        }
    }
}

#[tokio::test]
async fn what_keeps_the_rules_is_accepted_and_readable() {
    let sandbox = sandbox().await;
    let writer = Writer::new(&sandbox);
    for changes in accepted() {
        let accepted = writer.ask("shop", &spec(&changes)).await;
        let accepted = accepted.unwrap_or_else(|refusal| panic!("{changes}\n{refusal}"));
        let read = serde_json::from_value::<cachedservice::api::CachedServiceSpec>(accepted);
        read.unwrap_or_else(|error| panic!("the operator cannot read {changes}: {error}"));
    }
}

#[tokio::test]
async fn memory_reads_the_same_to_the_api_server_and_to_the_operator() {
    let sandbox = sandbox().await;
    let writer = Writer::new(&sandbox);
    let forms = [
        "33554432",
        "32Mi",
        "+32Mi",
        "0.5Gi",
        ".5Gi",
        "1.Gi",
        "0.03125Gi",
        "32.0000000001Mi",
        "1e9",
        "1E9",
        "1e+9",
        "1e-9",
        "1E",
        "1P",
        "4000000k",
        "4000000K",
        "33554432000m",
        "33554431999m",
        "33554432000000u",
        "33554432000000000n",
        "31.9999999999Mi",
        "1_000Mi",
        "1e3.5",
        "1Mi ",
        " 1Gi",
        "0x10Mi",
        "1gi",
        "1GI",
        "1GiB",
        "7Ei",
        "9E",
        "1e18",
        "9223372036854775807",
        "9223372036854775808",
        "99999999999999999999",
        "1e30",
        "--1Gi",
    ];
    for memory in forms {
        let spec = spec(&json!({ "redis": { "memory": memory } }));
        let accepted = writer.ask("shop", &spec).await.is_ok();
        let mut service = CachedService::new("shop", serde_json::from_value(spec).unwrap());
        service.metadata.namespace = Some("prod".to_owned());
        service.metadata.uid = Some("0-1".to_owned());
        let read = match plan(&service, &pure::nothing(), &pure::defaults()).map(|plan| plan.redis) {
            Ok(RedisPlan::Standalone(redis)) => redis.max_memory_bytes >= 24 << 20,
            _ => false,
        };
        assert_eq!(read, accepted, "{memory:?}");
    }
}

#[tokio::test]
async fn a_name_is_refused_where_a_child_could_not_carry_it() {
    let sandbox = sandbox().await;
    let writer = Writer::new(&sandbox);
    let label = "metadata.name: start with a letter and use only lower-case letters, digits and '-', as in my-shop: a Service carries the same name (DNS-1035)";
    let long =
        "metadata.name: use at most 40 characters: the names of the children and their pods are made from it";
    let (longest, too_long) = ("a".repeat(40), "a".repeat(41));
    for (name, message) in [("1shop", label), ("my.shop", label), (too_long.as_str(), long)] {
        let refusal = writer.ask(name, &spec(&json!({}))).await.expect_err(name);
        assert!(refusal.contains(message), "{name}: {refusal}");
    }
    for name in ["s", "my-shop-2", longest.as_str()] {
        writer.ask(name, &spec(&json!({}))).await.expect(name);
    }
}

#[tokio::test]
async fn the_address_of_the_service_cannot_change() {
    let sandbox = sandbox().await;
    let writer = Writer::new(&sandbox);
    let with = |address: &str| spec(&json!({ "service": { "clusterIP": address } }));
    let without = spec(&json!({}));
    let changed = "spec.service.clusterIP cannot change once it is set (Kubernetes keeps the address of a Service); create a CachedService of another name instead";
    let set_later = "spec.service.clusterIP can only be set when the CachedService is created (Kubernetes keeps the address of a Service)";

    writer.write("headless", &with("None")).await.unwrap();
    for other in [&with("198.18.128.77"), &without] {
        let refusal = writer.ask_to_change("headless", other).await.unwrap_err();
        assert!(refusal.contains(changed), "{refusal}");
    }
    writer.ask_to_change("headless", &with("None")).await.unwrap();

    writer.write("plain", &without).await.unwrap();
    let refusal = writer.ask_to_change("plain", &with("None")).await.unwrap_err();
    assert!(refusal.contains(set_later), "{refusal}");
    writer.ask_to_change("plain", &spec(&json!({ "service": { "type": "NodePort" } }))).await.unwrap();
}

#[test]
fn every_rule_is_seen_to_refuse() {
    // Those that are about the name or an earlier state have tests of their own.
    let elsewhere = ["metadata.name: ", "spec.service.clusterIP can"];
    let seen: BTreeSet<&str> = refused().into_iter().map(|(_, message)| message).collect();
    for message in rules() {
        let tested =
            seen.contains(message.as_str()) || elsewhere.iter().any(|start| message.starts_with(start));
        assert!(tested, "no case breaks this rule: {message}");
    }
}

/// The messages of all CEL rules.
fn rules() -> BTreeSet<String> {
    fn collect(schema: &Value, messages: &mut BTreeSet<String>) {
        match schema {
            Value::Object(members) => {
                for rule in
                    members.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten()
                {
                    messages.insert(rule["message"].as_str().expect("a rule with a message").to_owned());
                }
                members.values().for_each(|member| collect(member, messages));
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, messages)),
            _ => {}
        }
    }
    let mut messages = BTreeSet::new();
    collect(&schema(), &mut messages);
    assert!(messages.len() > 20, "{messages:?}");
    messages
}
