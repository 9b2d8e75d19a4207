//! Where the clients of the pod come in.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    coherence::Lacks,
    commands::meaning,
    connect::{Place, Refused, Upstream},
    following::Following,
    near::{Near, Spot},
    outlet::{self, Held, Outlet},
    pins::Pins,
    pool::Pool,
    reach::Reach,
    session::Session,
};
use crate::{
    settings::near_cache::{self, NearCache},
    sidecar::resp::request::Command,
};

/// Where no more connections can be had for a moment.
const PAUSE: Duration = Duration::from_millis(50);

/// What a client may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// So many clients at once.
    pub clients: usize,
    /// A command is no longer, in bytes.
    pub command: usize,
    /// So many bytes of commands that are not whole are kept for all clients together.
    pub input: usize,
    /// What waits for a client.
    pub outlet: outlet::Bounds,
}

impl Bounds {
    /// For so many clients, whose commands and replies on their way take no more than `bytes` together: half of it in,
    /// half of it out, and one command alone a quarter.
    #[must_use]
    pub fn within(clients: u64, bytes: u64) -> Self {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let of_each = outlet::Bounds::default();
        let outlet = outlet::Bounds { most: of_each.most.min(bytes / 4), all: bytes / 2, ..of_each };
        let clients = usize::try_from(clients).unwrap_or(usize::MAX);
        Self { clients, command: bytes / 4, input: bytes / 2, outlet }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self { clients: 10_000, command: 64 << 20, input: 128 << 20, outlet: outlet::Bounds::default() }
    }
}

/// All that clients share.
pub struct Relay {
    reach: Arc<Reach>,
    pool: Arc<Pool>,
    pins: Arc<Pins>,
    near: Arc<Near>,
    bounds: Bounds,
    /// By which all goes, and of these what the connections go by.
    settings: RwLock<NearCache>,
    limits: Arc<RwLock<near_cache::Pool>>,
    home: Place,
    held: Arc<Held>,
    input: AtomicUsize,
    is_ending: AtomicBool,
    clients: Mutex<HashMap<u64, Arc<Outlet>>>,
    count: AtomicU64,
    /// One has gone.
    gone: Notify,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Relay {
    /// To the Redis whose URL stands in a file. To be made within a runtime, as its connections are kept by tasks.
    #[must_use]
    pub fn to(url_file: &Path, settings: &NearCache, bounds: Bounds) -> Arc<Self> {
        Self::lacking(Lacks::Nothing, url_file, settings, bounds)
    }

    /// One whose memory gives what it must not, for tests that have to find that out.
    #[must_use]
    pub fn lacking(lacks: Lacks, url_file: &Path, settings: &NearCache, bounds: Bounds) -> Arc<Self> {
        let upstream = Arc::new(Upstream::to(url_file, settings.pool.connect_timeout()));
        let near = Near::lacking(lacks, settings, upstream.clone());
        // It may not be there yet; each client looks again.
        let home = Place { database: upstream.database().unwrap_or_default(), ..Place::default() };
        let reach = Arc::new(Reach::by(upstream));
        let limits = Arc::new(RwLock::new(settings.pool));
        let pool = Pool::by(reach.clone(), near.clone(), limits.clone(), home.clone());
        let pins = Pins::by(reach.clone(), limits.clone());
        let following = Following {
            url_file: url_file.to_owned(),
            home: home.clone(),
            reach: reach.clone(),
            pool: pool.clone(),
            pins: pins.clone(),
            near: near.clone(),
        };
        let keeping = [tokio::spawn(pool.clone().keep()), tokio::spawn(pins.clone().keep())];
        let tasks = keeping.into_iter().chain([tokio::spawn(following.follow())]).collect();
        Arc::new(Self {
            reach,
            pool,
            pins,
            near,
            bounds,
            settings: RwLock::new(settings.clone()),
            limits,
            home,
            held: Arc::default(),
            input: AtomicUsize::new(0),
            is_ending: AtomicBool::new(false),
            clients: Mutex::default(),
            count: AtomicU64::new(0),
            gone: Notify::new(),
            tasks: Mutex::new(tasks),
        })
    }

    /// From here on other settings hold.
    pub fn reload(&self, settings: &NearCache) {
        let before = std::mem::replace(&mut *self.settings.write(), settings.clone());
        *self.limits.write() = settings.pool;
        self.reach.upstream().set_limit(settings.pool.connect_timeout());
        // What is stored is forgotten with it.
        let of_memory = |settings: NearCache| {
            let NearCache { memory, ttl_ms, max_value, when_redis_fails, rules, .. } = settings;
            (memory, ttl_ms, max_value, when_redis_fails, rules)
        };
        if of_memory(before) != of_memory(settings.clone()) {
            self.near.go_by(settings);
        }
    }

    /// Takes clients in until it is dropped.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((client, _)) => self.welcome(client),
                Err(error) => {
                    tracing::debug!(%error, "a client of the near-cache cannot be taken in");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn welcome(self: &Arc<Self>, client: TcpStream) {
        if self.clients.lock().len() >= self.bounds.clients {
            // In the words of Redis.
            let _ = client.try_write(b"-ERR max number of clients reached\r\n");
            return;
        }
        let _ = client.set_nodelay(true);
        let (input, output) = client.into_split();
        let outlet = Outlet::to(output, self.bounds.outlet, self.held.clone());
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        self.clients.lock().insert(number, outlet.clone());
        let relay = self.clone();
        tokio::spawn(async move {
            // Also where it panics.
            let _leaving = Leaving { relay: relay.clone(), number };
            Session::of(relay, input, outlet).serve().await;
        });
    }

    /// Has what was asked answered, for so long, and ends all connections.
    pub async fn end(&self, limit: Duration) {
        self.is_ending.store(true, Ordering::Release);
        let outlets: Vec<_> = self.clients.lock().values().cloned().collect();
        for outlet in outlets {
            outlet.wake();
        }
        let all_gone = async {
            while self.clients() > 0 {
                self.gone.notified().await;
            }
        };
        if timeout(limit, all_gone).await.is_err() {
            let left = self.clients.lock().len();
            tracing::warn!(left, "ending before all clients of the near-cache have their replies");
        }
        self.near.leases().end().await;
        self.pool.end();
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
    }

    /// So many clients there are.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.clients.lock().len()
    }

    /// The connections that are shared.
    #[must_use]
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The connections of one client each.
    #[must_use]
    pub fn pins(&self) -> &Arc<Pins> {
        &self.pins
    }

    /// The memory of the pod.
    #[must_use]
    pub fn near(&self) -> &Arc<Near> {
        &self.near
    }

    /// Whether Redis is reached.
    #[must_use]
    pub fn reach(&self) -> &Arc<Reach> {
        &self.reach
    }

    /// Where replies are kept that no client has asked for.
    pub(super) fn kept(&self) -> Arc<Outlet> {
        Outlet::kept(self.bounds.outlet, self.held.clone())
    }

    pub(super) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// What a command is told that Redis is not asked.
    pub(super) fn unasked(&self, spot: &Spot, command: &Command, refused: &Refused) -> Bytes {
        let is_unreached = !matches!(refused, Refused::Said(_));
        let told = is_unreached.then(|| self.near.unreached(spot, command, &meaning(command))).flatten();
        told.unwrap_or_else(|| refused.told())
    }

    pub(super) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Acquire)
    }

    /// Where a client begins.
    pub(super) fn initial(&self) -> Place {
        let database = self.reach.upstream().database().unwrap_or(self.home.database);
        Place { database, ..self.home.clone() }
    }

    /// Instead of so many bytes of commands a client has others; whether there is room for them.
    pub(super) fn charge(&self, before: usize, now: usize) -> bool {
        if now > before {
            let more = now - before;
            self.input.fetch_add(more, Ordering::Relaxed) + more <= self.bounds.input
        } else {
            self.input.fetch_sub(before - now, Ordering::Relaxed);
            true
        }
    }
}

struct Leaving {
    relay: Arc<Relay>,
    number: u64,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.relay.clients.lock().remove(&self.number);
        self.relay.gone.notify_one();
    }
}

/// The port of the pod's own clients.
///
/// # Errors
/// When it is taken.
pub async fn listen(port: u16) -> Result<TcpListener, String> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(|error| format!("cannot listen on port {port} of 127.0.0.1: {error}"))
}
