//! Whether a cache in front of Redis is coherent: a checker of histories, a load whose history is judged, and
//! the proof that both find what is wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod checker;
mod flaws;
mod history;
mod link;
mod load;
mod near;
mod proofs;
mod reads;
#[path = "../support/redis.rs"]
mod redis_server;
mod relay;
mod session;
mod slots;
mod stage;
mod writes;
