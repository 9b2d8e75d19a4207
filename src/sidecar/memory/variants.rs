//! The responses of one key.

use std::{ops::Deref, sync::Arc};

use crate::sidecar::cache::Stored;

/// The responses of a key. Most have one, for which no list is made.
#[derive(Clone)]
pub(super) enum Variants {
    One(Arc<Stored>),
    Several(Arc<Vec<Arc<Stored>>>),
}

impl Deref for Variants {
    type Target = [Arc<Stored>];

    fn deref(&self) -> &Self::Target {
        match self {
            Self::One(stored) => std::slice::from_ref(stored),
            Self::Several(all) => all,
        }
    }
}

impl From<Vec<Arc<Stored>>> for Variants {
    fn from(mut all: Vec<Arc<Stored>>) -> Self {
        match (all.pop(), all.is_empty()) {
            (Some(one), true) => Self::One(one),
            (last, _) => {
                all.extend(last);
                Self::Several(Arc::new(all))
            }
        }
    }
}
