//! Stored responses in Redis: looked for in one step, and stored by who holds the lock.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::HeaderMap;
use jiff::Timestamp;
use tokio::time::sleep;

use super::{
    Inner, codec,
    figures::Figures,
    lease::{HELD, Lease, millis},
    link::{Connection, Trouble},
    names::{self, VARIES_BY_NOTHING},
    scripts::{self, turn},
};
use crate::sidecar::cache::{
    SecondaryKey, Stored,
    key::Key,
    purges::{Began, Force, Stamp},
    reuse::ByRule,
};

/// So many responses of one key are kept, as in memory.
const RESPONSES: usize = 16;
/// A larger response is not shared: it would hold up the others on its way.
const LARGEST: usize = 1 << 20;
/// So many bytes the responses of one key take.
const LARGEST_KEY: usize = 4 << 20;
/// Nothing is kept for longer.
const LONGEST: Duration = Duration::from_hours(7 * 24);
/// How long it may take to store one; no request waits for it.
const STORING: Duration = Duration::from_secs(1);
/// News that are on their way are here by then.
const NEWS: Duration = Duration::from_millis(2);
/// For how long nothing of a key is looked for of which nothing comes for others.
const UNSHARED: Duration = Duration::from_secs(3);

/// Whether a lookup asks for the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// Nobody is going to ask for the key.
    Nothing,
    /// If there is nothing.
    IfMissing,
    /// Though there is something, which is to be renewed.
    Always,
}

/// What is looked for.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// Of this key.
    pub key: &'a Key,
    /// For a request of these fields.
    pub request: &'a HeaderMap,
    /// It says who asks.
    pub is_of_a_user: bool,
    /// Newer than what is known already.
    pub newer_than: Option<Timestamp>,
}

/// Of whose requests nothing comes for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Whose {
    /// Of any.
    All,
    /// Of those that say who asks.
    Users,
}

/// What a lookup has brought.
pub struct Looked {
    /// A response to such a request; it is in memory, too.
    pub stored: Option<Arc<Stored>>,
    /// What became of the lock.
    pub lock: Lock,
}

/// Whose turn it is to ask the application.
pub enum Lock {
    /// The caller's.
    Held(Lease),
    /// Another has it: there will be something soon.
    Busy,
    /// Nobody's: Redis is not reached, or nothing comes of the key for others, or it was not asked for.
    Nobody,
}

/// Bodies take all that they may: clients that are slow hold them.
struct NoRoom;

enum Step {
    Done(Looked),
    Again(Take),
}

impl Looked {
    fn nothing() -> Self {
        Self { stored: None, lock: Lock::Nobody }
    }
}

impl Inner {
    /// Looks for a response to a request. It takes no longer than a lookup may, whatever becomes of Redis.
    pub(super) async fn look(self: &Arc<Self>, wanted: &Wanted<'_>, take: Take) -> Looked {
        let until = Instant::now() + self.lookup;
        let mut take = take;
        // Where it has to look again and again, something changes faster than it can look.
        for _ in 0..4 {
            match self.look_once(wanted, take, until).await {
                Step::Done(looked) => return looked,
                Step::Again(next) => take = next,
            }
        }
        Looked::nothing()
    }

    async fn look_once(self: &Arc<Self>, wanted: &Wanted<'_>, take: Take, until: Instant) -> Step {
        let key = wanted.key;
        // Before anything is looked for, so that no purge comes in between.
        let began = self.memory.begin();
        let Some(connection) = self.coherent(began).filter(|_| !self.is_unshared(wanted)) else {
            Figures::add(&self.figures.skipped);
            return Step::Done(Looked::nothing());
        };
        let sets = self.sets.get(key).unwrap_or_else(|| VARIES_BY_NOTHING.into());
        let wish = (take != Take::Nothing).then(|| Lease::wanted(self, key, &connection));
        let token = wish.as_ref().map_or("", |lease| lease.token.as_str());
        let left = until.saturating_duration_since(Instant::now());
        let asked = self.ask_for(wanted, take, began, &sets, token, &connection);
        let Ok(reply) = self.link.within(left, &connection, asked).await else {
            // The wish is withdrawn as it is dropped.
            return Step::Done(Looked::nothing());
        };
        let mut reply = reply.into_iter();
        let told = reply.next().flatten().unwrap_or_default();
        let found_sets = reply.next().flatten();
        let lock = match (wish, std::str::from_utf8(&told).unwrap_or_default()) {
            (Some(lease), turn::GOT) => Lock::Held(lease.held()),
            (wish, told) => {
                if let Some(lease) = wish {
                    lease.over();
                }
                match told {
                    turn::BUSY => Lock::Busy,
                    turn::UNCACHEABLE => {
                        self.mark_unshared(key, Whose::All);
                        Lock::Nobody
                    }
                    turn::SETS => {
                        let sets = found_sets.and_then(|sets| String::from_utf8(sets).ok());
                        self.sets.insert(key, sets.unwrap_or_default().into());
                        return Step::Again(take);
                    }
                    turn::RECORD => {
                        self.reload.notify_one();
                        sleep(NEWS.min(until.saturating_duration_since(Instant::now()))).await;
                        return Step::Again(take);
                    }
                    _ => Lock::Nobody,
                }
            }
        };
        let Ok(stored) = self.take_newest(wanted, reply.flatten().collect(), began) else {
            // The application is asked, whose answer goes on as it comes; nobody waits for what would not be taken.
            Figures::add(&self.figures.misses);
            let lock = if matches!(lock, Lock::Busy) { Lock::Nobody } else { lock };
            return Step::Done(Looked { stored: None, lock });
        };
        if stored.is_none() && told == turn::FOUND.as_bytes() {
            // What is there is of no use, so somebody has to ask.
            return Step::Again(Take::Always);
        }
        Figures::add(if stored.is_some() { &self.figures.hits } else { &self.figures.misses });
        Step::Done(Looked { stored, lock })
    }

    pub(super) fn ask_for(
        &self,
        wanted: &Wanted<'_>,
        take: Take,
        began: Began,
        sets: &str,
        token: &str,
        connection: &Connection,
    ) -> impl Future<Output = ::redis::RedisResult<Vec<Option<Vec<u8>>>>> + use<> {
        let key = wanted.key;
        let mut look = scripts::LOOK.key(self.names.responses(key));
        look.key(self.names.lock(key)).key(&self.names.purges);
        look.arg(began.stamp.generation).arg(began.stamp.sequence).arg(token);
        look.arg(if take == Take::Always { "always" } else { "" }).arg(millis(HELD)).arg(sets);
        let mut fields = names::fields(sets, wanted.request);
        if fields.is_empty() {
            fields.push(names::field(&SecondaryKey::default()));
        }
        for field in fields {
            look.arg(field);
        }
        let mut commands = connection.commands.clone();
        async move { look.invoke_async(&mut commands).await }
    }

    /// The newest of the responses that may be given, which is kept in memory.
    fn take_newest(
        &self,
        wanted: &Wanted<'_>,
        found: Vec<Vec<u8>>,
        began: Began,
    ) -> Result<Option<Arc<Stored>>, NoRoom> {
        let usable = found.into_iter().filter_map(|bytes| self.usable(wanted, bytes));
        let newest = usable.max_by_key(|stored| stored.received);
        let is_newer = |stored: &Stored| wanted.newer_than.is_none_or(|known| stored.received > known);
        let Some(newest) = newest.filter(is_newer) else { return Ok(None) };
        let body = self.room.copy(&newest.body).ok_or(NoRoom)?;
        Ok(self.memory.put(wanted.key.clone(), Stored { body, ..newest }, began))
    }

    fn usable(&self, wanted: &Wanted<'_>, bytes: Vec<u8>) -> Option<Stored> {
        let codec::Entry { key: own, stamp, mut stored } = self.read(bytes)?;
        if own != wanted.key.as_str() || !stored.is_for(wanted.request) {
            return None;
        }
        let force = self.purged(wanted.key, stamp, &stored);
        if force == Some(Force::Hard) {
            Figures::add(&self.figures.refused);
            return None;
        }
        stored.is_purged_softly = force == Some(Force::Soft);
        Some(stored)
    }

    /// What bytes of Redis are, if they are of this release.
    pub(super) fn read(&self, bytes: Vec<u8>) -> Option<codec::Entry> {
        codec::decode(bytes)
            .inspect_err(|error| {
                tracing::debug!(%error, "what is in Redis is not taken");
                Figures::add(&self.figures.unreadable);
            })
            .ok()
    }

    /// What the purges that are known here mean for a response of Redis, also those that are not told yet.
    pub(super) fn purged(&self, key: &Key, stamp: Stamp, stored: &Stored) -> Option<Force> {
        let force = self.memory.since_stamp(stamp, key, &stored.tags);
        let known = self.memory.begin().stamp;
        if self.outbox.hides(key, &stored.tags, known) { Some(Force::Hard) } else { force }
    }

    /// Stores what the holder of the lock has brought, unless too much is on its way already.
    pub(super) fn put(
        self: &Arc<Self>,
        lease: Lease,
        key: Key,
        stored: Arc<Stored>,
        began: Began,
        rule: ByRule,
    ) {
        let Some(time) = time_to_live(&stored, rule, Timestamp::now()) else { return lease.give_up() };
        let size = stored.size() + key.as_str().len();
        if size > LARGEST {
            return lease.give_up();
        }
        let kilobytes = u32::try_from(size >> 10).unwrap_or(u32::MAX).max(1);
        let Ok(room) = self.on_its_way.clone().try_acquire_many_owned(kilobytes) else {
            Figures::add(&self.figures.dropped);
            return;
        };
        let inner = self.clone();
        tokio::spawn(async move {
            inner.put_now(lease, &key, &stored, began, time).await;
            drop(room);
        });
    }

    async fn put_now(&self, lease: Lease, key: &Key, stored: &Stored, began: Began, time: Duration) {
        // What is purged from here on is refused by whoever reads it, by its stamp.
        if began.stamp.generation == 0 || self.memory.since(began, key, &stored.tags).is_some() {
            return;
        }
        let Some(bytes) = codec::encode(key.as_str(), began.stamp, stored) else { return };
        let mut put = scripts::PUT.key(self.names.responses(key));
        put.key(self.names.lock(key)).arg(&lease.token).arg(names::field(&stored.secondary)).arg(bytes);
        put.arg(names::set(&stored.secondary)).arg(millis(time)).arg(RESPONSES).arg(LARGEST_KEY);
        put.arg(names::SETS);
        let put = self
            .link
            .ask(STORING, |mut commands| async move { put.invoke_async::<bool>(&mut commands).await });
        match put.await {
            Ok(is_stored) => {
                lease.over();
                if is_stored {
                    Figures::add(&self.figures.stored);
                }
            }
            Err(Trouble::Off | Trouble::Late | Trouble::Failed(_)) => {}
        }
    }

    /// A connection, if all that was purged is known here.
    pub(super) fn coherent(&self, began: Began) -> Option<Connection> {
        let is_known = began.stamp.generation != 0 && self.memory.knows_record();
        self.link.connection().filter(|connection| is_known && self.is_followed_on(connection.number))
    }

    pub(super) fn is_unshared(&self, wanted: &Wanted<'_>) -> bool {
        let is_marked = |key: &Key, whose| {
            let since = self.unshared.get(&(key, whose));
            since.is_some_and(|since| since.elapsed() < UNSHARED)
        };
        is_marked(wanted.key, Whose::All) || wanted.is_of_a_user && is_marked(wanted.key, Whose::Users)
    }

    pub(super) fn mark_unshared(&self, key: &Key, whose: Whose) {
        self.unshared.insert(&(key, whose), Instant::now());
    }
}

/// For how long it is of use to anybody: while it is fresh, or good enough though it is stale. None where it is
/// of none.
fn time_to_live(stored: &Stored, rule: ByRule, now: Timestamp) -> Option<Duration> {
    let directives = &stored.directives.directives();
    let whole = stored.lifetime.saturating_add(rule.longest_stale(directives));
    let left = whole.checked_sub(stored.age(now)).filter(|left| !left.is_zero())?;
    (!directives.no_cache).then(|| left.min(LONGEST))
}
