//! The application tier: Redis' protocol on loopback, answered from memory where that is certain to be current.
//!
//! ```text
//!  client ─▶ server ─▶ session ─┬▶ near ─▶ store      memory (L1), filled on connections that tell of changes
//!                         ▲     ├▶ pool ─▶ line       shared: commands of many clients in one pipeline
//!                         │     └▶ pins               one client's alone: transactions, waiting, subscriptions
//!                         └── outlet ◀── line, near   replies go to the client without a task of its own
//! ```
//!
//! * `ask`: what is asked apart from the commands of a session.
//! * [`coherence`]: whether what was read may be stored, and what is stored given. PURE.
//! * [`commands`]: what each command reads and changes, and how it is to be handled. PURE.
//! * [`connect`], [`reach`]: connections to Redis, and whether one is tried.
//! * [`deletions`]: keys that a purge deletes in Redis.
//! * `following`: the URL of Redis, as its file changes.
//! * [`lasting`]: a `SET` with the TTL that a rule adds. PURE.
//! * [`lease`]: of all who miss a key, one is told so.
//! * [`line`](mod@line), [`pool`]: connections that many clients share.
//! * [`near`]: the memory of the pod (L1), as sessions use it.
//! * [`nothing`]: what a read is told while Redis does not answer. PURE.
//! * [`outlet`]: what is on its way to a client, in its order.
//! * [`pins`]: connections of one client.
//! * [`rules`]: which rule of the settings holds for a key. PURE.
//! * [`server`]: where clients come in.
//! * [`session`]: a client.
//! * [`store`]: what is stored, bounded in bytes. PURE.
//! * [`tracking`]: the connections on which it comes, and is called back.

mod ask;
pub mod coherence;
pub mod commands;
pub mod connect;
pub mod deletions;
mod following;
pub mod lasting;
pub mod lease;
pub mod line;
pub mod near;
pub mod nothing;
pub mod outlet;
pub mod pins;
pub mod pool;
pub mod reach;
pub mod rules;
pub mod server;
pub mod session;
pub mod store;
pub mod tracking;
