//! The plugin for kubectl: what a CachedService is made of and how it fares, and purges.
//!
//! * [`children`]: the objects of a CachedService, read from the API server.
//! * [`sidecars`]: what the sidecars of its pods tell, asked through the API server.
//! * [`figures`]: these, in words. PURE.
//! * [`tree`]: both as a tree. PURE.
//! * [`explain`]: why a URL is answered from the cache or not.
//! * [`top`]: which keys of the near-cache are hit most.
//! * [`purge`]: makes a `CachePurge` and follows it.

pub mod children;
pub mod explain;
pub mod figures;
pub mod purge;
pub mod sidecars;
pub mod top;
pub mod tree;

use thiserror::Error;

/// Why a command could not do what it was told, and what to do.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The API server refused, in its own words.
    #[error("{act}: {words}")]
    Refused {
        /// What was tried.
        act: String,
        /// Its answer.
        words: String,
    },
    /// The API server did not answer.
    #[error("{act}: {source}")]
    Unreachable {
        /// What was tried.
        act: String,
        /// Why there was no answer.
        source: kube::Error,
    },
    /// The command or the objects are not as they have to be.
    #[error("{0}")]
    Wrong(String),
}

impl CommandError {
    fn api(act: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let act = act.into();
        move |source| match source {
            kube::Error::Api(status) => Self::Refused { act, words: status.message },
            source => Self::Unreachable { act, source },
        }
    }
}
