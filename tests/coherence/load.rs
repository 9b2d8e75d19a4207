//! Many clients that read and write random keys, through pods and straight to Redis, and what they saw.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::{
    history::{By, History, Operation, Span, Time},
    session::{self, Does},
    slots::Slots,
};

/// What is to be done, and where.
pub struct Load {
    /// One URL for each pod: `redis://HOST:PORT`, with `?protocol=resp3` for that protocol.
    pub pods: Vec<String>,
    /// The Redis behind all of them.
    pub redis: String,
    pub clients_per_pod: usize,
    /// And so many that only read, and nearly always what is in memory: so they go on where all else is held up.
    pub readers_per_pod: usize,
    pub direct_clients: usize,
    /// Keys of each kind.
    pub keys: usize,
    /// Whether some values are given a time to live, of milliseconds.
    pub is_expiring: bool,
}

/// What all clients share.
pub struct Shared {
    pub slots: Slots,
    pub is_expiring: bool,
    began: Instant,
    is_over: AtomicBool,
    errors: AtomicUsize,
    faults: Mutex<Vec<Span>>,
}

impl Shared {
    pub fn now(&self) -> Time {
        Time::try_from(self.began.elapsed().as_nanos()).expect("less than centuries")
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    pub fn error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }
}

/// A load that runs.
pub struct Running {
    shared: Arc<Shared>,
    sessions: JoinSet<Vec<Operation>>,
}

impl Load {
    /// Starts all clients; it is in a tokio runtime.
    pub fn start(&self) -> Running {
        let shared = Arc::new(Shared {
            slots: Slots::new(self.keys),
            is_expiring: self.is_expiring,
            began: Instant::now(),
            is_over: AtomicBool::new(false),
            errors: AtomicUsize::new(0),
            faults: Mutex::default(),
        });
        let pods = self.pods.iter().enumerate().flat_map(|(pod, url)| {
            let of_kind = move |what, count| std::iter::repeat_n((By::Pod(pod), url, what), count);
            of_kind(Does::All, self.clients_per_pod).chain(of_kind(Does::Reads, self.readers_per_pod))
        });
        let direct = std::iter::repeat_n((By::Direct, &self.redis, Does::All), self.direct_clients);
        let mut sessions = JoinSet::new();
        for (number, (by, url, what)) in pods.chain(direct).enumerate() {
            let client = redis::Client::open(url.as_str()).expect("a URL");
            sessions.spawn(session::run(shared.clone(), client, by, number, what));
        }
        Running { shared, sessions }
    }
}

impl Running {
    /// Runs a fault, which lasts until the future is done, and what is allowed to it so that all is well again.
    #[allow(dead_code)] // Not by the one that judges what runs already.
    pub async fn fault<T>(&self, recovery: Duration, fault: impl Future<Output = T>) -> T {
        let start = self.shared.now();
        let done = fault.await;
        let end = self.shared.now() + Time::try_from(recovery.as_nanos()).expect("short");
        self.shared.faults.lock().unwrap().push(Span { start, end });
        done
    }

    /// Lets it go on for so long, ends it, and gives what was seen.
    pub async fn end_after(mut self, length: Duration) -> History {
        tokio::time::sleep(length).await;
        self.shared.is_over.store(true, Ordering::Relaxed);
        let mut operations = Vec::new();
        while let Some(session) = self.sessions.join_next().await {
            operations.extend(session.expect("a session that ends"));
        }
        let faults = self.shared.faults.lock().unwrap().clone();
        History { operations, faults, errors: self.shared.errors.load(Ordering::Relaxed) }
    }
}
