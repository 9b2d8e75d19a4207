//! A model of a Redis that tracks, of the connections to it and of a pod, whose steps come in any order.

use std::collections::{BTreeSet, VecDeque};

use bytes::BytesMut;
use proptest::{
    prelude::*,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};

use super::*;
use crate::sidecar::{
    near_cache::{
        commands::{Indices, meaning},
        store::{Question, Store, Terms},
    },
    resp::request::Command,
};

const KEYS: [&str; 3] = ["a", "b", "c"];
/// What is read: the commands, and the keys of each.
const READS: [(&str, &[usize]); 5] =
    [("GET a", &[0]), ("GET b", &[1]), ("GET c", &[2]), ("MGET a b", &[0, 1]), ("MGET c a", &[2, 0])];
const STREAMS: usize = 2;
const TIME: u64 = 1 << 40;

/// How often each key was changed.
type Versions = [u32; KEYS.len()];

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The pod asks on a connection.
    Fill(usize, usize),
    /// Redis takes one request of a connection.
    Take(usize),
    /// The pod takes one message of a connection.
    Receive(usize),
    /// The pod reads past its memory.
    Pass(usize, usize),
    /// Somebody else changes a key, or all.
    Change(usize),
    ChangeAll,
    /// The pod changes a key: it is sent, Redis does it, its reply comes.
    Send(usize),
    Do,
    Reply,
    /// The pod changes a key by a script, which nobody knows of beforehand; all is waited for that Redis tells.
    Script(usize),
    /// A connection breaks; the pod hears of it. Another takes its place.
    Break(usize),
    Connect(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..STREAMS, 0..READS.len()).prop_map(|(stream, read)| Step::Fill(stream, read)),
        6 => (0..STREAMS).prop_map(Step::Take),
        6 => (0..STREAMS).prop_map(Step::Receive),
        1 => (0..STREAMS, 0..READS.len()).prop_map(|(stream, read)| Step::Pass(stream, read)),
        2 => (0..KEYS.len()).prop_map(Step::Change),
        1 => Just(Step::ChangeAll),
        2 => (0..KEYS.len()).prop_map(Step::Send),
        2 => Just(Step::Do),
        2 => Just(Step::Reply),
        1 => (0..KEYS.len()).prop_map(Step::Script),
        1 => (0..STREAMS).prop_map(Step::Break),
        2 => (0..STREAMS).prop_map(Step::Connect),
    ];
    prop::collection::vec(step, 1..80)
}

enum Message {
    Push(usize, Versions),
    PushAll(Versions),
    Reply(usize, Token, Versions),
}

#[derive(Default)]
struct Stream {
    requests: VecDeque<(usize, Token)>,
    messages: VecDeque<Message>,
    tracked: BTreeSet<usize>,
    is_down: bool,
}

struct World {
    store: Store,
    versions: Versions,
    streams: [Stream; STREAMS],
    /// Changes of the pod: on the way to Redis, and on the way back with the version that they made.
    changes: VecDeque<usize>,
    done: VecDeque<(usize, u32)>,
    /// What the pod has heard of: nothing older may be given.
    heard: Versions,
    /// What the users of each connection have read: nothing older may be given to them.
    read: [Versions; STREAMS],
}

impl World {
    fn new(coherence: Coherence) -> Self {
        let store = Store::new(1 << 20, 64, coherence);
        (0..STREAMS).for_each(|stream| store.coherence().confirm(place(stream), TIME));
        Self {
            store,
            versions: [0; KEYS.len()],
            streams: Default::default(),
            changes: VecDeque::new(),
            done: VecDeque::new(),
            heard: [0; KEYS.len()],
            read: [[0; KEYS.len()]; STREAMS],
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Fill(stream, read) => {
                let token = self.store.coherence().begin(place(stream));
                if !self.streams[stream].is_down {
                    self.streams[stream].requests.push_back((read, token));
                }
            }
            Step::Take(stream) => {
                let versions = self.versions;
                let stream = &mut self.streams[stream];
                if let Some((read, token)) = stream.requests.pop_front() {
                    stream.tracked.extend(READS[read].1);
                    stream.messages.push_back(Message::Reply(read, token, versions));
                }
            }
            Step::Receive(stream) => {
                if let Some(message) = self.streams[stream].messages.pop_front() {
                    self.receive(stream, message);
                }
            }
            Step::Pass(stream, read) => {
                for &key in READS[read].1 {
                    self.store.happened(KEYS[key].as_bytes());
                }
                self.note_read(stream, read, self.versions);
            }
            Step::Change(key) => self.change(key),
            Step::ChangeAll => {
                self.versions = self.versions.map(|version| version + 1);
                for stream in self.streams.iter_mut().filter(|stream| !stream.is_down) {
                    stream.tracked.clear();
                    stream.messages.push_back(Message::PushAll(self.versions));
                }
            }
            Step::Send(key) => {
                self.store.happened(KEYS[key].as_bytes());
                self.changes.push_back(key);
            }
            Step::Do => {
                if let Some(key) = self.changes.pop_front() {
                    self.change(key);
                    self.done.push_back((key, self.versions[key]));
                }
            }
            Step::Reply => {
                if let Some((key, version)) = self.done.pop_front() {
                    self.store.happened(KEYS[key].as_bytes());
                    self.heard[key] = self.heard[key].max(version);
                }
            }
            Step::Script(key) => {
                self.change(key);
                for stream in 0..STREAMS {
                    if self.streams[stream].is_down {
                        self.store.coherence().lose(place(stream));
                    }
                    self.take_all(stream);
                }
                self.heard[key] = self.versions[key];
            }
            Step::Break(stream) => {
                self.streams[stream] = Stream { is_down: true, ..Stream::default() };
                self.store.coherence().break_off(place(stream));
            }
            Step::Connect(stream) => {
                if std::mem::take(&mut self.streams[stream].is_down) {
                    self.store.coherence().lose(place(stream));
                    self.store.coherence().confirm(place(stream), TIME);
                }
            }
        }
    }

    /// All that is under way on a connection comes.
    fn take_all(&mut self, stream: usize) {
        while !self.streams[stream].requests.is_empty() || !self.streams[stream].messages.is_empty() {
            self.step(Step::Take(stream));
            self.step(Step::Receive(stream));
        }
    }

    fn change(&mut self, key: usize) {
        self.versions[key] += 1;
        for stream in &mut self.streams {
            if stream.tracked.remove(&key) {
                stream.messages.push_back(Message::Push(key, self.versions));
            }
        }
    }

    fn note_read(&mut self, stream: usize, read: usize, versions: Versions) {
        for &key in READS[read].1 {
            let seen = &mut self.read[stream][key];
            *seen = versions[key].max(*seen);
        }
    }

    fn receive(&mut self, stream: usize, message: Message) {
        match message {
            Message::Push(key, versions) => {
                self.store.happened(KEYS[key].as_bytes());
                self.heard[key] = self.heard[key].max(versions[key]);
            }
            Message::PushAll(versions) => {
                self.store.coherence().forget_all();
                for (heard, version) in self.heard.iter_mut().zip(versions) {
                    *heard = version.max(*heard);
                }
            }
            Message::Reply(read, token, versions) => {
                let (command, keys) = command(read);
                let reply = versions.map(|version| format!("{version:08}")).concat();
                let question = Question { tag: tag(stream), command: &command, keys };
                self.note_read(stream, read, versions);
                self.store.put(&question, Terms { token, expires: TIME, rule: 0 }, reply.as_bytes(), 0);
            }
        }
    }

    /// What would be given to a read; where the connection has broken, as stale.
    fn given(&self, stream: usize, read: usize) -> Option<Versions> {
        let (command, keys) = command(read);
        let mut out = BytesMut::new();
        let question = Question { tag: tag(stream), command: &command, keys };
        let current = self.store.get(&question, 1, &mut out);
        assert!(current.is_none() || !self.streams[stream].is_down, "given as current");
        current.or_else(|| self.store.get_stale(&question, 1, &mut out))?;
        let text = std::str::from_utf8(&out).unwrap();
        Some(std::array::from_fn(|key| text[key * 8..][..8].parse().unwrap()))
    }

    fn check(&self, what: &str) -> Result<(), TestCaseError> {
        for (stream, (read, (words, keys))) in
            (0..STREAMS).flat_map(|stream| READS.iter().enumerate().map(move |read| (stream, read)))
        {
            let Some(given) = self.given(stream, read) else { continue };
            for &key in *keys {
                let (given, heard) = (given[key], self.heard[key].max(self.read[stream][key]));
                prop_assert!(
                    given >= heard,
                    "{words} gives {given} of {}, after {heard} was known: {what}",
                    KEYS[key]
                );
            }
        }
        Ok(())
    }
}

fn tag(stream: usize) -> u32 {
    place(stream).into()
}

fn place(stream: usize) -> u8 {
    u8::try_from(stream).unwrap()
}

fn command(read: usize) -> (Command, Indices) {
    let words: Vec<&[u8]> = READS[read].0.split(' ').map(str::as_bytes).collect();
    let keys = meaning(&words[..]).reads();
    (Command::of(&words), keys)
}

fn run(coherence: Coherence, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut world = World::new(coherence);
    for (number, step) in steps.iter().enumerate() {
        world.step(*step);
        world.check(&format!("{step:?} at {number}"))?;
    }
    // All that is under way comes: what is given then is what Redis has.
    while !world.changes.is_empty() || !world.done.is_empty() {
        world.step(Step::Do);
        world.step(Step::Reply);
    }
    for stream in 0..STREAMS {
        world.step(Step::Connect(stream));
        world.take_all(stream);
    }
    world.heard = world.versions;
    world.check("at last")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn nothing_is_given_that_is_older_than_what_was_heard_of_or_read(steps in steps()) {
        run(Coherence::default(), &steps)?;
    }
}

#[test]
fn the_model_finds_out_what_is_left_out() {
    for lacks in [Lacks::Epochs, Lacks::Losses] {
        let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) };
        let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
        let found = runner.run(&steps(), |steps| run(Coherence::lacking(lacks), &steps));
        assert!(found.is_err(), "{lacks:?}");
    }
}

#[test]
fn something_is_given_at_all() {
    let mut world = World::new(Coherence::default());
    for step in
        [Step::Fill(0, 0), Step::Fill(1, 3), Step::Take(0), Step::Take(1), Step::Receive(0), Step::Receive(1)]
    {
        world.step(step);
    }
    assert!(world.given(0, 0).is_some() && world.given(1, 3).is_some());
    world.step(Step::Change(0));
    assert!(world.given(0, 0).is_some(), "the push has not come");
    world.step(Step::Receive(1));
    assert!(world.given(0, 0).is_none() && world.given(1, 3).is_none());
}

#[test]
fn what_has_broken_off_is_stale_until_it_is_changed_or_another_takes_its_place() {
    let mut world = World::new(Coherence::default());
    let fill = |world: &mut World, stream, read| {
        for step in [Step::Fill(stream, read), Step::Take(stream), Step::Receive(stream)] {
            world.step(step);
        }
    };
    for read in 0..4 {
        fill(&mut world, 0, read);
    }
    world.step(Step::Break(0));
    assert_eq!([0, 1, 2, 3].map(|read| world.given(0, read).is_some()), [true; 4]);
    // The pod changes one of them, whether or not that is ever done.
    world.step(Step::Send(1));
    assert_eq!([0, 1, 2, 3].map(|read| world.given(0, read).is_some()), [true, false, true, false]);
    world.step(Step::Connect(0));
    assert_eq!(world.given(0, 0), None);
    fill(&mut world, 0, 1);
    world.step(Step::Break(0));
    let given = [0, 1, 2, 3].map(|read| world.given(0, read).is_some());
    assert_eq!(given, [false, true, false, false], "of the last connection alone");
    world.step(Step::Script(2));
    assert_eq!(world.given(0, 1), None, "it may have changed that too");
}

#[test]
fn what_is_forgotten_is_not_stale_whenever_the_connection_breaks() {
    let coherence = Coherence::default();
    for _ in 0..2 {
        let cover = coherence.begin(9).cover;
        coherence.break_off(9);
        assert!(coherence.gives_stale(cover) && !coherence.holds(cover));
        coherence.forget_all();
        assert!(!coherence.gives_stale(cover));
        let cover = coherence.begin(9).cover;
        coherence.forget_all();
        coherence.break_off(9);
        assert!(!coherence.gives_stale(cover));
        coherence.lose(9);
    }
    assert!(!coherence.gives_stale(Cover { place: 9, generation: u32::MAX }));
}

#[test]
fn what_was_sent_and_answered_says_how_long_things_are_given() {
    let coherence = Coherence::default();
    let cover = coherence.begin(9).cover;
    coherence.confirm(9, 1000);
    coherence.confirm(9, 500);
    assert!(coherence.gives(cover, 1000 + LEASE) && !coherence.gives(cover, 1001 + LEASE));
    coherence.lose(9);
    assert!(!coherence.holds(cover) && !coherence.is_confirmed(9, 1));
}
