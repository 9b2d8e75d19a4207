//! What others change is gone from memory.

use super::{Stage, calls, run, until};

#[tokio::test]
async fn what_somebody_else_writes_is_gone_whatever_was_read_of_it() {
    let stage = Stage::begin();
    let (pod, other) = (stage.pod(), stage.client().await);
    for (make, reads, change) in [
        ("SET s 1", vec!["GET s", "STRLEN s", "MGET s t"], "SET s 2"),
        ("SET s 1", vec!["GET s"], "APPEND s 2"),
        ("HSET h f 1", vec!["HGET h f", "HGETALL h", "HMGET h f g", "HLEN h"], "HSET h f 2"),
        ("SADD m a b", vec!["SMEMBERS m", "SISMEMBER m a", "SINTER n m"], "SREM m a"),
        ("ZADD z 1 a", vec!["ZRANGE z 0 -1", "ZSCORE z a"], "ZADD z 2 a"),
        ("SET r 1", vec!["GET r"], "RENAME r other"),
        ("SET d 1", vec!["GET d", "EXISTS d"], "DEL d"),
        ("SET e 1", vec!["GET e"], "EXPIRE e 100"),
        ("SET f 1", vec!["GET f"], "FLUSHALL"),
        ("SET f 1", vec!["GET f"], "FLUSHDB"),
        ("SET l 1", vec!["GET l"], "EVAL redis.call('set','l','2') 0"),
    ] {
        let _: redis::Value = run(&other, make).await;
        for read in &reads {
            pod.fill(read).await;
        }
        let _: redis::Value = run(&other, change).await;
        for read in &reads {
            pod.gone(read).await;
        }
    }
    assert_eq!(pod.answer("GET l").await, "$1\r\n2\r\n");
}

#[tokio::test]
async fn that_there_is_no_key_is_known_until_there_is_one() {
    let stage = Stage::begin();
    let (pod, other) = (stage.pod(), stage.client().await);
    assert_eq!(pod.fill("GET a").await, "$-1\r\n");
    assert_eq!(pod.in_resp3().fill("GET a").await, "_\r\n");
    assert_eq!(pod.fill("MGET b a").await, "*2\r\n$-1\r\n$-1\r\n");
    let _: () = run(&other, "SET a 1").await;
    pod.gone("GET a").await;
    pod.gone("MGET b a").await;
    assert_eq!(pod.fill("GET a").await, "$1\r\n1\r\n");
}

#[tokio::test]
async fn replies_have_the_form_of_the_protocol() {
    let stage = Stage::begin();
    let (pod, other) = (stage.pod(), stage.client().await);
    let _: u32 = run(&other, "HSET h f 1").await;
    let _: u32 = run(&other, "ZADD z 1.5 a").await;
    let newer = pod.in_resp3();
    assert_eq!(pod.fill("HGETALL h").await, "*2\r\n$1\r\nf\r\n$1\r\n1\r\n");
    assert_eq!(newer.fill("HGETALL h").await, "%1\r\n$1\r\nf\r\n$1\r\n1\r\n");
    assert_eq!(pod.fill("ZSCORE z a").await, "$3\r\n1.5\r\n");
    assert_eq!(newer.fill("ZSCORE z a").await, ",1.5\r\n");
    assert_eq!(pod.fill("HGETALL h").await, "*2\r\n$1\r\nf\r\n$1\r\n1\r\n");
}

#[tokio::test]
async fn redis_tells_nothing_of_databases_that_are_swapped_so_all_has_to_be_forgotten() {
    let stage = Stage::begin();
    let (pod, other) = (stage.pod(), stage.client().await);
    let _: () = run(&other, "SET a 1").await;
    pod.fill("GET a").await;
    let _: () = run(&other, "SWAPDB 0 1").await;
    pod.near.barrier().await;
    assert!(pod.hit("GET a").is_some(), "Redis tells of it now: this is not needed any more");
    pod.near.forget_all();
    assert_eq!(pod.hit("GET a"), None);
    assert_eq!(pod.answer("GET a").await, "$-1\r\n");
}

#[tokio::test]
async fn an_evicted_key_is_gone() {
    let stage = Stage::begin();
    let (pod, other) = (stage.pod(), stage.client().await);
    let _: () = run(&other, "SET a 1").await;
    pod.fill("GET a").await;
    let _: () = run(&other, "CONFIG SET maxmemory-policy allkeys-random").await;
    let _: () = run(&other, "CONFIG SET maxmemory 1").await;
    let evicted = async || {
        // It is refused when there is nothing left to evict.
        let _: Result<(), _> = redis::cmd("SET").arg("b").arg("1").query_async(&mut other.clone()).await;
        let is_there: bool = run(&other, "EXISTS a").await;
        (!is_there).then_some(())
    };
    until("evicted", evicted).await;
    pod.gone("GET a").await;
}

#[tokio::test]
async fn what_redis_remembers_no_more_is_gone() {
    let stage = Stage::begin();
    let (pod, other) = (stage.pod(), stage.client().await);
    let _: () = run(&other, "CONFIG SET tracking-table-max-keys 10").await;
    for number in 0..50 {
        pod.answer(&format!("GET key:{number}")).await;
    }
    let few = async || (0..50).filter(|number| pod.hit(&format!("GET key:{number}")).is_some()).count() <= 11;
    until("few", async || few().await.then_some(())).await;
}

#[tokio::test]
async fn what_many_ask_at_once_is_asked_once() {
    let stage = Stage::begin();
    let (pod, other) = (stage.pod(), stage.client().await);
    pod.awake().await;
    let before = calls(&other, "get").await;
    let reads = (0..100).map(|_| pod.read("GET a"));
    let replies = futures_of(reads).await;
    assert!(replies.iter().all(|reply| reply.as_deref() == Ok("$-1\r\n")));
    assert_eq!(calls(&other, "get").await - before, 1);
}

/// All at once, in one task, so that none has an answer before all have asked.
async fn futures_of<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        let mut is_done = true;
        for (future, output) in &mut waiting {
            if output.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => is_done = false,
                }
            }
        }
        if is_done { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    waiting.into_iter().map(|(_, output)| output.unwrap()).collect()
}
