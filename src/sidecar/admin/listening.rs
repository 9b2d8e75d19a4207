//! Connections to the admin port: so many at once, and a probe always gets one.

use std::{
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::ConnectInfo};
use futures::FutureExt;
use hyper::{Request, body::Incoming, server::conn::http1::Builder, service::Service, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore},
    time::sleep,
};

use crate::sidecar::http::edge::limits::IDLE_TIME;

/// More than there are probes, collectors of metrics, and sidecars of other pods that ask at the same time.
const MOST: usize = 256;
/// A head is no longer; that is the least that hyper takes.
const HEAD: usize = 8192;
/// After an error of the listener, such as too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves for ever. Where all places are taken, the oldest connection without a request under way is ended for the
/// next: anybody may hold some open, and the kubelet takes a pod for dead that it cannot ask.
pub(super) async fn listen(listener: TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(MOST));
    let crowded = Arc::new(Notify::new());
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        if places.available_permits() == 0 {
            crowded.notify_one();
        }
        // Never closed.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        // If none was there to hear it, none is to make room for nobody later.
        let _ = crowded.notified().now_or_never();
        let (router, crowded) = (router.clone(), crowded.clone());
        tokio::spawn(async move {
            serve(stream, peer, router, &crowded).await;
            drop(place);
        });
    }
}

/// Requests of a connection.
#[derive(Default)]
struct Requests {
    running: AtomicUsize,
    over: Notify,
}

async fn serve(stream: TcpStream, peer: SocketAddr, router: Router, crowded: &Notify) {
    let requests = Arc::<Requests>::default();
    let (router, counted) = (TowerToHyperService::new(router), requests.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        counted.running.fetch_add(1, Ordering::Relaxed);
        let (answer, counted) = (router.call(request), counted.clone());
        async move {
            let answer = answer.await;
            counted.running.fetch_sub(1, Ordering::Relaxed);
            counted.over.notify_one();
            answer
        }
    });
    let mut builder = Builder::new();
    // That of hyper is the time of a head and between two.
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE_TIME).max_buf_size(HEAD);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    loop {
        tokio::select! {
            biased;
            _ = connection.as_mut() => return,
            () = crowded.notified() => {}
        }
        if requests.running.load(Ordering::Relaxed) == 0 {
            // Without a word: whoever does not take an answer would not take that either.
            return;
        }
        crowded.notify_one();
        // It does not hear of it again before there is another answer.
        tokio::select! {
            _ = connection.as_mut() => return,
            () = requests.over.notified() => {}
        }
    }
}
