//! What the replicas share in Redis.

pub mod codec;
