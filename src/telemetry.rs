//! What a process tells about itself: logs, traces, metrics, and the admin
//! endpoints that Kubernetes and Prometheus ask. The sidecar shares the figures of
//! the process alone.
//!
//! ```text
//! init_logs ─▶ stderr
//! Traces ────▶ collector
//! Metrics ─┐
//! Health ──┴▶ admin_router ─▶ serve_admin ─▶ /metrics /livez /readyz
//! ```

#[cfg(feature = "operator")]
mod admin;
#[cfg(feature = "operator")]
mod health;
#[cfg(feature = "operator")]
mod logs;
#[cfg(feature = "operator")]
mod metrics;
pub(crate) mod process;
#[cfg(feature = "operator")]
pub mod traces;

/// The content type of metrics as they are told here.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[cfg(feature = "operator")]
pub use admin::{admin_router, serve_admin};
#[cfg(feature = "operator")]
pub use health::{Health, Readiness};
#[cfg(feature = "operator")]
pub use logs::{LogError, LogFormat, init_logs};
#[cfg(feature = "operator")]
pub use metrics::{ChildAct, InFlight, Metrics};
