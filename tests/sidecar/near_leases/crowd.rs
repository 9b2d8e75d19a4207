//! Many who ask at once.

use std::{sync::Arc, time::Duration};

use cachedservice::settings::near_cache::SingleFlight;
use tokio::{sync::Barrier, task::JoinSet};

use super::{LONG, NOTHING, Stage};
use crate::near_cache::{Client, bulk};

/// What the database takes.
const DATABASE: Duration = Duration::from_millis(100);

/// Each reads the key at once, as an application does: who finds nothing asks the database, and writes what it has.
/// How many have asked the database.
async fn stampede(stage: &Stage, clients: usize, key: &'static str, value: &str) -> usize {
    let barrier = Arc::new(Barrier::new(clients));
    let mut all = JoinSet::new();
    for number in 0..clients {
        let mut client = stage.client(number % stage.pods.len()).await;
        let (barrier, value) = (barrier.clone(), value.to_owned());
        all.spawn(async move {
            barrier.wait().await;
            let told = client.ask(&["GET", key]).await;
            let is_missed = told == NOTHING;
            if is_missed {
                tokio::time::sleep(DATABASE).await;
                assert_eq!(client.ask(&["SET", key, &value]).await, "+OK\r\n");
            } else {
                assert_eq!(told, bulk(&value));
            }
            (client, is_missed)
        });
    }
    let ended: Vec<(Client, bool)> = all.join_all().await;
    ended.iter().filter(|(_, is_missed)| *is_missed).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_hundred_clients_of_four_pods_that_miss_a_key_one_asks_the_database() {
    let stage = Stage::of(4, LONG).await;
    let mut straight = stage.straight().await;
    for (round, gone) in [&["DEL", "hot:1"][..], &["PEXPIRE", "hot:1", "1"], &["FLUSHALL"]].iter().enumerate()
    {
        let value = format!("value {round}");
        assert_eq!(stampede(&stage, 200, "hot:1", &value).await, 1, "round {round}");
        assert_eq!(stage.led(), round as u64 + 1);
        straight.ask(gone).await;
        crate::near_cache::until("it is gone", async || {
            (straight.ask(&["EXISTS", "hot:1"]).await == ":0\r\n").then_some(())
        })
        .await;
    }
    let [written, led, time, given_up] = stage.ends();
    assert!(written > 100, "{written} have waited for what was written");
    assert_eq!([led, time, given_up], [0; 3]);
    let leases = straight.ask(&["EXISTS", "cachedservice:lease:hot:1"]).await;
    assert_eq!(leases, ":0\r\n", "the lease was given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_rule_all_of_them_ask_it() {
    let stage = Stage::of(4, LONG).await;
    let asked = stampede(&stage, 40, "cold:1", "value").await;
    assert_eq!(asked, 40);
    assert_eq!(stage.led(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_slower_than_the_lease_is_asked_again_in_turn() {
    let stage = Stage::of(4, SingleFlight { wait_ms: 20_000, lease_ms: 40 }).await;
    let asked = stampede(&stage, 80, "hot:1", "value").await;
    // One each 40 ms, for 100 ms, on a machine that does something else too.
    assert!((2..=20).contains(&asked), "{asked} have asked");
    assert!(stage.ends()[1] > 0, "who waited was told in turn");
}
