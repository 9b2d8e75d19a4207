//! Makes a `CachePurge` and follows it to its end.

use std::{fmt, time::Duration};

use futures::{StreamExt, pin_mut};
use kube::{
    Api, Client, ResourceExt,
    api::{ObjectMeta, PostParams},
    runtime::{
        WatchStreamExt,
        utils::Backoff,
        watcher::{self, Event, watcher},
    },
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
    let changes = watcher(purges, config).backoff(Pauses::default());
    pin_mut!(changes);
    let (mut trouble, mut is_listed) = (None, false);
    while !last.status.as_ref().is_some_and(CachePurgeStatus::is_complete) {
        let Ok(change) = timeout_at(until, changes.next()).await else { break };
        match change {
            Some(Ok(Event::Init)) => is_listed = false,
            Some(Ok(Event::Apply(newer) | Event::InitApply(newer))) => {
                (trouble, is_listed) = (None, true);
                last = newer;
            }
            Some(Ok(Event::InitDone)) if is_listed => {}
            Some(Ok(Event::InitDone | Event::Delete(_))) => {
                let name = last.name_any();
                return Err(CommandError::Wrong(format!(
                    "the purge {name} was deleted before it was complete"
                )));
            }
            // A list or a watch that breaks is begun again. What is not allowed does not become so.
            Some(Err(error)) if is_forbidden(&error) => return Err(unfollowed(&error)),
            Some(Err(error)) => trouble = Some(error),
            None => break,
        }
    }
    if let Some(error) = trouble {
        return Err(unfollowed(&error));
    }
    let status = last.status.clone().unwrap_or_default();
    Ok(Progress { name: last.name_any(), is_complete: status.is_complete(), status })
}

/// Pauses between the tries to watch, doubled up to the longest.
#[derive(Default)]
struct Pauses(u32);

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = Duration::from_millis(200).saturating_mul(1 << self.0.min(6)).min(Duration::from_secs(5));
        self.0 = self.0.saturating_add(1);
        Some(pause)
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        self.0 = 0;
    }
}

fn is_forbidden(error: &watcher::Error) -> bool {
    use watcher::Error::{InitialListFailed, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) => {
            matches!(error, kube::Error::Api(status) if [401, 403].contains(&status.code))
        }
        _ => false,
    }
}

fn unfollowed(error: &watcher::Error) -> CommandError {
    CommandError::Wrong(format!("the purge is ordered, but cannot be followed: {error}"))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use http::{Method, Request, Response};
    use http_body_util::Full;
    use hyper::body::Bytes;
    use kube::client::Body;
    use serde_json::{Value, json};
    use tower::service_fn;

    use super::*;

    fn order(is_complete: bool) -> Value {
        let status = if is_complete { "True" } else { "False" };
        json!({
            "apiVersion": "cachedservice.dev/v1alpha1",
            "kind": "CachePurge",
            "metadata": { "name": "shop-1", "namespace": "n", "uid": "u", "resourceVersion": "1" },
            "spec": { "serviceName": "shop", "everything": true },
            "status": { "conditions": [{
                "type": "Complete", "status": status, "reason": "R", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }] },
        })
    }

    fn failure(code: u16) -> (u16, Value) {
        (
            code,
            json!({ "kind": "Status", "status": "Failure", "message": "words", "reason": "R", "code": code }),
        )
    }

    fn list(items: &[Value]) -> (u16, Value) {
        let metadata = json!({ "resourceVersion": "1" });
        (200, json!({ "kind": "CachePurgeList", "apiVersion": "v1", "metadata": metadata, "items": items }))
    }

    /// An API server that answers lists and watches of purges one after the other, the last again and again.
    fn api(answers: Vec<(u16, Value)>) -> Client {
        let next = Arc::new(AtomicUsize::new(0));
        let service = service_fn(move |request: Request<Body>| {
            let (status, body) = match (request.method(), request.uri().path()) {
                (&Method::POST, _) => (201, order(false)),
                (_, path) if path.ends_with("/cachedservices/shop") => {
                    (200, json!({ "metadata": { "name": "shop" }, "spec": { "image": "shop:1" } }))
                }
                _ => {
                    let at = next.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
                    answers[at].clone()
                }
            };
            let response = Response::builder().status(status).body(Full::new(Bytes::from(body.to_string())));
            async move { response }
        });
        Client::new(service, "n")
    }

    async fn purged(answers: Vec<(u16, Value)>) -> Result<Progress, CommandError> {
        let wanted = Wanted { service: "shop".to_owned(), everything: true, ..Wanted::default() };
        purge(&api(answers), "n", wanted, Duration::from_secs(30)).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_breaks_is_begun_again() {
        let expired = json!({ "type": "ERROR", "object": failure(410).1 });
        let answers = vec![
            failure(500),
            list(&[order(false)]),
            failure(503),
            (200, expired),
            list(&[order(false)]),
            (200, json!({ "type": "MODIFIED", "object": order(true) })),
        ];
        assert!(purged(answers).await.unwrap().is_complete);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_followed_is_told_when_the_time_is_over_or_it_is_not_allowed() {
        let began = Instant::now();
        let told = |result: Result<Progress, CommandError>| result.unwrap_err().to_string();
        assert!(told(purged(vec![failure(403)]).await).contains("cannot be followed"));
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(told(purged(vec![failure(500)]).await).contains("cannot be followed"));
        assert_eq!(began.elapsed().as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_purge_that_is_deleted_is_not_waited_for() {
        for answers in [
            vec![list(&[])],
            vec![list(&[order(false)]), (200, json!({ "type": "DELETED", "object": order(false) }))],
        ] {
            let told = purged(answers).await.unwrap_err().to_string();
            assert_eq!(told, "the purge shop-1 was deleted before it was complete");
        }
    }
}
