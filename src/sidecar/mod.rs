//! The sidecar: in front of the application, in each of its pods.
//!
//! * [`cache`]: what may be stored, for how long, and what answers a request. PURE.
//! * [`http`]: from the pod's address through the cache to the application.
//! * [`memory`]: stored responses in the memory of the replica.
//! * [`rules`]: which rule of the settings holds for a request. PURE.

pub mod cache;
pub mod http;
pub mod memory;
pub mod rules;

#[cfg(test)]
mod tests;
