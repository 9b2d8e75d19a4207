//! Keeps the cluster in the state that the CachedServices describe.
//!
//! ```text
//!  watches ─▶ triggers (queue) ─▶ controller ─▶ reconcile:
//!     │                                           observe ▸ plan ▸ apply ▸ status ▸ publish
//!     └─────────────────── stores ───────────────────┘     (pure)         (pure)
//! ```
//!
//! Read [`reconcile`] first; [`purges`] go their own way, and so does what is read of [`sidecars`]. `plan`, `children`, `ownership`, `digest`, `status`, `tally`
//! and `trouble` are pure: no client, no clock, no tokio.

pub mod apply;
pub mod children;
pub mod client;
pub mod context;
pub mod controller;
pub mod custom_kinds;
pub mod digest;
pub mod draining;
pub mod error;
pub mod events;
pub mod external;
pub mod interruptions;
pub mod lease;
pub mod observe;
pub mod optional;
pub mod ordered;
pub mod ownership;
pub mod plan;
pub mod purges;
pub mod queue;
pub mod readable;
pub mod reconcile;
pub mod references;
#[cfg(test)]
mod sample;
pub mod seen;
pub mod services;
pub mod sidecars;
pub mod status;
pub mod store;
mod streaming;
pub mod tally;
pub mod triggers;
pub mod trouble;
pub mod watched;
pub mod watches;
