//! Told in logs by name alone, as what is in memory is others' data; and whether there is anything to tell.

use std::fmt::{Debug, Formatter, Result};

use super::{Changing, Near};

impl Debug for Near {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Near").finish_non_exhaustive()
    }
}

impl Debug for Changing {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Changing").finish_non_exhaustive()
    }
}

impl Changing {
    /// The memory in which it is.
    pub(in crate::sidecar::near_cache) fn near(&self) -> &Near {
        &self.near
    }

    /// Whether it concerns no key.
    pub(in crate::sidecar::near_cache) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}
