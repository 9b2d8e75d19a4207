//! Replies in RESP3, made older, held against what the same Redis answers in RESP2.

use std::collections::BTreeSet;

use cachedservice::sidecar::{
    near_cache::commands::{Handling, meaning},
    resp::older::older,
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use crate::near_wire::{Value, Wire, server, words};

const SEED: &[&str] = &[
    "SET string hello",
    "SET other hallo",
    "SET number 12345678901234567890",
    "HSET hash f v 1 2 empty x",
    "HSET hash2 f w",
    "SADD set a b c",
    "SADD ints 1 2 3",
    "ZADD zset -inf a 0.1 b 1e300 c 0.30000000000000004 d 1.2345678901234567 e 5e-324 f -0.0 g inf h 100000000000000000000 i",
    "ZADD zset2 3 a 4 b 1.7976931348623157e308 c 123456789012345680 j",
    "ZADD same 0 a 0 b 0 c",
    "GEOADD geo 13.361389 38.115556 p 15.087269 37.502669 c",
    "RPUSH list a b c",
];

/// `K` is each of the keys in turn, and `L` one of its own type.
const PAIRS: [(&str, &str); 11] = [
    ("missing", "missing2"),
    ("string", "other"),
    ("number", "missing"),
    ("hash", "hash2"),
    ("set", "ints"),
    ("ints", "missing"),
    ("zset", "zset2"),
    ("same", "set"),
    ("geo", "same"),
    ("list", "list"),
    ("blank", "string"),
];

const FORMS: &[&str] = &[
    "BITCOUNT K",
    "BITCOUNT K 0 -1",
    "BITFIELD_RO K GET u8 0 GET i64 8",
    "BITPOS K 1",
    "DIGEST K",
    "EXISTS K L K",
    "GEODIST K p c km",
    "GEODIST K p none",
    "GEOHASH K p none c",
    "GEOPOS K p none c",
    "GEOPOS K",
    "GEORADIUS_RO K 15 37 200 km WITHCOORD WITHDIST WITHHASH ASC",
    "GEORADIUS_RO K 0 0 1 m",
    "GEORADIUSBYMEMBER_RO K p 200 km WITHDIST",
    "GEORADIUSBYMEMBER_RO K p 200 km",
    "GEOSEARCH K FROMLONLAT 15 37 BYBOX 400 400 km ASC WITHCOORD WITHDIST",
    "GEOSEARCH K FROMMEMBER p BYRADIUS 1 m",
    "GET K",
    "GET K L",
    "GETBIT K 1",
    "GETRANGE K 0 2",
    "GETRANGE K 9 1",
    "HEXISTS K f",
    "HGET K f",
    "HGET K none",
    "HGETALL K",
    "HKEYS K",
    "HLEN K",
    "HMGET K f none 1",
    "HSTRLEN K f",
    "HVALS K",
    "LCS K L",
    "LCS K L LEN",
    "LCS K L IDX",
    "LCS K L IDX MINMATCHLEN 2 WITHMATCHLEN",
    "MGET K L missing",
    "SCARD K",
    "SDIFF K L",
    "SINTER K L",
    "SINTER K K",
    "SINTERCARD 2 K L",
    "SINTERCARD 2 K K LIMIT 1",
    "SINTERCARD 9 K L",
    "SISMEMBER K a",
    "SMEMBERS K",
    "SMISMEMBER K a none",
    "STRLEN K",
    "SUBSTR K 0 1",
    "SUNION K L",
    "TYPE K",
    "ZCARD K",
    "ZCOUNT K -inf (5",
    "ZCOUNT K a b",
    "ZDIFF 2 K L",
    "ZDIFF 2 K L WITHSCORES",
    "ZINTER 2 K L",
    "ZINTER 2 K L AGGREGATE MIN WITHSCORES",
    "ZINTER 2 K K WEIGHTS 0.1 0.2 WITHSCORES",
    "ZINTERCARD 2 K K LIMIT 2",
    "ZLEXCOUNT K - +",
    "ZMSCORE K a b none e",
    "ZRANGE K 0 -1",
    "ZRANGE K 0 -1 WITHSCORES",
    "ZRANGE K 1 2 REV WITHSCORES",
    "ZRANGE K 5 1 WITHSCORES",
    "ZRANGE K (0 +inf BYSCORE LIMIT 1 2 WITHSCORES",
    "ZRANGE K - + BYLEX LIMIT 0 2",
    "ZRANGE K 0 -1 WITHSCORES WITHSCORES",
    "ZRANGE K 0 -1 NONSENSE",
    "ZRANGEBYLEX K - (b",
    "ZRANGEBYSCORE K -inf +inf WITHSCORES",
    "ZRANGEBYSCORE K -inf +inf withscores LIMIT 1 1",
    "ZRANGEBYSCORE K 1 0",
    "ZRANK K a",
    "ZRANK K none",
    "ZRANK K a WITHSCORE",
    "ZRANK K none WITHSCORE",
    "ZREVRANGE K 0 -1 WITHSCORES",
    "ZREVRANGE K 0 1",
    "ZREVRANGEBYLEX K + -",
    "ZREVRANGEBYSCORE K +inf -inf WITHSCORES",
    "ZREVRANK K b",
    "ZREVRANK K e WITHSCORE",
    "ZREVRANK missing a WITHSCORE",
    "ZSCORE K a",
    "ZSCORE K e",
    "ZSCORE K none",
    "ZUNION 2 K L",
    "ZUNION 2 K L WITHSCORES",
    "ZUNION 2 K L WEIGHTS 1 -1 WITHSCORES",
];

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Asks both, and compares; whether there was a reply that is no error.
fn compare(two: &mut Wire, three: &mut Wire, args: &[&str]) -> bool {
    let Handling::Cached(cached) = meaning(args).handling else { panic!("{args:?} is not for L1") };
    let expected = two.ask(args);
    let newer = three.ask(args);
    let made = older(&newer, cached.shape).unwrap_or_else(|| panic!("{args:?}: {}", shown(&newer)));
    assert_eq!(shown(&made), shown(&expected), "{args:?} of {}", shown(&newer));
    !expected.starts_with(b"-")
}

#[test]
fn every_cached_reply_is_that_of_resp2_whatever_the_data() {
    let server = server();
    let mut two = Wire::connect(&server, "2");
    let mut three = Wire::connect(&server, "3");
    for seed in SEED {
        assert!(!two.line(seed).starts_with(b"-"), "{seed}");
    }
    two.line("SET blank ''");
    two.ask(&["HSET", "hash", "empty", ""]);
    let mut answered = BTreeSet::new();
    for form in FORMS {
        for (key, other) in PAIRS {
            let of_key = |word| match word {
                "K" => key,
                "L" => other,
                word => word,
            };
            let args: Vec<_> = words(form).into_iter().map(of_key).collect();
            if compare(&mut two, &mut three, &args) {
                answered.insert(args[0].to_owned());
            }
        }
    }
    // Every command of the server that L1 answers is among them.
    for name in two.value("COMMAND LIST").texts() {
        let name = name.to_uppercase();
        if let Handling::Cached(_) = meaning(&[&name, "1", "1", "1"][..]).handling {
            assert!(answered.contains(&name), "{name} is not asked for");
        }
    }
}

fn score() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<f64>()
            .prop_filter("a number", |double| !double.is_nan())
            .prop_map(|double| format!("{double:e}")),
        any::<i64>().prop_map(|number| number.to_string()),
        (-1_000_000_i32..1_000_000).prop_map(|number| format!("{}", f64::from(number) / 1000.0)),
        prop::sample::select(&["inf", "-inf", "-0", "0", "3.0000000000000001e-5", "9007199254740993"][..])
            .prop_map(str::to_owned),
    ]
}

#[test]
fn scores_and_members_by_chance_are_those_of_resp2() {
    let server = server();
    let wires = std::cell::RefCell::new((Wire::connect(&server, "2"), Wire::connect(&server, "3")));
    let member = prop::string::string_regex("[a-c\\r\\n$*_,~]{0,4}").unwrap();
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    let run = runner.run(&prop::collection::vec((score(), member), 0..12), |pairs| {
        let (two, three) = &mut *wires.borrow_mut();
        two.line("DEL z h");
        for (score, member) in &pairs {
            let added = two.value_of(&["ZADD", "z", score, member]);
            prop_assert!(matches!(added, Value::Number(_)), "{score}: {added:?}");
            two.ask(&["HSET", "h", member, score]);
        }
        for line in
            ["ZRANGE z 0 -1 WITHSCORES", "ZRANGE z 0 -1", "ZUNION 1 z WITHSCORES", "HGETALL h", "HVALS h"]
        {
            compare(two, three, &words(line));
        }
        let members = pairs.iter().map(|(_, member)| member.as_str()).chain(["none"]);
        let args: Vec<_> = ["ZMSCORE", "z"].into_iter().chain(members).collect();
        compare(two, three, &args);
        Ok(())
    });
    run.unwrap();
}
