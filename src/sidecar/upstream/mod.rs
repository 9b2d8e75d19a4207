//! From this pod to the application: of this pod, or by turns to the replicas.
//!
//! ```text
//!  request ─▶ tries ──▶ origin ─▶ choice ─▶ replica ─▶ connections ─▶ application
//!              │  ▲     (who is                │
//!              ▼  │      there)                ▼
//!            retries      ▲  ▲           breaker, pulse, health
//!            budget       │  │                         ▲
//!                      peers └───────── checks ────────┘
//! ```
//!
//! * [`origin`]: the replicas that there are, and a place at the one whose turn it is.
//! * [`tries`](Origin::pass_on): a request, sent to one after the other until there is an answer.
//! * [`replica`], [`waiting`]: what is known of one: breaker, health, signs of life, figures; and who waits for it.
//! * [`peers`], [`names`], [`asking`], [`identity`], [`keys`]: who is there, by DNS and by proof.
//! * `checks`: whether they are well.
//! * [`connections`], `alone`, `pieces`, [`body`], [`request`]: HTTP/1.1, and HTTP/2 for gRPC.
//! * [`expectation`]: a body that the application may not want.
//! * [`choice`], [`retries`], [`budget`], [`health`], [`pulse`]: the rules. PURE.

mod alone;
pub mod asking;
pub mod body;
pub mod budget;
mod checks;
pub mod choice;
pub mod connections;
pub mod expectation;
pub mod fault;
pub mod health;
pub mod identity;
pub mod keys;
pub mod names;
pub mod origin;
pub mod peers;
mod pieces;
pub mod pulse;
pub mod replica;
pub mod request;
pub mod retries;
mod tries;
pub mod waiting;

pub use alone::Alone;
pub use fault::Fault;
pub use names::{Dns, Resolve};
pub use origin::{Origin, Timing};
pub use peers::Peers;
