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
use crate::api::{
    ApplicationPurge, CachePurge, CachePurgeSpec, CachePurgeStatus, CachedService, CachedServiceSpec, InRedis,
};

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
    /// Keys of Redis.
    pub redis_keys: Vec<String>,
    /// What keys of Redis begin with.
    pub redis_prefixes: Vec<String>,
    /// These are deleted in Redis.
    pub delete_in_redis: bool,
    /// All that is stored.
    pub everything: bool,
    /// It is validated before it is used again.
    pub soft: bool,
}

impl Wanted {
    /// Why nothing could come of it with this CachedService, and what to write instead.
    fn trouble(&self, spec: Option<&CachedServiceSpec>) -> Option<String> {
        let lists = [&self.keys, &self.prefixes, &self.tags];
        let names_responses = lists.iter().any(|list| !list.is_empty());
        let names_redis = !self.redis_keys.is_empty() || !self.redis_prefixes.is_empty();
        if !self.everything && !names_responses && !names_redis {
            return Some(
                "say what to purge: --key URL, --prefix URL, --tag TAG, --redis-key KEY, --redis-prefix PREFIX or --everything"
                    .to_owned(),
            );
        }
        if self.delete_in_redis && !names_redis {
            return Some("say what to delete in Redis: --redis-key KEY or --redis-prefix PREFIX".to_owned());
        }
        let spec = spec?;
        let off = |tier: &str, flags: &str| {
            Some(format!("{tier} of {} is off, so there is nothing of {flags} to purge", self.service))
        };
        if names_redis && spec.near_cache().is_none() {
            return off("cache.application", "--redis-key and --redis-prefix");
        }
        if names_responses && !self.everything && spec.http_cache().is_none() && spec.near_cache().is_some() {
            return off("cache.http", "--key, --prefix and --tag");
        }
        None
    }

    /// What it says of keys of Redis.
    fn application(&self) -> Option<ApplicationPurge> {
        let (keys, prefixes) = (self.redis_keys.clone(), self.redis_prefixes.clone());
        let redis = if self.delete_in_redis { InRedis::Delete } else { InRedis::Keep };
        (!keys.is_empty() || !prefixes.is_empty()).then_some(ApplicationPurge { keys, prefixes, redis })
    }
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
        if let Some(deleted) = self.status.deleted_keys {
            let so_far = if self.status.deletion_time.is_some() { "" } else { " so far" };
            writeln!(f, "  {deleted} keys are deleted in Redis{so_far}")?;
        }
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
    if let Some(trouble) = wanted.trouble(None) {
        return Err(CommandError::Wrong(trouble));
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
    let Some(service) = service.map_err(CommandError::api("cannot read the CachedService"))? else {
        return Err(CommandError::Wrong(format!(
            "there is no CachedService {} in the namespace {namespace}; `kubectl get cachedservices -A` lists all",
            wanted.service
        )));
    };
    if let Some(trouble) = wanted.trouble(Some(&service.spec)) {
        return Err(CommandError::Wrong(trouble));
    }
    let application = wanted.application();
    let metadata =
        ObjectMeta { generate_name: Some(format!("{}-", wanted.service)), ..ObjectMeta::default() };
    let spec = CachePurgeSpec {
        service_name: wanted.service,
        keys: wanted.keys,
        prefixes: wanted.prefixes,
        tags: wanted.tags,
        application,
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

    #[test]
    fn what_nothing_can_come_of_is_refused_before_it_is_ordered() {
        let spec = |cache: Value| -> CachedServiceSpec {
            serde_json::from_value(json!({ "image": "shop:1", "cache": cache })).unwrap()
        };
        let (near, http) = (spec(json!({ "application": {} })), spec(json!({ "http": {} })));
        let none = spec(json!({ "http": { "enabled": false } }));
        let shop = || Wanted { service: "shop".to_owned(), ..Wanted::default() };
        let words = |text: &str| vec![text.to_owned()];
        let redis = Wanted { redis_keys: words("user:1"), ..shop() };
        let tag = Wanted { tags: words("t"), ..shop() };
        assert!(shop().trouble(None).unwrap().contains("--redis-key KEY"));
        let vague = Wanted { everything: true, delete_in_redis: true, ..shop() };
        assert!(vague.trouble(None).unwrap().contains("what to delete in Redis"));
        for spec in [&http, &none] {
            assert!(redis.trouble(Some(spec)).unwrap().starts_with("cache.application of shop is off"));
            assert_eq!(tag.trouble(Some(spec)), None);
        }
        assert_eq!(redis.trouble(Some(&near)), None);
        assert!(tag.trouble(Some(&near)).unwrap().starts_with("cache.http of shop is off"));
        let all = Wanted { everything: true, ..shop() };
        assert!([&near, &http, &none].iter().all(|spec| all.trouble(Some(spec)).is_none()));
    }

    #[test]
    fn keys_of_redis_are_kept_unless_it_is_said_that_they_are_to_be_deleted() {
        let wanted = Wanted { redis_prefixes: vec!["user:".to_owned()], ..Wanted::default() };
        assert_eq!(wanted.application().unwrap().redis, InRedis::Keep);
        let wanted = Wanted { delete_in_redis: true, ..wanted };
        assert_eq!(wanted.application().unwrap().redis, InRedis::Delete);
        assert_eq!(Wanted::default().application(), None);
    }

    #[test]
    fn how_many_keys_are_deleted_is_shown() {
        let mut told = Progress {
            name: "shop-1".to_owned(),
            is_complete: false,
            status: CachePurgeStatus { deleted_keys: Some(7), ..CachePurgeStatus::default() },
            trouble: None,
        };
        assert!(told.to_string().contains("7 keys are deleted in Redis so far"), "{told}");
        told.status.deletion_time =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
        assert!(told.to_string().contains("7 keys are deleted in Redis\n"), "{told}");
        assert_eq!(json!(told)["status"]["deletedKeys"], 7);
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
