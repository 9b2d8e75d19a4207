//! Makes a `CachePurge` and follows it to its end.

use std::{fmt, time::Duration};

use futures::{TryStreamExt, pin_mut};
use kube::{
    Api, Client, ResourceExt,
    api::{ObjectMeta, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::CommandError;
use crate::api::{CachePurge, CachePurgeSpec, CachePurgeStatus, CachedService};

/// Nobody waits longer than a day.
const LONGEST: Duration = Duration::from_hours(24);

/// For how long the object tells of the purge once that is complete, in seconds.
const KEPT: i32 = 3600;

/// What is to be purged.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The CachedService.
    pub service: String,
    /// URLs.
    pub keys: Vec<String>,
    /// What URLs begin with.
    pub prefixes: Vec<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// All that is stored.
    pub everything: bool,
    /// It is validated before it is used again.
    pub soft: bool,
}

/// How far a purge has come.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// The name of its `CachePurge`.
    pub name: String,
    /// Whether every replica has acknowledged it.
    pub is_complete: bool,
    /// What the operator tells of it.
    pub status: CachePurgeStatus,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CachePurgeStatus { acknowledged, replicas, pending, .. } = &self.status;
        let state = if self.is_complete { "complete" } else { "not complete" };
        writeln!(
            f,
            "cachepurge/{} {state}: {acknowledged} of {replicas} replicas have acknowledged it",
            self.name
        )?;
        for pod in pending {
            writeln!(f, "  {}: {}", pod.pod, pod.reason)?;
        }
        if let Some(condition) = self.status.complete().filter(|_| !self.is_complete) {
            writeln!(f, "  {}: {}", condition.reason, condition.message)?;
        }
        Ok(())
    }
}

/// Orders a purge, and follows it until it is complete or `patience` is over.
///
/// # Errors
/// When the API server refuses it, or cannot be asked.
pub async fn purge(
    client: &Client,
    namespace: &str,
    wanted: Wanted,
    patience: Duration,
) -> Result<Progress, CommandError> {
    let until = Instant::now() + patience.min(LONGEST);
    if !wanted.everything && [&wanted.keys, &wanted.prefixes, &wanted.tags].iter().all(|list| list.is_empty())
    {
        return Err(CommandError::Wrong(
            "say what to purge: --key URL, --prefix URL, --tag TAG or --everything".to_owned(),
        ));
    }
    let services: Api<CachedService> = Api::namespaced(client.clone(), namespace);
    // The operator would wait for it to appear; here it is a slip of the pen.
    let service = services.get_opt(&wanted.service).await;
    if service.map_err(CommandError::api("cannot read the CachedService"))?.is_none() {
        return Err(CommandError::Wrong(format!(
            "there is no CachedService {} in the namespace {namespace}; `kubectl get cachedservices -A` lists all",
            wanted.service
        )));
    }
    let purges: Api<CachePurge> = Api::namespaced(client.clone(), namespace);
    let metadata =
        ObjectMeta { generate_name: Some(format!("{}-", wanted.service)), ..ObjectMeta::default() };
    let spec = CachePurgeSpec {
        service_name: wanted.service,
        keys: wanted.keys,
        prefixes: wanted.prefixes,
        tags: wanted.tags,
        everything: wanted.everything,
        soft: wanted.soft,
        ttl_seconds_after_finished: KEPT,
    };
    let order = CachePurge { metadata, spec, status: None };
    let made = purges.create(&PostParams::default(), &order).await;
    let mut last = made.map_err(CommandError::api("the purge is refused"))?;
    let config = watcher::Config::default().fields(&format!("metadata.name={}", last.name_any()));
    let changes = watcher(purges, config).applied_objects();
    pin_mut!(changes);
    while !last.status.as_ref().is_some_and(CachePurgeStatus::is_complete) {
        let Ok(change) = timeout_at(until, changes.try_next()).await else { break };
        match change {
            Ok(Some(newer)) => last = newer,
            Ok(None) => break,
            Err(error) => {
                return Err(CommandError::Wrong(format!(
                    "the purge is ordered, but cannot be followed: {error}"
                )));
            }
        }
    }
    let status = last.status.clone().unwrap_or_default();
    Ok(Progress { name: last.name_any(), is_complete: status.is_complete(), status })
}
