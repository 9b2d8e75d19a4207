//! Which keys somebody waits for in this pod, and what is heard of them.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::timeout};

use super::{
    PREFIX,
    contest::{Contest, Holder, Member},
};
use crate::sidecar::near_cache::near::figures::Count;

/// For so many keys at once somebody leads or waits; who misses others is told so.
const CONTESTS: usize = 1024;
/// So many reads wait at once.
const WAITS: usize = 4096;
/// What a lease that is given back at the end may take.
const LAST: Duration = Duration::from_secs(1);
/// After Redis has refused leases to a user. He may have other rights by then.
const REFUSED: Duration = Duration::from_mins(1);

/// How waits have ended.
#[derive(Debug, Default)]
pub struct Ends {
    /// The key was written: with its value.
    pub written: Count,
    /// Who was told first has not written it: with the lease.
    pub led: Count,
    /// The time was over: with nothing.
    pub time: Count,
    /// Redis was not reached, the user may not, or the client went on to what cannot wait: with nothing.
    pub given_up: Count,
}

/// The keys that somebody leads or waits for.
#[derive(Debug)]
pub struct Board {
    contests: Mutex<HashMap<Bytes, Vec<Arc<Contest>>>>,
    count: AtomicUsize,
    waits: AtomicUsize,
    is_ending: AtomicBool,
    closed: Notify,
    /// Since when Redis refuses leases to those at a place.
    refused: Mutex<HashMap<u8, Instant>>,
    seed: u64,
    tokens: AtomicU64,
    /// How often somebody was told that there is nothing, and had the lease.
    pub led: Count,
    /// How waits have ended.
    pub ends: Ends,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            contests: Mutex::default(),
            count: AtomicUsize::new(0),
            waits: AtomicUsize::new(0),
            is_ending: AtomicBool::new(false),
            closed: Notify::new(),
            refused: Mutex::default(),
            seed: RandomState::new().hash_one(std::process::id()),
            tokens: AtomicU64::new(0),
            led: Count::default(),
            ends: Ends::default(),
        }
    }
}

/// What comes of the wish to take part.
pub(super) enum Joined {
    /// It takes part.
    Member(Member),
    /// It is the one who was told, and asks again.
    Own,
    /// There are too many, or the user may not.
    Full,
}

impl Board {
    /// Who has found nothing at a key takes part; `begin` has a contest go on that is not there yet.
    pub(super) fn join(
        self: &Arc<Self>,
        (place, key): (u8, &Bytes),
        holder: &Arc<Holder>,
        begin: impl FnOnce(Arc<Contest>),
    ) -> Joined {
        if self.is_ending.load(Ordering::Acquire) || self.waits.load(Ordering::Relaxed) >= WAITS {
            return Joined::Full;
        }
        if self.is_refused(place) {
            return Joined::Full;
        }
        let mut contests = self.contests.lock();
        let known = contests.get(key).and_then(|of_key| of_key.iter().find(|contest| contest.place == place));
        let contest = match known {
            Some(contest) => contest.clone(),
            None if self.count.load(Ordering::Relaxed) >= CONTESTS => return Joined::Full,
            None => {
                // Not a part of what the client has sent, which would stay as long.
                let key = Bytes::copy_from_slice(key);
                let contest = Contest::of(place, key.clone());
                contests.entry(key).or_default().push(contest.clone());
                self.count.fetch_add(1, Ordering::Relaxed);
                begin(contest.clone());
                contest
            }
        };
        let Some(member) = contest.join(self, holder) else { return Joined::Own };
        self.waits.fetch_add(1, Ordering::Relaxed);
        Joined::Member(member)
    }

    pub(super) fn left(&self) {
        self.waits.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes a contest away if nobody leads or waits; whether that is so.
    pub(super) fn close(&self, contest: &Arc<Contest>) -> bool {
        let mut contests = self.contests.lock();
        if !contest.is_idle() {
            return false;
        }
        if let Some(of_key) = contests.get_mut(&contest.key) {
            of_key.retain(|other| !Arc::ptr_eq(other, contest));
            if of_key.is_empty() {
                contests.remove(&contest.key);
            }
        }
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.closed.notify_one();
        true
    }

    /// What nobody else has as a lease.
    pub(super) fn token(&self) -> String {
        format!("{:016x}{:x}", self.seed, self.tokens.fetch_add(1, Ordering::Relaxed))
    }

    /// Redis refuses leases to those at a place, in these words.
    pub(super) fn refused(&self, place: u8, words: &[u8]) {
        if !words.starts_with(b"-NOPERM") {
            // It may be another's error the next time, as where Redis has no room.
            tracing::debug!(words = %String::from_utf8_lossy(words).trim_end(), "no lease");
            return;
        }
        if self.refused.lock().insert(place, Instant::now()).is_none() {
            tracing::warn!(
                words = %String::from_utf8_lossy(words).trim_end(),
                "Redis refuses leases: of this user all who miss a key are told so; it needs SET, GET, PTTL, EVAL and DEL on {}*",
                String::from_utf8_lossy(PREFIX)
            );
        }
    }

    fn is_refused(&self, place: u8) -> bool {
        self.refused.lock().get(&place).is_some_and(|since| since.elapsed() < REFUSED)
    }

    /// Whether no more is to be begun.
    pub(super) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Acquire)
    }

    fn of_key(&self, key: &[u8]) -> Vec<Arc<Contest>> {
        if self.is_quiet() { Vec::new() } else { self.contests.lock().get(key).cloned().unwrap_or_default() }
    }

    fn all(&self) -> Vec<Arc<Contest>> {
        if self.is_quiet() { Vec::new() } else { self.contests.lock().values().flatten().cloned().collect() }
    }

    fn is_quiet(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Redis tells on the connection at this place that a key has changed, or a lease.
    pub fn pushed(&self, place: u8, key: &[u8]) {
        let lease = key.strip_prefix(PREFIX);
        for contest in self.of_key(lease.unwrap_or(key)).iter().filter(|contest| contest.place == place) {
            if lease.is_some() {
                contest.stir();
            } else {
                contest.written();
            }
        }
    }

    /// Redis tells there that all have.
    pub fn flushed(&self, place: u8) {
        self.all().iter().filter(|contest| contest.place == place).for_each(|contest| contest.written());
    }

    /// Redis tells nothing there any more.
    pub fn lost(&self, place: u8) {
        self.all().iter().filter(|contest| contest.place == place).for_each(|contest| contest.look_again());
    }

    /// The pod itself has changed a key, or tried to.
    pub fn changed(&self, key: &[u8]) {
        self.of_key(key).iter().for_each(|contest| contest.written());
    }

    /// So many reads wait.
    #[must_use]
    pub fn waits(&self) -> usize {
        self.waits.load(Ordering::Relaxed)
    }

    /// Gives all leases back; who waits still is told that there is nothing.
    pub async fn end(&self) {
        self.is_ending.store(true, Ordering::Release);
        self.all().iter().for_each(|contest| contest.end());
        let all_closed = async {
            while !self.is_quiet() {
                self.closed.notified().await;
            }
        };
        if timeout(LAST, all_closed).await.is_err() {
            tracing::debug!("not all leases were given back; they end by themselves");
        }
    }
}
