use proptest::prelude::*;

use super::{Args, Cached, Handling, Indices, Lifetime, Shape, index, meaning, table};

/// How a line is handled, the keys that it reads and those that it changes.
fn told(line: &str) -> (Handling, Vec<&str>, Vec<&str>) {
    let args: Vec<&str> = line.split_whitespace().map(|arg| if arg == "''" { "" } else { arg }).collect();
    let meaning = meaning(&args[..]);
    let keys = |indices: Indices| indices.map(|at| args[at]).collect();
    (meaning.handling, keys(meaning.reads()), keys(meaning.changes()))
}

fn shape(line: &str) -> Shape {
    match told(line).0 {
        Handling::Cached(cached) => cached.shape,
        other => panic!("{line} is {other:?}"),
    }
}

#[test]
fn arguments_are_counted_with_the_name() {
    assert_eq!(["GET", "a"].count(), 2);
    assert_eq!(["GET", "a"].arg(1), Some(&b"a"[..]));
    assert_eq!(["GET", "a"].arg(2), None);
}

#[test]
fn a_name_is_known_in_whatever_case_and_once() {
    let mut names = Vec::new();
    for entry in table::ALL.iter().flat_map(|part| part.iter()) {
        assert_eq!(entry.name, entry.name.to_ascii_uppercase());
        for name in [entry.name.to_owned(), entry.name.to_ascii_lowercase()] {
            assert_eq!(index::find(name.as_bytes()).map(|found| found.name), Some(entry.name));
        }
        names.push(entry.name);
    }
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert_eq!(meaning(&["gEt", "a"][..]).name, "GET");
}

#[test]
fn what_is_not_known_may_change_anything() {
    let module = ["JSON.SET", "GETT", "", "G", "GET\0", "GEORADIUSBYMEMBER_RO_AND_WHAT_FOLLOWS"];
    for name in module {
        assert_eq!(told(&format!("{name} a b")).0, Handling::ChangeUnknown, "{name}");
    }
    assert_eq!(told("XGROUP NEWER a").0, Handling::ChangeUnknown);
    assert_eq!(meaning(&[] as &[&str]).handling, Handling::ChangeUnknown);
}

#[test]
fn what_closes_the_connection_gets_its_own() {
    assert_eq!(told("POST / HTTP/1.1").0, Handling::TakesOver);
    assert_eq!(told("host: localhost").0, Handling::TakesOver);
}

#[test]
fn keys_that_are_missing_are_redis_to_ask_for() {
    for line in [
        "GET",
        "MGET",
        "DEL",
        "SET",
        "BLPOP",
        "BLPOP 0",
        "ZUNION x a",
        "ZUNION 0",
        "SINTERCARD -1 a",
        "CLIENT",
    ] {
        assert_eq!(told(line), (Handling::Passed, vec![], vec![]), "{line}");
    }
    assert_eq!(told("ZUNION 9 a b"), told("ZUNION 2 a b"));
}

#[test]
fn keys_of_a_change_that_are_in_doubt_may_be_any() {
    assert_eq!(told("LMPOP x a LEFT").0, Handling::ChangeUnknown);
    assert_eq!(told("MSETEX 01x a 1").0, Handling::ChangeUnknown);
}

#[test]
fn options_tell_what_is_stored() {
    assert_eq!(told("SORT a"), (Handling::Read, vec!["a"], vec![]));
    assert_eq!(told("SORT a GET STORE BY x"), (Handling::Read, vec!["a"], vec![]));
    assert_eq!(told("SORT a store d STORE e"), (Handling::Change, vec!["a"], vec!["e"]));
    assert_eq!(told("GEORADIUS a 1 2 3 km").0, Handling::Read);
    assert_eq!(told("GEORADIUS a 1 2 3 km STOREDIST d").2, ["d"]);
    assert_eq!(told("BITFIELD a GET u8 0").0, Handling::Read);
    assert_eq!(told("BITFIELD a GET u8 0 set u8 0 1"), (Handling::Change, vec!["a"], vec!["a"]));
}

#[test]
fn options_tell_what_may_wait() {
    assert_eq!(told("XREAD STREAMS BLOCK 0").0, Handling::Read);
    assert_eq!(told("XREAD COUNT 1 block 0 STREAMS a b 0 0"), (Handling::Blocking, vec!["a", "b"], vec![]));
    assert_eq!(told("XREADGROUP GROUP STREAMS c STREAMS a >"), (Handling::Change, vec![], vec!["a"]));
    assert_eq!(told("XREADGROUP GROUP g c CLAIM 5 STREAMS a >"), (Handling::Change, vec![], vec!["a"]));
}

#[test]
fn a_migration_takes_its_keys_away() {
    assert_eq!(told("MIGRATE h 1 a 0 5").2, ["a"]);
    assert_eq!(told("MIGRATE h 1 '' 0 5 COPY AUTH2 KEYS KEYS KEYS a b").2, ["a", "b"]);
}

#[test]
fn scores_and_ranks_have_their_shapes() {
    assert_eq!(shape("ZRANGE a 0 -1"), Shape::ByType);
    assert_eq!(shape("ZRANGE a 0 -1 REV withscores"), Shape::Pairs);
    assert_eq!(shape("ZRANGE WITHSCORES 0 -1"), Shape::ByType);
    assert_eq!(shape("ZUNION 1 WITHSCORES"), Shape::ByType);
    assert_eq!(shape("ZUNION 1 a WITHSCORES"), Shape::Pairs);
    assert_eq!(shape("ZRANK a m"), Shape::ByType);
    assert_eq!(shape("ZRANK a m WITHSCORE"), Shape::NullArrays);
    assert_eq!(shape("GEOPOS a m"), Shape::NullArrays);
}

#[test]
fn reads_of_hashes_depend_on_the_times_of_fields() {
    let cached = |lifetime| Handling::Cached(Cached { shape: Shape::ByType, lifetime });
    assert_eq!(told("HMGET a f g").0, cached(Lifetime::Fields(2)));
    assert_eq!(told("HGETALL a").0, cached(Lifetime::WholeHash));
    assert_eq!(told("GET a").0, cached(Lifetime::Keys));
}

fn argument() -> impl Strategy<Value = Vec<u8>> {
    const WORDS: [&str; 21] = [
        "STORE",
        "STOREDIST",
        "STREAMS",
        "BLOCK",
        "GROUP",
        "KEYS",
        "AUTH2",
        "LIMIT",
        "GET",
        "WITHSCORES",
        "0",
        "1",
        "2",
        "3",
        "-1",
        "18446744073709551615",
        "9223372036854775807",
        "",
        "CREATE",
        "KILL",
        "k",
    ];
    prop_oneof![
        5 => prop::sample::select(&WORDS[..]).prop_map(|word| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..30),
    ]
}

proptest! {
    #[test]
    fn keys_are_arguments_behind_the_name_whatever_is_given(
        part in 0..table::ALL.len(),
        entry in any::<prop::sample::Index>(),
        mut args in prop::collection::vec(argument(), 0..12),
    ) {
        args.insert(0, entry.get(table::ALL[part]).name.as_bytes().to_vec());
        let meaning = meaning(&args[..]);
        for keys in [meaning.reads(), meaning.changes()] {
            prop_assert_eq!(keys.len(), keys.clone().count());
            for key in keys {
                prop_assert!(key > 0 && key < args.len());
            }
        }
        match meaning.handling {
            Handling::Cached(_) => prop_assert!(meaning.reads().len() > 0 && meaning.changes().len() == 0),
            Handling::Change => prop_assert!(meaning.changes().len() > 0),
            Handling::Read | Handling::Passed => prop_assert_eq!(meaning.changes().len(), 0),
            _ => {}
        }
    }

    #[test]
    fn any_name_has_a_meaning(args in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4)) {
        let _ = meaning(&args[..]);
    }
}
