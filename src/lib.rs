//! `CachedService`: one Kubernetes resource that makes a stateless HTTP service
//! fast and keeps it up.
//!
//! ```text
//!   users ──kubectl──▶ API server ◀──watch, apply── operator
//!                          │                          │
//!                 CachedService (api)        observe ▸ plan ▸ apply ▸ publish
//!                          │                          │
//!                          └── Deployment, HPA, PDB, Service, Redis ──▶ status
//! ```
//!
//! * [`api`]: the resource, what users write and read.
//! * [`operator`]: keeps the cluster in the state that the resource describes.
//! * [`telemetry`]: logs, metrics and the admin endpoints.

#[cfg(feature = "operator")]
pub mod api;
#[cfg(feature = "operator")]
pub mod operator;
#[cfg(feature = "operator")]
pub mod telemetry;
