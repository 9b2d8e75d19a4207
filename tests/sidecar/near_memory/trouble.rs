//! Connections that break or hang, and a Redis that is frozen or another.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use cachedservice::{
    settings::{NearCache, near_cache::WhenRedisFails},
    sidecar::near_cache::{
        coherence::LEASE,
        near::{LONGEST_WAIT, Look, Trouble},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{LIMIT, Pod, Stage, run, settings, until};
use crate::redis_server::{Redis, free_port};

const LEASE_TIME: Duration = Duration::from_millis(LEASE);
/// Between the look into memory and the clock of the test.
const SLACK: Duration = Duration::from_millis(50);

/// Until when memory has answered, while Redis did not.
async fn last_hit(pod: &Pod, words: &str, since: Instant) -> Duration {
    let mut last = Duration::ZERO;
    while since.elapsed() < LEASE_TIME * 2 {
        let looked = since.elapsed();
        if pod.hit(words).is_some() {
            last = looked;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    last
}

#[tokio::test]
async fn a_connection_that_is_ended_takes_with_it_what_came_on_it() {
    let stage = Stage::begin();
    let (pod, other) = (stage.pod(), stage.client().await);
    for round in 0..5 {
        let _: () = run(&other, &format!("SET a {round}")).await;
        pod.gone("GET a").await;
        assert_eq!(pod.fill("GET a").await, format!("$1\r\n{round}\r\n"));
        let _: u32 = run(&other, "CLIENT KILL TYPE normal SKIPME yes").await;
        pod.gone("GET a").await;
    }
    assert!(pod.near.figures().lost.get() >= 5);
    pod.fill("GET a").await;
}

#[tokio::test]
async fn what_changed_while_there_was_no_connection_is_not_given_by_the_next() {
    let stage = Stage::begin();
    let (pod, other) = (stage.pod(), stage.client().await);
    for round in 0..5 {
        let _: () = run(&other, &format!("SET a old{round}")).await;
        pod.gone("GET a").await;
        pod.fill("GET a").await;
        let _: u32 = run(&other, "CLIENT KILL TYPE normal SKIPME yes").await;
        let _: () = run(&other, &format!("SET a {round}")).await;
        // On the same connection.
        until("another", async || pod.read("STRLEN a").await.is_ok().then_some(())).await;
        assert!(
            pod.hit("GET a")
                .is_none_or(|reply| reply == format!("${}\r\n{round}\r\n", round.to_string().len()))
        );
    }
}

#[tokio::test]
async fn what_a_frozen_redis_told_is_given_for_less_than_a_second_and_who_asks_is_told_soon() {
    let stage = Stage::begin();
    let pod = stage.pod();
    pod.fill("GET a").await;
    // Until then what is sent now and then keeps it alive.
    let filled = Instant::now();
    let (mut looks, mut hits) = (0, 0);
    while filled.elapsed() < LEASE_TIME * 2 {
        looks += 1;
        hits += usize::from(pod.hit("GET a").is_some());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(hits * 10 > looks * 9, "{hits} of {looks}");
    until("kept alive", async || pod.hit("GET a").map(drop)).await;
    stage.server.freeze(true);
    let frozen = Instant::now();
    let asking = pod.clone();
    let asked = tokio::spawn(async move { asking.read("GET b").await });
    let last = last_hit(&pod, "GET a", frozen).await;
    assert!(last > LEASE_TIME / 3, "it was given up after {last:?}");
    assert!(last <= LEASE_TIME + SLACK, "{last:?}");
    assert!(asked.is_finished(), "not within {:?}", frozen.elapsed());
    assert_eq!(asked.await.unwrap(), Err(Trouble::Lost));
    assert_eq!(pod.look("GET a").0, Look::Pass);
    stage.server.freeze(false);
    let back = Instant::now();
    pod.fill("GET a").await;
    assert!(back.elapsed() < Duration::from_secs(2), "{:?}", back.elapsed());
}

#[tokio::test]
async fn a_redis_that_is_held_up_for_a_moment_costs_nothing_that_is_stored() {
    let stage = Stage::begin();
    let pod = stage.pod();
    pod.fill("GET a").await;
    stage.server.freeze(true);
    tokio::time::sleep(Duration::from_millis(400)).await;
    stage.server.freeze(false);
    until("given again", async || pod.hit("GET a").map(drop)).await;
    assert_eq!((pod.near.figures().lost.get(), pod.near.figures().stored.get()), (0, 1));
}

#[tokio::test]
async fn while_a_connection_hangs_nothing_older_than_a_second_is_given() {
    let stage = Stage::begin();
    let (port, is_cut) = passing_on(stage.server.port).await;
    stage.tell(port);
    let (pod, other) = (stage.pod(), stage.client().await);
    let _: () = run(&other, "SET a old").await;
    assert_eq!(pod.fill("GET a").await, "$3\r\nold\r\n");
    pod.fill("GET b").await;
    is_cut.store(true, Ordering::SeqCst);
    let _: () = run(&other, "SET a new").await;
    let changed = Instant::now();
    // Who reads past the memory has seen the new one.
    assert!(pod.hit("GET b").is_some() && pod.hit("GET a").is_some());
    pod.see("GET b");
    assert_eq!((pod.hit("GET b"), pod.hit("GET a").as_deref()), (None, Some("$3\r\nold\r\n")));
    let barrier = tokio::time::timeout(LIMIT, pod.near.barrier());
    let (last, barrier) = tokio::join!(last_hit(&pod, "GET a", changed), async {
        barrier.await.unwrap();
        (changed.elapsed(), pod.hit("GET a"))
    });
    assert!(last <= LEASE_TIME + SLACK, "{last:?}");
    assert_eq!(barrier.1, None, "after a barrier nothing is old");
    assert!(barrier.0 <= LONGEST_WAIT * 2, "{:?}", barrier.0);
    is_cut.store(false, Ordering::SeqCst);
    assert_eq!(pod.fill("GET a").await, "$3\r\nnew\r\n");
}

#[tokio::test]
async fn a_process_that_stood_still_gives_nothing_old_when_it_goes_on() {
    let stage = Stage::begin();
    let (pod, other) = (stage.pod(), stage.client().await);
    let _: () = run(&other, "SET a old").await;
    pod.fill("GET a").await;
    // This thread, which is the only one of the runtime, stands still.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let elsewhere = tokio::runtime::Runtime::new().unwrap();
            let _: () = elsewhere.block_on(async { run(&stage.client().await, "SET a new").await });
        });
    });
    assert_eq!(pod.hit("GET a").as_deref(), Some("$3\r\nold\r\n"), "nobody has read the push");
    std::thread::sleep(LEASE_TIME + SLACK);
    assert_eq!(pod.hit("GET a"), None);
    assert_eq!(pod.fill("GET a").await, "$3\r\nnew\r\n");
    assert_eq!(pod.near.figures().lost.get(), 0, "what had come meanwhile was read first");
}

#[tokio::test]
async fn what_a_script_may_have_changed_is_not_stale_where_redis_cannot_tell() {
    let stage = Stage::begin();
    let (port, is_cut) = passing_on(stage.server.port).await;
    stage.tell(port);
    let when_redis_fails = WhenRedisFails::StaleOrError;
    let (pod, other) = (stage.pod_by(&NearCache { when_redis_fails, ..settings() }), stage.client().await);
    for is_by_a_script in [false, true] {
        pod.fill("GET a").await;
        let lost = pod.near.figures().lost.get();
        is_cut.store(true, Ordering::SeqCst);
        until("it is given up", async || (pod.near.figures().lost.get() > lost).then_some(())).await;
        assert_eq!((pod.hit("GET a"), pod.stale("GET b")), (None, None));
        assert!(pod.stale("GET a").is_some());
        if is_by_a_script {
            let _: () = run(&other, "EVAL redis.call('SET',KEYS[1],1) 1 a").await;
            pod.near.barrier().await;
            assert_eq!(pod.stale("GET a"), None);
        }
        is_cut.store(false, Ordering::SeqCst);
        pod.answer("GET c").await;
        assert_eq!(pod.stale("GET a"), None, "there is another connection");
    }
    assert_eq!(pod.fill("GET a").await, "$1\r\n1\r\n");
}

#[tokio::test]
async fn another_redis_is_followed_when_that_is_told() {
    let stage = Stage::begin();
    let (pod, other) = (stage.pod(), stage.client().await);
    let _: () = run(&other, "SET a 1").await;
    pod.fill("GET a").await;
    let second = Redis::start(free_port(), super::PASSWORD);
    stage.tell(second.port);
    pod.near.connect_anew();
    until("the other", async || pod.read("GET a").await.is_ok_and(|reply| reply == "$-1\r\n").then_some(()))
        .await;
    pod.fill("GET a").await;
}

#[tokio::test]
async fn what_comes_too_slowly_for_the_connection_is_asked_elsewhere_the_next_time() {
    let stage = Stage::begin();
    let other = stage.client().await;
    let _: () = run(&other, &format!("SET large {}", "x".repeat(60_000))).await;
    stage.tell(passing_on_slowly(stage.server.port).await);
    let pod = stage.pod();
    pod.awake().await;
    assert_eq!(pod.read("GET large").await, Err(Trouble::Lost));
    until("another connection", async || (pod.near.connections() == 1).then_some(())).await;
    assert_eq!((pod.look("GET large").0, pod.look("GET a").0), (Look::Pass, Look::Miss));
    pod.fill("GET a").await;
    assert_eq!(pod.near.figures().lost.get(), 1);
}

/// Passes on to Redis what comes on the port that it tells, where large replies come a piece at a time.
async fn passing_on_slowly(port: u16) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let at = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut to = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let ((mut from_read, mut from_write), (mut to_read, mut to_write)) =
                    (from.split(), to.split());
                let asking = tokio::io::copy(&mut from_read, &mut to_write);
                let telling = async {
                    let mut piece = [0; 4096];
                    while let Ok(length @ 1..) = to_read.read(&mut piece).await {
                        if from_write.write_all(&piece[..length]).await.is_err() {
                            return;
                        }
                        if length == piece.len() {
                            tokio::time::sleep(Duration::from_millis(150)).await;
                        }
                    }
                };
                let _ = tokio::join!(asking, telling);
            });
        }
    });
    at
}

/// Passes on to Redis what comes on the port that it tells, but for as long as it is cut: then all is held back.
async fn passing_on(port: u16) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (at, is_cut) = (listener.local_addr().unwrap().port(), Arc::new(AtomicBool::new(false)));
    let cut = is_cut.clone();
    tokio::spawn(async move {
        while let Ok((from, _)) = listener.accept().await {
            let to = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
            tokio::spawn(copy(from_read, to_write, cut.clone()));
            tokio::spawn(copy(to_read, from_write, cut.clone()));
        }
    });
    (at, is_cut)
}

async fn copy(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    is_cut: Arc<AtomicBool>,
) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        while is_cut.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
