//! HTTP: from the pod's address through the cache to the application.
//!
//! ```text
//!  client ─▶ server ─▶ front ──▶ origin ─▶ application
//!                       │  ▲        │
//!                       ▼  │        ▼
//!                      memory ◀── body (kept while it passes)
//! ```

pub mod body;
pub mod flights;
pub mod front;
pub mod origin;
pub mod server;

pub use front::Front;
