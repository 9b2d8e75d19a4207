//! Through the relay a client gets, byte for byte, what it would get from Redis.

use proptest::{
    collection::vec,
    prelude::*,
    strategy::Union,
    test_runner::{Config, TestRunner},
};

use super::{Client, LIMIT, Stage};

/// What ends a case: a transaction, if there is one, and something that is answered in every state.
const END: &[&[&str]] = &[&["DISCARD"], &["PING", "END-OF-CASE"]];
const END_BYTES: &[u8] = b"$11\r\nEND-OF-CASE\r\n";

/// Words that stand for what varies: K a key, V a value, N a number, I a whole one, F a field, C a channel.
///
/// Members of sets are numbers, as the order of others depends on a seed of each server; nothing here depends on the
/// time.
const COMMANDS: &[&str] = &[
    "GET K",
    "SET K V",
    "SET K N",
    "SET K V NX",
    "SET K V XX GET",
    "SET K V EX 1000",
    "SETNX K V",
    "GETSET K V",
    "GETDEL K",
    "APPEND K V",
    "STRLEN K",
    "INCR K",
    "INCRBY K N",
    "INCRBYFLOAT K N",
    "GETRANGE K 0 N",
    "SETRANGE K N V",
    "MGET K K K",
    "MSET K V K V",
    "MSETNX K V K N",
    "SETBIT K N 1",
    "GETBIT K N",
    "BITCOUNT K",
    "LCS K K",
    "DEL K",
    "DEL K K",
    "UNLINK K",
    "EXISTS K K",
    "TYPE K",
    "RENAME K K",
    "COPY K K",
    "PERSIST K",
    "TOUCH K K",
    "DBSIZE",
    "OBJECT ENCODING K",
    "DUMP K",
    "MOVE K 1",
    "SWAPDB 0 1",
    "HSET K F W",
    "HSET K F W F N",
    "HGET K F",
    "HMGET K F F",
    "HGETALL K",
    "HDEL K F",
    "HLEN K",
    "HINCRBY K F N",
    "HEXISTS K F",
    "HKEYS K",
    "HVALS K",
    "LPUSH K V",
    "RPUSH K V N",
    "LPOP K",
    "RPOP K 2",
    "LRANGE K 0 -1",
    "LLEN K",
    "LINDEX K N",
    "LINSERT K BEFORE V N",
    "LMOVE K K LEFT RIGHT",
    "LPOS K V",
    "LTRIM K 0 N",
    "LMPOP 2 K K LEFT",
    "SADD K I",
    "SADD K I I",
    "SREM K I",
    "SMEMBERS K",
    "SISMEMBER K I",
    "SMISMEMBER K I I",
    "SCARD K",
    "SINTER K K",
    "SUNIONSTORE K K K",
    "ZADD K N V",
    "ZADD K N F N V",
    "ZINCRBY K N F",
    "ZSCORE K F",
    "ZRANGE K 0 -1",
    "ZRANGE K 0 -1 WITHSCORES",
    "ZRANK K F",
    "ZREM K F",
    "ZCARD K",
    "ZPOPMIN K",
    "ZMSCORE K F F",
    "ZRANGEBYSCORE K -inf N",
    "XADD K N-1 F V",
    "XRANGE K - +",
    "XLEN K",
    "XREAD COUNT 2 STREAMS K 0",
    "XGROUP CREATE K g 0 MKSTREAM",
    "XREAD BLOCK 1 STREAMS K N",
    "PFADD K V",
    "PFCOUNT K",
    "GEOADD K 13.3 38.1 V",
    "GEOPOS K V",
    "BITFIELD K SET u8 0 N",
    "MULTI",
    "EXEC",
    "DISCARD",
    "WATCH K",
    "UNWATCH",
    "MULTI",
    "EXEC",
    "SELECT 0",
    "SELECT 1",
    "SELECT 2",
    "SELECT 99",
    "SELECT x",
    "SELECT 01",
    "SELECT",
    "SELECT -1",
    "BLPOP K 0.001",
    "BRPOP K K 0.001",
    "BLMOVE K K LEFT LEFT 0.001",
    "BZPOPMIN K 0.001",
    "BLPOP K x",
    "WAIT 0 1",
    "CLIENT SETNAME V",
    "CLIENT SETNAME F",
    "CLIENT GETNAME",
    "CLIENT SETINFO LIB-NAME x",
    "CLIENT NOSUCH",
    "CLIENT",
    "CLIENT SETNAME",
    "CLIENT TRACKINGINFO",
    "CLIENT NO-EVICT ON",
    "CLIENT GETREDIR",
    "AUTH x",
    "AUTH x y",
    "AUTH default p@ss",
    "AUTH",
    "AUTH a b c",
    "HELLO x",
    "HELLO 4",
    "HELLO 3 AUTH x",
    "HELLO 3 WHAT",
    "HELLO 3 AUTH x y",
    "HELLO 3 SETNAME V",
    "EVAL return{1,'a',false} 0",
    "EVAL return(redis.call('GET',KEYS[1])) 1 K",
    "EVALSHA ffff 0",
    "FCALL f 0",
    "PUBLISH C V",
    "PUBSUB NUMSUB C",
    "SUBSCRIBE C C",
    "UNSUBSCRIBE",
    "UNSUBSCRIBE C",
    "PSUBSCRIBE C*",
    "PUNSUBSCRIBE",
    "SSUBSCRIBE C",
    "PING",
    "PING V",
    "ECHO V",
    "NOSUCH K",
    "GET",
    "GET K K",
    "SET K",
    "MGET",
    "get K",
    "Set K V",
    "",
    "COMMAND COUNT",
    "CONFIG GET maxmemory",
    "LOLWUT VERSION x",
    "READONLY",
    "ASKING",
    "CLUSTER INFO",
    "FLUSHDB",
    "SORT K ALPHA",
    "SORT K BY nosort GET K",
    "DEBUG OBJECT K",
    "EXPIRE K 1000",
    "PEXPIREAT K 1",
    "RESTORE K 0 x",
];

const REMEMBERED: &[&str] =
    &["GET a", "GET a", "GET a", "GET b", "HGETALL h", "MGET a b", "SET a V", "HSET h F W"];

fn word(word: &str) -> BoxedStrategy<Vec<u8>> {
    match word {
        "K" => "[a-e]".prop_map(String::into_bytes).boxed(),
        "F" => "[fgh]".prop_map(String::into_bytes).boxed(),
        "N" => "(-?[0-9]{1,2}|9223372036854775807|1\\.5)".prop_map(String::into_bytes).boxed(),
        // One alone: the order in which several end depends on the seed too.
        // A hash with longer ones is in an order of the server's own.
        "W" => "[a-z]{0,8}".prop_map(String::into_bytes).boxed(),
        "I" => "(-?[1-9][0-9]?|9223372036854775807)".prop_map(String::into_bytes).boxed(),
        "C" => Just(b"c1".to_vec()).boxed(),
        "V" => prop_oneof![
            3 => "[a-z]{0,8}".prop_map(String::into_bytes),
            1 => vec(any::<u8>(), 0..40),
            1 => Just(b"a\r\nb$3\r\n+OK\r\n".to_vec()),
            1 => (1_usize..40_000).prop_map(|length| vec![b'x'; length]),
        ]
        .boxed(),
        other => Just(other.as_bytes().to_vec()).boxed(),
    }
}

fn of(commands: &[&str]) -> Vec<BoxedStrategy<Vec<Vec<u8>>>> {
    commands.iter().map(|command| command.split(' ').map(word).collect::<Vec<_>>().boxed()).collect()
}

fn command() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop_oneof![
        20 => Union::new(of(COMMANDS)),
        // What may be answered from memory, and what changes that.
        10 => Union::new(of(REMEMBERED)),
        1 => vec(vec(any::<u8>(), 0..6), 1..4),
    ]
}

/// A command, and whether what is sent at once ends with it.
type Sent = (Vec<Vec<u8>>, bool);

/// Whether it is RESP3, and what is sent.
fn case() -> impl Strategy<Value = (bool, Vec<Sent>)> {
    (any::<bool>(), vec((command(), prop::bool::weighted(0.5)), 1..60))
}

fn written(command: &[Vec<u8>]) -> Vec<u8> {
    let args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
    cachedservice::sidecar::resp::write::command(&args).to_vec()
}

/// What a client is told, as one piece.
async fn told(client: &mut Client, is_three: bool, commands: &[Sent]) -> Vec<u8> {
    if is_three {
        client.ask(&["HELLO", "3"]).await;
    }
    let mut batch = Vec::new();
    for (command, is_cut) in commands {
        batch.extend(written(command));
        if *is_cut {
            client.write(&std::mem::take(&mut batch)).await;
            // Mostly what comes next is sent when something was answered; how much cannot be known.
            client.some().await;
        }
    }
    for command in END {
        let command: Vec<_> = command.iter().map(|arg| arg.as_bytes().to_vec()).collect();
        batch.extend(written(&command));
    }
    client.write(&batch).await;
    client.up_to(END_BYTES).await
}

/// The greeting has the number of the connection.
fn without_numbers(told: &[u8]) -> String {
    let text = String::from_utf8_lossy(told).into_owned();
    let Some((before, after)) = text.split_once("$2\r\nid\r\n:") else { return text };
    let after = after.split_once("\r\n").map_or("", |(_, rest)| rest);
    format!("{before}{}", without_numbers(after.as_bytes()))
}

#[test]
fn any_commands_are_answered_as_by_redis_itself() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (near, straight) = runtime.block_on(async { (Stage::begin().await, Stage::begin().await) });
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(100);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
    let ran = TestRunner::new(config).run(&case(), |(is_three, commands)| {
        runtime.block_on(async {
            // Through the relay, so that it is known in memory when it is answered.
            for mut client in [near.client().await, straight.straight().await] {
                assert_eq!(client.ask(&["FLUSHALL"]).await, "+OK\r\n");
            }
            let mut client = near.client().await;
            let through = told(&mut client, is_three, &commands);
            let through = tokio::time::timeout(LIMIT, through).await.expect("in time");
            let mut client = straight.straight().await;
            let direct = told(&mut client, is_three, &commands).await;
            prop_assert_eq!(without_numbers(&through), without_numbers(&direct));
            prop_assert_eq!(through.len().abs_diff(direct.len()) < 16, true);
            Ok(())
        })
    });
    ran.unwrap();
    assert!(near.hits() > 0, "some was answered from memory");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_text_and_what_is_no_command_are_answered_as_by_redis_itself() {
    let stage = Stage::begin().await;
    let long = "x".repeat(70_000);
    for sent in [
        "PING\r\n",
        "SET a \"b c\"\r\nGET a\r\n\r\n  get   a\n",
        "get \"a\r\n",
        "*1\r\n+PING\r\n",
        "*x\r\n",
        "PING\r\n*1\r\n$-5\r\n",
        "*0\r\nPING\r\n",
        "*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n:1\r\n",
        &long,
        "GET a\r\nQUIT\r\nGET a\r\n",
    ] {
        let (mut near, mut straight) = (stage.client().await, stage.straight().await);
        // An end that is not an answer to what was sent: what is asked at last is a client that goes.
        let sent = if sent.ends_with("\n") && !sent.contains("QUIT") {
            format!("{sent}QUIT\r\n")
        } else {
            sent.to_owned()
        };
        near.write(sent.as_bytes()).await;
        straight.write(sent.as_bytes()).await;
        let (through, direct) = (near.rest().await, straight.rest().await);
        assert_eq!(String::from_utf8_lossy(&through), String::from_utf8_lossy(&direct), "{sent:.40}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordinary_client_works_as_with_redis() {
    let stage = Stage::begin().await;
    for protocol in ["", "?protocol=resp3"] {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/3{protocol}", stage.near)).unwrap();
        let mut asked = client.get_multiplexed_async_connection().await.unwrap();
        let (): () = redis::cmd("SET").arg("a").arg(1).query_async(&mut asked).await.unwrap();
        let two: (i64, Vec<String>) = redis::pipe()
            .atomic()
            .incr("a", 1)
            .cmd("LRANGE")
            .arg("none")
            .arg(0)
            .arg(-1)
            .query_async(&mut asked)
            .await
            .unwrap();
        assert_eq!(two, (2, Vec::new()));
        let mut straight = stage.straight().await;
        straight.ask(&["SELECT", "3"]).await;
        assert_eq!(straight.ask(&["GETDEL", "a"]).await, "$1\r\n2\r\n");
    }
}
