//! What holds an application up until a test lets it go.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

/// Longer than any test waits.
const LIMIT: Duration = Duration::from_secs(30);

/// For an application, which passes when it is open.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

/// For the test, which opens it, at the latest when it ends: one that fails holds up no thread.
pub struct Keeper(Gate);

/// A gate that is shut. Within a runtime of many threads.
pub fn shut() -> (Keeper, Gate) {
    let gate = Gate::default();
    (Keeper(gate.clone()), gate)
}

impl Gate {
    /// Waits until it is open; the other tasks of this thread go on elsewhere.
    pub fn pass(&self) {
        let (is_open, opened) = &*self.0;
        tokio::task::block_in_place(|| {
            let open = is_open.lock().unwrap();
            drop(opened.wait_timeout_while(open, LIMIT, |is_open| !*is_open).unwrap());
        });
    }
}

impl Keeper {
    /// Lets all pass from here on.
    pub fn open(&self) {
        let (is_open, opened) = &*self.0.0;
        *is_open.lock().unwrap() = true;
        opened.notify_all();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.open();
    }
}
