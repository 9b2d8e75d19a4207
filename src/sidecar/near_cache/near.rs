//! The memory of the pod (L1), as sessions use it: reads are answered from it, or asked on connections that tell when
//! the answer changes; changes drop what they change.

pub mod by_rule;
mod debug;
pub mod figures;
pub mod flights;
mod purging;
mod single_flight;
pub mod top;
pub mod unreached;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use futures::future::join_all;
use parking_lot::{Mutex, RwLock};
use thiserror::Error;
use tokio::sync::{oneshot, watch};

use self::{figures::Figures, flights::Flights, top::Top};
use super::{
    coherence::{Coherence, Lacks},
    commands::{Cached, Meaning},
    connect::{Identity, Place, Protocol, Upstream},
    lasting::lasting,
    lease::Board,
    rules::Rules,
    store::{Question, Store},
    tracking::{Asked, Fill, Lane, STATES, Seats, State, Way},
};
use crate::{
    settings::NearCache,
    sidecar::{remembered::Remembered, resp::request::Command},
};

/// For so many users and databases at once replies are stored; what others ask is passed on.
const SPOTS: usize = 64;

/// For so long it is remembered that a reply is too large, of so many reads.
const TOO_LARGE: Duration = Duration::from_mins(5);
const REMEMBERED: usize = 256;

/// Why a read has no answer. It is to be asked elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Trouble {
    /// Nothing is stored for the user, or in the database, at present.
    #[error("nothing is kept of this at present")]
    Off,
    /// Redis answers late.
    #[error("Redis answers late")]
    Late,
    /// The connection was lost, or too much is asked on it already.
    #[error("the connection was lost")]
    Lost,
    /// The reply has a form that is not known in the client's protocol.
    #[error("the reply is of a kind that RESP2 does not have")]
    Unlike,
}

/// What a look into memory has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// The reply, which was written.
    Hit,
    /// Nothing; it is to be [`read`](Near::read).
    Miss,
    /// Nothing, and nothing would be stored: by rule, or as Redis does not tell what changes.
    Pass,
}

/// What the connections share with those who ask.
pub(super) struct Memory {
    pub store: Store,
    pub seats: Seats,
    pub figures: Figures,
    top: Top,
    pub flights: Arc<Flights>,
    pub leases: Arc<Board>,
    /// What was asked and answered with more than is taken; by the whole command.
    too_large: Remembered<Instant>,
    began: Instant,
}

impl Memory {
    /// Milliseconds since the beginning.
    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The reply is more than is taken on a connection that others share: it is not asked for there for a while.
    pub fn note_too_large(&self, command: &Command) {
        self.too_large.insert(command.raw(), Instant::now());
    }

    fn is_too_large(&self, command: &Command) -> bool {
        self.too_large.get(command.raw()).is_some_and(|noted| noted.elapsed() < TOO_LARGE)
    }
}

/// The memory of the pod.
pub struct Near {
    memory: Arc<Memory>,
    rules: RwLock<Rules>,
    upstream: Arc<Upstream>,
    spots: Mutex<Spots>,
    anew: watch::Sender<u64>,
    /// Whether any rule asks for it.
    has_single_flights: AtomicBool,
}

#[derive(Default)]
struct Spots {
    /// Of each user in a database.
    spots: HashMap<(Arc<Identity>, u32), Arc<Track>>,
    count: u32,
}

/// The connection of a user in a database.
struct Track {
    number: u32,
    lane: Lane,
}

/// Who asks, in which database and protocol: what a session keeps until it becomes another.
#[derive(Clone)]
pub struct Spot {
    /// None: there is no place for it.
    track: Option<Arc<Track>>,
    protocol: Protocol,
}

impl Spot {
    /// What stored replies are told apart by.
    fn tag(&self) -> Option<u32> {
        Some(self.track.as_ref()?.number * 2 + u32::from(self.protocol == Protocol::Three))
    }
}

/// How it is with the connection of a user in a database.
#[derive(Clone, Debug)]
pub struct Status {
    /// Who.
    pub identity: Arc<Identity>,
    /// Where.
    pub database: u32,
    /// How it is.
    pub state: State,
}

impl Near {
    /// Begins with nothing in memory.
    #[must_use]
    pub fn start(settings: &NearCache, upstream: Arc<Upstream>) -> Arc<Self> {
        Self::lacking(Lacks::Nothing, settings, upstream)
    }

    /// One that gives what it must not, for tests that have to find that out.
    #[must_use]
    pub fn lacking(lacks: Lacks, settings: &NearCache, upstream: Arc<Upstream>) -> Arc<Self> {
        let coherence = Coherence::lacking(lacks);
        let memory = Arc::new(Memory {
            store: Store::new(settings.memory, settings.largest_value(), coherence),
            seats: Seats::default(),
            figures: Figures::default(),
            top: Top::default(),
            flights: Arc::default(),
            leases: Arc::default(),
            too_large: Remembered::of(REMEMBERED),
            began: Instant::now(),
        });
        let rules = memory.figures.by_prefix.rules(settings);
        Arc::new(Self {
            memory,
            has_single_flights: AtomicBool::new(rules.have_single_flights()),
            rules: RwLock::new(rules),
            upstream,
            spots: Mutex::default(),
            anew: watch::Sender::new(0),
        })
    }

    /// From here on other settings hold; what was stored by those before is gone.
    pub fn go_by(&self, settings: &NearCache) {
        let rules = self.memory.figures.by_prefix.rules(settings);
        self.has_single_flights.store(rules.have_single_flights(), Ordering::Relaxed);
        *self.rules.write() = rules;
        self.forget_all();
        self.memory.store.resize(settings.memory, self.memory.now());
    }

    /// Redis may be another from here on: all connections are made anew.
    pub fn connect_anew(&self) {
        self.anew.send_modify(|number| *number += 1);
    }

    /// Where a session stands. Its connections are made when something is read.
    #[must_use]
    pub fn spot(&self, place: &Place) -> Spot {
        let mut spots = self.spots.lock();
        let name = (place.identity.clone(), place.database);
        if let Some(track) = spots.spots.get(&name) {
            return Spot { track: Some(track.clone()), protocol: place.protocol };
        }
        if spots.spots.len() >= SPOTS {
            // Those that nobody stands at, and whose connections have ended by themselves.
            spots.spots.retain(|_, track| Arc::strong_count(track) > 1 || track.lane.state() == State::On);
        }
        let none = Spot { track: None, protocol: place.protocol };
        if spots.spots.len() >= SPOTS {
            return none;
        }
        let way = Way {
            upstream: self.upstream.clone(),
            identity: place.identity.clone(),
            database: place.database,
            anew: self.anew.subscribe(),
        };
        let Some(lane) = Lane::start(&self.memory, way) else { return none };
        let track = Arc::new(Track { number: spots.count, lane });
        spots.count += 1;
        spots.spots.insert(name, track.clone());
        Spot { track: Some(track), protocol: place.protocol }
    }

    /// Looks for the reply to a read, and writes it. A session that has changed something and not been told so yet does
    /// not look.
    #[must_use]
    pub fn look(&self, spot: &Spot, command: &Command, meaning: &Meaning, out: &mut BytesMut) -> Look {
        let passed = &self.memory.figures.passed;
        let Some((tag, track)) = spot.tag().zip(spot.track.as_ref()) else {
            passed.untracked.add();
            return Look::Pass;
        };
        let question = Question { tag, command, keys: meaning.reads() };
        if let Some(rule) = self.memory.store.get(&question, self.memory.now(), out) {
            self.count(rule, true);
            self.memory.top.note(|| keys(command, meaning).next());
            return Look::Hit;
        }
        let held = self.rules.read().held_together(keys(command, meaning));
        let why = if held.is_off {
            Some(&passed.rule)
        } else if !track.lane.is_usable() {
            Some(&passed.untracked)
        } else {
            self.memory.is_too_large(command).then_some(&passed.large)
        };
        if let Some(why) = why {
            why.add();
            return Look::Pass;
        }
        self.count(held.number, false);
        Look::Miss
    }

    fn count(&self, rule: u16, is_hit: bool) {
        if let Some(figures) = self.memory.figures.of_rule(rule) {
            if is_hit { figures.hits.add() } else { figures.misses.add() }
        }
    }

    /// Asks Redis, and stores the reply if that may be. Who asks the same meanwhile gets the same reply, unless
    /// something has happened to its keys.
    ///
    /// # Errors
    /// When there is no answer that way; it is to be asked elsewhere.
    pub async fn read(
        &self,
        spot: &Spot,
        command: &Command,
        meaning: &Meaning,
        cached: Cached,
    ) -> Result<Bytes, Trouble> {
        let tag = spot.tag().ok_or(Trouble::Off)?;
        let lane = spot.track.as_ref().map(|track| &track.lane).filter(|lane| lane.is_usable());
        let lane = lane.ok_or(Trouble::Off)?;
        if !lane.is_in_time(self.memory.now()) {
            return Err(Trouble::Late);
        }
        // Before the rules are read: with others all that began before is not stored.
        let began = self.memory.store.coherence().begin(lane.place);
        let held = self.rules.read().held_together(keys(command, meaning));
        let question = Question { tag, command, keys: meaning.reads() };
        let is_still = |began| self.memory.store.is_still(&question, began);
        let (answer, landing) = self.memory.flights.join((tag, command.raw().clone()), began, is_still);
        if let Some(landing) = landing {
            let asked = Asked {
                tag,
                protocol: spot.protocol,
                command: command.clone(),
                keys: meaning.reads(),
                cached,
                held,
                missed: self.missed(command, meaning, spot.protocol),
            };
            lane.send(Fill { asked, began, landing });
        }
        answer.await.unwrap_or(Err(Trouble::Lost))
    }

    /// The command as it is to be sent: a `SET` with the TTL that the rule of its key adds, if it has none.
    #[must_use]
    pub fn lasting(&self, command: Command, meaning: &Meaning) -> Command {
        if meaning.name != "SET" {
            return command;
        }
        let added = command.arg(1).and_then(|key| self.rules.read().held(key).added_ttl);
        let Some(lasting) = added.and_then(|ttl| lasting(&command, ttl)) else { return command };
        self.memory.figures.lasting.add();
        lasting
    }

    /// Keys are about to be changed: what is stored of them is dropped, and once more when it is done.
    pub fn changing(self: &Arc<Self>, command: &Command, meaning: &Meaning) -> Changing {
        let keys = meaning.changes().filter_map(|at| command.arg(at)).map(|key| command.raw().slice_ref(key));
        self.changing_keys(keys.collect())
    }

    /// The same of keys that are known by other means.
    pub fn changing_keys(self: &Arc<Self>, keys: Vec<Bytes>) -> Changing {
        let changing = Changing { near: self.clone(), keys, is_read: false, told: None };
        changing.tell();
        changing
    }

    /// A read goes past the memory: what it tells may be newer than what is stored, as Redis has changed it and the push is
    /// on its way. When its reply has come, and before it is given, this is [`done`](Changing::done): then nobody in the
    /// pod reads older of its keys.
    pub fn seeing(self: &Arc<Self>, command: &Command, meaning: &Meaning) -> Changing {
        let rules = self.rules.read();
        // Of a key something may be stored whatever the rules of those beside it are.
        let stored = keys(command, meaning).filter(|key| !rules.held(key).is_off);
        let keys = stored.map(|key| command.raw().slice_ref(key)).collect();
        Changing { near: self.clone(), keys, is_read: true, told: None }
    }

    /// Waits until all is known that Redis has done before. For changes whose keys are not known, after their reply.
    /// What a connection covered that does not tell it is gone for good.
    pub async fn barrier(&self) {
        let spots: Vec<_> = self.spots.lock().spots.values().cloned().collect();
        let barrier = async |lane: &Lane| {
            if !lane.barrier().await {
                self.memory.store.coherence().lose(lane.place);
            }
        };
        join_all(spots.iter().map(|track| barrier(&track.lane))).await;
    }

    /// Forgets all, and what is on its way is not stored. For changes that Redis tells nobody of, after their reply.
    pub fn forget_all(&self) {
        self.memory.store.coherence().forget_all();
    }

    /// A key was changed elsewhere.
    pub fn forget(&self, key: &[u8]) {
        self.memory.store.happened(key);
    }

    /// All keys that begin so were changed elsewhere. It goes through all that is stored.
    pub fn forget_prefix(&self, prefix: &[u8]) {
        self.memory.store.happened_to_prefix(prefix);
    }

    /// The time by which replies expire, in milliseconds.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.memory.now()
    }

    /// What is counted.
    #[must_use]
    pub fn figures(&self) -> &Figures {
        &self.memory.figures
    }

    /// What is stored.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.memory.store
    }

    /// How it is with all connections.
    #[must_use]
    pub fn status(&self) -> Vec<Status> {
        let spots = self.spots.lock();
        let status = spots.spots.iter().map(|((identity, database), track)| Status {
            identity: identity.clone(),
            database: *database,
            state: track.lane.state(),
        });
        status.collect()
    }

    /// Of how many users and databases the connection is how.
    #[must_use]
    pub fn tracking(&self) -> [(&'static str, u64); 4] {
        let states: Vec<_> = self.status().iter().map(|status| status.state.as_str()).collect();
        STATES.map(|name| (name, states.iter().filter(|state| **state == name).count() as u64))
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.status().iter().filter(|status| status.state == State::On).count()
    }
}

fn keys<'a>(command: &'a Command, meaning: &Meaning) -> impl Iterator<Item = &'a [u8]> {
    meaning.reads().filter_map(|at| command.arg(at))
}

/// A change that is on its way. When it is done, and its reply not given yet, this is [`done`](Self::done); it is also
/// when nobody knows what became of it, and this is dropped.
#[must_use = "what it changes is dropped once more when it is done"]
pub struct Changing {
    near: Arc<Near>,
    keys: Vec<Bytes>,
    /// It changes nothing, but what is told may be newer than what is stored.
    is_read: bool,
    /// Who wants to know that it is done.
    told: Option<oneshot::Sender<()>>,
}

impl Changing {
    fn tell(&self) {
        self.keys.iter().for_each(|key| self.near.forget(key));
    }

    /// Redis was not asked: a read has told nothing that is newer.
    pub fn unasked(mut self) {
        if self.is_read {
            self.keys.clear();
        }
    }

    /// Tells when it is done, too.
    pub(super) fn told(mut self) -> (Self, oneshot::Receiver<()>) {
        let (told, done) = oneshot::channel();
        self.told = Some(told);
        (self, done)
    }

    /// Its reply has come.
    pub fn done(self) {
        drop(self);
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        self.tell();
        drop(self.told.take());
        if !self.is_read {
            self.keys.iter().for_each(|key| self.near.memory.leases.changed(key));
        }
    }
}

/// How long a connection that does not answer may hold up [`Near::read`] and [`Near::barrier`] at most, with what it
/// takes to find out.
pub const LONGEST_WAIT: Duration = Duration::from_millis(1200);
