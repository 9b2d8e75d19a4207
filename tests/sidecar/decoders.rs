//! What chance makes of valid inputs, read by all that reads what others have written; and what has ever found
//! something. `make fuzz` goes on for longer, and by what an input reaches.

use std::{fs, path::Path};

use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, TestRunner},
};

use crate::fuzz_targets::{ALL, PIECES, seeds};

#[derive(Clone, Debug)]
enum Change {
    Insert(Index, &'static str),
    Replace(Index, u8),
    Flip(Index, u8),
    Remove(Index, Index),
    Repeat(Index, Index),
    /// In place of a number in digits.
    Number(Index, u64),
    /// In place of one of four bytes, such as a length.
    Length(Index, u32),
    /// From there on another input.
    Splice(Index, Index),
}

fn extreme() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(u64::from(u32::MAX)),
        Just(1 << 31),
        Just(1 << 40),
        Just(i64::MAX.cast_unsigned()),
        Just(u64::MAX),
        any::<u64>(),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        3 => (at(), prop::sample::select(&PIECES[..])).prop_map(|(at, piece)| Change::Insert(at, piece)),
        2 => (at(), any::<u8>()).prop_map(|(at, byte)| Change::Replace(at, byte)),
        2 => (at(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        1 => (at(), at()).prop_map(|(at, count)| Change::Remove(at, count)),
        1 => (at(), at()).prop_map(|(at, count)| Change::Repeat(at, count)),
        2 => (at(), extreme()).prop_map(|(at, number)| Change::Number(at, number)),
        2 => (at(), prop_oneof![0..64_u32, Just(u32::MAX), any::<u32>()])
            .prop_map(|(at, length)| Change::Length(at, length)),
        1 => (at(), at()).prop_map(|(at, other)| Change::Splice(at, other)),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change, seeds: &[Vec<u8>]) {
    let length = bytes.len().max(1);
    bytes.resize(length, b' ');
    match change {
        Change::Insert(at, piece) => {
            let at = at.index(length);
            bytes.splice(at..at, piece.bytes());
        }
        Change::Replace(at, byte) => bytes[at.index(length)] = *byte,
        Change::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
        Change::Remove(at, count) => {
            let at = at.index(length);
            bytes.drain(at..at + count.index((length - at).min(16)) + 1);
        }
        Change::Repeat(at, count) => {
            let at = at.index(length);
            let again = bytes[at..at + count.index((length - at).min(64)) + 1].to_vec();
            bytes.splice(at..at, again);
        }
        Change::Number(at, number) => {
            let begins = |at: &usize| {
                bytes[*at].is_ascii_digit() && !at.checked_sub(1).is_some_and(|at| bytes[at].is_ascii_digit())
            };
            let places: Vec<usize> = (0..length).filter(begins).collect();
            if !places.is_empty() {
                let at = *at.get(&places);
                let end =
                    bytes[at..].iter().position(|byte| !byte.is_ascii_digit()).map_or(length, |end| at + end);
                bytes.splice(at..end, number.to_string().into_bytes());
            }
        }
        Change::Length(at, number) => {
            let at = at.index(length);
            bytes.splice(at..(at + 4).min(length), number.to_le_bytes());
        }
        Change::Splice(at, other) => {
            let other = other.get(seeds);
            bytes.truncate(at.index(length));
            bytes.extend_from_slice(&other[bytes.len().min(other.len())..]);
        }
    }
}

#[test]
fn whatever_chance_makes_of_what_others_write_is_read_or_refused() {
    for (name, read) in ALL {
        let seeds = seeds(name);
        let inputs = (any::<Index>(), prop::collection::vec(change(), 0..6));
        let cases = 4 * Config::default().cases;
        TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
            .run(&inputs, |(seed, changes)| {
                let mut bytes = seed.get(&seeds).clone();
                for change in &changes {
                    apply(&mut bytes, change, &seeds);
                }
                read(&bytes);
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn what_has_found_something_is_read_or_refused() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for (name, read) in ALL {
        for seed in seeds(name) {
            read(&seed);
        }
        for file in fs::read_dir(corpus.join(name)).into_iter().flatten() {
            let file = file.unwrap().path();
            println!("{}", file.display());
            read(&fs::read(&file).unwrap());
        }
    }
    for folder in fs::read_dir(&corpus).into_iter().flatten() {
        let folder = folder.unwrap().file_name();
        assert!(ALL.iter().any(|(name, _)| folder == *name), "{folder:?} is of no target");
    }
}
