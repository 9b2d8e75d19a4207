//! Reads that are on their way to Redis, which others that ask the same join.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Trouble;
use crate::sidecar::near_cache::coherence::Token;

/// What comes of a read.
pub type Answer = Result<Bytes, Trouble>;

/// What is asked: by whom in which form, and the whole command.
type Asked = (u32, Bytes);

/// Reads that are on their way.
#[derive(Default)]
pub struct Flights(Mutex<HashMap<Asked, Arc<Flight>>>);

/// A read that is on its way.
struct Flight {
    began: Token,
    /// Who waits for it; None once it is over.
    waiters: Mutex<Option<Vec<oneshot::Sender<Answer>>>>,
}

/// Brings the answer of a read to all who wait for it. Without one it tells them that there is none.
pub struct Landing {
    flights: Arc<Flights>,
    asked: Asked,
    flight: Arc<Flight>,
}

impl Flights {
    /// Joins a read that is on its way, if it began when all was as it is now, which `is_still` says; else one begins,
    /// with this token.
    pub fn join(
        self: &Arc<Self>,
        asked: Asked,
        began: Token,
        is_still: impl FnOnce(Token) -> bool,
    ) -> (oneshot::Receiver<Answer>, Option<Landing>) {
        let (sender, receiver) = oneshot::channel();
        let mut flights = self.0.lock();
        if let Some(flight) = flights.get(&asked).filter(|flight| is_still(flight.began))
            && let Some(waiters) = flight.waiters.lock().as_mut()
        {
            waiters.push(sender);
            return (receiver, None);
        }
        let flight = Arc::new(Flight { began, waiters: Mutex::new(Some(vec![sender])) });
        flights.insert(asked.clone(), flight.clone());
        (receiver, Some(Landing { flights: self.clone(), asked, flight }))
    }
}

impl Landing {
    /// The answer has come.
    pub fn land(self, answer: &Answer) {
        self.tell(answer);
    }

    fn tell(&self, answer: &Answer) {
        {
            let mut flights = self.flights.0.lock();
            // Another may have begun meanwhile that asks the same.
            if flights.get(&self.asked).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
                flights.remove(&self.asked);
            }
        }
        let waiters = self.flight.waiters.lock().take();
        for waiter in waiters.into_iter().flatten() {
            // It may have gone.
            let _ = waiter.send(answer.clone());
        }
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.tell(&Err(Trouble::Lost));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::near_cache::coherence::Coherence;

    fn asked(text: &'static str) -> Asked {
        (1, Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn who_asks_the_same_meanwhile_gets_the_same_answer_and_who_asks_later_does_not() {
        let (flights, token) = (Arc::new(Flights::default()), Coherence::default().begin(0));
        let (mut first, landing) = flights.join(asked("GET a"), token, |_| true);
        let (mut second, none) = flights.join(asked("GET a"), token, |_| true);
        assert!(none.is_none());
        assert!(flights.join(asked("GET b"), token, |_| true).1.is_some());
        landing.unwrap().land(&Ok(Bytes::from_static(b"x")));
        assert!(matches!(first.try_recv(), Ok(Ok(reply)) if reply == "x"));
        assert!(matches!(second.try_recv(), Ok(Ok(reply)) if reply == "x"));
        assert!(flights.join(asked("GET a"), token, |_| true).1.is_some());
    }

    #[test]
    fn what_began_before_something_happened_is_not_joined() {
        let (flights, token) = (Arc::new(Flights::default()), Coherence::default().begin(0));
        let (mut before, old) = flights.join(asked("GET a"), token, |_| true);
        let (mut after, new) = flights.join(asked("GET a"), token, |_| false);
        old.unwrap().land(&Ok(Bytes::from_static(b"old")));
        assert!(matches!(before.try_recv(), Ok(Ok(reply)) if reply == "old"));
        let (mut joined, none) = flights.join(asked("GET a"), token, |_| true);
        assert!(none.is_none(), "the newer one is still there");
        drop(new);
        assert!(matches!(after.try_recv(), Ok(Err(Trouble::Lost))));
        assert!(matches!(joined.try_recv(), Ok(Err(Trouble::Lost))));
        assert!(flights.0.lock().is_empty());
    }
}
