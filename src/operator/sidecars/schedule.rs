//! Whose sidecars are read when.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use parking_lot::Mutex;
use rand::RngExt;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::pods::ServiceKey;

/// No sidecar is read again before.
const PERIOD: Duration = Duration::from_mins(1);
/// By so much at most later, so that those that were made together drift apart.
const SPREAD: Duration = Duration::from_secs(6);
/// How long after a sidecar has started it is read first: it has its settings then.
const SOON: Duration = Duration::from_secs(2);

/// Whose sidecars are read when.
#[derive(Default)]
pub(super) struct Schedule {
    turns: Mutex<Turns>,
    /// One may be due earlier than was waited for.
    changed: Notify,
}

#[derive(Default)]
struct Turns {
    dues: HashMap<ServiceKey, Instant>,
    queue: BTreeSet<(Instant, ServiceKey)>,
}

impl Schedule {
    /// Has turns from now on, if it has none yet.
    pub(super) fn put(&self, service: ServiceKey) {
        let mut turns = self.turns.lock();
        if !turns.dues.contains_key(&service) {
            turns.set(service, Instant::now() + SOON + up_to(SOON));
            drop(turns);
            self.changed.notify_one();
        }
    }

    /// Has none any more.
    pub(super) fn remove(&self, service: &ServiceKey) {
        self.turns.lock().remove(service);
    }

    /// Whether it has turns.
    pub(super) fn has(&self, service: &ServiceKey) -> bool {
        self.turns.lock().dues.contains_key(service)
    }

    /// Has its next turn soon.
    pub(super) fn hurry(&self, service: &ServiceKey) {
        let soon = Instant::now() + SOON + up_to(SOON);
        let mut turns = self.turns.lock();
        if turns.dues.get(service).is_some_and(|due| *due > soon) {
            turns.set(service.clone(), soon);
            drop(turns);
            self.changed.notify_one();
        }
    }

    /// Waits for the next turn.
    pub(super) async fn next(&self) -> ServiceKey {
        loop {
            let due = {
                let mut turns = self.turns.lock();
                match turns.queue.first().cloned() {
                    Some((due, service)) if due <= Instant::now() => {
                        // Whatever comes of this turn, another follows.
                        turns.set(service.clone(), Instant::now() + PERIOD + up_to(SPREAD));
                        return service;
                    }
                    first => first.map(|(due, _)| due),
                }
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }
}

impl Turns {
    fn set(&mut self, service: ServiceKey, due: Instant) {
        self.remove(&service);
        self.dues.insert(service.clone(), due);
        self.queue.insert((due, service));
    }

    fn remove(&mut self, service: &ServiceKey) {
        if let Some((service, due)) = self.dues.remove_entry(service) {
            self.queue.remove(&(due, service));
        }
    }
}

fn up_to(most: Duration) -> Duration {
    most.mul_f64(rand::rng().random_range(0.0..1.0))
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    fn service(name: &str) -> ServiceKey {
        ("n".to_owned(), name.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn each_has_a_turn_once_a_minute_and_not_more_often() {
        let schedule = Schedule::default();
        let names = ["a", "b", "c"];
        for name in names {
            schedule.put(service(name));
        }
        let began = Instant::now();
        let mut turns: HashMap<ServiceKey, Vec<Duration>> = HashMap::new();
        while began.elapsed() < PERIOD * 10 {
            turns.entry(schedule.next().await).or_default().push(began.elapsed());
        }
        for name in names {
            let turns = &turns[&service(name)];
            assert!(turns[0] <= SOON * 2, "{turns:?}");
            let pauses = turns.windows(2).map(|pair| pair[1] - pair[0]);
            assert!(pauses.clone().all(|pause| pause >= PERIOD && pause <= PERIOD + SPREAD), "{turns:?}");
            assert!(pauses.count() >= 8, "{turns:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_put_again_has_no_turn_of_its_own_for_that_and_one_that_hurries_has() {
        let schedule = Schedule::default();
        schedule.put(service("a"));
        assert_eq!(schedule.next().await, service("a"));
        schedule.put(service("a"));
        assert!(timeout(PERIOD, schedule.next()).await.is_err());
        assert_eq!(schedule.next().await, service("a"));
        let turn = timeout(SOON * 2, schedule.next());
        let hurried = async { schedule.hurry(&service("a")) };
        assert_eq!(tokio::join!(turn, hurried).0.unwrap(), service("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_removed_has_no_turn() {
        let schedule = Schedule::default();
        schedule.put(service("a"));
        schedule.remove(&service("a"));
        schedule.hurry(&service("a"));
        assert!(!schedule.has(&service("a")));
        assert!(timeout(PERIOD * 3, schedule.next()).await.is_err());
    }
}
