//! How the operator goes on after a refusal.

use std::time::{Duration, Instant};

use cachedservice::api::condition_type::DEGRADED;
use serde_json::{Value, json};

use crate::{sandbox, spec, support::until};

/// The API server lists its complaints in an order of chance, so each answer is
/// news to the status; and the status must not set off the next try.
#[tokio::test]
async fn a_refusal_in_ever_other_words_comes_to_rest() {
    let sandbox = sandbox().await;
    let installation = sandbox.install().await;
    let operator = installation.start("only");
    // None of them is counted in fractions.
    let fractions: Value = ('a'..='h').map(|name| (format!("x.io/{name}"), json!("1m"))).collect();
    let container =
        |name| json!({ "name": name, "image": "example.com/a", "resources": { "limits": fractions } });
    let containers: Vec<Value> = ["a", "b", "c", "d"].map(container).into();
    sandbox.apply("shop", spec(&json!({ "template": { "spec": { "containers": containers } } }))).await;
    sandbox.until_condition(Duration::from_secs(20), "shop", DEGRADED, "True", "Refused").await;
    let tries = || operator.metric("cachedservice_reconcile_errors_total{class=\"Denied\"}");
    let (mut known, mut since) = (0.0, Instant::now());
    until(Duration::from_secs(10), async || {
        let now = tries();
        if now > known {
            (known, since) = (now, Instant::now());
        }
        let rests = known > 0.0 && since.elapsed() >= Duration::from_secs(1);
        if rests { Ok(()) } else { Err(format!("{known} tries, the last one just now")) }
    })
    .await;
    // Its other children are reasons to look again, as they come to life.
    assert!(tries() < 10.0, "{} tries", tries());
}
