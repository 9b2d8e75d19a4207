//! Requests from here straight to pods, each written down: when it began, how long it took, what came.
//!
//! The node is this machine, so its addresses can be reached and its clock is that of the pods.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

use super::until;

/// Where a sidecar tells its figures.
const ADMIN: u16 = 9801;
/// The longest that anybody waits for an answer.
const LIMIT: Duration = Duration::from_secs(30);
/// What a client leaves between two requests: the machine is small.
const PAUSE: Duration = Duration::from_millis(5);

/// A request, and what became of it.
#[derive(Clone, Debug)]
pub struct Sample {
    pub address: SocketAddr,
    pub path: String,
    /// When it was sent, in microseconds since 1970.
    pub sent_us: i64,
    pub took: Duration,
    /// The connection was used before, and has ended while the answer was waited for: the request was sent once
    /// more on a new one, as every client does with a GET (RFC 9112 §9.3.1).
    pub is_repeated: bool,
    pub answer: Result<Answer, String>,
}

/// An answer with the status 200.
#[derive(Clone, Debug)]
pub struct Answer {
    pub cache_status: String,
    /// The body: JSON, or text.
    pub body: Value,
}

impl Answer {
    /// When the application began to make this page, in microseconds since 1970.
    pub fn begun_us(&self) -> i64 {
        self.body["begun_us"].as_i64().expect("a page")
    }
}

/// Now, in microseconds since 1970.
pub fn now_us() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_micros()).expect("before the year 294247")
}

/// A connection to one address, which is opened again where it has ended.
pub struct Connected {
    address: SocketAddr,
    requests: Option<SendRequest<Empty<Bytes>>>,
}

impl Connected {
    /// Not yet.
    pub fn to(address: SocketAddr) -> Self {
        Self { address, requests: None }
    }

    /// Opens it.
    pub async fn open(address: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| format!("connect: {error}"))?;
        let (requests, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| format!("connect: {error}"))?;
        // Ends by itself once `requests` is dropped.
        tokio::spawn(connection);
        Ok(Self { address, requests: Some(requests) })
    }

    /// A GET, of the host `shop`.
    pub async fn get(&mut self, path: &str) -> Sample {
        let (sent_us, clock) = (now_us(), std::time::Instant::now());
        let mut is_repeated = false;
        let answer = match timeout(LIMIT, self.exchange(path, &mut is_repeated)).await {
            Ok(answer) => answer,
            Err(_) => {
                self.requests = None;
                Err(format!("no answer in {LIMIT:?}"))
            }
        };
        Sample {
            address: self.address,
            path: path.to_owned(),
            sent_us,
            took: clock.elapsed(),
            is_repeated,
            answer,
        }
    }

    async fn exchange(&mut self, path: &str, is_repeated: &mut bool) -> Result<Answer, String> {
        if let Some(mut open) = self.requests.take()
            && open.ready().await.is_ok()
        {
            if let Ok(response) = open.send_request(request(path)).await {
                return self.finish(open, response).await;
            }
            *is_repeated = true;
        }
        let mut open = Self::open(self.address).await?.requests.expect("just opened");
        let response = open.send_request(request(path)).await.map_err(|error| format!("request: {error}"))?;
        self.finish(open, response).await
    }

    async fn finish(
        &mut self,
        open: SendRequest<Empty<Bytes>>,
        response: http::Response<hyper::body::Incoming>,
    ) -> Result<Answer, String> {
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| format!("answer: {error}"))?.to_bytes();
        self.requests = Some(open);
        let cache_status = head.headers.get("cache-status").and_then(|value| value.to_str().ok());
        let cache_status = cache_status.unwrap_or_default().to_owned();
        if head.status != http::StatusCode::OK {
            return Err(format!("{} {cache_status} {}", head.status, String::from_utf8_lossy(&body)));
        }
        let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
        Ok(Answer { cache_status, body: serde_json::from_slice(&body).unwrap_or_else(|_| text()) })
    }
}

fn request(path: &str) -> Request<Empty<Bytes>> {
    Request::get(path).header("host", "shop").body(Empty::new()).expect("a request")
}

/// A figure of a sidecar for each value of its one label, from its metrics.
pub async fn figures(sidecar: SocketAddr, name: &str, label: &str) -> Result<Vec<(String, u64)>, String> {
    let metrics = Connected::to(SocketAddr::new(sidecar.ip(), ADMIN)).get("/metrics").await.answer?.body;
    let start = format!("cachedservice_sidecar_{name}{{{label}=\"");
    let lines = metrics.as_str().expect("text").lines().filter_map(|line| line.strip_prefix(&start));
    let figures = lines.map(|line| {
        let (value, figure) = line.split_once("\"} ").expect("a label and a figure");
        (value.to_owned(), figure.parse().expect("a number"))
    });
    Ok(figures.collect())
}

/// Clients that ask on and on until they are told to stop.
pub struct Traffic {
    addresses: Arc<Mutex<Vec<SocketAddr>>>,
    /// How many requests were begun.
    numbers: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    clients: JoinSet<Vec<Sample>>,
}

impl Traffic {
    /// So many clients, each of which asks all addresses in turn. The path comes from the number of the request.
    pub fn start(
        addresses: &[SocketAddr],
        clients: usize,
        path: impl Fn(usize) -> String + Clone + Send + 'static,
    ) -> Self {
        let addresses = Arc::new(Mutex::new(addresses.to_vec()));
        let is_over = Arc::new(AtomicBool::new(false));
        let numbers = Arc::new(AtomicUsize::new(0));
        let clients = (0..clients)
            .map(|first| {
                let path = path.clone();
                let (addresses, is_over, numbers) = (addresses.clone(), is_over.clone(), numbers.clone());
                async move {
                    let mut links: Vec<Connected> = Vec::new();
                    let mut samples = Vec::new();
                    for turn in first.. {
                        if is_over.load(Ordering::Relaxed) {
                            break;
                        }
                        let address = {
                            let addresses = addresses.lock().expect("no panic");
                            addresses[turn % addresses.len()]
                        };
                        let path = path(numbers.fetch_add(1, Ordering::Relaxed));
                        let at = links.iter().position(|link| link.address == address).unwrap_or_else(|| {
                            links.push(Connected::to(address));
                            links.len() - 1
                        });
                        samples.push(links[at].get(&path).await);
                        tokio::time::sleep(PAUSE).await;
                    }
                    samples
                }
            })
            .collect();
        Self { addresses, numbers, is_over, clients }
    }

    /// From now on these are asked.
    pub fn ask(&self, addresses: &[SocketAddr]) {
        *self.addresses.lock().expect("no panic") = addresses.to_vec();
    }

    /// Waits until so many more requests were begun.
    #[track_caller]
    pub fn until_asked(&self, more: usize) -> impl Future<Output = ()> {
        let (numbers, wanted) = (self.numbers.clone(), self.numbers.load(Ordering::Relaxed) + more);
        until(2 * LIMIT, async move || {
            let now = numbers.load(Ordering::Relaxed);
            if now >= wanted { Ok(()) } else { Err(format!("{now} of {wanted} requests")) }
        })
    }

    /// All that was asked, once each client has its last answer.
    pub async fn end(self) -> Samples {
        self.is_over.store(true, Ordering::Relaxed);
        let of_all = timeout(2 * LIMIT, self.clients.join_all()).await.expect("clients end");
        Samples(of_all.into_iter().flatten().collect())
    }
}

/// What came of some traffic.
pub struct Samples(pub Vec<Sample>);

impl Samples {
    /// Nothing failed, no connection ended in the middle of something, and there was enough.
    #[track_caller]
    pub fn assert_all_answered(&self, at_least: usize) {
        let failed: Vec<_> = self.0.iter().filter(|sample| sample.answer.is_err()).collect();
        assert!(failed.is_empty(), "{} of {} failed: {:#?}", failed.len(), self.0.len(), failed.first());
        assert_eq!(self.repeated(), 0, "connections have ended before an answer");
        assert!(self.0.len() >= at_least, "{} requests are too few to tell", self.0.len());
    }

    /// How many were sent once more.
    pub fn repeated(&self) -> usize {
        self.0.iter().filter(|sample| sample.is_repeated).count()
    }

    /// Those that were answered.
    pub fn answers(&self) -> impl Iterator<Item = (&Sample, &Answer)> {
        self.0.iter().filter_map(|sample| Some((sample, sample.answer.as_ref().ok()?)))
    }

    /// The time that this part of the requests stayed within.
    pub fn quantile(&self, part: f64) -> Duration {
        let mut times: Vec<_> = self.0.iter().map(|sample| sample.took).collect();
        times.sort_unstable();
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let index = (part * (times.len() - 1) as f64).round() as usize;
        times[index]
    }
}
