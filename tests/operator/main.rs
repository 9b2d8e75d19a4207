//! What the operator does, seen through a real API server with its controllers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod application;
mod balancing;
mod children;
mod economy;
mod events;
mod external;
mod foreign;
mod idle;
mod memory;
mod passing;
mod password;
mod ports;
mod pruning;
mod purges;
mod readiness;
mod references;
mod repair;
mod replicas;
mod revisions;
mod scale;
mod sidecar;
mod sidecars;
mod switches;
mod traces;
mod truth;
mod volume_claims;
mod volumes;
mod ways_in;

/// The cluster of these tests.
async fn sandbox() -> support::Sandbox {
    support::Sandbox::new(support::Cluster::up("tests").await).await
}
