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
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Two at most run at a time (`tests/run`): nearly all of their time they wait for the end of leases and backoffs.
static CLUSTER: RwLock<()> = RwLock::const_new(());

/// A namespace of a cluster in which others are at work.
async fn sandbox() -> (Sandbox, RwLockReadGuard<'static, ()>) {
    let turn = CLUSTER.read().await;
    (Sandbox::new(Cluster::up("faults").await).await, turn)
}

/// A namespace, and the cluster for this test alone, which restarts it or changes the kinds that it has.
async fn alone() -> (Sandbox, RwLockWriteGuard<'static, ()>) {
    let turn = CLUSTER.write().await;
    (Sandbox::new(Cluster::up("faults").await).await, turn)
}
