//! The lines that clients share: of each user, database and protocol their own, and all together no more than the
//! settings say.

pub mod figures;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::oneshot,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    connect::{Place, Refused},
    line::Line,
    near::Near,
    reach::Reach,
};
use crate::{settings::near_cache, sidecar::breaker::State};

/// How often it is looked which lines are idle, or stuck.
const ROUND: Duration = Duration::from_millis(250);
/// Where nothing has come for so long though something was asked, Redis is taken to be stuck: what comes new is told
/// so. What was asked before goes on waiting, as it may be slow for a reason.
const STUCK: Duration = Duration::from_secs(3);
/// How often it is looked whether another connection may be made, where there are too many.
const FREED: Duration = Duration::from_millis(5);

/// All lines.
#[derive(Debug)]
pub struct Pool {
    reach: Arc<Reach>,
    near: Arc<Near>,
    limits: Arc<RwLock<near_cache::Pool>>,
    /// Of the service's own user, in the database of the URL, of which some stay.
    home: Place,
    lines: Mutex<Lines>,
    figures: figures::Figures,
}

#[derive(Debug, Default)]
struct Lines {
    of: HashMap<Place, Group>,
    /// Those that are being opened are counted, and those not whose place others take.
    count: usize,
    is_ended: bool,
    /// Counts how often all are made anew.
    generation: u64,
}

/// Those of one place.
#[derive(Debug, Default)]
struct Group {
    lines: Vec<Kept>,
    is_opening: bool,
    waiting: Vec<oneshot::Sender<Result<Arc<Line>, Refused>>>,
}

/// A line, and since when it is as it is.
#[derive(Debug)]
struct Kept {
    line: Arc<Line>,
    asked: (u64, Instant),
    heard: (u64, Instant),
}

impl Pool {
    /// Without a line yet; [`Self::keep`] opens those that stay.
    #[must_use]
    pub fn by(
        reach: Arc<Reach>,
        near: Arc<Near>,
        limits: Arc<RwLock<near_cache::Pool>>,
        home: Place,
    ) -> Arc<Self> {
        Arc::new(Self {
            reach,
            near,
            limits,
            home,
            lines: Mutex::default(),
            figures: figures::Figures::default(),
        })
    }

    /// A line that is there. Where it has much to do, another is opened for who comes next.
    #[must_use]
    pub fn present(self: &Arc<Self>, place: &Place) -> Option<Arc<Line>> {
        let mut lines = self.lines.lock();
        let Lines { of, count, .. } = &mut *lines;
        let group = of.get_mut(place)?;
        let line = group.best()?;
        if line.is_busy() && !group.is_opening && *count < self.most() {
            group.is_opening = true;
            self.clone().begin(place.clone());
        }
        Some(line)
    }

    /// So many lines there may be beside the connections that fill the memory of the pod.
    fn most(&self) -> usize {
        (self.limits.read().max as usize).saturating_sub(self.near.connections()).max(1)
    }

    /// A line, which is opened if there is none.
    ///
    /// # Errors
    /// When Redis is not reached, or refuses the user or the database.
    pub async fn line(self: &Arc<Self>, place: &Place) -> Result<Arc<Line>, Refused> {
        if let Some(line) = self.present(place) {
            return Ok(line);
        }
        let opened = {
            let mut lines = self.lines.lock();
            if lines.is_ended {
                return Err(Refused::Unreachable("the sidecar is ending".into()));
            }
            let group = lines.of.entry(place.clone()).or_default();
            if let Some(line) = group.best() {
                return Ok(line);
            }
            let (sender, opened) = oneshot::channel();
            group.waiting.push(sender);
            if !group.is_opening {
                group.is_opening = true;
                self.clone().begin(place.clone());
            }
            opened
        };
        self.figures.waits.add();
        opened.await.unwrap_or_else(|_| Err(Refused::Unreachable("it was given up".into())))
    }

    /// So many connections there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lines.lock().count
    }

    /// So many replies are outstanding.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        let lines = self.lines.lock();
        lines.of.values().flat_map(|group| &group.lines).map(|kept| kept.line.outstanding()).sum()
    }

    fn begin(self: Arc<Self>, place: Place) {
        tokio::spawn(async move {
            let began = self.lines.lock().generation;
            let opened = self.open(&place).await;
            let waiting = {
                let mut lines = self.lines.lock();
                let is_ended = lines.is_ended;
                if let Ok(line) = &opened
                    && lines.generation != began
                {
                    // It may be at the address of before.
                    lines.count -= usize::from(line.retire());
                }
                let group = lines.of.entry(place.clone()).or_default();
                group.is_opening = false;
                if let Ok(line) = &opened {
                    if is_ended {
                        line.close_if_idle();
                    }
                    let now = Instant::now();
                    group.lines.push(Kept { line: line.clone(), asked: (0, now), heard: (0, now) });
                }
                let waiting = std::mem::take(&mut group.waiting);
                if group.lines.is_empty() {
                    lines.of.remove(&place);
                }
                waiting
            };
            for waiting in waiting {
                // Whoever has gone meanwhile needs none.
                let _ = waiting.send(opened.clone());
            }
        });
    }

    async fn open(self: &Arc<Self>, place: &Place) -> Result<Arc<Line>, Refused> {
        if !self.reserve(place).await {
            self.figures.refused.add();
            return Err(Refused::Unreachable(
                "all connections are in use for other users and databases; raise spec.cache.application.pool.max"
                    .into(),
            ));
        }
        let opened = match self.reach.open(place).await {
            Ok(opened) => opened,
            Err(refused) => {
                self.lines.lock().count -= 1;
                return Err(refused);
            }
        };
        let line = Arc::new(Line::default());
        let (pool, carried, place) = (self.clone(), line.clone(), place.clone());
        tokio::spawn(async move {
            let ended = carried.carry(opened.stream).await;
            tracing::debug!(?ended, "a connection to Redis has ended");
            pool.forget(&place, &carried);
        });
        Ok(line)
    }

    /// Counts one more, for which one of another place may have to end first.
    async fn reserve(&self, place: &Place) -> bool {
        let began = Instant::now();
        loop {
            {
                let most = self.most();
                let mut lines = self.lines.lock();
                if lines.count < most {
                    lines.count += 1;
                    return true;
                }
                let others = lines.of.iter().filter(|(other, _)| *other != place);
                let mut idle: Vec<&Kept> = others.flat_map(|(_, group)| &group.lines).collect();
                idle.sort_by_key(|kept| kept.asked.1);
                let _ = idle.iter().any(|kept| kept.line.close_if_idle());
            }
            if began.elapsed() > self.limits.read().connect_timeout() {
                return false;
            }
            sleep(FREED).await;
        }
    }

    fn forget(&self, place: &Place, line: &Arc<Line>) {
        let mut lines = self.lines.lock();
        lines.count -= usize::from(!line.is_retired());
        let Some(group) = lines.of.get_mut(place) else { return };
        group.lines.retain(|kept| !Arc::ptr_eq(&kept.line, line));
        if group.lines.is_empty() && !group.is_opening {
            lines.of.remove(place);
        }
    }

    /// Opens the lines that stay, ends those that are idle, and tries again what has failed; for ever.
    pub async fn keep(self: Arc<Self>) {
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            if self.lines.lock().is_ended {
                return;
            }
            if self.look() {
                self.reach.failed();
            }
            // A trial that nobody has to wait for; and where it succeeds, a line that stays.
            let is_due = self.reach.state() != State::Open;
            if is_due && self.at_home() < self.limits.read().min as usize {
                let mut lines = self.lines.lock();
                let group = lines.of.entry(self.home.clone()).or_default();
                if !group.is_opening {
                    group.is_opening = true;
                    self.clone().begin(self.home.clone());
                }
            } else if self.reach.state() == State::HalfOpen {
                // It is closed again by its success.
                let _ = self.reach.open(&self.home).await;
            }
        }
    }

    fn at_home(&self) -> usize {
        self.lines.lock().of.get(&self.home).map_or(0, Group::standing)
    }

    /// Others take the place of all lines that there are: at once where something is asked, and of those that stay.
    pub fn connect_anew(&self) {
        let mut lines = self.lines.lock();
        let Lines { of, count, generation, .. } = &mut *lines;
        *generation += 1;
        for kept in of.values().flat_map(|group| &group.lines) {
            *count -= usize::from(kept.line.retire());
        }
    }

    /// Ends what is idle; whether nothing comes where something should.
    fn look(&self) -> bool {
        let (now, mut is_stuck) = (Instant::now(), false);
        let limits = *self.limits.read();
        let mut lines = self.lines.lock();
        for (place, group) in &mut lines.of {
            let stay = if *place == self.home { limits.min as usize } else { 0 };
            let mut count = group.standing();
            let is_replaced = count > 0;
            for kept in &mut group.lines {
                let (asked, heard) = kept.line.counts();
                if kept.asked.0 != asked {
                    kept.asked = (asked, now);
                }
                if kept.heard.0 != heard || kept.line.outstanding() == 0 {
                    kept.heard = (heard, now);
                }
                let has_nothing = now - kept.heard.1 > STUCK;
                kept.line.set_stuck(has_nothing);
                is_stuck |= has_nothing;
                let is_idle = now - kept.asked.1 > limits.idle_timeout();
                if kept.line.is_retired() {
                    // It has gone on as long as nobody knew whether there would be another.
                    if is_replaced || is_idle {
                        kept.line.close_if_idle();
                    }
                    continue;
                }
                if is_idle && count > stay && kept.line.close_if_idle() {
                    count -= 1;
                }
            }
        }
        is_stuck
    }

    /// Ends all lines; what is under way on them is to be waited for first.
    pub fn end(&self) {
        let mut lines = self.lines.lock();
        lines.is_ended = true;
        for kept in lines.of.values().flat_map(|group| &group.lines) {
            kept.line.close_if_idle();
        }
    }
}

impl Group {
    /// How many there are whose place no others take.
    fn standing(&self) -> usize {
        self.lines.iter().filter(|kept| !kept.line.is_retired()).count()
    }

    /// That with the least to do. It is the first as long as this is not busy: what is asked together is sent together.
    fn best(&self) -> Option<Arc<Line>> {
        let mut lines = self.lines.iter().map(|kept| &kept.line).filter(|line| !line.is_closed());
        let first = lines.next()?;
        if !first.is_busy() {
            return Some(first.clone());
        }
        let best = lines.fold(first, |best, line| match (best.is_busy(), line.is_busy()) {
            (true, false) => line,
            (true, true) if line.outstanding() < best.outstanding() => line,
            (false, _) | (true, true) => best,
        });
        Some(best.clone())
    }
}
