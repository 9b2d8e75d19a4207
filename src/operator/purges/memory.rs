//! What is remembered of the open purges of a CachedService from round to round.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::Instant;

use super::{
    answer::Acknowledged,
    desk::Orders,
    keeping::{Keeping, Kept},
    pods::Replica,
    progress::{Asked, asked},
};
use crate::api::{CachePurge, CachePurgeStatus};

/// While pods acknowledge, the status of a purge is written this often at most.
const STATUS_PERIOD: Duration = Duration::from_secs(1);

/// What is remembered from round to round.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) keeping: Keeping,
    /// Up to which number each pod has acknowledged, by UID.
    pub(super) acknowledged: BTreeMap<String, u64>,
    /// Why a pod did not answer, by UID.
    failures: BTreeMap<String, String>,
    /// Numbers that pods knew and the record did not.
    pub(super) unknown: BTreeSet<u64>,
    pub(super) told: HashMap<String, Told>,
    pub(super) held_since: Option<Instant>,
    /// The pod that deletes for a purge, by their UIDs.
    pub(super) deleting: BTreeMap<String, String>,
    /// Rounds in which something was to be deleted.
    pub(super) deletions: u32,
    /// Rounds since the last order came.
    pub(super) rounds: u32,
    pub(super) newest: u64,
}

/// What was told of a purge, by its UID.
pub(super) struct Told {
    pub(super) status: CachePurgeStatus,
    at: Option<Instant>,
    pub(super) first: Instant,
    pub(super) is_slow: bool,
}

/// What is to be told of a purge.
pub(super) type Status = (Arc<CachePurge>, CachePurgeStatus);
/// What was told of it, or not.
pub(super) type Outcome = (Arc<CachePurge>, CachePurgeStatus, kube::Result<()>);

/// What pods have answered, by UID.
pub(super) type Answers = Vec<(String, Result<Acknowledged, String>)>;

impl Memory {
    pub(super) fn forget_others(&mut self, orders: &Orders) {
        let open: BTreeSet<_> = orders.open.iter().filter_map(|purge| purge.uid()).collect();
        self.told.retain(|uid, _| open.contains(uid));
        self.deleting.retain(|uid, _| open.contains(uid));
    }

    pub(super) fn forget_pods(&mut self, replicas: &[Replica]) {
        let present: BTreeSet<_> = replicas.iter().map(|replica| replica.uid.as_str()).collect();
        self.acknowledged.retain(|uid, _| present.contains(uid.as_str()));
        self.failures.retain(|uid, _| present.contains(uid.as_str()));
    }

    /// Takes in what pods have answered. Whether one of them knows a purge that the record does not, and that was
    /// not known: the record was lost, and another was begun with numbers that were given before.
    pub(super) fn take_in(&mut self, answers: Answers) -> bool {
        let before = self.unknown.len();
        for (uid, answer) in answers {
            match answer {
                Ok(Acknowledged { epoch, unknown: None }) => {
                    self.failures.remove(&uid);
                    self.acknowledged.insert(uid, epoch);
                }
                Ok(Acknowledged { unknown: Some(number), .. }) => {
                    self.unknown.insert(number);
                    self.failures.insert(uid, "it knows of purges that are not in the record".to_owned());
                }
                Err(why) => {
                    self.failures.insert(uid, why);
                }
            }
        }
        self.unknown.len() > before
    }

    /// The statuses of the open purges that say something new: those that begin, or those that are due.
    pub(super) fn statuses(
        &mut self,
        orders: &Orders,
        Kept { epochs, off, .. }: &Kept,
        replicas: &[Replica],
        beginning: bool,
    ) -> Vec<Status> {
        let (acknowledged, failures) = (self.acknowledged.clone(), self.failures.clone());
        let now = Timestamp::now();
        let statuses = self.changed(orders, |purge, before| {
            let uid = purge.metadata.uid.as_deref().unwrap_or_default();
            let Some(&epoch) = epochs.get(uid) else {
                // It is gone; the watch tells.
                return before.clone();
            };
            let off = off.get(uid).copied();
            let progress = Asked { epoch, replicas, acknowledged: &acknowledged, failures: &failures, off };
            asked(before, purge.metadata.generation, &progress, now)
        });
        let is_due = |purge: &CachePurge, status: &CachePurgeStatus| {
            let told = purge.uid().and_then(|uid| self.told.get(&uid));
            let is_first = told.is_none_or(|told| told.status.start_time.is_none());
            let is_due = self.is_due(purge) || status.is_complete();
            if beginning { is_first && !status.is_complete() } else { is_due }
        };
        statuses.into_iter().filter(|(purge, status)| is_due(purge, status)).collect()
    }

    /// Whether something may be told of a purge again.
    pub(super) fn is_due(&self, purge: &CachePurge) -> bool {
        let told = purge.uid().and_then(|uid| self.told.get(&uid)?.at);
        told.is_none_or(|at| at.elapsed() >= STATUS_PERIOD)
    }

    /// Whether keys of a purge are still to be deleted in Redis.
    pub(super) fn is_to_delete(&self, purge: &CachePurge) -> bool {
        let told = purge.uid().and_then(|uid| self.told.get(&uid)).map(|told| &told.status);
        let status = told.or(purge.status.as_ref());
        purge.spec.to_delete().is_some() && status.is_none_or(|status| status.deletion_time.is_none())
    }

    /// What is to be told of each open purge, where that is something else than before.
    pub(super) fn changed(
        &mut self,
        orders: &Orders,
        status: impl Fn(&CachePurge, &CachePurgeStatus) -> CachePurgeStatus,
    ) -> Vec<Status> {
        let mut changed = Vec::new();
        for purge in &orders.open {
            let told = self.told.entry(purge.uid().unwrap_or_default()).or_insert_with(|| Told {
                status: purge.status.clone().unwrap_or_default(),
                at: None,
                first: Instant::now(),
                is_slow: false,
            });
            let status = status(purge, &told.status);
            if status != told.status {
                changed.push((purge.clone(), status));
            }
        }
        changed
    }

    pub(super) fn note(&mut self, outcomes: Vec<Outcome>) {
        for (purge, status, result) in outcomes {
            let told = purge.uid().and_then(|uid| self.told.get_mut(&uid));
            if let (Some(told), Ok(())) = (told, result) {
                told.status = status;
                told.at = Some(Instant::now());
            }
        }
    }
}
