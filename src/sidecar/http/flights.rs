//! One request to the application for many that ask for the same at once.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::watch, time::timeout};

use crate::sidecar::cache::key::Key;

/// No request waits longer for the answer to another.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The keys that are being asked for.
#[derive(Clone, Default)]
pub struct Flights(Arc<Mutex<HashMap<Key, watch::Receiver<bool>>>>);

/// Somebody asks the application; whoever waits goes on when this is dropped, however that comes.
pub struct Flight {
    flights: Flights,
    key: Key,
    /// Whether nothing is to be had from it.
    over: watch::Sender<bool>,
}

/// What a request for a key has to do.
pub enum Turn {
    /// Ask the application.
    Ask(Flight),
    /// Another has asked, and that is over: look again.
    LookAgain,
    /// Nothing comes of it for others, or it took too long: ask too, and hold up nobody.
    Alone,
}

impl Flights {
    /// Whose turn it is to ask for a key; waits for the end of another's.
    pub async fn turn(&self, key: &Key) -> Turn {
        let mut over = {
            let mut flights = self.0.lock();
            if let Some(over) = flights.get(key) {
                over.clone()
            } else {
                let (sender, over) = watch::channel(false);
                flights.insert(key.clone(), over);
                return Turn::Ask(Flight { flights: self.clone(), key: key.clone(), over: sender });
            }
        };
        match timeout(PATIENCE, over.changed()).await {
            Ok(Err(_)) => Turn::LookAgain,
            Ok(Ok(())) | Err(_) => Turn::Alone,
        }
    }
}

impl Flight {
    /// The answer is not for others: they ask for themselves, all at once.
    pub fn release(self) {
        self.over.send_replace(true);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        // Before those who wait are woken, which the drop of the sender does.
        self.flights.0.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use http::uri::PathAndQuery;

    use super::*;

    fn key() -> Key {
        Key::of("http", "shop", &PathAndQuery::from_static("/"), &[])
    }

    #[tokio::test]
    async fn the_second_waits_for_the_first_and_looks_again() {
        let flights = Flights::default();
        let Turn::Ask(first) = flights.turn(&key()).await else { panic!("nobody asks") };
        let second = tokio::spawn({
            let flights = flights.clone();
            async move { flights.turn(&key()).await }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        assert!(matches!(second.await.unwrap(), Turn::LookAgain));
        assert!(matches!(flights.turn(&key()).await, Turn::Ask(_)));
    }

    #[tokio::test]
    async fn an_answer_that_is_not_for_others_releases_all_who_wait() {
        let flights = Flights::default();
        let Turn::Ask(first) = flights.turn(&key()).await else { panic!("nobody asks") };
        let waiting = [0, 1].map(|_| {
            let flights = flights.clone();
            tokio::spawn(async move { flights.turn(&key()).await })
        });
        tokio::task::yield_now().await;
        first.release();
        for waiting in waiting {
            assert!(matches!(waiting.await.unwrap(), Turn::Alone));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let flights = Flights::default();
        let _first = flights.turn(&key()).await;
        assert!(matches!(flights.turn(&key()).await, Turn::Alone));
    }
}
