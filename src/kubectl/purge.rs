//! Makes a `CachePurge` and follows it to its end.

use std::{fmt, time::Duration};

use futures::{StreamExt, pin_mut};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, ObjectMeta, PostParams},
    runtime::{
        WatchStreamExt,
        utils::Backoff,
        watcher::{self, Event, watcher},
    },
};
use serde::Serialize;
use tokio::time::{Instant, timeout, timeout_at};

use super::CommandError;
use crate::api::{CachePurge, CachePurgeSpec, CachePurgeStatus, CachedService};

/// Nobody waits longer than a day.
const LONGEST: Duration = Duration::from_hours(24);

/// How long the API server may take where nobody waits for the replicas.
const ASKING: Duration = Duration::from_mins(1);

/// How long it may take to tell once more how far a purge has come, when the time is over.
const LAST_LOOK: Duration = Duration::from_secs(5);

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
    /// Why it is not known how far it has come since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
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
        if let Some(trouble) = &self.trouble {
            writeln!(f, "  the purge is ordered, but cannot be followed: {trouble}")?;
        }
        Ok(())
    }
}

/// Orders a purge, and follows it until it is complete or `patience` is over. Without any, it is ordered alone.
///
/// # Errors
/// When the API server refuses it, or cannot be asked.
pub async fn purge(
    client: &Client,
    namespace: &str,
    wanted: Wanted,
    patience: Duration,
) -> Result<Progress, CommandError> {
    if !wanted.everything && [&wanted.keys, &wanted.prefixes, &wanted.tags].iter().all(|list| list.is_empty())
    {
        return Err(CommandError::Wrong(
            "say what to purge: --key URL, --prefix URL, --tag TAG or --everything".to_owned(),
        ));
    }
    let limit = if patience.is_zero() { ASKING } else { patience.min(LONGEST) };
    let until = Instant::now() + limit;
    let service = wanted.service.clone();
    let Ok(ordered) = timeout_at(until, order(client, namespace, wanted)).await else {
        return Err(CommandError::Wrong(format!(
            "the API server has not answered within {} s; whether the purge is ordered is not known: see `kubectl get cachepurges --namespace {namespace}` for one that is named {service}-…",
            limit.as_secs()
        )));
    };
    let ordered = ordered?;
    let purges: Api<CachePurge> = Api::namespaced(client.clone(), namespace);
    let (last, trouble) =
        if patience.is_zero() { (ordered, None) } else { follow(&purges, ordered, until).await? };
    let status = last.status.clone().unwrap_or_default();
    Ok(Progress { name: last.name_any(), is_complete: status.is_complete(), status, trouble })
}

async fn order(client: &Client, namespace: &str, wanted: Wanted) -> Result<CachePurge, CommandError> {
    let services: Api<CachedService> = Api::namespaced(client.clone(), namespace);
    // The operator would wait for it to appear; here it is a slip of the pen.
    let service = services.get_opt(&wanted.service).await;
    if service.map_err(CommandError::api("cannot read the CachedService"))?.is_none() {
        return Err(CommandError::Wrong(format!(
            "there is no CachedService {} in the namespace {namespace}; `kubectl get cachedservices -A` lists all",
            wanted.service
        )));
    }
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
    let purges: Api<CachePurge> = Api::namespaced(client.clone(), namespace);
    let made = purges.create(&PostParams::default(), &order).await;
    made.map_err(CommandError::api("the purge is refused"))
}

/// The purge once it is complete, or as it is when the time is over; and why that may be of before.
async fn follow(
    purges: &Api<CachePurge>,
    mut last: CachePurge,
    until: Instant,
) -> Result<(CachePurge, Option<String>), CommandError> {
    let only_this = format!("metadata.name={}", last.name_any());
    let config = watcher::Config::default().fields(&only_this);
    let changes = watcher(purges.clone(), config).backoff(Pauses::default());
    pin_mut!(changes);
    let mut is_listed = false;
    while !last.status.as_ref().is_some_and(CachePurgeStatus::is_complete) {
        match timeout_at(until, changes.next()).await {
            Ok(Some(Ok(Event::Init))) => is_listed = false,
            Ok(Some(Ok(Event::Apply(newer) | Event::InitApply(newer)))) => {
                is_listed = true;
                last = newer;
            }
            Ok(Some(Ok(Event::InitDone))) if is_listed => {}
            Ok(Some(Ok(Event::InitDone | Event::Delete(_)))) => return Err(deleted(&last)),
            // A list or a watch that breaks is begun again. What is not allowed does not become so.
            Ok(Some(Err(error))) if is_forbidden(&error) => return Ok((last, Some(error.to_string()))),
            Ok(Some(Err(_))) => {}
            // The watch may have been broken since long. By a list, which was allowed before.
            Ok(None) | Err(_) => {
                let listed = timeout(LAST_LOOK, purges.list(&ListParams::default().fields(&only_this))).await;
                return match listed {
                    Ok(Ok(listed)) => {
                        listed.items.into_iter().next().map(|now| (now, None)).ok_or_else(|| deleted(&last))
                    }
                    Ok(Err(error)) => Ok((last, Some(error.to_string()))),
                    Err(_) => Ok((last, Some(format!("no answer within {} s", LAST_LOOK.as_secs())))),
                };
            }
        }
    }
    Ok((last, None))
}

fn deleted(purge: &CachePurge) -> CommandError {
    CommandError::Wrong(format!("the purge {} was deleted before it was complete", purge.name_any()))
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

    /// What stands for no answer at all.
    const SILENCE: (u16, Value) = (0, Value::Null);

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
            async move {
                if (status, &body) == (0, &Value::Null) {
                    std::future::pending::<()>().await;
                }
                Response::builder().status(status).body(Full::new(Bytes::from(body.to_string())))
            }
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
        let told = |result: Result<Progress, CommandError>| result.unwrap().to_string();
        let shown = told(purged(vec![failure(403)]).await);
        assert!(shown.contains("cannot be followed"), "{shown}");
        assert!(shown.contains("cachepurge/shop-1 not complete"), "what is known is told with it: {shown}");
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(told(purged(vec![failure(500)]).await).contains("cannot be followed"));
        assert_eq!(began.elapsed().as_secs(), 30);
        assert!(told(purged(vec![SILENCE]).await).contains("no answer within 5 s"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_was_broken_once_does_not_hide_how_far_the_purge_has_come() {
        let mut now = order(false);
        now["status"]["progress"] = json!("1/2");
        let answers = vec![list(&[order(false)]), failure(503), SILENCE, list(&[now])];
        let told = purged(answers).await.unwrap();
        assert_eq!((told.status.progress.as_deref(), told.trouble), (Some("1/2"), None));
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_never_answers_is_waited_for_no_longer_than_for_the_replicas() {
        let silent = service_fn(|_: Request<Body>| {
            std::future::pending::<Result<Response<Full<Bytes>>, http::Error>>()
        });
        let began = Instant::now();
        let wanted = Wanted { service: "shop".to_owned(), everything: true, ..Wanted::default() };
        let told = purge(&Client::new(silent, "n"), "n", wanted, Duration::from_secs(30)).await;
        assert!(told.unwrap_err().to_string().contains("has not answered within 30 s"));
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
