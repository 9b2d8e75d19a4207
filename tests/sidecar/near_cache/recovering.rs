//! Redis is killed while many ask, and comes back: what they are told meanwhile, and when all is well again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use cachedservice::{
    settings::near_cache::{Pool, WhenRedisFails},
    sidecar::near_cache::server::Bounds,
};
use tokio::task::JoinSet;

use super::{Client, Stage, bulk, until};

const CLIENTS: usize = 50;
const KEYS: usize = 10;
/// From when Redis answers until each client has what it holds.
const RECOVERY: Duration = Duration::from_secs(2);
/// What is asked of a Redis that is gone is answered within this time, however busy the machine is.
const AT_ONCE: Duration = Duration::from_secs(1);
/// A client does something else between what it asks.
const BETWEEN: Duration = Duration::from_millis(2);

/// One question of a client, and what it was told; `None`: its connection has ended.
struct Asked {
    is_read: bool,
    at: Instant,
    took: Duration,
    told: Option<String>,
}

/// Reads and writes by turns, until it is over.
async fn ask(port: u16, number: usize, is_over: Arc<AtomicBool>) -> Vec<Asked> {
    let mut client = Client::at(port).await.unwrap();
    let mut asked = Vec::new();
    for round in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("k{}", (number + round) % KEYS);
        // Of reads, those that memory may answer and those that always go to Redis.
        let command = match round % 4 {
            0 => vec!["SET", "other", "1"],
            1 => vec!["LRANGE", "list", "0", "-1"],
            _ => vec!["GET", &key],
        };
        let at = Instant::now();
        client.send(&command).await;
        let told = client.reply().await;
        if told.is_none() {
            client = Client::at(port).await.unwrap();
        }
        asked.push(Asked { is_read: command[0] != "SET", at, took: at.elapsed(), told });
        tokio::time::sleep(BETWEEN).await;
    }
    asked
}

async fn fill(client: &mut Client) {
    for key in 0..KEYS {
        assert_eq!(client.ask(&["SET", &format!("k{key}"), "v"]).await, "+OK\r\n");
    }
    client.ask(&["RPUSH", "list", "v"]).await;
}

/// What all were told while Redis was gone for so long and after; it is well again in time.
async fn told(when_redis_fails: WhenRedisFails, gone: Duration) -> Vec<Asked> {
    let mut stage = Stage::with(Pool::default(), Bounds::default(), when_redis_fails).await;
    fill(&mut stage.straight().await).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(ask(stage.near, number, is_over.clone()));
    }
    until("memory answers", async || (stage.hits() > 1000).then_some(())).await;
    stage.kill();
    let killed = Instant::now();
    tokio::time::sleep(gone).await;
    stage.start_again();
    let mut straight = until("Redis is back", async || Client::straight(stage.redis).await).await;
    let back = Instant::now();
    fill(&mut straight).await;
    tokio::time::sleep(RECOVERY).await;
    is_over.store(true, Ordering::Relaxed);
    let mut all = Vec::new();
    let mut recoveries = Vec::new();
    for asked in clients.join_all().await {
        // Of each client the last that was not as it should be, and then nothing any more.
        let bad = |asked: &Asked| match &asked.told {
            Some(told) => told.starts_with('-') || told == "$-1\r\n" || told == "*0\r\n",
            None => true,
        };
        let last_bad = asked.iter().rfind(|asked| bad(asked)).expect("Redis was gone for all");
        recoveries.push((last_bad.at + last_bad.took).saturating_duration_since(back));
        all.extend(asked.into_iter().filter(|asked| asked.at + asked.took > killed));
    }
    recoveries.sort();
    let (half, last) = (recoveries[CLIENTS / 2], recoveries[CLIENTS - 1]);
    println!(
        "{when_redis_fails:?}, gone for {gone:?}: well again after {half:?}, the last client after {last:?}"
    );
    assert!(last < RECOVERY - Duration::from_millis(100), "{last:?}");
    let longest = all.iter().map(|asked| asked.took).max().unwrap();
    println!("{} questions, the longest took {longest:?}", all.len());
    assert!(longest < AT_ONCE, "{longest:?}");
    all
}

const LENGTHS: [Duration; 2] = [Duration::from_millis(300), Duration::from_secs(4)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_gone_all_are_told_so_at_once_and_soon_after_all_is_well_again() {
    for gone in LENGTHS {
        let all = told(WhenRedisFails::Error, gone).await;
        let errors = all.iter().filter_map(|asked| asked.told.as_ref()).filter(|told| told.starts_with('-'));
        let is_known = |told: &String| {
            told.starts_with("-ERR Redis is not reached")
                || told.starts_with("-ERR the connection to Redis was lost")
        };
        let errors: Vec<_> = errors.collect();
        assert!(errors.len() > CLIENTS && errors.iter().all(|told| is_known(told)), "{errors:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_gone_no_read_fails_where_it_is_to_find_nothing() {
    let (miss, stale) = (WhenRedisFails::Miss, WhenRedisFails::StaleOrMiss);
    for (when_redis_fails, gone) in [(miss, LENGTHS[0]), (miss, LENGTHS[1]), (stale, LENGTHS[0])] {
        let all = told(when_redis_fails, gone).await;
        let reads = all.iter().filter(|asked| asked.is_read);
        let expected = [bulk("v"), "$-1\r\n".to_owned(), format!("*1\r\n{}", bulk("v")), "*0\r\n".to_owned()];
        let other: Vec<_> = reads
            .clone()
            .filter(|asked| !asked.told.as_ref().is_some_and(|told| expected.contains(told)))
            .map(|asked| (&asked.told, asked.took))
            .collect();
        assert!(other.is_empty(), "{} of {} reads: {other:?}", other.len(), reads.count());
        let writes = all.iter().filter(|asked| !asked.is_read);
        assert!(writes.filter_map(|asked| asked.told.as_ref()).any(|told| told.starts_with("-ERR")));
    }
}
