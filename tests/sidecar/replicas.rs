//! Several applications at one port, each on an address of its own, behind one sidecar.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use cachedservice::{
    settings::{
        Balancing, HttpCache,
        balancing::{BreakerLimits, HealthCheck, Mode, RetryBudget},
    },
    sidecar::{
        http::{Front, server::serve},
        upstream::{Origin, Peers, Resolve, Timing, names::Addresses, replica::Figures},
    },
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use crate::peers::{Neighbour, Says, token_file};

/// The address of the pod, as the others know it: there is nobody, as it asks itself on localhost.
pub const POD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 99));

/// What an application does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    /// 200, with its address.
    Answers,
    /// This, with its address.
    Says(StatusCode),
    /// Reads it, and nothing else.
    Hangs,
    /// The first of a connection like that; and ends it with the second.
    AnswersOnce,
    /// Reads it, and ends the connection.
    BreaksOff,
    /// Answers after so long.
    Takes(Duration),
    /// Sends back what it gets, piece by piece, trailers too.
    Echoes,
    /// 200 after all of the body has come, with its length.
    Measures,
}

/// One application.
pub struct App {
    pub address: SocketAddr,
    seen: Arc<Seen>,
    accepting: Mutex<Option<JoinHandle<()>>>,
    reserved: Mutex<Option<TcpSocket>>,
}

struct Seen {
    does: Mutex<Does>,
    got: Mutex<Vec<HeaderMap>>,
    present: AtomicUsize,
    most: AtomicUsize,
    connections: AtomicUsize,
    is_http1_alone: AtomicBool,
}

/// Counts a request for as long as it is with the application.
struct Present<'a>(&'a Seen);

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.present.fetch_sub(1, Ordering::SeqCst);
    }
}

type AppBody = BoxBody<Bytes, hyper::Error>;

pub fn text(text: impl Into<Bytes>) -> AppBody {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

impl Seen {
    async fn answer(&self, request: Request<Incoming>, name: String) -> io::Result<Response<AppBody>> {
        if request.uri().path() == "/healthz" {
            return self.health(name).await;
        }
        self.got.lock().unwrap().push(request.headers().clone());
        let present = self.present.fetch_add(1, Ordering::SeqCst) + 1;
        let _present = Present(self);
        self.most.fetch_max(present, Ordering::SeqCst);
        let does = *self.does.lock().unwrap();
        match does {
            Does::Echoes => {
                let mut answer = Response::new(request.into_body().boxed());
                answer.headers_mut().insert("trailer", "grpc-status".parse().unwrap());
                answer.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
                return Ok(answer);
            }
            Does::Hangs => std::future::pending().await,
            Does::Takes(time) => tokio::time::sleep(time).await,
            _ => {}
        }
        let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        match does {
            Does::BreaksOff => Err(io::Error::other("it breaks off")),
            Does::Measures => Ok(Response::new(text(body.len().to_string()))),
            Does::Says(status) => Ok(Response::builder().status(status).body(text(name)).unwrap()),
            _ => Ok(Response::new(text(name))),
        }
    }

    async fn health(&self, name: String) -> io::Result<Response<AppBody>> {
        let does = *self.does.lock().unwrap();
        match does {
            Does::Hangs => std::future::pending().await,
            Does::BreaksOff => Err(io::Error::other("it breaks off")),
            Does::Says(status) => Ok(Response::builder().status(status).body(text(name)).unwrap()),
            _ => Ok(Response::new(text(name))),
        }
    }
}

impl App {
    /// At an address, where nobody listens yet.
    pub fn on(address: SocketAddr) -> Self {
        let seen = Arc::new(Seen {
            does: Mutex::new(Does::Answers),
            got: Mutex::default(),
            present: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            is_http1_alone: AtomicBool::new(false),
        });
        Self { address, seen, accepting: Mutex::default(), reserved: Mutex::default() }
    }

    pub fn does(&self, does: Does) {
        *self.seen.does.lock().unwrap() = does;
    }

    /// The fields of the requests that it got.
    pub fn got(&self) -> Vec<HeaderMap> {
        self.seen.got.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.seen.got.lock().unwrap().len()
    }

    /// So many it had at once.
    pub fn most(&self) -> usize {
        self.seen.most.load(Ordering::SeqCst)
    }

    /// So many were made to it.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// On new connections.
    pub fn speaks_http1_alone(&self) {
        self.seen.is_http1_alone.store(true, Ordering::SeqCst);
    }

    pub async fn listen(&self) {
        let reserved = self.reserved.lock().unwrap().take();
        let listener = match reserved {
            Some(socket) => socket.listen(1024).unwrap(),
            None => TcpListener::bind(self.address).await.unwrap(),
        };
        self.accept(listener);
    }

    fn accept(&self, listener: TcpListener) {
        let (seen, name) = (self.seen.clone(), self.address.ip().to_string());
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, name) = (seen.clone(), name.clone());
                seen.connections.fetch_add(1, Ordering::SeqCst);
                let is_http1_alone = seen.is_http1_alone.load(Ordering::SeqCst);
                let before = Arc::new(AtomicUsize::new(0));
                let service = service_fn(move |request| {
                    let (seen, name) = (seen.clone(), name.clone());
                    let is_first = before.fetch_add(1, Ordering::SeqCst) == 0;
                    async move {
                        let does = *seen.does.lock().unwrap();
                        match does {
                            Does::AnswersOnce if !is_first => Err(io::Error::other("it is too old")),
                            _ => seen.answer(request, name).await,
                        }
                    }
                });
                connections.spawn(async move {
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let builder = if is_http1_alone { builder.http1_only() } else { builder };
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        *self.accepting.lock().unwrap() = Some(accepting);
    }

    /// Nobody listens any more, and all connections end.
    pub async fn end(&self) {
        self.leave().await;
        // Bound, so that no other test gets the port, and refusing, as it does not listen.
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        // A process that is being started by another test holds what listened until it is another program.
        let began = Instant::now();
        while let Err(error) = socket.bind(self.address) {
            assert!(began.elapsed() < Duration::from_secs(5), "{error}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        *self.reserved.lock().unwrap() = Some(socket);
    }

    /// The same, and the port is for another.
    pub async fn leave(&self) {
        let accepting = self.accepting.lock().unwrap().take();
        if let Some(accepting) = accepting {
            accepting.abort();
            let _ = accepting.await;
        }
    }
}

/// The addresses that are found.
#[derive(Default)]
pub struct Names {
    found: Mutex<Option<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, host: &'a str) -> Addresses<'a> {
        Box::pin(async move {
            assert_eq!(host, "shop-peers.default.svc");
            let found = self.found.lock().unwrap().clone();
            self.asked.fetch_add(1, Ordering::SeqCst);
            found.ok_or_else(|| io::Error::other("no such host"))
        })
    }
}

impl Names {
    /// From now on these are found, or none can be.
    pub async fn are(&self, found: Option<Vec<IpAddr>>) {
        *self.found.lock().unwrap() = found;
        let before = self.asked.load(Ordering::SeqCst);
        // What was being asked may have seen those of before; the one after it may not be taken in yet.
        until("the names are asked for", || self.asked.load(Ordering::SeqCst) >= before + 3).await;
    }
}

/// Applications, and the sidecar of the first.
pub struct Service {
    pub apps: Vec<App>,
    /// The sidecars of all applications but the first.
    pub neighbours: Vec<Neighbour>,
    pub admin_port: u16,
    pub origin: Origin,
    pub names: Arc<Names>,
    pub address: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    _stop: oneshot::Sender<()>,
}

pub const TIMING: Timing = Timing {
    connect: Duration::from_secs(1),
    first_byte: Duration::from_secs(20),
    second_try: Duration::from_millis(100),
    refresh: Duration::from_millis(20),
    proof: Duration::from_millis(20),
};

/// Without checks, and with breakers that stay open for the time of a test.
pub fn balancing() -> Balancing {
    Balancing {
        mode: Mode::RoundRobin,
        peers_host: "shop-peers.default.svc".to_owned(),
        health: None,
        breaker: BreakerLimits { open_ms: 60_000, ..BreakerLimits::default() },
        retries: RetryBudget::default(),
        max_concurrent: u32::MAX,
    }
}

/// Often, for a test.
pub fn checks() -> HealthCheck {
    HealthCheck { interval_ms: 50, timeout_ms: 200, ..HealthCheck::of("/healthz") }
}

impl Service {
    pub async fn of(count: u8, settings: Balancing) -> Self {
        Self::with(count, settings, TIMING).await
    }

    /// So many, which listen and answer.
    pub async fn with(count: u8, settings: Balancing, timing: Timing) -> Self {
        let apps = apps(count).await;
        let port = apps[0].address.port();
        let mut listeners = listeners(count).await;
        let admin_port = listeners.remove(0).local_addr().unwrap().port();
        let neighbour = |listener| Neighbour::on(listener, Says::Proof { port });
        let neighbours = listeners.into_iter().map(neighbour).collect();
        let names = Arc::new(Names::default());
        let found = apps[1..].iter().map(|app| app.address.ip()).chain([POD]).collect();
        *names.found.lock().unwrap() = Some(found);
        let origin = Origin::with(port, timing);
        let service = Self { apps, neighbours, admin_port, names, ..Self::before(origin).await };
        service.follow(settings, Some(token_file()));
        until("the others are found", || service.origin.figures().len() == usize::from(count)).await;
        service
    }

    /// From now on by these settings.
    pub fn follow(&self, settings: Balancing, token_file: Option<PathBuf>) {
        let (resolver, admin_port) = (self.names.clone(), self.admin_port);
        self.origin.balance(Some(Peers { settings, own: vec![POD], resolver, admin_port, token_file }));
    }

    /// One that a test makes itself.
    pub async fn behind(app: SocketAddr) -> Self {
        Self::before(Origin::at(app.port())).await
    }

    async fn before(origin: Origin) -> Self {
        let no_cache = HttpCache { memory: 0, max_object: 0, rules: Vec::new() };
        let front = Front::before(no_cache, origin.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        tokio::spawn(serve(listener, front, stopped, Duration::from_secs(1)));
        let client = Client::builder(TokioExecutor::new()).build_http();
        let (apps, neighbours, names) = (Vec::new(), Vec::new(), Arc::default());
        Self { apps, neighbours, admin_port: 1, origin, names, address, client, _stop: stop }
    }

    /// The status and the text of an answer.
    pub async fn ask(&self, method: Method, body: &'static str) -> (u16, String) {
        let request = Request::builder().method(method).uri(format!("http://{}/", self.address));
        let request = request.body(Full::from(body)).unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(20), self.client.request(request));
        let (parts, body) = answer.await.expect("an answer in time").unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
    }

    pub async fn get(&self) -> (u16, String) {
        self.ask(Method::GET, "").await
    }

    /// How many requests each application got.
    pub fn counts(&self) -> Vec<usize> {
        self.apps.iter().map(App::count).collect()
    }

    /// The figures of the replica with this application.
    pub fn figures(&self, app: usize) -> Figures {
        let address = self.apps[app].address;
        self.origin.figures().into_iter().find(|figures| figures.address == address).expect("it is known")
    }
}

/// At the same port of 127.0.0.1, 127.0.0.2 and so on.
async fn apps(count: u8) -> Vec<App> {
    let start = |listener: TcpListener| {
        let app = App::on(listener.local_addr().unwrap());
        app.accept(listener);
        app
    };
    listeners(count).await.into_iter().map(start).collect()
}

async fn listeners(count: u8) -> Vec<TcpListener> {
    'ports: loop {
        let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = first.local_addr().unwrap().port();
        let mut listeners = vec![first];
        for number in 2..=count {
            match TcpListener::bind((Ipv4Addr::new(127, 0, 0, number), port)).await {
                Ok(listener) => listeners.push(listener),
                // Another has the port there.
                Err(_) => continue 'ports,
            }
        }
        return listeners;
    }
}

/// Waits until something is so.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A body that is sent piece by piece.
pub struct Pieces(mpsc::Receiver<Frame<Bytes>>);

impl Pieces {
    pub fn new() -> (mpsc::Sender<Frame<Bytes>>, Self) {
        let (sender, receiver) = mpsc::channel(1);
        (sender, Self(receiver))
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|frame| frame.map(Ok))
    }
}
