//! What the tests against a real API server share.
//!
//! ```text
//! Cluster ─▶ Sandbox (a namespace of one test) ─▶ Installation (service account, RBAC of the chart)
//!                                                     ├─▶ Operator   (the real binary)
//!                                                     └─▶ InProcess  (the control loop, behind Faults)
//! ```
//!
//! Each test has a namespace of its own and an operator that looks after that
//! namespace alone, so tests run side by side, and the audit log tells the
//! operators apart by their service accounts.

// Each test binary uses its own part of this.
#![allow(dead_code, unused_imports)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod audit;
pub mod child;
mod cluster;
pub mod collector;
mod connection;
mod etcd;
mod faults;
mod history;
mod in_process;
mod installation;
pub mod kubelet;
mod load;
mod operator;
pub mod processes;
pub mod redis;
mod release;
mod rights;
mod sandbox;
pub mod sidecars;
mod snapshot;
pub mod traffic;
mod wait;

pub use audit::{AuditEntry, AuditMark};
pub use cluster::{CHART, Cluster, DEMO_IMAGE, OPERATOR, OPERATOR_NAMESPACE};
pub use connection::Connection;
pub use faults::Faults;
pub use history::ReplicaHistory;
pub use in_process::InProcess;
pub use installation::Installation;
pub use kubelet::Kubelet;
pub use operator::Operator;
pub use release::Release;
pub use rights::{AuditLog, Right, audit_logs, granted_by_the_chart};
pub use sandbox::{Sandbox, Serving, condition};
pub use snapshot::Snapshot;
pub use wait::until;
