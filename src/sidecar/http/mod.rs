//! HTTP: from the pod's address through the cache to the application.
//!
//! ```text
//!  client ─▶ server ─▶ front ──▶ fill, passing ──▶ upstream ─▶ application
//!                       │  ▲         │
//!                       ▼  │         ▼
//!                      memory ◀─── kept (as it comes; its client takes its time)
//!                       │  ▲         │
//!                       ▼  │         ▼
//!                      share ◀─▶ Redis, of all replicas
//! ```

pub mod body;
mod connection;
pub mod edge;
pub mod explain;
mod fill;
pub mod flights;
pub mod front;
pub mod kept;
pub mod origin;
mod passing;
mod places;
pub mod route;
pub mod server;
mod share;
mod tally;
pub mod unattended;

pub use front::Front;
