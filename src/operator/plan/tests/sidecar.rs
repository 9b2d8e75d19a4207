//! What the sidecar is told, and what it needs.

use super::*;
use crate::{
    operator::{children::children, seen::SeenDeployment},
    settings::{HeaderMatch, HttpCache, Rule, RuleMethod, Settings},
};

fn sidecar(spec: Value) -> Result<Option<SidecarPlan>, Invalid> {
    planned(spec, &nothing()).map(|plan| plan.sidecar)
}

fn with(http: Value) -> Result<SidecarPlan, Invalid> {
    sidecar(json!({ "cache": { "http": http } })).map(Option::unwrap)
}

fn with_redis(redis: Value) -> SidecarPlan {
    sidecar(json!({ "cache": { "http": {} }, "redis": redis })).unwrap().unwrap()
}

fn settings(spec: Value) -> Settings {
    Settings::parse(&sidecar(spec).unwrap().unwrap().settings).unwrap()
}

fn rule(rule: &Value) -> Result<Rule, Invalid> {
    let sidecar = with(json!({ "rules": [rule] }))?;
    Ok(Settings::parse(&sidecar.settings).unwrap().http.unwrap().rules.remove(0))
}

#[test]
fn there_is_one_where_the_tier_is_written_and_not_switched_off() {
    assert!(with(json!({})).is_ok());
    for off in [json!({}), json!({ "cache": {} }), json!({ "cache": { "http": { "enabled": false } } })] {
        assert!(sidecar(off.clone()).unwrap().is_none(), "{off}");
    }
}

#[test]
fn it_is_told_where_everything_is() {
    let told = settings(json!({ "port": 3000, "cache": { "http": {} } }));
    assert_eq!((told.http_port, told.admin_port, told.app_port), (9800, 9801, 3000));
    assert_eq!(told.token_file.as_deref(), Some("/etc/cachedservice/token/token"));
    assert_eq!(told.purges_file.as_deref(), Some("/etc/cachedservice/purges/purges.json"));
    assert_eq!(told.purges_copy.as_deref(), Some("/var/run/cachedservice/purges.json"));
    assert_eq!(told.drain_seconds, 5);
    let redis = told.redis.unwrap();
    assert_eq!(redis.url_file, "/etc/cachedservice/redis/url");
    let uid = sample::service(json!({})).metadata.uid.unwrap();
    assert_eq!(redis.key_prefix, format!("cachedservice:{uid}:"));
    let service = sample::service(json!({})).metadata;
    let (namespace, name) = (service.namespace.unwrap(), service.name.unwrap());
    assert_eq!(redis.channel, format!("cachedservice:{namespace}/{name}:purge"));
    let default = HttpCache { memory: 64 << 20, max_object: 1 << 20, rules: Vec::new() };
    assert_eq!(told.http, Some(default));
}

#[test]
fn each_field_of_a_rule_is_told() {
    let written = json!({
        "paths": ["/a/*"], "methods": ["GET", "HEAD"], "headers": [{ "name": "a", "value": "b" }, { "name": "c" }],
        "ttl": "1h30m", "override": true, "staleWhileRevalidate": "1500ms", "staleIfError": "24h",
        "ignoredQueryParameters": ["utm_*"], "cookies": ["lang"], "tags": ["t"],
    });
    let text = |text: &str| vec![text.to_owned()];
    let expected = Rule {
        paths: text("/a/*"),
        methods: vec![RuleMethod::Get, RuleMethod::Head],
        headers: vec![
            HeaderMatch { name: "a".to_owned(), value: Some("b".to_owned()) },
            HeaderMatch { name: "c".to_owned(), value: None },
        ],
        bypass: false,
        ttl: Some(5400),
        overrides: true,
        // Rounded up.
        stale_while_revalidate: Some(2),
        stale_if_error: Some(86_400),
        cookies: Some(text("lang")),
        ignored_query: text("utm_*"),
        tags: text("t"),
    };
    assert_eq!(rule(&written).unwrap(), expected);
    assert_eq!(rule(&json!({ "bypass": true })).unwrap(), Rule { bypass: true, ..Rule::default() });
}

#[test]
fn a_preset_is_a_ttl() {
    let ttl = |preset: &str| rule(&json!({ "preset": preset })).unwrap().ttl;
    assert_eq!([ttl("StaticAssets"), ttl("ApiResponses")], [Some(604_800), Some(3600)]);
}

#[test]
fn no_cookie_is_not_the_same_as_nothing_said_of_cookies() {
    assert_eq!(rule(&json!({ "cookies": [] })).unwrap().cookies, Some(Vec::new()));
    assert_eq!(rule(&json!({ "tags": ["a"] })).unwrap().cookies, None);
}

#[test]
fn what_is_no_duration_or_no_quantity_is_refused_under_its_path() {
    let field = |http: Value| with(http).unwrap_err().field;
    assert_eq!(field(json!({ "memory": "lots" })), "spec.cache.http.memory");
    assert_eq!(field(json!({ "maxObjectSize": "-1" })), "spec.cache.http.maxObjectSize");
    assert_eq!(field(json!({ "rules": [{}, { "ttl": "soon" }] })), "spec.cache.http.rules[1].ttl");
    assert_eq!(
        field(json!({ "rules": [{ "staleIfError": "9000h" }] })),
        "spec.cache.http.rules[0].staleIfError"
    );
    // A sidecar would not take it.
    assert_eq!(field(json!({ "memory": "1Mi", "maxObjectSize": "2Mi" })), "spec.cache.http");
}

#[test]
fn its_memory_is_that_of_the_responses_and_a_little() {
    let resources = |sidecar: Value, memory: &str| {
        let spec = json!({ "cache": { "http": { "memory": memory } }, "sidecar": { "resources": sidecar } });
        super::planned(spec, &nothing()).map(|plan| json!(plan.sidecar.unwrap().resources))
    };
    let expected =
        json!({ "requests": { "cpu": "50m", "memory": "192Mi" }, "limits": { "memory": "192Mi" } });
    assert_eq!(resources(json!({}), "128Mi"), Ok(expected.clone()));
    assert_eq!(resources(json!({ "requests": {} }), "128Mi"), Ok(expected));
    let own = json!({ "requests": { "memory": "100Mi" }, "limits": { "cpu": "1" } });
    assert_eq!(resources(own.clone(), "64Mi"), Ok(own));
    let least = json!({ "limits": { "cpu": "1", "memory": "92Mi" } });
    assert_eq!(resources(least.clone(), "64Mi"), Ok(least.clone()));
    let invalid = resources(least, "65Mi").unwrap_err();
    assert_eq!(invalid.field, "spec.sidecar.resources.limits.memory");
    assert!(invalid.problem.contains("at least 93Mi"), "{invalid}");
}

#[test]
fn the_url_of_redis_is_where_it_is_for_the_application_or_beside_the_token() {
    let url = |redis: Value| {
        let url = with_redis(redis).redis_url.unwrap();
        (url.name, url.key)
    };
    let text = ToOwned::to_owned;
    assert_eq!(url(json!({})), (text("shop-redis"), text("url")));
    assert_eq!(url(json!({ "auth": { "enabled": false } })), (text("shop-sidecar"), text("url")));
    let external =
        json!({ "mode": "External", "external": { "urlSecretRef": { "name": "ours", "key": "k" } } });
    assert_eq!(url(external), (text("ours"), text("k")));
}

#[test]
fn ports_and_names_of_the_sidecar_are_free_while_there_is_none() {
    let template = json!({ "spec": {
        "containers": [{ "name": "app", "ports": [{ "name": "app", "containerPort": 9801 }] }, { "name": "sidecar" }],
    } });
    let spec = |http: Value| json!({ "port": 9800, "template": template, "cache": { "http": http } });
    assert!(sidecar(spec(json!({ "enabled": false }))).unwrap().is_none());
    assert_eq!(sidecar(spec(json!({}))).unwrap_err().field, "spec.port");
}

/// The image of the sidecar for a CachedService of this spec that was made with the image `old`, and
/// whether its pods are rolled.
fn after_an_upgrade(before: &Value, spec: Value) -> (String, bool) {
    let old = Defaults { sidecar_image: "old".to_owned(), ..Defaults::default() };
    let made = plan(&sample::service(before.clone()), &nothing(), &old).unwrap();
    let live: SeenDeployment = serde_json::from_value(json!(children(&made).deployment)).unwrap();
    let seen = Seen { deployment: ours(live.clone()), ..nothing() };
    let new = Defaults { sidecar_image: "new".to_owned(), ..Defaults::default() };
    let upgraded = children(&plan(&sample::service(spec), &seen, &new).unwrap()).deployment;
    let upgraded: SeenDeployment = serde_json::from_value(json!(upgraded)).unwrap();
    (upgraded.sidecar_image().unwrap().to_owned(), upgraded.template() != live.template())
}

#[test]
fn an_upgrade_of_the_operator_brings_its_image_with_the_next_rollout_and_causes_none() {
    let spec = |image: &str| json!({ "image": image, "cache": { "http": {} } });
    assert_eq!(after_an_upgrade(&spec("a"), spec("a")), ("old".to_owned(), false));
    assert_eq!(after_an_upgrade(&spec("a"), spec("b")), ("new".to_owned(), true));
    let mut named = spec("a");
    named["sidecar"] = json!({ "image": "mine" });
    assert_eq!(after_an_upgrade(&spec("a"), named.clone()), ("mine".to_owned(), true));
    assert_eq!(after_an_upgrade(&named, spec("a")), ("new".to_owned(), true));
}
