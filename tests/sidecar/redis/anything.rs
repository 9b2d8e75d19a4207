//! Whatever is in Redis, and whatever comes on its channels: requests are answered with what they are about.

use std::{
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicUsize, Ordering},
};

use proptest::{
    prelude::*,
    sample::{Index, select},
    test_runner::{Config, TestRunner},
};
use redis::aio::MultiplexedConnection;

use super::{Stage, page, run, shares, source};
use crate::application::{Got, Pod};

/// What is done to Redis, by somebody who may do anything.
#[derive(Clone, Debug)]
enum Act {
    /// A field of the responses of some key has this.
    Field(Index, &'static str, Vec<u8>),
    /// A response that is there is changed.
    Flip(Index, Index),
    /// A response that is there is under another key, too.
    Move(Index, Index),
    /// A field of the record of purges.
    Record(&'static str, Vec<u8>),
    /// The record, the list of what is used, or the responses of a key are of another type.
    Type(&'static str),
    /// A message on the channel of news, or of the application.
    Publish(bool, Vec<u8>),
    /// All is gone.
    Flush,
}

/// What somebody may have written there.
const VALUES: [&str; 24] = [
    "",
    "=",
    "=accept",
    "=accept,accept\n=cookie\n=",
    "=\n=\n=\n=\n=\n=",
    "x y",
    "0",
    "-1",
    "1",
    "7",
    "18446744073709551615",
    "99999999999999999999999",
    "nan",
    "!",
    "CSR\x01",
    "null",
    "{}",
    "[]",
    r#"{"news":"begun","generation":1}"#,
    r#"{"news":"purged","generation":0,"sequence":18446744073709551615,"purge":{"force":"hard","targets":[]}}"#,
    r#"{"news":"changed","generation":0,"changes":18446744073709551615,"from":1,"keys":["http://shop/a","",":"]}"#,
    r#"{"everything":true}"#,
    r#"{"tags":["t"],"soft":true}"#,
    r#"{"force":"soft","targets":["everything"]}"#,
];

fn values() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        select(&VALUES[..]).prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
    ]
}

fn acts() -> impl Strategy<Value = Act> {
    let at = any::<Index>;
    let record =
        ["generation", "sequence", "forgotten", "changes", "server", "p1", "p2", "p18446744073709551615"];
    prop_oneof![
        4 => (at(), select(&["sets", "order", "*"][..]), values()).prop_map(|(key, field, value)| Act::Field(key, field, value)),
        2 => (at(), at()).prop_map(|(key, at)| Act::Flip(key, at)),
        2 => (at(), at()).prop_map(|(one, other)| Act::Move(one, other)),
        4 => (select(record.to_vec()), values()).prop_map(|(field, value)| Act::Record(field, value)),
        1 => select(&["u-1:purges", "u-1:used", "http"][..]).prop_map(Act::Type),
        4 => (any::<bool>(), values()).prop_map(|(is_news, message)| Act::Publish(is_news, message)),
        1 => Just(Act::Flush),
    ]
}

async fn act(client: &MultiplexedConnection, act: &Act) {
    let mut client = client.clone();
    let mut keys: Vec<String> = run(&client, &["KEYS", "u-1:http:*"]).await;
    keys.push("u-1:http:00000000000000000000000000000000".to_owned());
    let mut command = redis::cmd("PING");
    match act {
        Act::Field(key, field, value) => {
            let key: &String = key.get(&keys);
            let fields: Vec<String> =
                redis::cmd("HKEYS").arg(key).query_async(&mut client).await.unwrap_or_default();
            let field = if *field == "*" { fields.first().map_or("x", String::as_str) } else { field };
            command = redis::cmd("HSET");
            command.arg(key).arg(field).arg(value);
        }
        Act::Flip(key, at) => {
            let key: &String = key.get(&keys);
            let fields = responses(&client, key).await;
            if let Some((field, mut value)) = fields.into_iter().find(|(_, value)| !value.is_empty()) {
                let at = at.index(value.len());
                value[at] ^= 1;
                command = redis::cmd("HSET");
                command.arg(key).arg(field).arg(value);
            }
        }
        Act::Move(one, other) => {
            let (one, other): (&String, &String) = (one.get(&keys), other.get(&keys));
            for (field, value) in responses(&client, one).await {
                let mut set = redis::cmd("HSET");
                set.arg(other).arg(field).arg(value);
                let _: Result<(), _> = set.query_async(&mut client).await;
            }
        }
        Act::Record(field, value) => {
            command = redis::cmd("HSET");
            command.arg("u-1:purges").arg(*field).arg(value);
        }
        Act::Type(key) => {
            command = redis::cmd("SET");
            command.arg(if *key == "http" { &keys[0] } else { *key }).arg("x");
        }
        Act::Publish(is_news, message) => {
            command = redis::cmd("PUBLISH");
            command
                .arg(if *is_news { "u-1:purges" } else { "cachedservice:default/shop:purge" })
                .arg(message);
        }
        Act::Flush => command = redis::cmd("FLUSHALL"),
    }
    // Some of it Redis itself refuses.
    let _: Result<redis::Value, _> = command.query_async(&mut client).await;
}

async fn responses(client: &MultiplexedConnection, key: &str) -> Vec<(String, Vec<u8>)> {
    redis::cmd("HGETALL").arg(key).query_async(&mut client.clone()).await.unwrap_or_default()
}

/// Whatever has been done, the replicas share again.
async fn all_share(pods: &[Pod]) {
    for pod in pods {
        shares(pod).await;
    }
}

#[test]
fn whatever_is_in_redis_each_request_gets_what_it_is_about() {
    const PATHS: [&str; 3] = ["/a", "/b", "/c?d"];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let answer = |got: &Got| page("t", &got.target);
    let (stage, pods, client) = runtime.block_on(async {
        let stage = Stage::begin();
        let pods = [stage.pod(answer).await, stage.pod(answer).await];
        let client = stage.client().await;
        (stage, pods, client)
    });
    let from_redis = AtomicUsize::new(0);
    let ask = async |pod: &Pod| {
        for path in PATHS {
            let got = pod.get(path, &[("host", "shop"), ("accept", "text/html")]).await;
            assert_eq!((got.status, got.body.as_str()), (200, path), "{got:?}");
            from_redis.fetch_add(usize::from(source(&got) == "L2"), Ordering::Relaxed);
        }
    };
    let config = Config {
        cases: Config::default().cases / 4,
        failure_persistence: None,
        max_shrink_iters: 50,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&prop::collection::vec(acts(), 1..5), |acts| {
            let went = std::panic::catch_unwind(AssertUnwindSafe(|| {
                runtime.block_on(async {
                    all_share(&pods).await;
                    for one in &acts {
                        act(&client, one).await;
                        ask(&pods[0]).await;
                    }
                    ask(&pods[1]).await;
                    let shared = pods[1].front.shared().unwrap();
                    shared.tell_uses().await;
                    shared.warm().await;
                    ask(&pods[1]).await;
                });
            }));
            prop_assert!(went.is_ok());
            Ok(())
        })
        .unwrap();
    assert!(from_redis.load(Ordering::Relaxed) > 10, "the test is none if nothing is taken from there");
    runtime.block_on(all_share(&pods));
    drop(stage);
}
