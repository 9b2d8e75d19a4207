//! Leader election: of all replicas that share one Lease, at most one writes.
//!
//! ```text
//! Election::run ── GET, POST, PUT ──▶ Lease (coordination.k8s.io/v1)
//!       │ each success: deadline = before the request + renew_deadline
//!       ▼
//!  Leadership ──▶ may_write() ──▶ the fence in front of every write (client)
//! ```
//!
//! Why no two can lead at once:
//!
//! * A candidate takes the Lease of another only after it has seen the record
//!   unchanged for the whole duration that the holder wrote into it, on its own
//!   monotonic clock. No clock of another machine is read.
//! * A holder stops writing `renew_deadline` after the instant *before* it sent
//!   its last successful renewal. The record changed later than that instant,
//!   and `renew_deadline` is shorter than `duration`.
//! * Every write of the Lease carries the `resourceVersion` that was read, so
//!   of two candidates that decide alike, one gets a 409.
//!
//! A request that was sent in time and arrives late cannot be called back.
//! `duration - renew_deadline` is the time it has to arrive.

mod config;
mod decide;
mod leadership;
mod outlook;
#[cfg(test)]
mod tests;

use std::{pin::pin, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, api::PostParams};
use tokio::{sync::watch, time::Instant};
use tracing::{error, info, warn};

pub use config::{LeaseConfig, LeaseConfigError};
use decide::{Decision, Observed, acquired, decide, released, renewed};
use leadership::Grant;
pub use leadership::Leadership;
use outlook::Lookout;
pub use outlook::Outlook;

use super::error::in_words;

/// A candidate for one Lease. Runs until it is told to stop, and stands again
/// after a loss.
#[derive(Debug)]
pub struct Election {
    config: LeaseConfig,
    grant: Grant,
    lookout: Lookout,
    seen: Option<Observed>,
    /// The Lease as our last successful write left it: renewed without reading
    /// it first.
    held: Option<Lease>,
    /// Told to people once, when it changes.
    other_leader: Option<String>,
    /// When the time of that one is over, if the last attempt has seen its record.
    other_ends: Option<Instant>,
}

impl Election {
    /// A candidate, and the [`Leadership`] that tells whether it leads.
    ///
    /// # Errors
    ///
    /// When the configuration cannot work.
    pub fn new(config: LeaseConfig) -> Result<(Self, Leadership), LeaseConfigError> {
        config.validate()?;
        let (grant, leadership) = Grant::new();
        let lease = format!("{}/{}", config.namespace, config.name);
        let lookout = Lookout::new(lease, config.duration);
        Ok((
            Self { config, grant, lookout, seen: None, held: None, other_leader: None, other_ends: None },
            leadership,
        ))
    }

    /// Tells, from now on, what is known of the Lease while another leads.
    #[must_use]
    pub fn outlook(&self) -> watch::Receiver<Outlook> {
        self.lookout.subscribe()
    }

    /// Acquires and renews the Lease until `shutdown` completes, then gives it
    /// back, so that the next candidate need not wait. Complete `shutdown` only
    /// when the work that needs the lead is done: from then on
    /// [`Leadership::may_write`] is false.
    ///
    /// Errors of the API server are logged and retried. A holder that cannot
    /// renew within its deadline loses the lead, which [`Leadership::lost`]
    /// tells.
    pub async fn run(mut self, client: Client, shutdown: impl Future<Output = ()>) {
        let leases = Api::namespaced(client, &self.config.namespace);
        let mut shutdown = pin!(shutdown);
        let mut pause = Duration::ZERO;
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                () = tokio::time::sleep(pause) => {}
            }
            // Not raced with the shutdown: an acquisition that was cut short
            // could reach the server after we have looked for what to give back.
            let attempt = tokio::time::timeout(self.patience(), self.attempt(&leases)).await;
            self.report(attempt);
            pause = self.pause();
        }
        self.give_back(&leases).await;
    }

    /// Until the next attempt, which is not later than the end of what another holds.
    fn pause(&mut self) -> Duration {
        let period = jittered(self.config.retry_period);
        let left = self.other_ends.take().map(|ends| ends.saturating_duration_since(Instant::now()));
        left.map_or(period, |left| left.min(period))
    }

    /// Half of the deadline, so that a request which hangs leaves room for
    /// another.
    fn patience(&self) -> Duration {
        self.config.renew_deadline / 2
    }

    async fn attempt(&mut self, leases: &Api<Lease>) -> kube::Result<()> {
        let Some(mut lease) = self.held.take() else {
            return self.campaign(leases).await;
        };
        lease.spec = Some(renewed(lease.spec.unwrap_or_default(), &self.config, Timestamp::now()));
        match self.replace(leases, &lease).await {
            // Somebody else has written to the Lease or deleted it.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {
                self.campaign(leases).await
            }
            outcome => outcome,
        }
    }

    async fn campaign(&mut self, leases: &Api<Lease>) -> kube::Result<()> {
        let Some(mut lease) = leases.get_opt(&self.config.name).await? else {
            return self.create(leases).await;
        };
        let record = lease.spec.take().unwrap_or_default();
        let now = Instant::now();
        let seen = Observed::next(self.seen.take(), &record, now);
        let decision = decide(&seen, now, &self.config);
        self.seen = Some(seen);
        lease.spec = Some(match decision {
            Decision::Wait { holder, until } => {
                self.stand_by(holder);
                self.other_ends = Some(until);
                return Ok(());
            }
            Decision::Renew => renewed(record, &self.config, Timestamp::now()),
            Decision::Acquire => acquired(Some(record), &self.config, Timestamp::now()),
        });
        quicker(self.replace(leases, &lease).await)
    }

    async fn create(&mut self, leases: &Api<Lease>) -> kube::Result<()> {
        let lease = Lease {
            metadata: ObjectMeta { name: Some(self.config.name.clone()), ..ObjectMeta::default() },
            spec: Some(acquired(None, &self.config, Timestamp::now())),
        };
        let asked = Instant::now();
        quicker(leases.create(&PostParams::default(), &lease).await.map(|lease| self.won(lease, asked)))
    }

    async fn replace(&mut self, leases: &Api<Lease>, lease: &Lease) -> kube::Result<()> {
        let asked = Instant::now();
        let lease = leases.replace(&self.config.name, &PostParams::default(), lease).await?;
        self.won(lease, asked);
        Ok(())
    }

    fn won(&mut self, lease: Lease, asked: Instant) {
        self.held = Some(lease);
        self.other_leader = None;
        if self.grant.extend(asked + self.config.renew_deadline) {
            let LeaseConfig { namespace, name, identity, .. } = &self.config;
            info!(lease = %format_args!("{namespace}/{name}"), %identity, "leading");
        }
    }

    fn stand_by(&mut self, holder: String) {
        if self.grant.revoke() {
            error!(%holder, "lost the lease: another holds it, this process does not write any more");
        } else if self.other_leader.as_ref() != Some(&holder) {
            info!(%holder, "standing by, another leads");
        }
        self.other_leader = Some(holder);
        self.lookout.stands_by(Instant::now());
    }

    fn report(&mut self, attempt: Result<kube::Result<()>, tokio::time::error::Elapsed>) {
        let LeaseConfig { namespace, name, renew_deadline, .. } = &self.config;
        let lease = format_args!("{namespace}/{name}");
        let now = Instant::now();
        match attempt {
            Ok(Ok(())) => self.lookout.heard(now),
            Ok(Err(error)) => {
                let mut cause = in_words(&error);
                if matches!(&error, kube::Error::Api(status) if status.is_forbidden()) {
                    cause.push_str(
                        "; grant this service account get, create and update on leases (coordination.k8s.io) \
                         in this namespace",
                    );
                }
                warn!(%lease, error = %cause, "the lease is out of reach, trying again");
                self.lookout.out_of_reach(cause, now);
            }
            Err(_) => {
                let waited = self.patience();
                warn!(%lease, ?waited, "the API server is silent, trying again");
                self.lookout.out_of_reach(format!("the API server is silent, for {waited:?} each time"), now);
            }
        }
        if self.grant.ran_out() && self.grant.revoke() {
            error!(
                %lease,
                "lost the lease: not renewed within {renew_deadline:?}, this process does not write until it is"
            );
        }
    }

    async fn give_back(mut self, leases: &Api<Lease>) {
        self.grant.revoke();
        match tokio::time::timeout(self.patience(), self.release(leases)).await {
            Ok(Ok(true)) => info!("gave the lease back"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => {
                warn!(%error, "could not give the lease back: the next leader waits for its end");
            }
            Err(_) => warn!("the API server is silent: the next leader waits for the end of the lease"),
        }
    }

    /// True if the Lease was ours.
    async fn release(&mut self, leases: &Api<Lease>) -> kube::Result<bool> {
        let mut held = self.held.take();
        loop {
            let lease = match held.take() {
                Some(lease) => Some(lease),
                // A write whose answer was lost may have won it.
                None => leases.get_opt(&self.config.name).await?,
            };
            let Some((mut lease, record)) = lease.and_then(|mut lease| {
                let record = lease.spec.take()?;
                Some((lease, record))
            }) else {
                return Ok(false);
            };
            if record.holder_identity.as_ref() != Some(&self.config.identity) {
                return Ok(false);
            }
            lease.spec = Some(released(record, Timestamp::now()));
            match leases.replace(&self.config.name, &PostParams::default(), &lease).await {
                Err(kube::Error::Api(status)) if status.is_conflict() => {}
                outcome => return outcome.map(|_| true),
            }
        }
    }
}

/// To lose a race is an answer, not a fault: the winner shows with the next
/// attempt.
fn quicker(outcome: kube::Result<()>) -> kube::Result<()> {
    match outcome {
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(()),
        outcome => outcome,
    }
}

/// Shorter by up to a quarter, never longer: candidates spread out, and the
/// configured deadline keeps its number of attempts.
fn jittered(period: Duration) -> Duration {
    period.mul_f64(rand::random_range(0.75..=1.0))
}
