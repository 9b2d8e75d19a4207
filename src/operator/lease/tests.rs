//! Whole elections against an API server in memory, on a clock that the test
//! moves.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
};

use http::{Method, Request, Response, StatusCode};
use k8s_openapi::api::coordination::v1::LeaseSpec;
use kube::{client::Body, core::Status};
use tokio::{sync::oneshot, task::JoinHandle};

use super::*;

const DURATION: Duration = Duration::from_secs(15);
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
const RETRY_PERIOD: Duration = Duration::from_secs(2);
const SLOWNESS: Duration = Duration::from_secs(4);

/// One Lease, kept as the API server keeps it: an update with an old
/// `resourceVersion` is refused.
#[derive(Clone, Default)]
struct ApiServer(Arc<Mutex<Stored>>);

#[derive(Default)]
struct Stored {
    lease: Option<Lease>,
    version: u64,
    fault: Fault,
    requests: Vec<Method>,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Fault {
    #[default]
    None,
    /// Answers 500.
    Fails,
    /// Never answers.
    Silent,
    /// Does what was asked, and answers a write after [`SLOWNESS`].
    Slow,
    /// Does what was asked, then never answers.
    SwallowsAnswers,
    /// Answers every update with 409.
    Conflicts,
}

impl ApiServer {
    /// A client as one replica has it; the switch cuts its line.
    fn client(&self) -> (Client, Arc<Mutex<Fault>>) {
        let line = Arc::new(Mutex::new(Fault::None));
        let (server, cut) = (self.clone(), Arc::clone(&line));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (server, cut) = (server.clone(), *cut.lock().unwrap());
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let fault = if cut == Fault::None { server.stored().fault } else { cut };
                if fault == Fault::Silent {
                    std::future::pending::<()>().await;
                }
                let (status, answer) = server.stored().answer(&head.method, &body, fault);
                if fault == Fault::Slow && head.method != Method::GET {
                    tokio::time::sleep(SLOWNESS).await;
                }
                if fault == Fault::SwallowsAnswers {
                    std::future::pending::<()>().await;
                }
                let response = Response::builder().status(status).body(Body::from(answer)).unwrap();
                Ok::<_, Infallible>(response)
            }
        });
        (Client::new(service, "system"), line)
    }

    fn stored(&self) -> MutexGuard<'_, Stored> {
        self.0.lock().unwrap()
    }

    fn record(&self) -> LeaseSpec {
        self.stored().lease.clone().unwrap().spec.unwrap()
    }

    fn holder(&self) -> Option<String> {
        self.record().holder_identity
    }
}

impl Stored {
    fn answer(&mut self, method: &Method, body: &[u8], fault: Fault) -> (StatusCode, Vec<u8>) {
        self.requests.push(method.clone());
        if fault == Fault::Fails {
            return failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalError");
        }
        match (method, &self.lease) {
            (&Method::GET, Some(lease)) => (StatusCode::OK, serde_json::to_vec(lease).unwrap()),
            (&Method::GET | &Method::PUT, None) => failure(StatusCode::NOT_FOUND, "NotFound"),
            (&Method::POST, None) => self.store(body),
            (&Method::POST, Some(_)) => failure(StatusCode::CONFLICT, "AlreadyExists"),
            (&Method::PUT, Some(stored)) => {
                let sent: Lease = serde_json::from_slice(body).unwrap();
                let current = sent.metadata.resource_version == stored.metadata.resource_version;
                if current && fault != Fault::Conflicts {
                    return self.store(body);
                }
                failure(StatusCode::CONFLICT, "Conflict")
            }
            (other, _) => panic!("the operator has no right to {other} a lease"),
        }
    }

    fn store(&mut self, body: &[u8]) -> (StatusCode, Vec<u8>) {
        let mut lease: Lease = serde_json::from_slice(body).unwrap();
        self.version += 1;
        lease.metadata.resource_version = Some(self.version.to_string());
        let answer = serde_json::to_vec(&lease).unwrap();
        self.lease = Some(lease);
        (StatusCode::OK, answer)
    }
}

fn failure(code: StatusCode, reason: &str) -> (StatusCode, Vec<u8>) {
    let status = Status::failure("the test says no", reason).with_code(code.as_u16());
    (code, serde_json::to_vec(&status).unwrap())
}

/// A replica that takes part in the election.
struct Replica {
    leadership: Leadership,
    outlook: watch::Receiver<Outlook>,
    line: Arc<Mutex<Fault>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Replica {
    fn start(identity: &str, server: &ApiServer) -> Self {
        let (election, leadership) = Election::new(config(identity)).unwrap();
        let outlook = election.outlook();
        let (client, line) = server.client();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(election.run(client, async {
            let _ = stopped.await;
        }));
        Self { leadership, outlook, line, stop, task }
    }

    fn cut(&self, fault: Fault) {
        *self.line.lock().unwrap() = fault;
    }

    async fn leads(&self) {
        tokio::time::timeout(DURATION * 3, self.leadership.wait_until_leader()).await.unwrap();
    }

    /// Waits for an outlook; returns after how long it came.
    async fn expects(&mut self, is_so: impl FnMut(&Outlook) -> bool) -> Duration {
        let asked = Instant::now();
        tokio::time::timeout(DURATION * 3, self.outlook.wait_for(is_so)).await.unwrap().unwrap();
        asked.elapsed()
    }

    async fn shut_down(self) {
        self.stop.send(()).unwrap();
        tokio::time::timeout(DURATION, self.task).await.unwrap().unwrap();
    }

    /// The process is gone from one moment to the next.
    fn kill(self) {
        self.task.abort();
    }
}

fn config(identity: &str) -> LeaseConfig {
    LeaseConfig {
        namespace: "system".to_owned(),
        name: "operator".to_owned(),
        identity: identity.to_owned(),
        duration: DURATION,
        renew_deadline: RENEW_DEADLINE,
        retry_period: RETRY_PERIOD,
    }
}

#[test]
fn durations_that_cannot_work_are_answered_with_ones_that_can() {
    assert_eq!(config("a").validate(), Ok(()));
    let s = Duration::from_secs;
    for (duration, renew_deadline, retry_period) in [
        (s(10), s(10), s(2)),
        (s(15), s(2), s(2)),
        (s(15), s(10), s(0)),
        (s(5), s(10), s(2)),
        (s(3601), s(10), s(2)),
    ] {
        let wrong = LeaseConfig { duration, renew_deadline, retry_period, ..config("a") };
        let message = Election::new(wrong).unwrap_err().to_string();
        assert!(message.contains("--lease-duration 15s"), "{message}");
    }
}

#[test]
fn a_candidate_without_an_identity_would_look_like_a_free_lease() {
    assert_eq!(config("").validate(), Err(LeaseConfigError::Empty("identity")));
}

#[tokio::test(start_paused = true)]
async fn the_first_candidate_creates_the_lease_and_renews_it_with_one_request_each() {
    let server = ApiServer::default();
    let replica = Replica::start("a", &server);
    replica.leads().await;
    let first = server.record();
    assert_eq!(first.holder_identity.as_deref(), Some("a"));
    assert_eq!((first.lease_duration_seconds, first.lease_transitions), (Some(15), Some(0)));

    tokio::time::sleep(DURATION * 4).await;
    assert!(replica.leadership.may_write());
    let (created, renewals) =
        server.stored().requests.split_first_chunk().map(|(a, b)| (a.clone(), b.to_vec())).unwrap();
    assert_eq!(created, [Method::GET, Method::POST]);
    assert!(renewals.iter().all(|method| method == Method::PUT), "{renewals:?}");
    assert!((30..=42).contains(&renewals.len()), "one each 1.5 to 2 s: {}", renewals.len());
    let later = server.record();
    assert!(later.renew_time > first.renew_time);
    assert_eq!((later.acquire_time, later.lease_transitions), (first.acquire_time, Some(0)));
}

#[tokio::test(start_paused = true)]
async fn of_many_candidates_one_leads_at_any_time() {
    let server = ApiServer::default();
    let replicas = ["a", "b", "c"].map(|identity| Replica::start(identity, &server));
    replicas[0].leads().await;
    for _ in 0..120 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(replicas.iter().filter(|replica| replica.leadership.may_write()).count(), 1);
    }
    assert_eq!(server.record().lease_transitions, Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_killed_leader_is_followed_after_the_duration_and_not_before() {
    let server = ApiServer::default();
    let first = Replica::start("a", &server);
    first.leads().await;
    let second = Replica::start("b", &server);
    tokio::time::sleep(DURATION).await;
    first.kill();
    let killed = Instant::now();

    second.leads().await;
    let waited = killed.elapsed();
    assert!(waited + RETRY_PERIOD >= DURATION, "the last renewal was up to 2 s before: {waited:?}");
    // Of what another holds it waits for the very end. Timers are exact to a millisecond.
    assert!(waited <= DURATION + RETRY_PERIOD + Duration::from_millis(5), "{waited:?}");
    assert_eq!((server.holder().as_deref(), server.record().lease_transitions), (Some("b"), Some(1)));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_shuts_down_is_followed_at_once() {
    let server = ApiServer::default();
    let first = Replica::start("a", &server);
    first.leads().await;
    let second = Replica::start("b", &server);
    tokio::time::sleep(DURATION).await;

    let leadership = first.leadership.clone();
    first.shut_down().await;
    assert!(!leadership.may_write());
    let stopped = Instant::now();
    second.leads().await;
    assert!(stopped.elapsed() <= RETRY_PERIOD, "{:?}", stopped.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_restarted_leader_with_the_same_identity_goes_on_at_once() {
    let server = ApiServer::default();
    let before = Replica::start("a", &server);
    before.leads().await;
    let record = server.record();
    before.kill();

    let restarted = Instant::now();
    let after = Replica::start("a", &server);
    after.leads().await;
    assert!(restarted.elapsed() < Duration::from_secs(1), "{:?}", restarted.elapsed());
    assert_eq!(server.record().acquire_time, record.acquire_time);
    assert_eq!(server.record().lease_transitions, Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_leader_cut_off_stops_writing_before_another_starts() {
    for fault in [Fault::Silent, Fault::Fails] {
        let server = ApiServer::default();
        let first = Replica::start("a", &server);
        first.leads().await;
        let second = Replica::start("b", &server);
        tokio::time::sleep(DURATION).await;

        first.cut(fault);
        let cut = Instant::now();
        first.leadership.lost().await;
        assert!(cut.elapsed() <= RENEW_DEADLINE, "{:?}", cut.elapsed());
        assert!(!second.leadership.may_write());
        second.leads().await;
        assert!(!first.leadership.may_write());

        first.cut(Fault::None);
        tokio::time::sleep(DURATION * 2).await;
        assert!(!first.leadership.may_write() && second.leadership.may_write());
        assert_eq!(server.record().lease_transitions, Some(1));
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_counts_from_before_the_request_and_not_from_its_answer() {
    let server = ApiServer::default();
    server.stored().fault = Fault::Slow;
    let asked = Instant::now();
    let replica = Replica::start("a", &server);
    replica.leads().await;
    assert!(asked.elapsed() >= SLOWNESS);
    replica.cut(Fault::Silent);
    replica.leadership.lost().await;
    assert!(asked.elapsed() <= RENEW_DEADLINE + Duration::from_millis(10), "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_short_fault_does_not_cost_the_lead() {
    let server = ApiServer::default();
    let replica = Replica::start("a", &server);
    replica.leads().await;
    for fault in [Fault::Fails, Fault::Silent, Fault::SwallowsAnswers, Fault::Conflicts] {
        let mut lost = pin!(replica.leadership.lost());
        replica.cut(fault);
        let fault_ends = tokio::time::sleep(Duration::from_secs(3));
        tokio::select! {
            () = &mut lost => panic!("lost during the fault"),
            () = fault_ends => replica.cut(Fault::None),
        }
        tokio::select! {
            () = &mut lost => panic!("lost after the fault"),
            () = tokio::time::sleep(DURATION * 2) => {}
        }
    }
    assert_eq!(server.record().lease_transitions, Some(0));
}

#[tokio::test(start_paused = true)]
async fn an_acquisition_whose_answer_was_lost_is_found_by_reading() {
    let server = ApiServer::default();
    server.stored().fault = Fault::SwallowsAnswers;
    let replica = Replica::start("a", &server);
    tokio::time::sleep(RENEW_DEADLINE).await;
    assert!(!replica.leadership.may_write(), "no answer, no lead");

    server.stored().fault = Fault::None;
    replica.leads().await;
    assert_eq!(server.holder().as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn who_loses_the_race_for_a_free_lease_stands_by() {
    let server = ApiServer::default();
    let before = Replica::start("a", &server);
    before.leads().await;
    before.shut_down().await;
    assert_eq!(server.holder(), None);

    server.stored().fault = Fault::Conflicts;
    let replica = Replica::start("b", &server);
    tokio::time::sleep(DURATION).await;
    assert!(!replica.leadership.may_write());
}

#[tokio::test(start_paused = true)]
async fn a_lease_deleted_under_the_leader_is_created_anew() {
    let server = ApiServer::default();
    let replica = Replica::start("a", &server);
    replica.leads().await;
    server.stored().lease = None;
    tokio::time::sleep(RETRY_PERIOD * 2).await;
    assert_eq!(server.holder().as_deref(), Some("a"));
    assert!(replica.leadership.may_write());
}

#[tokio::test(start_paused = true)]
async fn a_lease_given_to_another_by_hand_ends_the_lead_with_the_next_renewal() {
    let server = ApiServer::default();
    let replica = Replica::start("a", &server);
    replica.leads().await;
    {
        let mut stored = server.stored();
        stored.version += 1;
        let version = stored.version.to_string();
        let lease = stored.lease.as_mut().unwrap();
        lease.metadata.resource_version = Some(version);
        lease.spec.as_mut().unwrap().holder_identity = Some("b".to_owned());
    }
    let given = Instant::now();
    replica.leadership.lost().await;
    assert!(given.elapsed() <= RETRY_PERIOD, "{:?}", given.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_standby_that_shuts_down_leaves_the_lease_alone() {
    let server = ApiServer::default();
    let leader = Replica::start("a", &server);
    leader.leads().await;
    let standby = Replica::start("b", &server);
    tokio::time::sleep(RETRY_PERIOD).await;
    standby.shut_down().await;
    assert_eq!(server.holder().as_deref(), Some("a"));
    assert!(leader.leadership.may_write());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_a_silent_api_server() {
    let server = ApiServer::default();
    let replica = Replica::start("a", &server);
    replica.leads().await;
    replica.cut(Fault::Silent);
    let stopped = Instant::now();
    replica.shut_down().await;
    assert!(stopped.elapsed() <= RENEW_DEADLINE, "{:?}", stopped.elapsed());
}

fn is_out_of_reach(outlook: &Outlook) -> bool {
    matches!(outlook, Outlook::OutOfReach { lease, cause } if lease == "system/operator" && !cause.is_empty())
}

#[tokio::test(start_paused = true)]
async fn a_candidate_stands_by_only_once_it_has_read_that_another_holds_the_lease() {
    let server = ApiServer::default();
    let leader = Replica::start("a", &server);
    leader.leads().await;
    assert_eq!(*leader.outlook.borrow(), Outlook::Unknown, "a leader does not stand by");

    for fault in [Fault::Silent, Fault::Fails] {
        server.stored().fault = fault;
        let mut second = Replica::start("b", &server);
        let waited = second.expects(is_out_of_reach).await;
        assert!(waited <= RENEW_DEADLINE / 2, "{waited:?}");
        server.stored().fault = Fault::None;
        second.expects(|outlook| *outlook == Outlook::StandingBy).await;
        second.kill();
    }
}

#[tokio::test(start_paused = true)]
async fn a_standby_says_that_the_lease_is_out_of_reach_when_its_holder_may_be_gone() {
    let server = ApiServer::default();
    let leader = Replica::start("a", &server);
    leader.leads().await;
    let mut second = Replica::start("b", &server);
    second.expects(|outlook| *outlook == Outlook::StandingBy).await;

    // An answer that comes in time ends the matter.
    second.cut(Fault::Fails);
    tokio::time::sleep(DURATION - RETRY_PERIOD).await;
    second.cut(Fault::None);
    tokio::time::sleep(RETRY_PERIOD).await;

    second.cut(Fault::Fails);
    let waited = second.expects(is_out_of_reach).await;
    assert!(waited > DURATION - RETRY_PERIOD && waited <= DURATION + RETRY_PERIOD, "{waited:?}");
    second.cut(Fault::None);
    second.expects(|outlook| *outlook == Outlook::StandingBy).await;
}
