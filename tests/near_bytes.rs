//! How much memory an entry of the near-cache takes beside its key and its value, with the allocator of the sidecar.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cachedservice::sidecar::{
    near_cache::{
        coherence::Coherence,
        commands::meaning,
        store::{Question, Store, Terms},
    },
    resp::request::Command,
};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What the issue of the near-cache sets as its goal.
const MOST: usize = 100;
/// Above so many bytes, where jemalloc's sizes are further apart, it is a little more right after a table has grown.
const SMALL: usize = 256;
const MORE: usize = 20;

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// What an entry takes beside key and value, where all have values of this size.
fn beside(entries: usize, value: usize, kept: &mut Vec<Store>) -> usize {
    let store = Store::new(1 << 30, 1 << 16, Coherence::default());
    let reply = [format!("${value}\r\n").into_bytes(), vec![b'x'; value], b"\r\n".to_vec()].concat();
    let before = resident();
    let mut keys = 0;
    for number in 0..entries {
        let key = format!("user:{number:012}");
        keys += key.len();
        let command = Command::of(&[b"GET", key.as_bytes()]);
        let question = Question {
            tag: 0,
            command: &command,
            keys: meaning(&command.args().collect::<Vec<_>>()[..]).reads(),
        };
        let terms = Terms { token: store.coherence().begin(0), expires: 1 << 40, rule: 0 };
        assert!(store.put(&question, terms, &reply, 0));
    }
    let beside = (resident() - before).saturating_sub(keys + entries * value) / entries;
    // What is counted against the room is what is taken.
    let counted = usize::try_from(store.bytes()).unwrap();
    let taken = resident() - before;
    assert!(counted.abs_diff(taken) < taken / 4, "{counted} bytes are counted and {taken} taken");
    // Its memory would be used again for the next.
    kept.push(store);
    beside
}

#[test]
fn an_entry_takes_less_than_100_bytes_beside_key_and_value() {
    let mut kept = Vec::new();
    // The tables are full with the first number, and have just grown with the second.
    for entries in [16 * 7000, 16 * 7400] {
        for value in [10, 50, 100, 200, 500, 1000] {
            let beside = beside(entries, value, &mut kept);
            println!(
                "{entries} entries with values of {value} bytes take {beside} bytes each beside key and value"
            );
            let more = if value < SMALL { 0 } else { MORE };
            assert!(beside <= MOST + more, "{beside} bytes, with values of {value}");
        }
    }
}
