//! The switches that stand in annotations: orders to the operator, which are no part of the
//! wanted state and so make no new generation.

use kube::ResourceExt;

use super::{
    CachedService,
    names::{PAUSED_ANNOTATION, RECONCILE_AT_ANNOTATION},
};

/// The annotations that are such switches.
pub const SWITCHES: [&str; 2] = [PAUSED_ANNOTATION, RECONCILE_AT_ANNOTATION];

/// As many characters of `cachedservice.dev/reconcile-at` count: they are copied into the status.
const LONGEST_ORDER: usize = 64;

/// Whether the operator is to leave the children as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause<'a> {
    /// It is not.
    Off,
    /// It is.
    On,
    /// The annotation has a value that is neither `true` nor `false`. It counts as a pause: whoever
    /// wrote it may be at work on the children by hand, and what is held back can still be done.
    Unclear(&'a str),
}

impl Pause<'_> {
    /// Whether nothing of the children is to be changed.
    #[must_use]
    pub fn holds(self) -> bool {
        self != Self::Off
    }
}

impl CachedService {
    /// Whether the operator is to leave the children as they are.
    #[must_use]
    pub fn pause(&self) -> Pause<'_> {
        match self.annotations().get(PAUSED_ANNOTATION).map(String::as_str) {
            None | Some("false") => Pause::Off,
            Some("true") => Pause::On,
            Some(unclear) => Pause::Unclear(unclear),
        }
    }

    /// The order to look at every child and to apply it anew, if there is one: any text, shortened
    /// to 64 characters.
    #[must_use]
    pub fn reconcile_at(&self) -> Option<String> {
        let order = self.annotations().get(RECONCILE_AT_ANNOTATION)?;
        Some(order.chars().take(LONGEST_ORDER).collect())
    }
}
