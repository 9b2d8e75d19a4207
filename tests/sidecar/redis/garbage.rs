//! What stands in Redis in place of the record of purges is none: another begins, and replicas share again.

use std::{
    io,
    sync::{Arc, Mutex},
};

use cachedservice::settings::purges::{Force, Target};
use http::Method;
use redis::aio::MultiplexedConnection;
use tracing_subscriber::fmt::MakeWriter;

use super::{Stage, counting, page, run, shares, source, stored, until};
use crate::application::{Got, Pod};

const HOST: [(&str, &str); 1] = [("host", "shop")];
const RECORD: &str = "u-1:purges";

/// What makes no record of what is there.
const GARBAGE: [&[&[&str]]; 14] = [
    &[&["SET", RECORD, "x"]],
    &[&["DEL", RECORD], &["RPUSH", RECORD, "x"]],
    &[&["DEL", RECORD], &["HSET", RECORD, "x", "y"]],
    &[&["HSET", RECORD, "generation", "x y"]],
    &[&["HSET", RECORD, "generation", "0"]],
    &[&["HSET", RECORD, "generation", "+7"]],
    &[&["HSET", RECORD, "generation", "18446744073709551616"]],
    &[&["HSET", RECORD, "sequence", "nan"]],
    &[&["HSET", RECORD, "sequence", "07"]],
    &[&["HSET", RECORD, "sequence", "18446744073709551615"]],
    &[&["HSET", RECORD, "sequence", "2000"]],
    &[&["HSET", RECORD, "forgotten", "7"], &["HSET", RECORD, "sequence", "6"]],
    &[&["HSET", RECORD, "changes", "-1.5"]],
    &[&["HDEL", RECORD, "changes"], &["HSET", RECORD, "changes", "x"]],
];

/// What is written to the log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    fn warnings(&self) -> usize {
        let log = self.0.lock().unwrap();
        String::from_utf8_lossy(&log).matches("is no record of purges").count()
    }
}

async fn write(client: &MultiplexedConnection, garbage: &[&[&str]]) {
    for command in garbage {
        let _: redis::Value = run(client, command).await;
    }
}

fn generation(pod: &Pod) -> u64 {
    pod.front.memory().begin().stamp.generation
}

/// Asks and changes something until a replica goes by another record than this.
async fn has_another(pod: &Pod, before: u64, what: &str) {
    let mut number = 0;
    until(what, async || {
        // What is in memory already is not looked for.
        number += 1;
        pod.get(&format!("/{before}/{number}"), &HOST).await;
        assert_eq!(pod.ask(Method::POST, "/changed", &HOST, "").await.status, 200);
        let shares = pod.front.shared().unwrap().is_coherent();
        (shares && generation(pod) != before).then_some(())
    })
    .await;
}

// Of one thread, which has the log.
#[tokio::test]
async fn whatever_stands_in_place_of_the_record_is_replaced_and_told_of_once() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    // With one alone, what other tests have come by is taken for what nobody wants to know.
    let _another = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(io::sink).finish());
    let stage = Stage::begin();
    let (_, answer) = counting();
    let pod = stage.pod(answer.clone()).await;
    let client = stage.client().await;
    assert_eq!(log.warnings(), 0);
    for (number, garbage) in GARBAGE.iter().enumerate() {
        let (old, before) = (pod.get("/", &HOST).await.body, generation(&pod));
        write(&client, garbage).await;
        has_another(&pod, before, &format!("{garbage:?}")).await;
        assert_eq!(log.warnings(), number + 1, "{garbage:?}");
        assert_ne!(pod.get("/", &HOST).await.body, old, "who knows what was purged: {garbage:?}");
    }
    // Purges are recorded again.
    pod.front.shared().unwrap().purge(vec![Target::Everything], Force::Hard).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_finds_garbage_begins_a_record_and_all_go_by_it() {
    let stage = Stage::begin();
    let client = stage.client().await;
    write(&client, GARBAGE[0]).await;
    let one = stage.pod(|_: &Got| page("t", "page")).await;
    let other = stage.pod(|_: &Got| page("t", "page")).await;
    assert_eq!(generation(&one), generation(&other));
    one.get("/", &HOST).await;
    stored(&one, 1).await;
    assert_eq!(source(&other.get("/", &HOST).await), "L2");
    // Also a purge finds it, and is in what begins.
    write(&client, GARBAGE[1]).await;
    let _ = one.front.shared().unwrap().purge(vec![Target::Everything], Force::Hard).await;
    shares(&one).await;
    shares(&other).await;
    until("both go by the same", async || (generation(&one) == generation(&other)).then_some(())).await;
    assert_ne!(source(&other.get("/", &HOST).await), "L1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_is_no_text_is_one_of_everything_and_what_is_not_known_is_passed_over() {
    let stage = Stage::begin();
    let client = stage.client().await;
    let pod = stage.pod(|_: &Got| page("t", "page")).await;
    pod.get("/", &HOST).await;
    let before = generation(&pod);
    for (field, value) in [("p1", &[0xff, 0xfe][..]), ("\u{fffd}", b"x"), ("sequence", b"1")] {
        let mut set = redis::cmd("HSET");
        let () = set.arg(RECORD).arg(field).arg(value).query_async(&mut client.clone()).await.unwrap();
    }
    let () = redis::cmd("HSET")
        .arg(RECORD)
        .arg(&[0xff_u8][..])
        .arg("x")
        .query_async(&mut client.clone())
        .await
        .unwrap();
    let mut number = 0;
    until("it is known", async || {
        number += 1;
        pod.get(&format!("/{number}"), &HOST).await;
        (pod.front.memory().begin().stamp.sequence == 1).then_some(())
    })
    .await;
    assert_eq!(generation(&pod), before);
    assert_eq!(source(&pod.get("/", &HOST).await), "uri-miss");
    shares(&pod).await;
}
