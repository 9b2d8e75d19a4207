//! The operator.

pub mod client;
pub mod lease;
