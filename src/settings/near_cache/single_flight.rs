//! Of all who miss a key, one is told so.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::settings::SettingsError;

/// Of all who miss a key, one is told so, and the others wait for what it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SingleFlight {
    /// How long the others wait at most, in milliseconds.
    pub wait_ms: u64,
    /// How long the one has for it, until another is told, in milliseconds.
    pub lease_ms: u64,
}

impl SingleFlight {
    /// How long the others wait at most.
    #[must_use]
    pub fn wait(self) -> Duration {
        Duration::from_millis(self.wait_ms)
    }

    /// How long the one has for it, until another is told.
    #[must_use]
    pub fn lease(self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }

    pub(super) fn check(self) -> Result<(), SettingsError> {
        let Self { wait_ms, lease_ms } = self;
        let wrong = |words: String| Err(SettingsError::Wrong(words));
        if wait_ms == 0 || lease_ms == 0 {
            return wrong(
                "the numbers of singleFlight of a rule of application have to be 1 or more".to_owned(),
            );
        }
        if lease_ms > wait_ms {
            return wrong(format!(
                "singleFlight.leaseMs is {lease_ms} and has to be at most waitMs, which is {wait_ms}"
            ));
        }
        Ok(())
    }
}
