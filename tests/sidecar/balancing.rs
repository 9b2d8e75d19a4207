//! Which replicas are asked, and what a failure of one means to clients: nothing.

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use cachedservice::{
    settings::{
        Balancing,
        balancing::{BreakerLimits, Mode},
    },
    sidecar::{breaker::State, upstream::Timing},
};
use http::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};

use crate::peers::mark;
use crate::replicas::{App, Does, POD, Service, TIMING, balancing, checks, until};

#[tokio::test]
async fn requests_go_to_all_replicas_by_turns_and_one_hop() {
    let service = Service::of(3, balancing()).await;
    for _ in 0..30 {
        assert_eq!(service.get().await.0, 200);
    }
    assert_eq!(service.counts(), [10, 10, 10], "and the own is not asked at its other address too");
    for (index, app) in service.apps.iter().enumerate() {
        assert!(app.connections() <= 2, "{} for ten requests, one after the other", app.connections());
        for headers in app.got() {
            assert_eq!(headers.contains_key("cachedservice-hop"), index > 0);
            assert_eq!(headers["host"], service.address.to_string());
        }
    }
}

#[tokio::test]
async fn the_own_application_comes_first_by_choice_and_others_where_it_is_gone() {
    let service = Service::of(3, Balancing { mode: Mode::OwnFirst, ..balancing() }).await;
    for _ in 0..10 {
        assert_eq!(service.get().await, (200, "127.0.0.1".to_owned()));
    }
    service.apps[0].end().await;
    for _ in 0..10 {
        assert_eq!(service.ask(Method::POST, "body").await.0, 200);
    }
    let [own, second, third] = service.counts()[..] else { panic!("three") };
    assert_eq!((own, second + third), (10, 10));
    assert!((4..=6).contains(&second), "both get their share: {second}");
}

#[tokio::test]
async fn what_has_come_from_another_pod_goes_no_further() {
    let service = Service::of(3, balancing()).await;
    for _ in 0..6 {
        let request = http::Request::get(format!("http://{}/", service.address))
            .header("cachedservice-hop", mark())
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .unwrap();
        let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new());
        assert_eq!(client.build_http().request(request).await.unwrap().status(), 200);
    }
    assert_eq!(service.counts(), [6, 0, 0]);
}

#[tokio::test]
async fn without_balancing_the_own_application_is_asked_alone() {
    let service = Service::of(3, balancing()).await;
    service.origin.balance(None);
    for _ in 0..6 {
        assert_eq!(service.get().await.0, 200);
    }
    assert_eq!((service.counts(), service.origin.figures().len()), (vec![6, 0, 0], 1));
}

/// Eight clients, one request after the other each; the longest time that one took.
async fn load(service: &Arc<Service>, each: usize) -> Duration {
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let service = service.clone();
            tokio::spawn(async move {
                let mut longest = Duration::ZERO;
                for _ in 0..each {
                    let began = std::time::Instant::now();
                    assert_eq!(service.get().await.0, 200);
                    longest = longest.max(began.elapsed());
                }
                longest
            })
        })
        .collect();
    let mut longest = Duration::ZERO;
    for client in clients {
        longest = longest.max(client.await.unwrap());
    }
    longest
}

#[tokio::test]
async fn one_that_hangs_costs_as_many_first_tries_as_the_threshold_and_no_request() {
    let service = Arc::new(Service::of(3, balancing()).await);
    load(&service, 3).await;
    service.apps[1].does(Does::Hangs);
    let before = service.apps[1].count();
    let longest = load(&service, 100).await;
    // As many as open the breaker, of eight; a machine that is busy may let the others seem silent too.
    let tried = service.apps[1].count() - before;
    assert!((5..=7).contains(&tried), "{tried} went to the one that hangs");
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    assert_eq!(service.figures(1).breaker, State::Open);
}

/// An application in a process of its own, which is this program; it ends with the one that started it.
struct Process(std::process::Child);

impl Process {
    fn start(test: &str, address: SocketAddr) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test]).env(APP, address.to_string());
        Self(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const APP: &str = "TEST_APPLICATION_AT";

#[tokio::test]
async fn a_process_that_is_stopped_costs_no_request_and_has_its_share_again_when_it_goes_on() {
    if let Ok(address) = std::env::var(APP) {
        App::on(address.parse().unwrap()).listen().await;
        // Nothing comes, and its end when this has.
        let ended =
            tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        ended.await.unwrap().unwrap();
        return;
    }
    let breaker = BreakerLimits { open_ms: 500, ..BreakerLimits::default() };
    let settings = Balancing { breaker, health: Some(checks()), ..balancing() };
    let service = Arc::new(Service::of(3, settings).await);
    let address = service.apps[1].address;
    service.apps[1].leave().await;
    let name =
        "balancing::a_process_that_is_stopped_costs_no_request_and_has_its_share_again_when_it_goes_on";
    let process = Process::start(name, address);
    until("it listens", || std::net::TcpStream::connect(address).is_ok()).await;
    until("it is well", || service.figures(1).is_healthy).await;
    load(&service, 10).await;
    let before = service.figures(1);
    assert!(before.requests > 20 && before.breaker == State::Closed, "{before:?}");
    process.signal(Signal::STOP);
    let longest = load(&service, 200).await;
    let stopped = service.figures(1);
    // Not all requests: it may have answered some between the signal and its effect.
    let failed = stopped.failures - before.failures;
    // As many as open the breaker, and a trial that came before the checks had seen it, or two.
    assert!((5..=7).contains(&failed), "{failed} failed at the one that is stopped");
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    until("the checks see it", || !service.figures(1).is_healthy).await;
    process.signal(Signal::CONT);
    let began = std::time::Instant::now();
    until("it is well again", || service.figures(1).is_healthy).await;
    while service.figures(1).breaker != State::Closed {
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", service.figures(1));
        load(&service, 1).await;
    }
    let closed = service.figures(1);
    load(&service, 10).await;
    let again = service.figures(1);
    assert!(again.requests - closed.requests >= 20 && again.breaker == State::Closed, "{again:?}");
}

#[tokio::test]
async fn requests_that_are_not_repeated_avoid_one_that_hangs_too() {
    let timing = Timing { first_byte: Duration::from_secs(1), ..TIMING };
    let service = Arc::new(Service::with(2, balancing(), timing).await);
    service.apps[1].does(Does::Hangs);
    let mut clients = Vec::new();
    for _ in 0..8 {
        let service = service.clone();
        clients.push(tokio::spawn(async move {
            let mut failed = 0;
            for _ in 0..50 {
                failed += u32::from(service.ask(Method::POST, "x").await.0 == 504);
            }
            failed
        }));
    }
    let mut failed = 0;
    for client in clients {
        failed += client.await.unwrap();
    }
    assert!((5..=7).contains(&failed), "{failed} of 400 failed");
}

#[tokio::test]
async fn a_page_that_is_slow_everywhere_is_answered() {
    let timing = Timing { second_try: Duration::from_millis(30), ..TIMING };
    let service = Service::with(3, balancing(), timing).await;
    for app in &service.apps {
        app.does(Does::Takes(Duration::from_millis(400)));
    }
    for _ in 0..3 {
        assert_eq!(service.get().await.0, 200);
    }
    let total: usize = service.counts().iter().sum();
    assert!((4..=9).contains(&total), "each was sent three times at most: {total}");
    for app in 0..3 {
        assert_eq!(service.figures(app).breaker, State::Closed);
    }
}

#[tokio::test]
async fn where_nobody_listens_another_gets_it_whatever_the_method() {
    let service = Service::of(3, balancing()).await;
    for app in &service.apps[1..] {
        app.end().await;
    }
    for method in [Method::POST, Method::PATCH, Method::GET] {
        for _ in 0..10 {
            assert_eq!(service.ask(method.clone(), "a body").await, (200, "127.0.0.1".to_owned()));
        }
    }
    assert_eq!(service.counts(), [30, 0, 0]);
    assert_eq!(service.figures(1).failures, 5, "then its breaker was open");
    assert_eq!(service.origin.denied_retries(), 0, "what nobody has seen costs no budget");
}

#[tokio::test]
async fn what_may_have_been_done_is_repeated_only_if_that_does_no_harm() {
    let service = Service::of(2, balancing()).await;
    service.apps[1].does(Does::BreaksOff);
    let mut failed = 0;
    for method in [Method::GET, Method::GET, Method::POST, Method::POST].into_iter().cycle().take(8) {
        let (status, words) = service.ask(method.clone(), "").await;
        if status != 200 {
            assert_eq!((method, status), (Method::POST, 502));
            assert_eq!(words, "the application does not answer");
            failed += 1;
        }
    }
    assert_eq!(failed, 2, "each time that the turn of a POST came to the one that breaks off");
    assert_eq!(service.counts(), [6, 4], "and none was done twice");
}

#[tokio::test]
async fn a_breaker_opens_tries_again_and_closes() {
    let breaker = BreakerLimits { consecutive_failures: 3, open_ms: 300, ..BreakerLimits::default() };
    let service = Service::of(2, Balancing { breaker, ..balancing() }).await;
    service.apps[1].does(Does::Says(StatusCode::SERVICE_UNAVAILABLE));
    for _ in 0..6 {
        service.get().await;
    }
    assert_eq!((service.figures(1).breaker, service.figures(1).failures), (State::Open, 3));
    let before = service.apps[1].count();
    for _ in 0..10 {
        assert_eq!(service.get().await.0, 200);
    }
    assert_eq!(service.apps[1].count(), before, "it is left alone");
    until("its time is over", || service.figures(1).breaker == State::HalfOpen).await;
    service.apps[1].does(Does::Answers);
    for _ in 0..4 {
        service.get().await;
    }
    assert_eq!(service.figures(1).breaker, State::Closed);
    assert!(service.apps[1].count() > before);
}

#[tokio::test]
async fn an_error_of_the_request_is_none_of_the_replica() {
    let service = Service::of(2, balancing()).await;
    for app in &service.apps {
        app.does(Does::Says(StatusCode::INTERNAL_SERVER_ERROR));
    }
    for _ in 0..20 {
        assert_eq!(service.get().await.0, 500);
    }
    assert_eq!(service.counts(), [10, 10], "and it is not repeated");
    assert_eq!((service.figures(0).failures, service.figures(1).breaker), (0, State::Closed));
}

#[tokio::test]
async fn when_all_fail_few_are_repeated() {
    let service = Arc::new(Service::of(3, balancing()).await);
    for app in &service.apps {
        app.does(Does::BreaksOff);
    }
    let mut clients = Vec::new();
    for _ in 0..10 {
        let service = service.clone();
        clients.push(tokio::spawn(async move {
            for _ in 0..50 {
                assert_eq!(service.get().await.0, 502);
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    let total: usize = service.counts().iter().sum();
    // A fifth, and three a second for ten seconds; the test may take long enough for some more.
    assert!((500..=500 + 100 + 60).contains(&total), "{total} requests at the applications for 500");
    assert!(service.origin.denied_retries() > 300);
}

#[tokio::test]
async fn when_all_are_left_alone_all_are_asked_rather_than_none() {
    let service = Service::of(2, balancing()).await;
    for app in &service.apps {
        app.does(Does::Says(StatusCode::BAD_GATEWAY));
    }
    for _ in 0..12 {
        assert_eq!(service.get().await.0, 502);
    }
    assert_eq!([0, 1].map(|app| service.figures(app).breaker), [State::Open; 2]);
    for app in &service.apps {
        app.does(Does::Answers);
    }
    for _ in 0..10 {
        assert_eq!(service.get().await.0, 200);
    }
}

#[tokio::test]
async fn replicas_come_and_go_with_their_names() {
    let service = Service::of(3, balancing()).await;
    let [_, second, third] = [0, 1, 2].map(|app: usize| service.apps[app].address.ip());
    service.names.are(Some(vec![third, POD])).await;
    until("the second is gone", || service.origin.figures().len() == 2).await;
    for _ in 0..10 {
        assert_eq!(service.get().await.0, 200);
    }
    assert_eq!(service.counts(), [5, 0, 5]);
    service.names.are(None).await;
    assert_eq!(service.origin.figures().len(), 2, "those of before are kept");
    service.names.are(Some(vec![second, third, POD])).await;
    until("the second is there", || service.origin.figures().len() == 3).await;
    for _ in 0..9 {
        service.get().await;
    }
    assert_eq!(service.counts(), [8, 3, 8]);
    assert_eq!(service.figures(2).requests, 8, "what is known of one that stays is kept");
}

#[tokio::test]
async fn a_request_with_a_replica_that_goes_is_answered() {
    let service = Arc::new(Service::of(2, Balancing { mode: Mode::RoundRobin, ..balancing() }).await);
    for app in &service.apps {
        app.does(Does::Takes(Duration::from_millis(300)));
    }
    let asking: Vec<_> = (0..2)
        .map(|_| {
            let service = service.clone();
            tokio::spawn(async move { service.ask(Method::POST, "x").await })
        })
        .collect();
    until("both have one", || service.counts() == [1, 1]).await;
    service.names.are(Some(vec![POD])).await;
    until("it is gone", || service.origin.figures().len() == 1).await;
    for asking in asking {
        assert_eq!(asking.await.unwrap().0, 200);
    }
}

#[tokio::test]
async fn checks_find_what_is_not_well_and_what_is_again() {
    let service = Service::of(2, Balancing { health: Some(checks()), ..balancing() }).await;
    until("it was checked", || service.figures(1).is_healthy).await;
    service.apps[1].does(Does::Says(StatusCode::NOT_FOUND));
    until("it is not well", || !service.figures(1).is_healthy).await;
    for _ in 0..6 {
        assert_eq!(service.get().await, (200, "127.0.0.1".to_owned()));
    }
    service.apps[1].does(Does::Answers);
    until("it is well", || service.figures(1).is_healthy).await;
    for _ in 0..6 {
        service.get().await;
    }
    assert_eq!(service.counts(), [9, 3]);
}

#[tokio::test]
async fn an_application_on_localhost_alone_is_found_out_and_no_request_is_lost() {
    let service = Service::of(4, Balancing { health: Some(checks()), ..balancing() }).await;
    for app in &service.apps[1..] {
        app.end().await;
    }
    for _ in 0..20 {
        assert_eq!(service.ask(Method::POST, "x").await, (200, "127.0.0.1".to_owned()));
    }
    until("it is found out", || service.origin.is_local_only()).await;
    // As others ask it.
    let _listening = tokio::net::TcpListener::bind((POD, service.apps[0].address.port())).await.unwrap();
    until("it is reached", || !service.origin.is_local_only()).await;
}

#[tokio::test]
async fn an_application_that_others_reach_is_not_on_localhost_alone_when_they_are_gone() {
    let service = Service::of(2, Balancing { health: Some(checks()), ..balancing() }).await;
    let listening = tokio::net::TcpListener::bind((POD, service.apps[0].address.port())).await.unwrap();
    // Whoever is asked so was looked at as others do it.
    tokio::time::timeout(Duration::from_secs(20), listening.accept()).await.unwrap().unwrap();
    service.apps[1].end().await;
    until("the other is not well", || !service.figures(1).is_healthy).await;
    assert!(!service.origin.is_local_only());
}

#[tokio::test]
async fn without_checks_an_application_seems_to_be_on_localhost_alone_where_no_other_is_reached() {
    let service = Service::of(3, balancing()).await;
    for app in &service.apps[1..] {
        assert!(!service.origin.is_local_only());
        app.end().await;
        for _ in 0..6 {
            service.get().await;
        }
    }
    assert!(service.origin.is_local_only());
}

#[tokio::test]
async fn no_replica_has_more_requests_at_once_than_it_may_and_the_others_wait() {
    let service = Arc::new(Service::of(2, Balancing { max_concurrent: 2, ..balancing() }).await);
    for app in &service.apps {
        app.does(Does::Takes(Duration::from_millis(20)));
    }
    let asking: Vec<_> = (0..40)
        .map(|_| {
            let service = service.clone();
            tokio::spawn(async move { service.ask(Method::POST, "x").await.0 })
        })
        .collect();
    for asking in asking {
        assert_eq!(asking.await.unwrap(), 200);
    }
    assert_eq!([0, 1].map(|app: usize| service.apps[app].most()), [2, 2]);
    assert_eq!(service.figures(0).in_flight, 0);
}

#[tokio::test]
async fn who_waits_too_long_for_a_place_is_told() {
    let timing = Timing { first_byte: Duration::from_millis(200), ..TIMING };
    let service = Arc::new(Service::with(1, Balancing { max_concurrent: 1, ..balancing() }, timing).await);
    service.apps[0].does(Does::Takes(Duration::from_millis(150)));
    let asking: Vec<_> = (0..4)
        .map(|_| {
            let service = service.clone();
            tokio::spawn(async move { service.ask(Method::POST, "x").await.0 })
        })
        .collect();
    let mut statuses = Vec::new();
    for asking in asking {
        statuses.push(asking.await.unwrap());
    }
    statuses.sort_unstable();
    assert!(statuses.starts_with(&[200]) && statuses.ends_with(&[503]), "{statuses:?}");
}

#[tokio::test]
async fn connections_are_used_again_and_one_that_has_ended_is_no_failure() {
    let service = Service::of(1, balancing()).await;
    for _ in 0..5 {
        assert_eq!(service.ask(Method::POST, "x").await.0, 200);
        // The connection has ended, and the application is there again.
        service.apps[0].end().await;
        service.apps[0].listen().await;
        assert_eq!(service.get().await.0, 200);
    }
    assert_eq!(service.figures(0).failures, 0);
}

#[tokio::test]
async fn a_connection_that_ends_by_its_age_is_no_failure_of_the_replica() {
    let service = Service::of(1, balancing()).await;
    service.apps[0].does(Does::AnswersOnce);
    for _ in 0..10 {
        assert_eq!(service.get().await.0, 200);
    }
    assert!(service.figures(0).retries > 0, "the second on a connection was not answered");
    assert_eq!(service.figures(0).failures, 0);
}

#[tokio::test]
async fn what_is_too_much_for_the_one_that_is_well_waits_and_does_not_go_to_one_that_hangs() {
    let timing = Timing { first_byte: Duration::from_millis(500), ..TIMING };
    let settings = Balancing { max_concurrent: 2, ..balancing() };
    let service = Arc::new(Service::with(2, settings, timing).await);
    service.apps[0].does(Does::Takes(Duration::from_millis(5)));
    service.apps[1].does(Does::Hangs);
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let service = service.clone();
            tokio::spawn(async move {
                let mut failed = 0;
                while service.figures(1).breaker == State::Closed {
                    failed += u32::from(service.ask(Method::POST, "x").await.0 != 200);
                }
                for _ in 0..5 {
                    failed += u32::from(service.ask(Method::POST, "x").await.0 != 200);
                }
                failed
            })
        })
        .collect();
    let mut failed = 0;
    for client in clients {
        failed += client.await.unwrap();
    }
    assert!((5..=6).contains(&failed), "{failed} failed: as many as open the breaker, two at once");
}

#[tokio::test]
async fn what_changes_something_is_not_done_at_two_replicas_at_once() {
    let timing = Timing { second_try: Duration::from_millis(20), ..TIMING };
    let service = Service::with(2, balancing(), timing).await;
    for app in &service.apps {
        app.does(Does::Takes(Duration::from_millis(200)));
    }
    for method in [Method::DELETE, Method::PUT, Method::OPTIONS] {
        assert_eq!(service.ask(method, "").await.0, 200);
    }
    assert_eq!(service.counts().iter().sum::<usize>(), 3);
    assert_eq!(service.get().await.0, 200);
    assert_eq!(service.counts().iter().sum::<usize>(), 5, "a GET is");
}

#[tokio::test]
async fn a_failure_of_one_is_not_preferred_to_the_answer_of_another_that_is_on_its_way() {
    let timing = Timing { second_try: Duration::from_millis(200), ..TIMING };
    let service = Service::with(2, Balancing { mode: Mode::OwnFirst, ..balancing() }, timing).await;
    service.apps[0].does(Does::Takes(Duration::from_millis(300)));
    for (number, status) in [500, 409, 429, 503].into_iter().enumerate() {
        service.apps[1].does(Does::Says(StatusCode::from_u16(status).unwrap()));
        assert_eq!(service.get().await, (200, "127.0.0.1".to_owned()), "and not {status}");
        assert_eq!(service.counts(), [number + 1, number + 1], "both were asked");
    }
    service.apps[1].does(Does::Says(StatusCode::NOT_FOUND));
    assert_eq!(service.get().await.0, 404, "that is an answer");
}

#[tokio::test]
async fn a_failure_is_told_where_the_other_does_not_answer_at_all() {
    let (second_try, first_byte) = (Duration::from_millis(20), Duration::from_millis(500));
    let timing = Timing { second_try, first_byte, ..TIMING };
    let service = Service::with(2, Balancing { mode: Mode::OwnFirst, ..balancing() }, timing).await;
    service.apps[0].does(Does::Hangs);
    service.apps[1].does(Does::Says(StatusCode::INTERNAL_SERVER_ERROR));
    assert_eq!(service.get().await, (500, service.apps[1].address.ip().to_string()));
}

#[tokio::test]
async fn a_failure_waits_for_no_better_answer_longer_than_for_a_second_try() {
    let service = Service::of(2, Balancing { mode: Mode::OwnFirst, ..balancing() }).await;
    service.apps[0].does(Does::Hangs);
    service.apps[1].does(Does::Says(StatusCode::SERVICE_UNAVAILABLE));
    let began = std::time::Instant::now();
    assert_eq!(service.get().await, (503, service.apps[1].address.ip().to_string()));
    let took = began.elapsed();
    assert!(took >= TIMING.second_try * 2 && took < TIMING.first_byte / 4, "{took:?}");
    assert_eq!(service.figures(0).failures, 1, "the one that hangs is known by it");
}

#[tokio::test]
async fn a_place_is_for_whoever_can_take_it_whoever_waits_for_longer() {
    let timing = Timing { first_byte: Duration::from_secs(3), ..TIMING };
    let settings = Balancing { max_concurrent: 1, mode: Mode::OwnFirst, ..balancing() };
    let service = Arc::new(Service::with(2, settings, timing).await);
    service.apps[0].does(Does::Hangs);
    service.apps[1].does(Does::Takes(Duration::from_millis(500)));
    let ask = |hop: Option<http::HeaderValue>| {
        let mut request = http::Request::post(format!("http://{}/", service.address));
        if let Some(hop) = hop {
            request = request.header("cachedservice-hop", hop);
        }
        let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
        let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new());
        tokio::spawn(async move { client.build_http().request(request).await.unwrap().status() })
    };
    let _hangs = ask(None);
    until("the own is full", || service.counts() == [1, 0]).await;
    let other = ask(None);
    until("the other is full", || service.counts() == [1, 1]).await;
    // It is for the own alone, and waits first.
    let _hopped = ask(Some(mark()));
    until("it waits", || service.origin.requests() == 3).await;
    let waits = ask(None);
    until("this one waits, too", || service.origin.requests() == 4).await;
    assert_eq!(other.await.unwrap(), 200);
    assert_eq!(waits.await.unwrap(), 200, "though the one before it could not use the place");
}
