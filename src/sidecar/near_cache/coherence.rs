//! Whether what was read may be stored, and what is stored given. PURE: it is told the time.
//!
//! A read that is to be stored (a fill) takes a [`Token`] before it is sent. What happens to a key raises the epoch
//! of the key: a push of Redis, and a change of this pod, before it is sent and when its reply has come. What a fill
//! brought is stored only if the epochs of all of its keys are those of before it was sent:
//!
//! ```text
//!  fill of a   begin ──────── GET a ──(Redis: GET a)─────────────── reply ── stored? no: a has happened since
//!  push of a                               (Redis: SET a) ── push ──┘  comes first, or is told of by the pod itself
//! ```
//!
//! Epochs are kept by the hash of the key. Keys that share one are taken for each other: something is not stored, or
//! not given, without need.
//!
//! What is stored hangs on the connection on which it came, as only that one brings its push: its [`Cover`]. A
//! connection that ends takes all that it covered with it, at once, by a number that counts up. And what it covers
//! is given only while it is known that the connection is up to date: Redis has answered what was sent on it not
//! longer than [`LEASE`] ago, and replies and pushes come in one order. So the bound on what is out of date holds
//! for a Redis that is frozen, a network that is cut and a process that had no CPU, whatever timers do.
//!
//! What the last connection covered that broke is kept apart until another takes its place, or all is forgotten: it may be
//! [given as stale](Coherence::gives_stale) where Redis is not reached and a rule allows it, and never as current.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// So many hashes are told apart. It takes half a mebibyte, as far as it is used.
const BUCKETS: usize = 1 << 16;
/// So many connections cover something at most.
pub const COVERS: usize = 256;
/// How long what is covered may be given after Redis was asked something that it has answered, in milliseconds.
/// Nothing that is given is further behind than that, which leaves 100 ms of the second that is promised.
pub const LEASE: u64 = 900;

/// What one leaves out, for tests that have to find out that it is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lacks {
    /// Nothing: as it has to be.
    #[default]
    Nothing,
    /// It looks at no epochs.
    Epochs,
    /// What a lost connection covered is given again with the next one.
    Losses,
}

/// What is known of a connection that covers what came on it.
#[derive(Debug, Default)]
struct Covering {
    /// Counts up when all that it covered is gone.
    generation: AtomicU32,
    /// Until when it is given.
    until: AtomicU64,
    /// The generation that has broken off and that nothing has followed, and one more; 0: none.
    kept: AtomicU64,
}

/// What something stored hangs on: the place of a connection, and which of those that had the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cover {
    /// The place, below [`COVERS`].
    pub place: u8,
    /// Counts up.
    pub generation: u32,
}

/// When a fill began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub(super) epoch: u64,
    pub(super) cover: Cover,
}

/// What has happened to which keys, and which connections can be relied on.
#[derive(Debug)]
pub struct Coherence {
    now: AtomicU64,
    /// What began in an earlier epoch counts as changed, whatever its key.
    least: AtomicU64,
    /// The last epoch of each hash.
    last: Box<[AtomicU64]>,
    covers: Box<[Covering]>,
    lacks: Lacks,
}

impl Default for Coherence {
    fn default() -> Self {
        Self {
            now: AtomicU64::new(0),
            least: AtomicU64::new(0),
            last: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            covers: (0..COVERS).map(|_| Covering::default()).collect(),
            lacks: Lacks::Nothing,
        }
    }
}

impl Coherence {
    /// One that leaves something out.
    #[must_use]
    pub fn lacking(lacks: Lacks) -> Self {
        Self { lacks, ..Self::default() }
    }

    /// A fill begins, on the connection at this place.
    #[must_use]
    pub fn begin(&self, place: u8) -> Token {
        Token { epoch: self.now.load(Ordering::SeqCst), cover: self.cover(place) }
    }

    /// The connection at a place, as it is now.
    fn cover(&self, place: u8) -> Cover {
        let generation = self.covers.get(usize::from(place));
        Cover { place, generation: generation.map_or(0, |cover| cover.generation.load(Ordering::SeqCst)) }
    }

    /// Something has happened, or is about to happen, to a key with this hash.
    pub fn happened(&self, hash: u64) {
        let epoch = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(last) = self.last.get(bucket(hash)) {
            last.fetch_max(epoch, Ordering::SeqCst);
        }
    }

    /// Something has happened to keys that cannot be told by their hashes.
    pub fn happened_to_some(&self) {
        let epoch = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.least.fetch_max(epoch, Ordering::SeqCst);
    }

    /// Whether nothing has happened to a key with this hash since this epoch.
    #[must_use]
    pub fn is_current(&self, epoch: u64, hash: u64) -> bool {
        let last = self.last.get(bucket(hash));
        let is_current = |last: &AtomicU64| last.load(Ordering::SeqCst) <= epoch;
        self.lacks == Lacks::Epochs || (is_current(&self.least) && last.is_some_and(is_current))
    }

    /// The connection at a place is not up to date any more, and never again for what it covered until now.
    pub fn lose(&self, place: u8) {
        if let Some(cover) = self.covers.get(usize::from(place)) {
            cover.until.store(0, Ordering::SeqCst);
            cover.forget(self.next());
        }
    }

    /// The connection at a place has broken: as [`Self::lose`], but that what it covered may be given as stale, until
    /// it is lost, or all is forgotten.
    pub fn break_off(&self, place: u8) {
        if let Some(cover) = self.covers.get(usize::from(place)) {
            cover.until.store(0, Ordering::SeqCst);
            let last = cover.generation.fetch_add(self.next(), Ordering::SeqCst);
            cover.kept.store(u64::from(last) + 1, Ordering::SeqCst);
        }
    }

    /// From one generation of a connection to the next.
    fn next(&self) -> u32 {
        u32::from(self.lacks != Lacks::Losses)
    }

    /// All that is stored is gone, and what is on its way is not stored.
    pub fn forget_all(&self) {
        for cover in &self.covers {
            cover.forget(1);
        }
    }

    /// Redis has answered what was sent at this time on the connection at a place, and all pushes of before are known.
    pub fn confirm(&self, place: u8, sent: u64) {
        if let Some(cover) = self.covers.get(usize::from(place)) {
            cover.until.fetch_max(sent.saturating_add(LEASE), Ordering::SeqCst);
        }
    }

    /// Whether what this covers is still there.
    #[must_use]
    pub fn holds(&self, cover: Cover) -> bool {
        self.cover(cover.place) == cover
    }

    /// Whether what this covers has broken off, and nothing has followed it: it may be given where Redis is not reached.
    #[must_use]
    pub fn gives_stale(&self, cover: Cover) -> bool {
        let Some(covering) = self.covers.get(usize::from(cover.place)) else { return false };
        // Both, as all may have been forgotten at the time when it broke off.
        covering.kept.load(Ordering::SeqCst) == u64::from(cover.generation) + 1
            && covering.generation.load(Ordering::SeqCst) == cover.generation.wrapping_add(1)
    }

    /// Whether what this covers may be given now.
    #[must_use]
    pub fn gives(&self, cover: Cover, now: u64) -> bool {
        self.holds(cover) && self.is_confirmed(cover.place, now)
    }

    /// Whether the connection at a place is up to date, as far as [`LEASE`] allows.
    #[must_use]
    pub fn is_confirmed(&self, place: u8, now: u64) -> bool {
        let cover = self.covers.get(usize::from(place));
        cover.is_some_and(|cover| now <= cover.until.load(Ordering::SeqCst))
    }
}

impl Covering {
    /// All that it covered is gone, for good.
    fn forget(&self, next: u32) {
        self.kept.store(0, Ordering::SeqCst);
        self.generation.fetch_add(next, Ordering::SeqCst);
    }
}

fn bucket(hash: u64) -> usize {
    // Not the bits that hash tables take.
    usize::try_from((hash >> 24) % BUCKETS as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests;
