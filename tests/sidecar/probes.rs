//! The probes of the kubelet, of a sidecar that is busy, hangs, or is stopped.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Barrier,
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use cachedservice::sidecar::{
    admin::{Admin, Pod, Token, serve_apart},
    health::Health,
    http::Front,
    redis::Orders,
    upstream::Origin,
};
use http::Response;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    time::timeout,
};

use crate::{
    application::{Got, run_application, settings},
    process::Process,
};

/// How long the kubelet waits for an answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// The limit of everything that is waited for.
const LIMIT: Duration = Duration::from_secs(20);
const WORKERS: usize = 2;

/// What a probe gets; None where that takes too long.
async fn probe(address: SocketAddr, path: &str) -> Option<String> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: pod\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    timeout(PATIENCE, asked).await.ok()
}

fn has(answer: Option<&String>, status: u16) -> bool {
    answer.is_some_and(|answer| answer.starts_with(&format!("HTTP/1.1 {status} ")))
}

async fn until(address: SocketAddr, path: &str, status: u16) -> String {
    let began = Instant::now();
    loop {
        let answer = probe(address, path).await;
        match answer {
            Some(answer) if has(Some(&answer), status) => return answer,
            other => assert!(began.elapsed() < LIMIT, "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A sidecar that has loaded all, on a runtime of its own.
fn ready_on(runtime: &Runtime) -> SocketAddr {
    runtime.block_on(async {
        let health = Arc::new(Health::new());
        assert!(!health.settings_loaded("d".to_owned(), Vec::new()));
        health.purges_read();
        health.serving();
        health.warmed();
        let front = Front::before(settings(), Origin::at(1));
        let pod = Pod::default();
        let admin = Admin {
            front,
            near: None,
            health,
            token: Token::of(None),
            copy: None,
            others: None,
            orders: Orders::http(),
            pod,
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        serve_apart(listener, Arc::new(admin)).unwrap();
        address
    })
}

/// Keeps all that a runtime has from doing anything else, until what is returned is dropped.
fn keep_busy(runtime: &Runtime) -> Vec<Sender<()>> {
    let all_are = Arc::new(Barrier::new(WORKERS + 1));
    let (until, ends): (Vec<Sender<()>>, Vec<Receiver<()>>) = (0..WORKERS).map(|_| channel()).unzip();
    for end in ends {
        let all_are = all_are.clone();
        runtime.spawn(async move {
            all_are.wait();
            let _ = end.recv();
        });
    }
    all_are.wait();
    until
}

#[test]
fn who_is_busy_for_a_moment_stays_ready_and_who_hangs_does_not() {
    let serving = Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build().unwrap();
    let address = ready_on(&serving);
    let kubelet = Builder::new_current_thread().enable_all().build().unwrap();
    kubelet.block_on(until(address, "/readyz", 200));
    let began = Instant::now();
    let busy = keep_busy(&serving);
    kubelet.block_on(async {
        while began.elapsed() < Duration::from_millis(2500) {
            for path in ["/readyz", "/livez"] {
                let answer = probe(address, path).await;
                assert!(has(answer.as_ref(), 200), "{path} after {:?}: {answer:?}", began.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let why = until(address, "/readyz", 503).await;
        assert!(began.elapsed() > Duration::from_millis(2500), "{:?}", began.elapsed());
        assert!(why.contains("has turned for 3."), "{why}");
        let alive = probe(address, "/livez").await;
        assert!(has(alive.as_ref(), 200), "it may come back: {alive:?}");
        drop(busy);
        until(address, "/readyz", 200).await;
    });
}

#[tokio::test]
async fn who_is_stopped_answers_no_probe() {
    let (port, _) = run_application(|_: &Got| Response::default()).await;
    let process = Process::start(port, |_| {});
    process.until_readyz(200).await;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, process.settings.admin_port));
    process.signal("-STOP");
    // Its threads are stopped one after the other.
    let began = Instant::now();
    while probe(address, "/readyz").await.is_some() {
        assert!(began.elapsed() < LIMIT, "it goes on");
    }
    for path in ["/readyz", "/readyz", "/livez"] {
        assert_eq!(probe(address, path).await, None, "{path}");
    }
    process.signal("-CONT");
    until(address, "/readyz", 200).await;
}
