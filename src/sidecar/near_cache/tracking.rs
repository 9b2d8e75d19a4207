//! The connections on which reads travel whose replies are stored, and on which Redis calls these back.
//!
//! For each user and database there is one, in RESP3 and with `CLIENT TRACKING ON`: Redis then remembers the keys
//! that are read on a connection, and pushes their names on the same one when they change, expire or are evicted. So
//! pushes and replies are in the order in which Redis did things. With two, a reply on one (of `MGET a b`) could be
//! newer than what hangs on the other (of `GET b`), whose push is under way: a client would read `b` backwards.
//!
//! * Not `BCAST`: with that Redis pushes each change of a prefix to each pod, whether or not it has read the key. What
//!   it remembers instead is bounded by `tracking-table-max-keys`; what is pushed out of that is called back as well.
//! * Not `NOLOOP`: nothing is changed on these connections.
//!
//! ```text
//!  PTTL key ┐                          what comes, in order:
//!  GET key  ┴─ one write ──▶ Redis ──▶ push of a key: the key is dropped, and fills of it are not stored
//!  PING, when 200 ms nothing was sent  push of null: all is
//!                                      reply: stored or refused, and only then given to who waits for it
//! ```
//! `PTTL` goes first: it makes Redis remember the key before all else is read of it.
//!
//! How far behind is what is given? A reply to what was sent at a time tells that all changes of before are known. It
//! is given for [`LEASE`](super::coherence::LEASE) from then on, by the clock at the moment when it is given. While
//! anything is stored something is sent every 200 to 300 ms, so a connection that is up to date never comes near it.
//! A connection that does not answer for [`LOST`] ends.

mod awaited;
mod handshake;
mod serving;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

use self::serving::{End, Serving};
use super::{
    coherence::{COVERS, Token},
    commands::{Cached, Indices},
    connect::{Identity, Protocol, Refused, Upstream},
    near::{Memory, flights::Landing},
    rules::Held,
    store::Question,
};
use crate::sidecar::resp::request::Command;

/// A connection that does not answer for so long is lost.
pub const LOST: Duration = Duration::from_secs(1);
/// What is asked meanwhile is not asked there.
const LATE: u64 = 300;
/// So many reads wait for their turn at most.
const QUEUE: usize = 4096;
/// After a connection was lost, and after that twice as long each time.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// After Redis has refused to track. It may be another by then, or the user have other rights.
const REFUSED_PAUSE: Duration = Duration::from_mins(1);
/// Nothing is awaited.
const NOTHING: u64 = u64::MAX;

/// A read whose reply may be stored.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Who asks, in which database and protocol.
    pub tag: u32,
    /// In which form the reply is wanted.
    pub protocol: Protocol,
    /// All of it.
    pub command: Command,
    /// Where its keys are.
    pub keys: Indices,
    /// What is known of it.
    pub cached: Cached,
    /// The rule that holds for its keys.
    pub held: Held,
    /// A reply that is not kept.
    pub missed: Option<Bytes>,
}

impl Asked {
    pub(super) fn question(&self) -> Question<'_> {
        Question { tag: self.tag, command: &self.command, keys: self.keys.clone() }
    }
}

/// A read that is to be sent.
pub(super) struct Fill {
    pub asked: Asked,
    pub began: Token,
    pub landing: Landing,
}

/// What is to be sent.
pub(super) enum Order {
    Fill(Box<Fill>),
    /// All pushes of before are to be known.
    Barrier(oneshot::Sender<()>),
}

/// How it is with the connections of a user in a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is asked.
    Asleep,
    /// There is none yet, or none any more.
    Connecting,
    /// Redis tracks what is read.
    On,
    /// Redis refuses to track, in these words; nothing is stored.
    Refused(Arc<str>),
}

/// The states as figures name them.
pub const STATES: [&str; 4] = ["asleep", "connecting", "on", "refused"];

impl State {
    /// Its name among [`STATES`].
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        let [asleep, connecting, on, refused] = STATES;
        match self {
            Self::Asleep => asleep,
            Self::Connecting => connecting,
            Self::On => on,
            Self::Refused(_) => refused,
        }
    }
}

/// A connection, now and then another.
pub(super) struct Lane {
    pub place: u8,
    orders: mpsc::Sender<Order>,
    shared: Arc<LaneState>,
}

struct LaneState {
    state: Mutex<State>,
    /// Since when an answer is awaited.
    awaited_since: AtomicU64,
}

/// A place among those that cover what is stored; free again when it is dropped.
struct Seat {
    place: u8,
    memory: Arc<Memory>,
}

/// Which places are free.
pub(super) struct Seats(Mutex<Vec<u8>>);

impl Default for Seats {
    fn default() -> Self {
        Self(Mutex::new((0..COVERS).filter_map(|place| u8::try_from(place).ok()).rev().collect()))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.memory.store.coherence().lose(self.place);
        self.memory.seats.0.lock().push(self.place);
    }
}

/// What a lane connects to, and as whom.
#[derive(Clone)]
pub(super) struct Way {
    pub upstream: Arc<Upstream>,
    pub identity: Arc<Identity>,
    pub database: u32,
    /// Changes when all connections are to be made anew.
    pub anew: watch::Receiver<u64>,
}

impl Lane {
    /// One that connects when something is asked; nothing if all places are taken.
    pub fn start(memory: &Arc<Memory>, way: Way) -> Option<Self> {
        let place = memory.seats.0.lock().pop()?;
        let seat = Seat { place, memory: memory.clone() };
        let (sender, orders) = mpsc::channel(QUEUE);
        let shared =
            Arc::new(LaneState { state: Mutex::new(State::Asleep), awaited_since: AtomicU64::new(NOTHING) });
        let task = Task { seat, way, orders, shared: shared.clone(), is_told: false };
        tokio::spawn(task.run());
        Some(Self { place, orders: sender, shared })
    }

    pub fn state(&self) -> State {
        self.shared.state.lock().clone()
    }

    /// Whether something may be asked at all.
    pub fn is_usable(&self) -> bool {
        matches!(*self.shared.state.lock(), State::On | State::Asleep)
    }

    /// Whether it answers in time, as far as is known.
    pub fn is_in_time(&self, now: u64) -> bool {
        let since = self.shared.awaited_since.load(Ordering::Relaxed);
        since == NOTHING || now.saturating_sub(since) <= LATE
    }

    /// Sends a read; who waits for it is told if that cannot be.
    pub fn send(&self, fill: Fill) {
        // What is dropped has told.
        let _ = self.orders.try_send(Order::Fill(Box::new(fill)));
    }

    /// Waits until all pushes of before are known, or nothing is given any more that they could be about; whether they
    /// are known.
    pub async fn barrier(&self) -> bool {
        if *self.shared.state.lock() != State::On {
            return false;
        }
        let (sender, done) = oneshot::channel();
        self.orders.send(Order::Barrier(sender)).await.is_ok() && done.await.is_ok()
    }
}

struct Task {
    seat: Seat,
    way: Way,
    orders: mpsc::Receiver<Order>,
    shared: Arc<LaneState>,
    is_told: bool,
}

impl Task {
    /// Until nobody can ask any more.
    async fn run(mut self) {
        'asleep: loop {
            self.enter(State::Asleep);
            if self.orders.recv().await.is_none() {
                return;
            }
            let mut pause = PAUSE;
            loop {
                self.enter(State::Connecting);
                let Some(opened) = self.connect().await else { return };
                let wait = match opened {
                    Ok((stream, knows_fields)) => {
                        self.enter(State::On);
                        self.is_told = false;
                        let began = Instant::now();
                        let end = self.serve(stream, knows_fields).await;
                        self.lose();
                        if began.elapsed() > LONGEST_PAUSE {
                            pause = PAUSE;
                        }
                        match end {
                            End::Closed => return,
                            End::Idle => continue 'asleep,
                            End::Anew => Duration::ZERO,
                            End::Lost(problem) => {
                                self.seat.memory.figures.lost.add();
                                tracing::debug!(problem, "a connection that tracks was lost");
                                pause
                            }
                            End::Refused(words) => self.refuse(&words),
                        }
                    }
                    Err(Refused::Said(reply)) => self.refuse(&String::from_utf8_lossy(&reply)),
                    Err(Refused::Unreachable(problem)) => {
                        tracing::debug!(%problem, "cannot connect to Redis for L1");
                        pause
                    }
                };
                if !self.pause(wait).await {
                    return;
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    fn enter(&self, state: State) {
        *self.shared.state.lock() = state;
    }

    /// Nobody is sent here from here on, or waits.
    fn lose(&mut self) {
        self.seat.memory.leases.lost(self.seat.place);
        self.shared.awaited_since.store(NOTHING, Ordering::Relaxed);
        self.enter(State::Connecting);
        while self.orders.try_recv().is_ok() {}
    }

    fn refuse(&mut self, words: &str) -> Duration {
        let words = words.trim_end();
        if !self.is_told {
            self.is_told = true;
            tracing::warn!(
                words,
                database = self.way.database,
                user = ?self.way.identity,
                "Redis refuses to tell what changes: for this user nothing is answered from memory"
            );
        }
        self.enter(State::Refused(words.into()));
        REFUSED_PAUSE
    }

    /// Waits; whether anybody can ask yet. What is asked meanwhile is asked in vain.
    async fn pause(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            tokio::select! {
                () = sleep_until(until) => return true,
                changed = self.way.anew.changed() => return changed.is_ok(),
                order = self.orders.recv() => if order.is_none() { return false },
            }
        }
    }

    /// A connection on which Redis tracks, and whether it knows fields that expire; None when nobody can ask any more.
    async fn connect(&mut self) -> Option<Result<(super::connect::Stream, bool), Refused>> {
        self.way.anew.mark_unchanged();
        let Way { upstream, identity, database, .. } = self.way.clone();
        let opening = handshake::open(&upstream, &identity, database);
        tokio::pin!(opening);
        loop {
            tokio::select! {
                opened = &mut opening => return Some(opened),
                order = self.orders.recv() => { order?; }
            }
        }
    }

    async fn serve(&mut self, stream: super::connect::Stream, knows_fields: bool) -> End {
        let serving = Serving::new(self.seat.memory.clone(), self.seat.place, knows_fields);
        serving.run(stream, &mut self.orders, &mut self.way.anew, &self.shared.awaited_since).await
    }
}
