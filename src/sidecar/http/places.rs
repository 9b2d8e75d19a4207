//! How many connections of clients there may be at once, and requests on those of HTTP/2.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::settings::memory::MOST;

/// One of so many places is for requests of HTTP/2 alone.
const FOR_REQUESTS: usize = 8;

/// Each is for a connection with what it has under way; a request of HTTP/2 has some of its own.
pub(super) struct Places {
    pub(super) all: Arc<Semaphore>,
    /// Connections alone never take all of them: else those of HTTP/2 could ask for nothing.
    pub(super) doors: Arc<Semaphore>,
    /// How many of both there are, taken or not.
    counts: [AtomicUsize; 2],
    /// Taken for a change.
    changing: Mutex<()>,
}

impl Default for Places {
    fn default() -> Self {
        let most = number(MOST);
        Self {
            all: Arc::new(Semaphore::new(most)),
            doors: Arc::new(Semaphore::new(doors(most))),
            counts: [AtomicUsize::new(most), AtomicUsize::new(doors(most))],
            changing: Mutex::default(),
        }
    }
}

impl Places {
    /// Makes it so many; of those that are taken none is given up, and so there may be more than that still.
    pub(super) fn change(&self, most: u64) {
        let (_one_at_a_time, most) = (self.changing.lock(), number(most));
        let wanted = [(&self.all, most), (&self.doors, doors(most))];
        for ((semaphore, most), count) in wanted.into_iter().zip(&self.counts) {
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

    /// How many there are, of all kinds.
    pub(super) fn count(&self) -> u64 {
        self.counts[0].load(Ordering::Acquire) as u64
    }
}

fn doors(most: usize) -> usize {
    most - most / FOR_REQUESTS
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
        let taken = [(); 2].map(|()| places.all.clone().try_acquire_owned().unwrap());
        places.change(1);
        assert_eq!((places.count(), places.doors.available_permits()), (2, 1));
        assert!(places.all.try_acquire().is_err());
        drop(taken);
        places.change(1);
        assert_eq!((places.count(), places.all.available_permits()), (1, 1));
        places.change(16);
        assert_eq!((places.count(), places.all.available_permits()), (16, 16));
        assert_eq!(places.doors.available_permits(), 14);
    }
}
