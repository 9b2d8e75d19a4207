//! The protocol of Redis (RESP2 and RESP3; Redis documentation, "Redis serialization protocol specification"). PURE.
//!
//! * [`older`]: a reply in RESP3 as RESP2 has it.
//! * [`request`]: commands as clients send them, piece by piece.
//! * [`reply`]: where a reply ends in a stream, and what is in a whole one.
//! * [`mod@write`]: what is written here, and not passed on.

pub mod older;
pub mod reply;
pub mod request;
pub mod write;
