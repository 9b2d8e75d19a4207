//! How requests get to the application: to which replicas, and what keeps them from one that fails.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::SettingsError;

/// The environment variable with the addresses of a sidecar's own pod, separated by commas: the file is
/// the same in all pods.
pub const POD_ADDRESSES: &str = "POD_IP";

/// Which replica's application is asked, and when another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Balancing {
    /// Who is asked first.
    #[serde(default)]
    pub mode: Mode,
    /// The host name whose addresses are those of the pods: of a Service without an address of its own.
    pub peers_host: String,
    /// Asks each replica whether it is well; without it only the outcomes of requests tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// When a replica that fails is left alone.
    #[serde(default)]
    pub breaker: BreakerLimits,
    /// How many requests may be repeated.
    #[serde(default)]
    pub retries: RetryBudget,
    /// How many requests are with one replica at once at most, of those that this sidecar sends.
    #[serde(default = "no_limit")]
    pub max_concurrent: u32,
}

fn no_limit() -> u32 {
    u32::MAX
}

/// Who is asked first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// One replica after the other.
    #[default]
    RoundRobin,
    /// The application of the same pod, and others where that is not to be asked.
    OwnFirst,
}

/// A request that asks whether a replica is well: 2xx and 3xx say that it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// What is asked for.
    pub path: String,
    /// How often, in milliseconds.
    #[serde(default = "five_seconds")]
    pub interval_ms: u64,
    /// How long an answer may take, in milliseconds.
    #[serde(default = "one_second")]
    pub timeout_ms: u64,
    /// So many failures one after the other, and it is not well.
    #[serde(default = "three")]
    pub unhealthy_after: u32,
    /// So many successes one after the other, and it is well again.
    #[serde(default = "one")]
    pub healthy_after: u32,
}

fn five_seconds() -> u64 {
    5000
}

fn one_second() -> u64 {
    1000
}

fn three() -> u32 {
    3
}

fn one() -> u32 {
    1
}

impl HealthCheck {
    /// Of a path, by the defaults.
    #[must_use]
    pub fn of(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            interval_ms: five_seconds(),
            timeout_ms: one_second(),
            unhealthy_after: three(),
            healthy_after: one(),
        }
    }

    /// How often it is asked.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }

    /// How long an answer may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

/// When a replica that fails is left alone, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BreakerLimits {
    /// After so many failures one after the other.
    pub consecutive_failures: u32,
    /// When so many of a hundred requests of the last ten seconds have failed.
    pub failure_percent: u32,
    /// The percentage tells nothing of fewer requests than these.
    pub least_requests: u32,
    /// How long the first time, in milliseconds; twice as long each time that a trial has failed.
    pub open_ms: u64,
    /// How long at most, in milliseconds.
    pub longest_open_ms: u64,
}

impl Default for BreakerLimits {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            failure_percent: 50,
            least_requests: 20,
            open_ms: 5000,
            longest_open_ms: 60_000,
        }
    }
}

/// How many requests may be repeated, so that a failure of all is not made worse by repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RetryBudget {
    /// So many of a hundred.
    pub percent: u32,
    /// And in any case so many a second.
    pub least_per_second: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20, least_per_second: 3 }
    }
}

impl Balancing {
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        let wrong = |words: String| Err(SettingsError::Wrong(words));
        if self.peers_host.is_empty() {
            return wrong("balancing.peersHost has to be given".to_owned());
        }
        if self.max_concurrent == 0 {
            return wrong("balancing.maxConcurrent has to be 1 or more".to_owned());
        }
        if let Some(health) = &self.health {
            // The path stands in a request as it is.
            if !health.path.starts_with('/') || !health.path.bytes().all(|byte| byte.is_ascii_graphic()) {
                return wrong(format!("balancing.health.path is {:?} and has to be a path", health.path));
            }
            let numbers = [health.interval_ms, health.timeout_ms];
            if numbers.contains(&0) || health.unhealthy_after == 0 || health.healthy_after == 0 {
                return wrong("the numbers of balancing.health have to be 1 or more".to_owned());
            }
        }
        if self.breaker.failure_percent > 100 || self.retries.percent > 100 {
            return wrong("percentages of balancing are from 0 to 100".to_owned());
        }
        if self.breaker.open_ms == 0 {
            return wrong("balancing.breaker.openMs has to be 1 or more".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Balancing, String> {
        let balancing: Balancing = serde_json::from_str(text).map_err(|error| error.to_string())?;
        balancing.check().map_err(|error| error.to_string())?;
        Ok(balancing)
    }

    #[test]
    fn what_is_not_said_has_the_defaults() {
        let short = parse(r#"{"peersHost": "a-peers.b.svc", "health": {"path": "/"}}"#);
        let expected = Balancing {
            mode: Mode::RoundRobin,
            peers_host: "a-peers.b.svc".to_owned(),
            health: Some(HealthCheck::of("/")),
            breaker: BreakerLimits::default(),
            retries: RetryBudget::default(),
            max_concurrent: u32::MAX,
        };
        assert_eq!(short.as_ref(), Ok(&expected));
        assert_eq!(parse(&serde_json::to_string(&expected).unwrap()), short);
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for (wrong, words) in [
            (r#"{"peersHost": ""}"#, "peersHost"),
            (r#"{"peersHost": "a", "maxConcurrent": 0}"#, "maxConcurrent"),
            (r#"{"peersHost": "a", "health": {"path": "x"}}"#, "health.path"),
            (r#"{"peersHost": "a", "health": {"path": "/ a"}}"#, "health.path"),
            (r#"{"peersHost": "a", "health": {"path": "/", "intervalMs": 0}}"#, "numbers"),
            (r#"{"peersHost": "a", "retries": {"percent": 101}}"#, "percentages"),
            (r#"{"peersHost": "a", "breaker": {"openMs": 0}}"#, "openMs"),
            (r#"{"peersHost": "a", "mode": "Random"}"#, "Random"),
        ] {
            assert!(parse(wrong).unwrap_err().contains(words), "{wrong}");
        }
    }
}
