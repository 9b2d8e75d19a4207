//! What the operator does when the ground shakes: killed, frozen, replaced, cut off.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod cut_off;
mod election;
mod killed;
mod kinds;
mod mix;
mod same_end;
mod side_by_side;

use support::{Cluster, Sandbox};
use tokio::sync::{Mutex, MutexGuard};

/// A namespace, and the cluster for this test alone: some restart the API server.
async fn sandbox() -> (Sandbox, MutexGuard<'static, ()>) {
    static TURN: Mutex<()> = Mutex::const_new(());
    let turn = TURN.lock().await;
    (Sandbox::new(Cluster::up("faults").await).await, turn)
}
