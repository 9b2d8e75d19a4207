//! What the replicas share in Redis: stored responses (the second level, L2), who asks the application for
//! what, and the record of the purges that applications ask for.
//!
//! ```text
//!  front ──▶ entries, lease ──▶ link ──▶ Redis ──▶ subscription ──▶ memory (purges)
//!                  ▲              ▲                     │ ▲
//!        codec ────┘   outbox ────┘                     ▼ └── record
//!                       (what happened here)          reload
//! ```
//! Beside it, `uses` tells what is used most, and `warming` begins with that.
//!
//! Nothing here is relied on: Redis may be slow, frozen or gone, come back empty, or have lost any of its
//! keys. Then requests are answered from memory and by the application, after a few milliseconds at
//! most, and what may be out of date is not given:
//!
//! * each response has the stamp of the purges that were known when it was asked for, and whoever
//!   reads it knows the later ones: a lookup finds nothing while this replica and the record in Redis
//!   differ;
//! * a record that is lost, or older than what was known, is replaced by another generation, with which
//!   all that was stored before it is not given any more;
//! * a request that changes something breaks the lock of its key, and without the lock nothing is stored.

pub mod codec;
mod entries;
mod figures;
mod lease;
mod link;
pub mod names;
mod outbox;
mod patience;
mod peek;
pub mod record;
mod scripts;
mod subscription;
mod telling;
mod uses;
mod warming;

use std::{
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, Semaphore},
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

pub use self::{
    entries::{Lock, Looked, Take, Wanted},
    figures::Figures,
    lease::Lease,
    peek::Peek,
    warming::{Ended, Warmed},
};
use self::{link::Link, names::Names, outbox::Outbox, uses::Uses};
use super::{
    breaker::State,
    cache::{
        SecondaryKey, Stored,
        key::Key,
        purges::{Began, Force, Source, Target},
        reuse::ByRule,
    },
    memory::Memory,
    near_cache::deletions::Deletions,
    remembered::Remembered,
    room::Room,
};
use crate::settings::{Redis, purges::Tiers};

/// How long a request waits for Redis.
pub const LOOKUP: Duration = Duration::from_millis(10);
/// So many kilobytes of responses are on their way into Redis at once.
const ON_ITS_WAY: usize = 16 << 10;
/// Of so many keys it is remembered what their responses vary by, and that nothing comes of them.
const REMEMBERED: usize = 4096;

/// What the application may order purges of.
#[derive(Clone)]
pub struct Orders {
    /// There is a cache of responses.
    pub http: bool,
    /// Who deletes in Redis, where there is a near-cache.
    pub deletions: Option<Arc<Deletions>>,
}

impl Orders {
    /// Of the cache of responses alone.
    #[must_use]
    pub fn http() -> Self {
        Self { http: true, deletions: None }
    }

    /// The tiers that there are.
    #[must_use]
    pub fn tiers(&self) -> Tiers {
        Tiers { http: self.http, application: self.deletions.is_some() }
    }
}

/// What the replicas share, as one of them sees it.
pub struct Shared {
    inner: Arc<Inner>,
    tasks: Vec<JoinHandle<()>>,
}

struct Inner {
    names: Names,
    link: Link,
    memory: Arc<Memory>,
    room: Room,
    figures: Arc<Figures>,
    outbox: Outbox,
    lookup: Duration,
    /// Which replica this is, to tell its own news.
    replica: u64,
    tokens: AtomicU64,
    /// The connection for commands on which the record was read, while its news come; 0 while they do not.
    followed: AtomicU64,
    /// The record is to be read again.
    reload: Notify,
    /// What responses of a key vary by, as it was the last time.
    sets: Remembered<Arc<str>>,
    /// Since when nothing comes of a key.
    unshared: Remembered<Instant>,
    on_its_way: Arc<Semaphore>,
    uses: Uses,
    warmed: OnceLock<Warmed>,
    orders: Orders,
}

impl Shared {
    /// Begins to share. It waits for nothing: until Redis answers, nothing is shared. Bodies come into memory as far
    /// as there is room for them.
    #[must_use]
    pub fn start(
        redis: &Redis,
        memory: Arc<Memory>,
        room: Room,
        lookup: Duration,
        orders: Orders,
    ) -> Arc<Self> {
        let figures = Arc::new(Figures::default());
        let inner = Arc::new(Inner {
            names: Names::of(redis),
            link: Link::to(Path::new(&redis.url_file), lookup, figures.clone()),
            memory,
            room,
            figures,
            outbox: Outbox::new(),
            lookup,
            replica: rand::random(),
            tokens: AtomicU64::new(0),
            followed: AtomicU64::new(0),
            reload: Notify::new(),
            sets: Remembered::of(REMEMBERED),
            unshared: Remembered::of(REMEMBERED),
            on_its_way: Arc::new(Semaphore::new(ON_ITS_WAY)),
            uses: Uses::default(),
            warmed: OnceLock::new(),
            orders,
        });
        let [one, two, three, four] = [(); 4].map(|()| inner.clone());
        let tasks = vec![
            tokio::spawn(async move { one.link.keep().await }),
            tokio::spawn(async move { two.follow().await }),
            tokio::spawn(async move { three.tell().await }),
            tokio::spawn(async move { four.tell_uses_now_and_then().await }),
        ];
        Arc::new(Self { inner, tasks })
    }

    /// Looks for a response to a request; it is in memory, too, from then on.
    pub async fn look(&self, wanted: &Wanted<'_>, take: Take) -> Looked {
        self.inner.look(wanted, take).await
    }

    /// What is there for a request, without a change of anything.
    pub async fn peek(&self, wanted: &Wanted<'_>) -> Peek {
        self.inner.peek(wanted).await
    }

    /// Stores what the holder of the lock has brought, for as long as it is of use by the rule for it; nobody
    /// waits for that.
    pub fn put(&self, lease: Lease, key: Key, stored: Arc<Stored>, began: Began, rule: ByRule) {
        self.inner.put(lease, key, stored, began, rule);
    }

    /// Requests have changed what these keys are about: no replica gives it any more. What is returned waits for
    /// that as long as a lookup may take; where it takes longer, it is done later.
    pub fn changed(&self, keys: Vec<Key>) -> impl Future<Output = ()> {
        // From here on, and not only when somebody waits.
        let number = (!keys.is_empty()).then(|| self.inner.outbox.changed(keys));
        async move {
            if let Some(number) = number.filter(|_| self.inner.link.connection().is_some()) {
                let _ = timeout(self.inner.lookup, self.inner.outbox.until_told(number)).await;
            }
        }
    }

    /// Waits until the other replicas know all that has happened here.
    pub async fn until_all_told(&self) {
        self.inner.outbox.until_all_told().await;
    }

    /// How much of it they do not know yet.
    #[must_use]
    pub fn untold(&self) -> usize {
        self.inner.outbox.left()
    }

    /// Records a purge and tells the other replicas, after it was carried out here.
    ///
    /// # Errors
    /// Why it is not known that they know it.
    pub async fn purge(&self, targets: Vec<Target>, force: Force) -> Result<(), String> {
        self.inner.record(targets, force).await
    }

    /// A response was used here.
    pub fn used(&self, key: &Key, secondary: &SecondaryKey) {
        self.inner.uses.note(key, secondary);
    }

    /// Tells the others what was used here; that is done now and then without being asked for.
    pub async fn tell_uses(&self) {
        self.inner.tell_uses().await;
    }

    /// Takes what the replicas use most into memory, in a bounded time and at most half of the memory.
    pub async fn warm(&self) -> Warmed {
        let warmed = self.inner.warm().await;
        *self.inner.warmed.get_or_init(|| warmed)
    }

    /// What became of that, once it is over.
    #[must_use]
    pub fn warmed(&self) -> Option<Warmed> {
        self.inner.warmed.get().copied()
    }

    /// Another has asked for what is wanted here.
    pub fn waits(&self) {
        Figures::add(&self.inner.figures.waits);
    }

    /// What is counted.
    #[must_use]
    pub fn figures(&self) -> &Figures {
        &self.inner.figures
    }

    /// The state of the breaker in front of Redis.
    #[must_use]
    pub fn breaker(&self) -> State {
        self.inner.link.state()
    }

    /// Whether responses are shared at present: Redis answers, and the records of purges are known, and followed.
    #[must_use]
    pub fn is_coherent(&self) -> bool {
        self.inner.coherent(self.inner.memory.begin()).is_some()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Inner {
    /// What nobody else names a lock by.
    fn token(&self) -> String {
        format!("{:016x}{:x}", self.replica, self.tokens.fetch_add(1, Ordering::Relaxed))
    }

    fn is_followed_on(&self, connection: u64) -> bool {
        self.followed.load(Ordering::Acquire) == connection
    }

    /// Carries out purges in memory.
    async fn purge_here(&self, targets: Vec<Target>, force: Force, source: Source) {
        let is_long = self.memory.takes_long(&targets, force);
        self.in_memory(is_long, move |memory| memory.purge(&targets, force, source)).await;
    }

    /// Does something in memory; off the runtime where that takes long.
    async fn in_memory(&self, is_long: bool, work: impl FnOnce(&Memory) + Send + 'static) {
        if !is_long {
            return work(&self.memory);
        }
        let memory = self.memory.clone();
        // It ends with the runtime at most.
        let _ = spawn_blocking(move || work(&memory)).await;
    }
}
