//! One request to the application for many that ask for the same at once.

use std::{collections::HashMap, sync::Arc, time::Duration};

use http::StatusCode;
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::sidecar::{cache::key::Key, remembered::Remembered};

/// No request waits longer for the answers to others, however many come and go meanwhile.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// So many keys are remembered whose answers are for nobody else.
const ALONE: usize = 4096;
/// For so long.
const ALONE_FOR: Duration = Duration::from_secs(3);

/// After an answer that renewed nothing, what is stale is not asked for anew for so long by those who do not wait.
const PAUSE: Duration = Duration::from_secs(1);

/// The keys that are being asked for.
#[derive(Clone)]
pub struct Flights(Arc<Known>);

struct Known {
    under_way: Mutex<HashMap<Key, watch::Receiver<End>>>,
    /// Until when the answers to a key are taken to be for nobody else: for requests that say who asks, or
    /// for all.
    alone: Remembered<Instant>,
    /// Until when a key is not asked for anew.
    paused: Remembered<Instant>,
}

impl Default for Flights {
    fn default() -> Self {
        Self(Arc::new(Known {
            under_way: Mutex::default(),
            alone: Remembered::of(ALONE),
            paused: Remembered::of(ALONE),
        }))
    }
}

/// Somebody asks the application; whoever waits goes on when this is dropped, however that comes.
pub struct Flight {
    flights: Flights,
    key: Key,
    over: watch::Sender<End>,
}

/// What is to be had from a flight.
#[derive(Clone, Copy)]
enum End {
    /// It is not known yet. Where it ends so, whoever waits looks again.
    Open,
    /// Nothing.
    Released,
    /// Nothing: the application has failed with this status, or without an answer.
    Failed(Option<StatusCode>),
}

/// What a request for a key has to do.
pub enum Turn {
    /// Ask the application.
    Ask(Flight),
    /// Another has asked, and that is over: look again.
    LookAgain,
    /// Another has asked, and the application has failed with this status, or without an answer: what is stale may do.
    /// Otherwise ask too, and hold up nobody.
    Failed(Option<StatusCode>),
    /// Nothing comes of it for others, or it took too long: ask too, and hold up nobody.
    Alone,
}

impl Flights {
    /// The right to ask for a key, if nobody else asks; waits for nothing.
    #[must_use]
    pub fn begin(&self, key: &Key) -> Option<Flight> {
        self.begin_or(key).ok()
    }

    /// The same, or what tells of the end of another's.
    fn begin_or(&self, key: &Key) -> Result<Flight, watch::Receiver<End>> {
        let mut flights = self.0.under_way.lock();
        if let Some(over) = flights.get(key) {
            return Err(over.clone());
        }
        let (sender, over) = watch::channel(End::Open);
        flights.insert(key.clone(), over);
        Ok(Flight { flights: self.clone(), key: key.clone(), over: sender })
    }

    fn is_for_nobody_else(&self, key: &Key, is_of_a_user: bool) -> bool {
        let until = |is_of_a_user| self.0.alone.get(&(key, is_of_a_user));
        let now = Instant::now();
        until(false).or_else(|| until(true).filter(|_| is_of_a_user)).is_some_and(|until| until > now)
    }

    /// Has a key not asked for anew for a while: nothing came of it.
    pub fn pause(&self, key: &Key) {
        self.0.paused.insert(key, Instant::now() + PAUSE);
    }

    /// Whether that is so.
    #[must_use]
    pub fn is_paused(&self, key: &Key) -> bool {
        self.0.paused.get(key).is_some_and(|until| until > Instant::now())
    }

    /// Whose turn it is to ask for a key; waits for the end of another's, `until` then at most. That is the same each
    /// time that a request looks again, or the last of many would wait for each of those before it.
    ///
    /// For a key of which nothing came for others a moment ago, for `is_of_a_user` or for all, nobody waits.
    pub async fn turn(&self, key: &Key, is_of_a_user: bool, until: Instant) -> Turn {
        let mut over = match self.begin_or(key) {
            Ok(flight) => return Turn::Ask(flight),
            Err(_) if self.is_for_nobody_else(key, is_of_a_user) => return Turn::Alone,
            Err(over) => over,
        };
        match timeout_at(until, over.changed()).await {
            Ok(Err(_)) => Turn::LookAgain,
            Ok(Ok(())) => match *over.borrow() {
                End::Failed(answered) => Turn::Failed(answered),
                End::Open | End::Released => Turn::Alone,
            },
            Err(_) => Turn::Alone,
        }
    }
}

impl Flight {
    /// The answer is not for others: they ask for themselves, all at once. Where that is to be expected of
    /// the next answers too, the argument tells whether of those to requests that say who asks, or of all.
    pub fn release(self, expected: Option<bool>) {
        if let Some(is_of_a_user) = expected {
            self.flights.0.alone.insert(&(&self.key, is_of_a_user), Instant::now() + ALONE_FOR);
        }
        self.over.send_replace(End::Released);
    }

    /// The application has failed, with this status or without an answer: that holds for all who wait.
    pub fn fail(self, answered: Option<StatusCode>) {
        self.over.send_replace(End::Failed(answered));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        // Before those who wait are woken, which the drop of the sender does.
        self.flights.0.under_way.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use http::uri::PathAndQuery;

    use super::*;

    fn key() -> Key {
        Key::of("http", "shop", &PathAndQuery::from_static("/"), &[])
    }

    fn soon() -> Instant {
        Instant::now() + PATIENCE
    }

    #[tokio::test]
    async fn the_second_waits_for_the_first_and_looks_again() {
        let flights = Flights::default();
        let Turn::Ask(first) = flights.turn(&key(), false, soon()).await else { panic!("nobody asks") };
        let second = tokio::spawn({
            let flights = flights.clone();
            async move { flights.turn(&key(), false, soon()).await }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        assert!(matches!(second.await.unwrap(), Turn::LookAgain));
        assert!(matches!(flights.turn(&key(), false, soon()).await, Turn::Ask(_)));
    }

    #[tokio::test]
    async fn an_answer_that_is_not_for_others_releases_all_who_wait() {
        let flights = Flights::default();
        let Turn::Ask(first) = flights.turn(&key(), false, soon()).await else { panic!("nobody asks") };
        let waiting = [0, 1].map(|_| {
            let flights = flights.clone();
            tokio::spawn(async move { flights.turn(&key(), false, soon()).await })
        });
        tokio::task::yield_now().await;
        first.release(None);
        for waiting in waiting {
            assert!(matches!(waiting.await.unwrap(), Turn::Alone));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_over_after_a_while() {
        let flights = Flights::default();
        assert!(!flights.is_paused(&key()));
        flights.pause(&key());
        assert!(flights.is_paused(&key()));
        tokio::time::advance(PAUSE).await;
        assert!(!flights.is_paused(&key()));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let flights = Flights::default();
        let _first = flights.turn(&key(), false, soon()).await;
        assert!(matches!(flights.turn(&key(), false, soon()).await, Turn::Alone));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_anew_for_each_who_comes_between() {
        let flights = Flights::default();
        let until = soon();
        for _ in 0..2 {
            let Turn::Ask(other) = flights.turn(&key(), false, until).await else { panic!("nobody asks") };
            let waiting = tokio::spawn({
                let flights = flights.clone();
                async move { flights.turn(&key(), false, until).await }
            });
            tokio::time::advance(PATIENCE / 4).await;
            drop(other);
            assert!(matches!(waiting.await.unwrap(), Turn::LookAgain));
        }
        let _other = flights.begin(&key());
        assert!(matches!(flights.turn(&key(), false, until).await, Turn::Alone));
        assert_eq!(Instant::now(), until);
    }

    #[tokio::test]
    async fn that_the_application_has_failed_is_told_to_all_who_wait() {
        let flights = Flights::default();
        let Turn::Ask(first) = flights.turn(&key(), false, soon()).await else { panic!("nobody asks") };
        let waiting = tokio::spawn({
            let flights = flights.clone();
            async move { flights.turn(&key(), false, soon()).await }
        });
        tokio::task::yield_now().await;
        first.fail(Some(StatusCode::BAD_GATEWAY));
        assert!(matches!(waiting.await.unwrap(), Turn::Failed(Some(StatusCode::BAD_GATEWAY))));
    }
}
