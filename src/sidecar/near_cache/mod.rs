//! The application tier: Redis' protocol on loopback, answered from memory where that is certain to be current.
//!
//! * [`commands`]: what each command reads and changes, and how it is to be handled. PURE.

pub mod commands;
