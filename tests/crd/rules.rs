//! Every CEL rule refuses with its message, and lets its neighbour through.

use std::collections::{BTreeMap, BTreeSet};

use cachedservice::{
    api::CachedService,
    operator::plan::{RedisPlan, plan},
};
use serde_json::{Value, json};

use crate::{Writer, pure, sandbox, schema, spec};

/// What the refusal says, and what is refused with it.
fn refused() -> BTreeMap<String, Vec<Value>> {
    serde_saphyr::from_str(include_str!("refused.yaml")).unwrap()
}

fn accepted() -> Vec<Value> {
    serde_saphyr::from_str(include_str!("accepted.yaml")).unwrap()
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_in_words_that_help() {
    let sandbox = sandbox().await;
    let writer = Writer::new(&sandbox);
    for (message, cases) in refused() {
        for changes in cases {
            match writer.ask("shop", &spec(&changes)).await {
                Ok(_) => panic!("accepted: {changes}"),
                Err(refusal) => assert!(refusal.contains(&message), "{changes}\n{refusal}"),
            }
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

#[tokio::test]
async fn a_volume_can_grow_and_not_shrink() {
    let sandbox = sandbox().await;
    let writer = Writer::new(&sandbox);
    let with = |enabled: bool, size: &str| {
        spec(&json!({ "redis": { "persistence": { "enabled": enabled, "size": size } } }))
    };
    // The default of a volume that is not there does not count.
    writer.write("kept", &spec(&json!({}))).await.unwrap();
    writer.write("kept", &with(true, "1000Mi")).await.unwrap();
    writer.ask_to_change("kept", &with(true, "2Gi")).await.unwrap();
    let refusal = writer.ask_to_change("kept", &with(true, "900Mi")).await.unwrap_err();
    assert!(refusal.contains("spec.redis.persistence.size cannot shrink"), "{refusal}");
    writer.ask_to_change("kept", &with(false, "96Mi")).await.unwrap();
}

#[test]
fn every_rule_is_seen_to_refuse() {
    // Those that are about the name or an earlier state have tests of their own.
    let elsewhere =
        ["metadata.name: ", "spec.service.clusterIP can", "spec.redis.persistence.size cannot shrink"];
    let refused = refused();
    for message in rules() {
        let tested =
            refused.contains_key(&message) || elsewhere.iter().any(|start| message.starts_with(start));
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
