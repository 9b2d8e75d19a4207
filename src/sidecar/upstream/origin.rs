//! The application, wherever it is asked: the replicas that there are, and which comes next.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::HeaderValue;
use parking_lot::{Mutex, RwLock};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use super::{
    budget::Budget,
    checks::check_all,
    choice::{Candidate, Rank, choose},
    fault::Fault,
    names::Dns,
    peers::{Peers, Sight, follow, merge},
    replica::{Figures, Replica, Try},
    waiting::Waiting,
};
use crate::settings::{
    Settings,
    balancing::{BreakerLimits, Mode, RetryBudget},
};

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// To connect. All is in one cluster.
    pub connect: Duration,
    /// Until an answer begins, from the last piece of the request that was sent.
    pub first_byte: Duration,
    /// A request that does no harm when it is done twice is sent to another replica too after so long, and
    /// once more after twice as long; the first answer counts.
    pub second_try: Duration,
    /// How often DNS is asked which replicas there are.
    pub refresh: Duration,
    /// How often they have to prove that they are of this service, and say whether they leave.
    pub proof: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            first_byte: Duration::from_secs(30),
            second_try: Duration::from_secs(2),
            refresh: Duration::from_secs(5),
            proof: Duration::from_secs(2),
        }
    }
}

/// The application, with connections that are used again.
#[derive(Clone)]
pub struct Origin(Arc<Inner>);

pub(super) struct Inner {
    pub(super) timing: Timing,
    /// The one time that the settings have.
    first_byte: RwLock<Duration>,
    /// The addresses of this pod.
    own: RwLock<Vec<IpAddr>>,
    /// Whether the application of this pod was reached at one of these, where somebody looked.
    reached: Mutex<Option<bool>>,
    began: Instant,
    state: RwLock<Arc<State>>,
    /// By which sidecars of this service know that a request has come from one of them: several while the token changes.
    marks: RwLock<Arc<[HeaderValue]>>,
    sight: Mutex<Option<Sight>>,
    /// Whose turn it is to get a request, and to get one that another had: these are apart, as otherwise
    /// the one with a failure before it would get each of its requests.
    turns: [AtomicUsize; 2],
    waiting: Arc<Waiting>,
    budget: Mutex<Budget>,
    asked: AtomicU64,
    denied: AtomicU64,
    tasks: Mutex<Tasks>,
}

/// What holds, and who is there.
#[derive(Clone)]
struct State {
    /// Counts the changes of settings: what a task of before has found is of no use any more.
    generation: u64,
    mode: Mode,
    most: u32,
    limits: BreakerLimits,
    replicas: Vec<Arc<Replica>>,
}

/// Tasks that end with what they are for.
#[derive(Default)]
struct Tasks(Vec<JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl Origin {
    /// The application at a port of this pod, and no other.
    #[must_use]
    pub fn at(port: u16) -> Self {
        Self::with(port, Timing::default())
    }

    /// The same, with other times.
    #[must_use]
    pub fn with(port: u16, timing: Timing) -> Self {
        let (waiting, limits) = (Arc::<Waiting>::default(), BreakerLimits::default());
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let own = Replica::new(address, true, &limits, timing.connect, waiting.clone());
        let state =
            State { generation: 0, mode: Mode::default(), most: u32::MAX, limits, replicas: vec![own] };
        // Somewhere, so that not all sidecars begin with the same.
        #[allow(clippy::cast_possible_truncation)]
        let turns = [(); 2].map(|()| AtomicUsize::new(random() as usize));
        Self(Arc::new(Inner {
            timing,
            first_byte: RwLock::new(timing.first_byte),
            own: RwLock::default(),
            reached: Mutex::default(),
            began: Instant::now(),
            state: RwLock::new(Arc::new(state)),
            marks: RwLock::default(),
            sight: Mutex::default(),
            turns,
            waiting,
            budget: Mutex::new(Budget::new(RetryBudget::default())),
            asked: AtomicU64::new(0),
            denied: AtomicU64::new(0),
            tasks: Mutex::default(),
        }))
    }

    /// As the settings say; `own` are the addresses of this pod. Within a runtime of tokio.
    #[must_use]
    pub fn of(settings: &Settings, own: Vec<IpAddr>) -> Self {
        let origin = Self::at(settings.app_port);
        *origin.0.own.write() = own;
        origin.reload(settings);
        origin
    }

    /// From now on as other settings say.
    pub fn reload(&self, settings: &Settings) {
        let first_byte = settings.first_byte_ms.map_or(Timing::default().first_byte, Duration::from_millis);
        *self.0.first_byte.write() = first_byte;
        self.balance(settings.balancing.clone().map(|balancing| Peers {
            settings: balancing,
            own: self.0.own.read().clone(),
            resolver: Arc::new(Dns),
            admin_port: settings.admin_port,
            token_file: settings.token_file.as_ref().map(PathBuf::from),
        }));
    }

    /// From now on the others are asked too, or none but the own. Within a runtime of tokio.
    pub fn balance(&self, peers: Option<Peers>) {
        let mut tasks = Tasks::default();
        let settings = peers.as_ref().map(|peers| &peers.settings);
        let limits = settings.map(|settings| settings.breaker).unwrap_or_default();
        let generation = {
            let mut state = self.0.state.write();
            let generation = state.generation.wrapping_add(1);
            if state.limits != limits {
                state.replicas.iter().for_each(|replica| replica.limit(&limits));
            }
            let of_before = |replica: &&Arc<Replica>| peers.is_some() || replica.is_own();
            *state = Arc::new(State {
                generation,
                mode: settings.map(|settings| settings.mode).unwrap_or_default(),
                most: settings.map_or(u32::MAX, |settings| settings.max_concurrent),
                limits,
                replicas: state.replicas.iter().filter(of_before).cloned().collect(),
            });
            *self.0.reached.lock() = None;
            *self.0.sight.lock() = None;
            generation
        };
        self.0.budget.lock().limit(settings.map(|settings| settings.retries).unwrap_or_default());
        if let Some(peers) = peers {
            if let Some(health) = peers.settings.health.clone() {
                let own = peers.own.iter().map(|own| (*own, self.own_port()).into()).collect();
                tasks.0.push(tokio::spawn(check_all(Arc::downgrade(&self.0), generation, health, own)));
            }
            tasks.0.push(tokio::spawn(follow(Arc::downgrade(&self.0), generation, peers)));
        }
        *self.0.tasks.lock() = tasks;
        self.0.waiting.all_may_go_on();
    }

    /// Whether this is an address of this pod.
    #[must_use]
    pub fn is_at(&self, address: IpAddr) -> bool {
        self.0.own.read().contains(&address)
    }

    /// The port of the application of this pod.
    #[must_use]
    pub fn own_port(&self) -> u16 {
        let replicas = self.0.replicas();
        replicas.iter().find(|replica| replica.is_own()).map_or(0, |own| own.address().port())
    }

    /// What came of the last look for others; None where there was none.
    #[must_use]
    pub fn sight(&self) -> Option<Sight> {
        self.0.sight.lock().clone()
    }

    /// By which sidecars of this service know that a request has come from one of them.
    pub(super) fn marks(&self) -> Arc<[HeaderValue]> {
        self.0.marks.read().clone()
    }

    /// The figures of each replica, the own first.
    #[must_use]
    pub fn figures(&self) -> Vec<Figures> {
        self.0.replicas().iter().map(|replica| replica.figures()).collect()
    }

    /// So many requests were for the application; repetitions are not counted.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.0.asked.load(Ordering::Relaxed)
    }

    /// So many requests were not repeated, as too many had been.
    #[must_use]
    pub fn denied_retries(&self) -> u64 {
        self.0.denied.load(Ordering::Relaxed)
    }

    /// Whether the application listens on its own pod's localhost alone: there it is reached, and at the
    /// addresses of the pod it is not. Where replicas are not checked, it seems to be so when no other can
    /// be reached.
    #[must_use]
    pub fn is_local_only(&self) -> bool {
        let replicas = self.0.replicas();
        let (own, others): (Vec<_>, Vec<_>) = replicas.iter().partition(|replica| replica.is_own());
        let is_reached = self
            .0
            .is_reached()
            .unwrap_or_else(|| others.is_empty() || others.iter().any(|other| !other.is_refusing()));
        !is_reached && !own.iter().any(|own| own.is_refusing())
    }

    /// When an answer has to have begun that is waited for from now on.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + *self.0.first_byte.read()
    }

    /// After how long another replica is asked too.
    pub(super) fn second_try(&self) -> Duration {
        self.0.timing.second_try
    }

    pub(super) fn count(&self) -> usize {
        self.0.state.read().replicas.len()
    }

    /// Notes that a request has come.
    pub(super) fn asked(&self) {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        self.0.budget.lock().asked(self.0.began.elapsed());
    }

    /// Whether a request may be repeated.
    pub(super) fn may_repeat(&self) -> bool {
        self.0.budget.lock().may_repeat(self.0.began.elapsed())
    }

    /// Notes that a request was not repeated.
    pub(super) fn denied(&self) {
        self.0.denied.fetch_add(1, Ordering::Relaxed);
    }

    /// A place at the replica whose turn it is; waits for one until `deadline`.
    ///
    /// # Errors
    /// When there was none.
    pub(super) async fn place(&self, wanted: &Wanted<'_>, deadline: Instant) -> Result<Try, Fault> {
        let is_like_most = wanted.tried.is_empty() && !wanted.own_alone;
        loop {
            if let Some(place) = self.free_place(wanted) {
                return Ok(place);
            }
            let freed = self.0.waiting.wait(is_like_most);
            tokio::pin!(freed);
            // One may have come free before this was waiting.
            freed.as_mut().enable();
            if let Some(place) = self.free_place(wanted) {
                return Ok(place);
            }
            if timeout_at(deadline, freed).await.is_err() {
                return Err(Fault::Full);
            }
        }
    }

    /// The same, if there is one now.
    pub(super) fn free_place(&self, wanted: &Wanted<'_>) -> Option<Try> {
        let state = self.0.state.read().clone();
        let turn = self.0.turns[usize::from(!wanted.tried.is_empty())].fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        // Another may take the place or the trial that was seen; then there is one less to choose from.
        for _ in 0..=state.replicas.len() {
            let candidates: Vec<Candidate> = state
                .replicas
                .iter()
                .filter(|replica| !wanted.own_alone || replica.is_own())
                .map(|replica| replica.candidate(state.most, wanted.tried.contains(&replica.address()), now))
                .collect();
            let (index, rank) = choose(state.mode, &candidates, turn)?;
            if rank > wanted.worst {
                return None;
            }
            let mut replicas = state.replicas.iter().filter(|replica| !wanted.own_alone || replica.is_own());
            let replica = replicas.nth(index)?;
            let needs_pass = matches!(rank, Rank::Usable(_));
            if let Some(place) = replica.begin(state.most, needs_pass, now) {
                return Some(place);
            }
        }
        None
    }
}

/// Where a request may go.
pub(super) struct Wanted<'a> {
    /// Where it was.
    pub(super) tried: &'a [SocketAddr],
    /// To none that is worse.
    pub(super) worst: Rank,
    /// To the own application, and no other.
    pub(super) own_alone: bool,
}

impl Inner {
    pub(super) fn replicas(&self) -> Vec<Arc<Replica>> {
        self.state.read().replicas.clone()
    }

    /// Whether the application of this pod is reached where others ask it; None where nobody knows.
    pub(super) fn is_reached(&self) -> Option<bool> {
        *self.reached.lock()
    }

    /// Somebody has looked whether it is.
    pub(super) fn reached(&self, generation: u64, is_reached: bool) {
        let state = self.state.read();
        if state.generation != generation {
            return;
        }
        let before = self.reached.lock().replace(is_reached);
        if !is_reached && before != Some(false) {
            tracing::warn!(
                "the application listens on localhost alone: the sidecars of other pods cannot ask it"
            );
        }
    }

    /// These are there now. One that is gone ends when its last request has.
    pub(super) fn found(
        &self,
        generation: u64,
        found: &[SocketAddr],
        marks: Arc<[HeaderValue]>,
        sight: Sight,
    ) {
        let mut state = self.state.write();
        if state.generation != generation {
            return;
        }
        *self.marks.write() = marks;
        let before = self.sight.lock().replace(sight.clone()).and_then(|before| before.trouble);
        if let Some(trouble) = sight.trouble.filter(|_| before.is_none()) {
            tracing::warn!(named = sight.named, proven = sight.proven, "{trouble}");
        }
        let new =
            |address| Replica::new(address, false, &state.limits, self.timing.connect, self.waiting.clone());
        let replicas = merge(&state.replicas, found, new);
        let before: Vec<_> = state.replicas.iter().map(|replica| replica.address()).collect();
        if before != replicas.iter().map(|replica| replica.address()).collect::<Vec<_>>() {
            tracing::info!(before = before.len(), now = replicas.len(), "the replicas have changed");
            *state = Arc::new(State { replicas, ..State::clone(&state) });
            drop(state);
            self.waiting.all_may_go_on();
        }
    }
}

/// A number that others do not have.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// About so long, so that not all sidecars do the same at the same time.
pub(super) fn jittered(about: Duration) -> Duration {
    #[allow(clippy::cast_possible_truncation)]
    let thousandths = 900 + (random() % 201) as u32;
    about * thousandths / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_task_of_before_has_found_is_not_taken_in_any_more() {
        let origin = Origin::at(1);
        let others = [SocketAddr::from(([127, 0, 0, 2], 1))];
        origin.balance(None);
        let generation = origin.0.state.read().generation;
        origin.0.found(generation, &others, Arc::default(), Sight::default());
        assert_eq!(origin.figures().len(), 2);
        origin.balance(None);
        origin.0.found(generation, &others, Arc::default(), Sight::default());
        origin.0.reached(generation, false);
        assert_eq!((origin.figures().len(), origin.sight(), origin.0.is_reached()), (1, None, None));
    }
}
