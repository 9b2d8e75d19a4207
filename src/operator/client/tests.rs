//! The layers together, over connections that the test answers for.
#![allow(clippy::unwrap_used)]

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use http_body::Frame;
use hyper::rt::Executor;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::ConfigMap};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams},
};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    time::{Instant, timeout},
};

use super::*;
use crate::operator::lease::{Election, LeaseConfig};

const LIMIT: Duration = Duration::from_secs(30);
const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// What the connection does with a request.
#[derive(Clone, Copy)]
enum Answer {
    /// 200 and an object.
    Fine,
    /// 503, and a wish to be asked again.
    Busy,
    /// The connection breaks.
    Broken,
    /// Nothing.
    Silence,
    /// 200, and then no body.
    OnlyTheHead,
}

/// The requests that reached the wire.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<Vec<String>>>);

impl Wire {
    fn client(&self, answer: Answer, leadership: &Leadership, metrics: &Metrics) -> Client {
        let wire = self.clone();
        let connection = tower::service_fn(move |request: Request<Body>| {
            wire.0.lock().unwrap().push(format!("{} {}", request.method(), request.uri().path()));
            async move {
                let answer = match answer {
                    Answer::Fine => Response::new(TestBody::Whole(Some(r#"{"metadata":{},"items":[]}"#))),
                    Answer::Busy => {
                        Response::builder().status(503).body(TestBody::Whole(Some("{}"))).unwrap()
                    }
                    Answer::Broken => return Err(BoxError::from("connection reset")),
                    Answer::Silence => std::future::pending().await,
                    Answer::OnlyTheHead => Response::new(TestBody::Stuck),
                };
                Ok(answer)
            }
        });
        guard(ClientBuilder::new(connection, "shop"), leadership, metrics, LIMIT)
    }

    fn seen(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

enum TestBody {
    Whole(Option<&'static str>),
    Stuck,
}

impl http_body::Body for TestBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(Bytes::from(text))))),
            Self::Stuck => Poll::Pending,
        }
    }
}

/// The leadership of a candidate that has not won.
fn standby() -> (Election, Leadership) {
    Election::new(LeaseConfig {
        namespace: "system".to_owned(),
        name: "operator".to_owned(),
        identity: "a".to_owned(),
        duration: Duration::from_secs(15),
        renew_deadline: RENEW_DEADLINE,
        retry_period: Duration::from_secs(2),
    })
    .unwrap()
}

fn config_maps(client: Client) -> Api<ConfigMap> {
    Api::namespaced(client, "shop")
}

#[track_caller]
fn counted(metrics: &Metrics, verb: &str, resource: &str, code: &str) {
    let line =
        format!(r#"cachedservice_api_requests_total{{verb="{verb}",resource="{resource}",code="{code}"}} 1"#);
    let exposition = metrics.encode().unwrap();
    assert!(exposition.contains(&line), "no {line} in:\n{exposition}");
}

#[tokio::test]
async fn a_standby_reads_but_its_writes_are_refused_unsent() {
    let (_election, leadership) = standby();
    let (wire, metrics) = (Wire::default(), Metrics::default());
    let maps = config_maps(wire.client(Answer::Fine, &leadership, &metrics));
    let map = ConfigMap::default();

    let refused = [
        maps.create(&PostParams::default(), &map).await.map(drop),
        maps.replace("m", &PostParams::default(), &map).await.map(drop),
        maps.patch("m", &PatchParams::apply("test"), &Patch::Apply(&map)).await.map(drop),
        maps.patch("m", &PatchParams::default(), &Patch::Merge(&map)).await.map(drop),
        maps.delete("m", &DeleteParams::default()).await.map(drop),
    ];
    for outcome in refused {
        let error = outcome.unwrap_err();
        assert!(is_fenced(&error), "{error}");
        assert!(error.to_string().contains("was not sent"), "{error}");
    }
    maps.list(&ListParams::default()).await.unwrap();
    assert_eq!(wire.seen(), ["GET /api/v1/namespaces/shop/configmaps"]);
    for verb in ["create", "update", "apply", "patch", "delete"] {
        counted(&metrics, verb, "configmaps", "fenced");
    }
}

#[tokio::test]
async fn a_standby_may_write_leases() {
    let (_election, leadership) = standby();
    let wire = Wire::default();
    let leases: Api<Lease> =
        Api::namespaced(wire.client(Answer::Fine, &leadership, &Metrics::default()), "system");
    leases.create(&PostParams::default(), &Lease::default()).await.unwrap();
    assert_eq!(wire.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_write_under_way_is_given_up_when_the_lead_ends() {
    let leadership = leader().await;
    let (wire, metrics) = (Wire::default(), Metrics::default());
    let led = Instant::now();

    let maps = config_maps(wire.client(Answer::Silence, &leadership, &metrics));
    let error = timeout(LIMIT, maps.delete("m", &DeleteParams::default())).await.unwrap().unwrap_err();
    assert!(led.elapsed() <= RENEW_DEADLINE + Duration::from_millis(10), "{:?}", led.elapsed());
    assert!(is_fenced(&error), "{error}");
    assert!(error.to_string().contains("given up"), "{error}");
    assert_eq!(wire.seen().len(), 1);
    counted(&metrics, "delete", "configmaps", "fenced");
}

/// The leadership of a candidate that has won and does not renew.
async fn leader() -> Leadership {
    let (election, leadership) = standby();
    // It wins over a line of its own, which dies with the task.
    let lease = Wire::default().client(Answer::Fine, &Leadership::always(), &Metrics::default());
    let election = tokio::spawn(election.run(lease, std::future::pending()));
    timeout(LIMIT, leadership.wait_until_leader()).await.unwrap();
    election.abort();
    leadership
}

#[tokio::test(start_paused = true)]
async fn what_a_connection_has_queued_is_not_sent_after_the_lead_ended() {
    let connections = Connections::new(leader().await);
    let (queue, mut queued) = mpsc::unbounded_channel();
    let (sender, mut sent) = mpsc::unbounded_channel();
    connections.execute(async move {
        while let Some(request) = queued.recv().await {
            sender.send(request).unwrap();
        }
    });
    queue.send("in time").unwrap();
    assert_eq!(sent.recv().await, Some("in time"));
    // The clock moves while no task of the process runs.
    queue.send("too late").unwrap();
    tokio::time::advance(RENEW_DEADLINE).await;
    assert_eq!(sent.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_connection_made_too_late_for_a_write_does_not_carry_it() {
    let leadership = leader().await;
    let connections = Connections::new(leadership.clone());
    let over = leadership.terms_over();
    tokio::time::advance(RENEW_DEADLINE).await;

    let (sender, mut sent) = mpsc::unbounded_channel();
    let make = |what: &'static str| {
        let sender = sender.clone();
        connections.execute(async move { sender.send(what).unwrap() });
    };
    connections::passed(over, async { make("a write of the last term") }).await;
    make("a read");
    assert_eq!(sent.recv().await, Some("a read"));
    drop(sender);
    assert_eq!(sent.recv().await, None);
}

#[tokio::test]
async fn an_error_of_the_connection_is_not_taken_for_the_fence() {
    let metrics = Metrics::default();
    let maps = config_maps(Wire::default().client(Answer::Broken, &Leadership::always(), &metrics));
    let error = maps.get("m").await.unwrap_err();
    assert!(!is_fenced(&error), "{error}");
    counted(&metrics, "get", "configmaps", "error");
}

#[tokio::test]
async fn requests_are_counted_by_verb_resource_and_status_and_timed_by_verb() {
    let metrics = Metrics::default();
    let leads = Leadership::always();
    let maps = config_maps(Wire::default().client(Answer::Fine, &leads, &metrics));
    maps.patch_status("m", &PatchParams::apply("test"), &Patch::Apply(ConfigMap::default())).await.unwrap();
    drop(maps.watch(&WatchParams::default(), "0").await.unwrap());
    config_maps(Wire::default().client(Answer::Busy, &leads, &metrics)).get("m").await.unwrap_err();

    counted(&metrics, "apply", "configmaps/status", "200");
    counted(&metrics, "watch", "configmaps", "200");
    counted(&metrics, "get", "configmaps", "503");
    let exposition = metrics.encode().unwrap();
    assert!(exposition.contains(r#"cachedservice_api_request_duration_seconds_count{verb="apply"} 1"#));
    assert!(exposition.contains(r#"cachedservice_api_request_duration_seconds_count{verb="get"} 1"#));
    assert!(!exposition.contains(r#"cachedservice_api_request_duration_seconds_count{verb="watch"}"#));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_nobody_waits_for_any_more_is_counted_as_cancelled() {
    let metrics = Metrics::default();
    let maps = config_maps(Wire::default().client(Answer::Silence, &Leadership::always(), &metrics));
    assert!(timeout(LIMIT / 2, maps.get("m")).await.is_err());
    counted(&metrics, "get", "configmaps", "cancelled");
}

#[tokio::test(start_paused = true)]
async fn silence_of_the_api_server_ends_after_the_time_out() {
    let metrics = Metrics::default();
    for answer in [Answer::Silence, Answer::OnlyTheHead] {
        let maps = config_maps(Wire::default().client(answer, &Leadership::always(), &metrics));
        let error = timeout(LIMIT * 2, maps.list(&ListParams::default())).await.unwrap().unwrap_err();
        assert!(error.to_string().contains("list configmaps within 30s"), "{error}");
    }
    counted(&metrics, "list", "configmaps", "timeout");
}

#[tokio::test(start_paused = true)]
async fn a_watch_may_be_quiet_for_longer_than_the_time_out() {
    let maps =
        config_maps(Wire::default().client(Answer::OnlyTheHead, &Leadership::always(), &Metrics::default()));
    let mut events = pin!(maps.watch(&WatchParams::default(), "0").await.unwrap());
    assert!(timeout(LIMIT * 10, futures::StreamExt::next(&mut events)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_does_not_begin_ends_after_the_time_out() {
    let maps =
        config_maps(Wire::default().client(Answer::Silence, &Leadership::always(), &Metrics::default()));
    let watch = timeout(LIMIT * 2, maps.watch(&WatchParams::default(), "0")).await.unwrap();
    assert!(watch.is_err_and(|error| error.to_string().contains("watch configmaps")));
}

/// The whole stack of kube against a real socket.
#[tokio::test]
async fn the_api_server_sees_our_name_and_each_request_once() {
    let agents = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&agents);
    let busy = axum::Router::new().fallback(async move |request: axum::extract::Request| {
        seen.lock().unwrap().push(request.headers()[USER_AGENT].to_str().unwrap().to_owned());
        (http::StatusCode::SERVICE_UNAVAILABLE, "{}")
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(axum::serve(listener, busy).into_future());

    let config = Config::new(format!("http://{address}").parse().unwrap());
    let client = connect(config, &Leadership::always(), &Metrics::default()).unwrap();
    timeout(LIMIT, config_maps(client).get("m")).await.unwrap().unwrap_err();
    assert_eq!(*agents.lock().unwrap(), [AGENT]);
    server.abort();
}
