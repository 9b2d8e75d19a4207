//! What the sidecar is told of the near-cache, and what the pods get for it.

use super::*;
use crate::{
    operator::children::children,
    settings::{
        Settings,
        near_cache::{NearCache, Pool, Rule, SingleFlight, WhenRedisFails},
    },
};

fn sidecar(spec: Value) -> Result<SidecarPlan, Invalid> {
    planned(spec, &nothing()).map(|plan| plan.sidecar.unwrap())
}

fn settings(spec: Value) -> Settings {
    Settings::parse(&sidecar(spec).unwrap().settings).unwrap()
}

fn with(application: Value) -> Result<NearCache, Invalid> {
    let sidecar = sidecar(json!({ "cache": { "application": application } }))?;
    Ok(Settings::parse(&sidecar.settings).unwrap().application.unwrap())
}

/// The value of the application's variable, or where it comes from.
fn redis_url(spec: Value) -> Value {
    let deployment = json!(children(&planned(spec, &nothing()).unwrap()).deployment);
    let env = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap().clone();
    let url = env.into_iter().find(|variable| variable["name"] == "REDIS_URL").unwrap();
    url.get("value").or(url.get("valueFrom")).unwrap().clone()
}

#[test]
fn the_tier_alone_is_told_of_redis_and_of_purges() {
    let told = settings(json!({ "cache": { "application": {} } }));
    assert_eq!(told.http, None);
    assert_eq!(told.purges_file.as_deref(), Some("/etc/cachedservice/purges/purges.json"));
    assert_eq!(told.purges_copy.as_deref(), Some("/var/run/cachedservice/purges.json"));
    assert_eq!(told.redis.unwrap().url_file, "/etc/cachedservice/redis/url");
    let default = NearCache {
        port: 6379,
        memory: 64 << 20,
        ttl_ms: 60_000,
        max_value: 1 << 20,
        when_redis_fails: WhenRedisFails::Error,
        pool: Pool::default(),
        rules: Vec::new(),
    };
    assert_eq!(told.application, Some(default));
}

#[test]
fn what_is_not_written_is_not_in_the_file() {
    let text = sidecar(json!({ "cache": { "application": {} } })).unwrap().settings;
    let told: Value = serde_json::from_str(&text).unwrap();
    let expected = json!({ "port": 6379, "memory": 64 << 20, "ttlMs": 60_000, "maxValue": 1 << 20 });
    assert_eq!(told["application"], expected);
    let text = sidecar(json!({ "cache": { "http": {} } })).unwrap().settings;
    assert!(!text.contains("application"), "{text}");
}

#[test]
fn each_field_is_told() {
    let told = with(json!({
        "memory": "1Gi", "ttl": "1500ms", "maxValueSize": "64Ki", "whenRedisFails": "Miss",
        "pool": { "max": 9, "min": 0, "idleTimeout": "1m", "connectTimeout": "10ms", "maxPinned": 1 },
        "rules": [
            { "prefix": "a", "ttl": "1h" },
            { "prefix": "user:", "maxValueSize": "2Mi", "singleFlight": { "wait": "2s" } },
            { "prefix": "user:session:", "enabled": false },
        ],
    }));
    let text = ToOwned::to_owned;
    let expected = NearCache {
        port: 6379,
        memory: 1 << 30,
        ttl_ms: 1500,
        max_value: 64 << 10,
        when_redis_fails: WhenRedisFails::Miss,
        pool: Pool { max: 9, min: 0, idle_timeout_ms: 60_000, connect_timeout_ms: 10, max_pinned: 1 },
        // From the longest prefix to the shortest.
        rules: vec![
            Rule { prefix: text("user:session:"), off: true, ..Rule::default() },
            Rule {
                prefix: text("user:"),
                max_value: Some(2 << 20),
                single_flight: Some(SingleFlight { wait_ms: 2000, lease_ms: 1000 }),
                ..Rule::default()
            },
            Rule { prefix: text("a"), ttl_ms: Some(3_600_000), ..Rule::default() },
        ],
    };
    assert_eq!(told, Ok(expected));
}

#[test]
fn a_preset_says_what_its_rule_does_not_and_a_ttl_is_added_only_where_a_rule_asks_for_it() {
    let told = with(json!({ "defaultTTL": "24h", "whenRedisFails": "StaleOrMiss", "rules": [
        { "prefix": "plain", "addTTL": true, "whenRedisFails": "StaleOrError" },
        { "prefix": "data", "preset": "ComputedData" },
        { "prefix": "more", "preset": "ComputedData", "addTTL": true },
        { "prefix": "user", "preset": "Sessions", "ttl": "1s", "addTTL": true },
        { "prefix": "less", "preset": "Sessions", "addTTL": true, "defaultTTL": "90s" },
        { "prefix": "off", "enabled": false, "addTTL": true },
    ] }))
    .unwrap();
    assert_eq!(told.when_redis_fails, WhenRedisFails::StaleOrMiss);
    let (minute, hour) = (60_000, 3_600_000);
    for (prefix, ttl_ms, add_ttl_ms) in [
        ("plain", None, Some(24 * hour)),
        ("data", Some(10 * minute), None),
        ("more", Some(10 * minute), Some(6 * hour)),
        ("user", Some(1000), Some(30 * minute)),
        ("less", Some(10_000), Some(90_000)),
        ("off", None, Some(24 * hour)),
    ] {
        let rule = told.rules.iter().find(|rule| rule.prefix == prefix).unwrap();
        assert_eq!(
            (rule.ttl_ms, rule.add_ttl_ms, rule.off),
            (ttl_ms, add_ttl_ms, prefix == "off"),
            "{prefix}"
        );
        let when = (prefix == "plain").then_some(WhenRedisFails::StaleOrError);
        assert_eq!((rule.when_redis_fails, rule.max_value), (when, None), "{prefix}");
    }
}

#[test]
fn what_is_no_duration_or_no_quantity_is_refused_under_its_path() {
    let field = |application: Value| with(application).unwrap_err().field;
    assert_eq!(field(json!({ "memory": "lots" })), "spec.cache.application.memory");
    assert_eq!(field(json!({ "ttl": "soon" })), "spec.cache.application.ttl");
    assert_eq!(field(json!({ "defaultTTL": "soon" })), "spec.cache.application.defaultTTL");
    let rules = json!({ "rules": [{ "prefix": "a", "addTTL": true, "defaultTTL": "1 s" }] });
    assert_eq!(field(rules), "spec.cache.application.rules[0].defaultTTL");
    assert_eq!(field(json!({ "pool": { "max": -1 } })), "spec.cache.application.pool.max");
    let rules = json!({ "rules": [{ "prefix": "a", "ttl": "1s" }, { "prefix": "b", "ttl": "1 s" }] });
    assert_eq!(field(rules), "spec.cache.application.rules[1].ttl");
    let rules = json!({ "rules": [{ "prefix": "a", "singleFlight": { "lease": "1 s" } }] });
    assert_eq!(field(rules), "spec.cache.application.rules[0].singleFlight.lease");
    // A sidecar would not take these.
    assert_eq!(field(json!({ "memory": "1Mi", "maxValueSize": "2Mi" })), "spec.cache.application");
    assert_eq!(field(json!({ "pool": { "max": 1 } })), "spec.cache.application");
    let rules = json!({ "rules": [{ "prefix": "a", "singleFlight": { "wait": "10ms" } }] });
    assert_eq!(field(rules), "spec.cache.application");
}

#[test]
fn the_application_finds_its_redis_at_the_sidecar_whichever_it_is_unless_it_has_its_own() {
    let external = json!({ "mode": "External", "external": { "urlSecretRef": { "name": "ours" } } });
    for redis in [json!({}), json!({ "auth": { "enabled": false } }), external] {
        let spec = json!({ "cache": { "application": {} }, "redis": redis });
        assert_eq!(redis_url(spec), "redis://127.0.0.1:6379");
    }
    let own = json!([{ "name": "REDIS_URL", "value": "redis://elsewhere:6379" }]);
    assert_eq!(redis_url(json!({ "cache": { "application": {} }, "env": own })), "redis://elsewhere:6379");
    let without = redis_url(json!({ "cache": { "http": {}, "application": { "enabled": false } } }));
    assert_eq!(without["secretKeyRef"]["name"], "shop-redis");
}

#[test]
fn the_sidecar_has_room_for_what_it_stores_and_for_its_connections() {
    let limit = |cache: Value| {
        let sidecar = sidecar(json!({ "cache": cache })).unwrap();
        json!(sidecar.resources)["limits"]["memory"].clone()
    };
    assert_eq!(limit(json!({ "http": {} })), "128Mi");
    assert_eq!(limit(json!({ "application": {} })), "178Mi");
    assert_eq!(limit(json!({ "application": { "memory": "1Gi" } })), "1138Mi");
    assert_eq!(limit(json!({ "http": {}, "application": {} })), "242Mi");
    let small = json!({ "cache": { "application": {} }, "sidecar": { "resources": { "limits": { "memory": "64Mi" } } } });
    let refused = sidecar(small).unwrap_err();
    assert_eq!(refused.field, "spec.sidecar.resources.limits.memory");
    assert!(refused.problem.contains("at least 142Mi"), "{refused}");
}

#[test]
fn a_change_rolls_the_pods_only_where_their_memory_follows_from_it() {
    let template = |application: Value| {
        let plan = planned(json!({ "cache": { "application": application } }), &nothing()).unwrap();
        json!(children(&plan).deployment)["spec"]["template"].clone()
    };
    let plain = template(json!({}));
    for held in [
        json!({ "ttl": "1s", "maxValueSize": "8Mi", "whenRedisFails": "Miss" }),
        json!({ "defaultTTL": "1s", "rules": [{ "prefix": "a", "preset": "Sessions", "addTTL": true }] }),
        json!({ "rules": [{ "prefix": "a", "ttl": "1s" }], "pool": { "min": 0, "idleTimeout": "1s", "max": 21 } }),
    ] {
        assert_eq!(template(held.clone()), plain, "{held}");
    }
    for rolled in [json!({ "memory": "65Mi" }), json!({ "maxValueSize": "9Mi" }), json!({ "enabled": false })]
    {
        assert_ne!(template(rolled.clone()), plain, "{rolled}");
    }
}

#[test]
fn its_port_is_free_while_the_tier_is_off() {
    let template = json!({ "spec": {
        "hostNetwork": true,
        "containers": [{ "name": "own", "image": "r", "ports": [{ "containerPort": 6379 }] }],
    } });
    let spec = |application: Value, template: &Value| {
        let cache = json!({ "http": {}, "application": application });
        planned(json!({ "cache": cache, "template": template }), &nothing())
    };
    assert!(spec(json!({ "enabled": false }), &template).is_ok());
    let refused = spec(json!({}), &template).unwrap_err();
    assert_eq!(refused.field, "spec.template.spec.containers[0].ports[0].containerPort");
    let network = json!({ "spec": { "hostNetwork": true } });
    assert_eq!(spec(json!({}), &network).unwrap_err().field, "spec.template.spec.hostNetwork");
    assert!(spec(json!({}), &json!({ "spec": { "hostNetwork": false } })).is_ok());
}
