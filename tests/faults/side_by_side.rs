//! Version 0.1.0 and this one at the same time, as while a Deployment of the operator rolls.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::{
    sandbox,
    support::{
        Release, Sandbox,
        child::{DEPLOYMENT, SERVICE, STATEFUL_SET},
        until,
    },
};

const LIMIT: Duration = Duration::from_secs(20);
const NAMES: [&str; 4] = ["least", "fixed", "open", "template"];

fn spec(name: &str, port: u16) -> Value {
    let mut spec = match name {
        "fixed" => json!({ "autoscaling": { "enabled": false }, "replicas": 3 }),
        "open" => json!({ "redis": { "auth": { "enabled": false } }, "runAsNonRoot": true }),
        "template" => json!({ "template": { "spec": { "terminationGracePeriodSeconds": 90 } } }),
        _ => json!({}),
    };
    spec["image"] = json!("example.com/shop:1");
    spec["service"] = json!({ "port": port });
    spec
}

#[tokio::test]
async fn old_and_new_lead_in_turn_and_neither_changes_pods_or_fights_the_other() {
    let release = Release::first();
    let (sandbox, _turn) = sandbox().await;
    let new = sandbox.install().await;
    let old = new.sibling(&sandbox).await;
    let _kubelet = sandbox.kubelet();
    let start = |turn: u16| match turn % 2 {
        0 => old.start_binary(&release.binary, &format!("old-{turn}")),
        _ => new.start(&format!("new-{turn}")),
    };
    let mut leader = start(0);
    leader.until_leading(LIMIT).await;
    let mut before = None;
    for turn in 0..4 {
        for name in NAMES {
            sandbox.apply(name, spec(name, 80 + turn)).await;
        }
        for name in NAMES {
            sandbox.until_ready(name).await;
            until_port(&sandbox, name, 80 + turn).await;
        }
        // The other version looks on meanwhile.
        let next = start(turn + 1);
        next.until_standing_by(LIMIT).await;
        let leads = if turn % 2 == 0 { &old } else { &new };
        sandbox.until_quiet(&leads.user, &[&old.user, &new.user]).await;
        let now = pods(&sandbox).await;
        assert_eq!(*before.get_or_insert_with(|| now.clone()), now, "in turn {turn} templates were changed");
        assert!(leader.terminate().await.success(), "{}", leader.log());
        next.until_leading(LIMIT).await;
        leader = next;
    }
}

/// Generations and templates of what runs pods.
async fn pods(sandbox: &Sandbox) -> BTreeMap<String, Value> {
    let mut pods = BTreeMap::new();
    for name in NAMES {
        for kind in [DEPLOYMENT, STATEFUL_SET] {
            let object = sandbox.child(kind, name).await;
            let value = json!([object.metadata.generation, object.data["spec"]["template"]]);
            pods.insert(format!("{}/{name}", kind.kind), value);
        }
    }
    pods
}

async fn until_port(sandbox: &Sandbox, name: &str, port: u16) {
    until(LIMIT, async || {
        let present = sandbox.child(SERVICE, name).await.data["spec"]["ports"][0]["port"].clone();
        if present == port { Ok(()) } else { Err(format!("{name}: port {present}")) }
    })
    .await;
}
