//! The sidecar in front of an application, over real connections on this machine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admin;
mod application;
mod balancing;
mod bytes;
mod caching;
mod crowd;
mod decoders;
mod ending;
mod exchanges;
mod explain;
mod figures;
mod frames;
mod fuzz;
#[path = "../fuzz/targets.rs"]
mod fuzz_targets;
mod gate;
mod limits;
mod malformed;
mod near_cache;
mod near_commands;
mod near_leases;
mod near_memory;
mod near_older;
mod near_purging;
mod near_wire;
mod passing_on;
mod patience;
mod peers;
mod poisoning;
mod probes;
mod process;
mod redis;
#[path = "../support/redis.rs"]
mod redis_server;
mod replicas;
mod rules;
mod slow;
mod turns;
mod upload;
mod upstream;
mod validating;
mod waiting;
