//! The settings of an election, and which of them cannot work.

use std::time::Duration;

use thiserror::Error;

/// A cluster whose leader was killed waits for the whole duration: more is a
/// slip of the pen.
const LONGEST: Duration = Duration::from_hours(1);

/// Which Lease to hold, as whom, and how patiently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseConfig {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Who this candidate is. No two processes that run at the same time may
    /// share it: a process takes over a Lease that bears its own identity
    /// without waiting.
    pub identity: String,
    /// How long others wait for a holder that is silent.
    pub duration: Duration,
    /// How long a holder goes on after its last successful renewal.
    pub renew_deadline: Duration,
    /// Time between two attempts to acquire or renew.
    pub retry_period: Duration,
}

/// Why a [`LeaseConfig`] cannot work.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LeaseConfigError {
    /// A Lease needs a namespace and a name, a holder an identity.
    #[error(
        "the lease has no {0}: write --lease-namespace, --lease-name and --identity, or leave them out for their defaults"
    )]
    Empty(&'static str),
    /// The three durations must shrink, from an hour at most.
    #[error(
        "--lease-duration {duration:?} must be longer than --renew-deadline {renew_deadline:?}, and that longer \
         than --retry-period {retry_period:?}; none may be zero or longer than an hour: write for example --lease-duration 15s \
         --renew-deadline 10s --retry-period 2s"
    )]
    Durations {
        /// As configured.
        duration: Duration,
        /// As configured.
        renew_deadline: Duration,
        /// As configured.
        retry_period: Duration,
    },
}

impl LeaseConfig {
    /// Checks that no two processes can lead with these settings.
    ///
    /// # Errors
    ///
    /// Says what to write instead.
    pub fn validate(&self) -> Result<(), LeaseConfigError> {
        for (name, value) in
            [("namespace", &self.namespace), ("name", &self.name), ("identity", &self.identity)]
        {
            if value.is_empty() {
                return Err(LeaseConfigError::Empty(name));
            }
        }
        let Self { duration, renew_deadline, retry_period, .. } = *self;
        let shrinking = duration > renew_deadline && renew_deadline > retry_period;
        if shrinking && duration <= LONGEST && !retry_period.is_zero() {
            return Ok(());
        }
        Err(LeaseConfigError::Durations { duration, renew_deadline, retry_period })
    }
}
