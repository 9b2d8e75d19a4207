//! The sidecar in front of an application, over real connections on this machine.

mod application;
mod caching;
mod passing_on;
