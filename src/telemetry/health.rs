//! Whether the process lives and whether it can do its job.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

/// Silence of the control loop after which it counts as stuck.
const HEARTBEAT_LIMIT: Duration = Duration::from_mins(1);

/// What the operator is doing, and so whether it is ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Readiness {
    /// Not yet connected: nothing can be said about the cluster.
    #[default]
    Starting,
    /// Leads, but its caches are not filled yet.
    Syncing,
    /// Leads, and its caches are filled.
    Leading,
    /// Another replica leads; this one can take over.
    StandingBy,
    /// Does not lead, and cannot find out who does.
    LeaseOutOfReach {
        /// Namespace and name of the Lease.
        lease: String,
        /// Why, and what to do about it.
        cause: String,
    },
    /// Finishes accepted work and ends.
    Draining,
}

/// The state behind `/livez` and `/readyz`: written by the control loop, read
/// by the admin endpoints. A clone shares the state.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<watch::Sender<Vitals>>);

#[derive(Clone, Debug, Default)]
struct Vitals {
    readiness: Readiness,
    /// Nothing before the control loop has started: starting may take long
    /// (a slow API server) and a restart would not shorten it.
    heartbeat: Option<Instant>,
}

impl Health {
    /// A process that has just started: live, not ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The control loop turned once more. Call it several times a minute, also
    /// when there is nothing to do; from the first call on, a minute of silence
    /// fails `/livez`.
    pub fn beat(&self) {
        self.0.send_modify(|vitals| vitals.heartbeat = Some(Instant::now()));
    }

    /// Sets what the operator is doing.
    pub fn set_readiness(&self, readiness: Readiness) {
        self.0.send_modify(|vitals| vitals.readiness = readiness);
    }

    /// Whether the control loop turns.
    ///
    /// # Errors
    ///
    /// A sentence that says for how long it has not.
    pub fn live(&self) -> Result<&'static str, String> {
        let Some(heartbeat) = self.0.borrow().heartbeat else {
            return Ok("live: starting");
        };
        let silence = heartbeat.elapsed();
        if silence < HEARTBEAT_LIMIT {
            return Ok("live");
        }
        Err(format!(
            "not live: the control loop has not turned for {} s (limit {} s); the process needs a restart",
            silence.as_secs(),
            HEARTBEAT_LIMIT.as_secs()
        ))
    }

    /// Whether the operator can do its job: it leads with filled caches, or it
    /// stands by.
    ///
    /// # Errors
    ///
    /// A sentence that says what it waits for.
    pub fn ready(&self) -> Result<&'static str, String> {
        match &self.0.borrow().readiness {
            Readiness::Leading => Ok("ready: leading"),
            Readiness::StandingBy => Ok("ready: standing by, another replica leads"),
            Readiness::Starting => Err("not ready: no answer of the API server yet; if this lasts, the log \
                                        says what it answers"
                .to_owned()),
            Readiness::LeaseOutOfReach { lease, cause } => Err(format!(
                "not ready: the Lease {lease} is out of reach, and this replica cannot lead: {cause}"
            )),
            Readiness::Syncing => Err("not ready: the first list of a watched resource is not complete; if \
                                       this lasts, the log names the resource"
                .to_owned()),
            Readiness::Draining => Err("not ready: shutting down".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_process_is_live_until_its_control_loop_stops_turning() {
        let health = Health::new();
        tokio::time::advance(Duration::from_mins(10)).await;
        assert!(health.live().is_ok(), "a slow start is not a stuck loop");

        health.beat();
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(health.live().is_ok());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(health.live().is_err_and(|why| why.contains("60 s")));

        health.clone().beat();
        assert!(health.live().is_ok(), "a clone shares the state");
    }

    #[test]
    fn only_a_synced_leader_and_a_standby_are_ready() {
        let health = Health::new();
        assert!(health.ready().is_err(), "starting");
        let (lease, cause) = ("system/operator".to_owned(), "no rights".to_owned());
        for (readiness, ready) in [
            (Readiness::StandingBy, true),
            (Readiness::Syncing, false),
            (Readiness::Leading, true),
            (Readiness::LeaseOutOfReach { lease, cause }, false),
            (Readiness::Draining, false),
        ] {
            health.set_readiness(readiness.clone());
            assert_eq!(health.ready().is_ok(), ready, "{readiness:?}");
        }
    }

    #[test]
    fn a_lease_out_of_reach_is_named_with_the_cause() {
        let health = Health::new();
        let (lease, cause) = ("system/operator".to_owned(), "no rights".to_owned());
        health.set_readiness(Readiness::LeaseOutOfReach { lease, cause });
        let told = health.ready().unwrap_err();
        assert!(told.contains("system/operator") && told.ends_with("no rights"), "{told}");
    }
}
