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
//! * [`kubectl`]: the plugin for kubectl, on the user's machine.
//! * [`operator`]: keeps the cluster in the state that the resource describes.
//! * [`settings`]: what the operator tells the sidecars.
//! * [`sidecar`]: in front of the application, with the caching tiers.
//! * [`telemetry`]: logs, metrics and the admin endpoints.

#[cfg(any(feature = "operator", feature = "kubectl"))]
pub mod api;
#[cfg(feature = "kubectl")]
pub mod kubectl;
#[cfg(feature = "operator")]
pub mod operator;
#[cfg(any(feature = "operator", feature = "sidecar"))]
pub mod settings;
#[cfg(feature = "sidecar")]
pub mod sidecar;
#[cfg(any(feature = "operator", feature = "sidecar"))]
pub mod telemetry;
