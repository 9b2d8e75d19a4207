//! Those who wait for a place at a replica.

use tokio::sync::{Notify, futures::Notified};

/// Those who wait.
#[derive(Default)]
pub struct Waiting {
    /// These can take the same places.
    alike: Notify,
    /// Of these one can take a place that another cannot. They are few.
    others: Notify,
}

impl Waiting {
    /// A place is free. One of those who are alike is woken: if it cannot take the place, none of them can.
    pub fn one_is_free(&self) {
        self.others.notify_waiters();
        self.alike.notify_one();
    }

    /// It may be for all to go on.
    pub fn all_may_go_on(&self) {
        self.others.notify_waiters();
        self.alike.notify_waiters();
    }

    /// Waits, as one who can take what most can or not.
    pub fn wait(&self, is_like_most: bool) -> Notified<'_> {
        if is_like_most { self.alike.notified() } else { self.others.notified() }
    }
}
