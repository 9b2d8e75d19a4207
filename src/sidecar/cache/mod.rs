//! The rules of an HTTP cache that many users share (RFC 9111). PURE: no clock, no
//! connection, no store; times are arguments.
//!
//! ```text
//!  response ─▶ directives ─▶ storing   may it be stored?
//!                    │         │
//!                    ▼         ▼
//!  request ─▶ selection ─▶ freshness ─▶ reuse   from the cache, after a validation, or not
//! ```

pub mod cache_status;
pub mod cookies;
pub mod date;
pub mod directives;
pub mod fields;
pub mod freshness;
pub mod head;
pub mod hop;
pub mod invalidation;
pub mod key;
pub mod kind;
pub mod packed;
pub mod purges;
pub mod range;
pub mod reuse;
pub mod selection;
pub mod stored;
pub mod storing;
pub mod surrogate;
pub mod tags;
pub mod validation;

pub use directives::{RequestDirectives, ResponseDirectives};
pub use freshness::{Exchange, Lifetime};
pub use selection::SecondaryKey;
pub use stored::Stored;
pub use storing::{NotStored, is_permitted, may_store};
