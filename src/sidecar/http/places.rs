//! How many connections of clients there may be at once, and requests on those of HTTP/2.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::settings::memory::MOST;

/// Of connections, and of requests on those of HTTP/2, as many again: a connection of HTTP/1 has one request at a
/// time, and one of HTTP/2 many.
pub(super) struct Places {
    pub(super) connections: Arc<Semaphore>,
    pub(super) streams: Arc<Semaphore>,
    /// How many of each there are, taken or not.
    counts: [AtomicUsize; 2],
    /// Taken for a change.
    changing: Mutex<()>,
}

impl Default for Places {
    fn default() -> Self {
        let most = number(MOST);
        let semaphore = || Arc::new(Semaphore::new(most));
        Self {
            connections: semaphore(),
            streams: semaphore(),
            counts: [AtomicUsize::new(most), AtomicUsize::new(most)],
            changing: Mutex::default(),
        }
    }
}

impl Places {
    /// Makes it so many; of those that are taken none is given up, and so there may be more than that still.
    pub(super) fn change(&self, most: u64) {
        let (_one_at_a_time, most) = (self.changing.lock(), number(most));
        for (semaphore, count) in [&self.connections, &self.streams].into_iter().zip(&self.counts) {
            let now = count.load(Ordering::Acquire);
            if most > now {
                semaphore.add_permits(most - now);
                count.store(most, Ordering::Release);
            } else {
                let given_up = semaphore.forget_permits(now - most);
                count.store(now - given_up, Ordering::Release);
            }
        }
    }

    /// How many connections there may be.
    pub(super) fn connections(&self) -> u64 {
        self.counts[0].load(Ordering::Acquire) as u64
    }
}

fn number(most: u64) -> usize {
    usize::try_from(most).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_as_is_wanted_and_no_fewer_than_are_taken() {
        let places = Places::default();
        places.change(3);
        let taken = [(); 2].map(|()| places.connections.clone().try_acquire_owned().unwrap());
        places.change(1);
        assert_eq!((places.connections(), places.streams.available_permits()), (2, 1));
        assert!(places.connections.try_acquire().is_err());
        drop(taken);
        places.change(1);
        assert_eq!((places.connections(), places.connections.available_permits()), (1, 1));
        places.change(5);
        assert_eq!((places.connections(), places.connections.available_permits()), (5, 5));
        assert_eq!(places.streams.available_permits(), 5);
    }
}
