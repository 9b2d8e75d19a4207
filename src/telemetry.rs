//! What a process tells about itself: logs, traces, metrics, and the admin
//! endpoints that Kubernetes and Prometheus ask.
//!
//! ```text
//! init_logs ─▶ stderr
//! Traces ────▶ collector
//! Metrics ─┐
//! Health ──┴▶ admin_router ─▶ serve_admin ─▶ /metrics /livez /readyz
//! ```

mod admin;
mod health;
mod logs;
mod metrics;
mod process;
pub mod traces;

pub use admin::{admin_router, serve_admin};
pub use health::{Health, Readiness};
pub use logs::{LogError, LogFormat, init_logs};
pub use metrics::{ChildAct, InFlight, Metrics};
