//! The sidecar: in front of the application, in each of its pods.
//!
//! * [`access_log`]: a line for each request, where it is wanted.
//! * [`admin`]: probes, purges and the order to drain.
//! * [`breaker`]: whether something that fails is asked at all. PURE.
//! * [`cache`]: what may be stored, for how long, and what answers a request. PURE.
//! * [`container`]: how much memory there is.
//! * [`figures`], [`metrics`]: what is counted, and as Prometheus reads it.
//! * [`mod@file`], [`follow`]: what the kubelet puts in place while the sidecar runs.
//! * [`files`]: how many connections the process may have.
//! * [`health`]: what is loaded, and what keeps it from being ready.
//! * [`heartbeat`]: whether the runtime that serves requests still turns.
//! * [`http`]: from the pod's address through the cache to the application.
//! * [`memory`]: stored responses in the memory of the replica.
//! * [`near_cache`]: the application tier, in front of Redis.
//! * [`purge_order`]: a purge as an application writes it. PURE.
//! * [`readings`]: how an application may read a path. PURE.
//! * [`redis`]: what the replicas share: the second level of the cache, and the record of purges.
//! * [`remembered`]: what is remembered of keys, however long they are.
//! * [`resp`]: the protocol of Redis. PURE.
//! * [`room`]: the memory of bodies, wherever they come from.
//! * [`rules`]: which rule of the settings holds for a request. PURE.
//! * [`upstream`]: to the application, of this pod or of another.

pub mod access_log;
pub mod admin;
pub mod breaker;
pub mod cache;
pub mod container;
pub mod figures;
pub mod file;
pub mod files;
pub mod follow;
pub mod health;
pub mod heartbeat;
pub mod http;
pub mod memory;
pub mod metrics;
pub mod near_cache;
pub mod purge_order;
pub mod readings;
pub mod redis;
pub mod remembered;
pub mod resp;
pub mod room;
pub mod rules;
pub mod upstream;

#[cfg(test)]
mod tests;
