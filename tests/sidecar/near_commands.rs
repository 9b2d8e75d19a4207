//! The table of commands, held against what the Redis of this machine says of its own.

mod samples;

use std::collections::BTreeSet;

use cachedservice::sidecar::near_cache::commands::{Handling, Meaning, meaning};

use crate::near_wire::{Value, Wire, server, words};
use samples::{KEYS, NEWER, SAMPLES, SEED};

/// Redis takes them for writes whatever their options.
const READS_BY_OPTION: [&str; 4] = ["BITFIELD", "GEORADIUS", "GEORADIUSBYMEMBER", "SORT"];
/// What is left out of the table on purpose, as it may change or move any key.
const UNKNOWN: [&str; 17] = [
    "cluster|addslots",
    "cluster|addslotsrange",
    "cluster|bumpepoch",
    "cluster|delslots",
    "cluster|delslotsrange",
    "cluster|failover",
    "cluster|flushslots",
    "cluster|replicate",
    "cluster|reset",
    "cluster|set-config-epoch",
    "cluster|setslot",
    "module|load",
    "module|loadex",
    "module|unload",
    "function|delete",
    "function|flush",
    "function|load",
];

const NO_KEYS: &str = "-ERR The command has no key arguments";

/// One line of `COMMAND`, of a command or a subcommand.
struct Described {
    name: String,
    arity: i64,
    flags: Vec<String>,
    tips: Vec<String>,
    has_keys: bool,
    has_subcommands: bool,
}

impl Described {
    fn is(&self, flag: &str) -> bool {
        self.flags.iter().any(|name| name == flag)
    }

    fn invocations(&self) -> Vec<String> {
        let begin = self.name.replace('|', " ").to_uppercase();
        if self.has_subcommands {
            return vec![begin];
        }
        if self.has_keys {
            let of_it = |line: &&str| line.starts_with(&begin) && is_next(line, &begin);
            return samples().map(|sample| sample.line).filter(of_it).map(str::to_owned).collect();
        }
        let least = usize::try_from(self.arity.abs()).unwrap().saturating_sub(words(&begin).len());
        vec![format!("{begin}{}", " 1".repeat(least))]
    }
}

/// An invocation.
struct Sample {
    line: &'static str,
    /// It changes nothing of the data.
    is_quiet: bool,
    /// The server may not know it.
    is_newer: bool,
}

impl Sample {
    fn args(&self) -> Vec<&'static str> {
        words(self.line)
    }
}

fn samples() -> impl Iterator<Item = Sample> {
    let newer = NEWER.iter().map(|(line, ..)| Sample { line, is_quiet: false, is_newer: true });
    let all = SAMPLES.iter().map(|line| {
        let is_quiet = line.starts_with('!');
        Sample { line: line.trim_start_matches('!'), is_quiet, is_newer: false }
    });
    all.chain(newer)
}

/// Whether the name ends where these words do.
fn is_next(line: &str, begin: &str) -> bool {
    line.as_bytes().get(begin.len()).is_none_or(|&byte| byte == b' ')
}

fn described(wire: &mut Wire) -> Vec<Described> {
    let mut all = Vec::new();
    let mut add = |value: &Value| {
        let fields = value.many();
        let Value::Number(arity) = fields[1] else { panic!("{:?}", fields[1]) };
        let owned = |value: &Value| value.texts().into_iter().map(str::to_owned).collect::<Vec<_>>();
        all.push(Described {
            name: fields[0].text().to_owned(),
            arity,
            flags: owned(&fields[2]),
            tips: owned(&fields[7]),
            has_keys: !fields[8].many().is_empty(),
            has_subcommands: !fields[9].many().is_empty(),
        });
        fields[9].many().to_vec()
    };
    for command in wire.value("COMMAND").many() {
        for subcommand in add(command) {
            add(&subcommand);
        }
    }
    all
}

fn word(handling: Handling) -> String {
    format!("{handling:?}").split('(').next().unwrap().to_owned()
}

fn keys<'a>(args: &[&'a str], meaning: &Meaning) -> (BTreeSet<&'a str>, BTreeSet<&'a str>) {
    (meaning.reads().map(|at| args[at]).collect(), meaning.changes().map(|at| args[at]).collect())
}

#[test]
fn every_command_of_the_server_is_handled_as_its_flags_say() {
    let server = server();
    let all = described(&mut Wire::connect(&server, "2"));
    assert!(all.len() > 300, "{} commands", all.len());
    for command in &all {
        let name = &command.name;
        let invocations = command.invocations();
        assert!(!invocations.is_empty(), "{name} has keys, and so needs a sample");
        let mut may_wait = false;
        for line in &invocations {
            let meaning = meaning(&words(line)[..]);
            let handling = word(meaning.handling);
            let among = |those: &[&str]| those.contains(&handling.as_str());
            assert_ne!(meaning.name, "other", "{line} is not in the table");
            if UNKNOWN.contains(&name.as_str()) {
                assert_eq!(handling, "ChangeUnknown", "{line}");
                continue;
            }
            // Those that wait for replicas have the flag since 7.2.
            may_wait |= among(&["Blocking"]) || among(&["Wait"]) && command.is("blocking");
            if command.is("write") {
                let is_read = READS_BY_OPTION.contains(&meaning.name) && among(&["Read"]);
                let is_change = among(&["Change", "ChangeUnknown", "ChangeAll", "Blocking"]);
                assert!(is_read || is_change, "{line} writes, and is {handling}");
            }
            if command.is("readonly") && meaning.name != "PFCOUNT" {
                assert!(among(&["Cached", "Read", "Blocking"]), "{line} reads, and is {handling}");
            }
            if command.is("pubsub") {
                assert!(among(&["PubSub", "Passed"]), "{line} is of publishing, and is {handling}");
            }
            if among(&["Cached"]) {
                assert!(command.is("readonly"), "{line} is not tracked by Redis");
                assert!(!["blocking", "noscript", "admin"].iter().any(|flag| command.is(flag)), "{line}");
                assert!(!command.tips.iter().any(|tip| tip == "nondeterministic_output"), "{line}");
            }
            if among(&["ChangeUnknown"]) && !["EVAL", "EVALSHA", "FCALL"].contains(&meaning.name) {
                assert!(line.starts_with("FUNCTION "), "{line} is not known, and not so on purpose");
            }
        }
        assert_eq!(may_wait, command.is("blocking"), "{name} waits, by a flag or a sample");
    }
    for unknown in UNKNOWN {
        assert!(all.iter().any(|command| command.name == unknown), "{unknown} is no command");
    }
}

#[test]
fn keys_are_those_that_the_server_finds() {
    let server = server();
    let mut wire = Wire::connect(&server, "2");
    for sample in samples() {
        let (line, args) = (sample.line, sample.args());
        let meaning = meaning(&args[..]);
        let (reads, changes) = keys(&args, &meaning);
        let (mut read_by_server, mut changed_by_server) = (BTreeSet::new(), BTreeSet::new());
        let answer = wire.value_of(&[&["COMMAND", "GETKEYSANDFLAGS"], &args[..]].concat());
        if answer != Value::Text(NO_KEYS.to_owned()) {
            if sample.is_newer && matches!(answer, Value::Text(_)) {
                continue;
            }
            for found in answer.many() {
                let flags = found.many()[1].texts();
                let key = found.many()[0].text().to_owned();
                if flags.contains(&"not_key") {
                    continue;
                }
                if flags.contains(&"RO") {
                    read_by_server.insert(key);
                } else {
                    changed_by_server.insert(key);
                }
            }
        }
        let owned = |keys: &BTreeSet<&str>| keys.iter().map(|&key| key.to_owned()).collect::<BTreeSet<_>>();
        // To the server the one changes and the other reads: a group is no part of the value. Modules do not say.
        if ["WATCH", "XREADGROUP"].contains(&meaning.name) || line.starts_with('V') {
            assert_eq!(&owned(&reads) | &owned(&changes), &read_by_server | &changed_by_server, "{line}");
            continue;
        }
        assert_eq!(owned(&changes), changed_by_server, "changed by {line}");
        let beside: BTreeSet<_> = &owned(&reads) - &owned(&changes);
        assert_eq!(beside, &read_by_server - &changed_by_server, "read by {line}");
    }
}

#[test]
fn what_redis_pushes_for_a_command_is_what_it_changes_by_the_table() {
    let server = server();
    let mut app = Wire::connect(&server, "2");
    let mut near = Wire::connect(&server, "3");
    assert_eq!(near.line("CLIENT TRACKING ON"), b"+OK\r\n");
    let everything = [&["EXISTS"], KEYS].concat();
    let mut pushed_by_some = 0;
    for sample in samples() {
        let (line, args) = (sample.line, sample.args());
        let meaning = meaning(&args[..]);
        if matches!(meaning.handling, Handling::PubSub(_) | Handling::Transaction(_)) {
            continue;
        }
        for seed in SEED {
            assert!(!app.line(seed).starts_with(b"-"), "{seed}");
        }
        near.ask(&everything);
        near.invalidated.clear();
        let reply = app.ask(&args);
        // What has happened before it is told before its reply.
        near.line("PING");
        let (_, changes) = keys(&args, &meaning);
        let changes: BTreeSet<_> = changes.into_iter().map(str::to_owned).collect();
        let reply = String::from_utf8_lossy(&reply);
        assert!(near.invalidated.is_subset(&changes), "{line} changes {:?} with {reply}", near.invalidated);
        if sample.is_newer {
            continue;
        }
        if sample.is_quiet {
            assert_eq!(near.invalidated, BTreeSet::new(), "{line} changes what it is said not to");
        } else if !changes.is_empty() {
            assert_ne!(near.invalidated, BTreeSet::new(), "{line} changes nothing: {reply}");
            pushed_by_some += 1;
        }
    }
    assert!(pushed_by_some > 90, "{pushed_by_some}");
}

#[test]
fn redis_tracks_every_key_of_what_l1_may_answer() {
    let server = server();
    let mut app = Wire::connect(&server, "2");
    let mut near = Wire::connect(&server, "3");
    assert_eq!(near.line("CLIENT TRACKING ON"), b"+OK\r\n");
    let mut tracked = BTreeSet::new();
    for sample in samples() {
        let (line, args) = (sample.line, sample.args());
        let meaning = meaning(&args[..]);
        if !matches!(meaning.handling, Handling::Cached(_)) {
            continue;
        }
        for seed in SEED {
            assert!(!app.line(seed).starts_with(b"-"), "{seed}");
        }
        near.line("PING");
        near.invalidated.clear();
        let reply = near.ask(&args);
        if sample.is_newer && reply.starts_with(b"-ERR") {
            continue;
        }
        assert!(!reply.starts_with(b"-"), "{line}: {}", String::from_utf8_lossy(&reply));
        let (reads, _) = keys(&args, &meaning);
        for key in &reads {
            app.ask(&["SET", key, "x"]);
        }
        near.line("PING");
        assert_eq!(near.invalidated, reads.into_iter().map(str::to_owned).collect(), "{line}");
        tracked.insert(meaning.name);
    }
    assert!(tracked.len() > 45, "{}: {tracked:?}", tracked.len());
}

#[test]
fn commands_of_later_versions_are_handled_by_their_documentation() {
    for (line, handling, reads, changes) in NEWER {
        let args = words(line);
        let meaning = meaning(&args[..]);
        assert_eq!(word(meaning.handling), *handling, "{line}");
        let expected = (words(reads).into_iter().collect(), words(changes).into_iter().collect());
        assert_eq!(keys(&args, &meaning), expected, "{line}");
    }
}

/// So that this is found out when a later Redis tells it: then the flag in the table can go.
#[test]
fn redis_tells_nobody_that_databases_have_been_swapped() {
    let server = server();
    let mut app = Wire::connect(&server, "2");
    let mut near = Wire::connect(&server, "3");
    near.line("CLIENT TRACKING ON");
    app.line("SET s1 x");
    near.line("GET s1");
    assert_eq!(app.line("SWAPDB 0 1"), b"+OK\r\n");
    near.line("PING");
    assert_eq!(near.invalidated, BTreeSet::new());
    assert_eq!(near.line("GET s1"), b"_\r\n");
    assert_eq!(meaning(&["SWAPDB", "0", "1"][..]).handling, Handling::ChangeAll);
}
