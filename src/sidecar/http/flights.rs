//! One request to the application for many that ask for the same at once.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::watch, time::timeout};

use crate::sidecar::cache::key::Key;

/// No request waits longer for the answer to another.
const PATIENCE: Duration = Duration::from_secs(5);

/// The keys that are being asked for.
#[derive(Clone, Default)]
pub struct Flights(Arc<Mutex<HashMap<Key, watch::Receiver<()>>>>);

/// Somebody asks the application; whoever waits goes on when this is dropped, however that comes.
pub struct Flight {
    flights: Flights,
    key: Key,
    _over: watch::Sender<()>,
}

/// What a request for a key has to do.
pub enum Turn {
    /// Ask the application.
    Ask(Flight),
    /// Another has asked, and that is over: look again.
    LookAgain,
    /// It took too long: ask too, and hold up nobody.
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
                let (sender, over) = watch::channel(());
                flights.insert(key.clone(), over);
                return Turn::Ask(Flight { flights: self.clone(), key: key.clone(), _over: sender });
            }
        };
        match timeout(PATIENCE, over.changed()).await {
            Ok(_) => Turn::LookAgain,
            Err(_) => Turn::Alone,
        }
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

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let flights = Flights::default();
        let _first = flights.turn(&key()).await;
        assert!(matches!(flights.turn(&key()).await, Turn::Alone));
    }
}
