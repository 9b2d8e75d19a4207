//! The sidecar: in front of the application, in each of its pods.
//!
//! * [`cache`]: what may be stored, for how long, and what answers a request. PURE.

pub mod cache;
