//! The sidecar in front of an application, over real connections on this machine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admin;
mod application;
mod caching;
mod passing_on;
mod poisoning;
mod process;
mod validating;
