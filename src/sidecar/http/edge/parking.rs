//! Connections on which nothing happens. hyper keeps the buffers of one, some 20 KiB, as long as it lasts; so after a
//! while it is taken from hyper and left with nothing but itself, and given to a new hyper when something comes.

use std::sync::Arc;

use parking_lot::Mutex;

use super::scan::Scan;

/// A connection without hyper.
pub struct Parked<S> {
    /// The connection.
    pub stream: S,
    /// What has been read of it.
    pub scan: Scan,
}

/// Where the wire puts a connection, in place of ending it.
pub struct Parking<S>(Arc<Mutex<Place<S>>>);

struct Place<S> {
    is_wanted: bool,
    parked: Option<Parked<S>>,
}

impl<S> Clone for Parking<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S> Default for Parking<S> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Place { is_wanted: false, parked: None })))
    }
}

impl<S> Parked<S> {
    /// A new connection.
    pub fn new(stream: S) -> Self {
        Self { stream, scan: Scan::default() }
    }
}

impl<S> Parking<S> {
    /// The next end of hyper's is none of the connection.
    pub fn want(&self) {
        self.0.lock().is_wanted = true;
    }

    /// Whether that is so.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.0.lock().is_wanted
    }

    /// Leaves it here.
    pub fn put(&self, parked: Option<Parked<S>>) {
        self.0.lock().parked = parked;
    }

    /// What was left.
    #[must_use]
    pub fn take(&self) -> Option<Parked<S>> {
        self.0.lock().parked.take()
    }
}
