//! An application that answers as a test says, behind a cache.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use cachedservice::{
    settings::{self, HttpCache},
    sidecar::{
        http::{Front, server::serve},
        redis::Orders,
        upstream::Origin,
    },
};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

/// In an answer: the application hangs up.
pub const HANG_UP: &str = "x-hang-up";

/// A request as the application got it.
#[derive(Clone, Debug)]
pub struct Got {
    pub method: Method,
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Got {
    pub fn field(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// An application behind a cache, and a client.
pub struct Pod {
    pub address: SocketAddr,
    pub front: Arc<Front>,
    got: Arc<Mutex<Vec<Got>>>,
    client: Client<HttpConnector, Full<Bytes>>,
    _stop: oneshot::Sender<()>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn field(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub fn settings() -> HttpCache {
    HttpCache { memory: 1 << 20, max_object: 1 << 16, rules: Vec::new() }
}

impl Pod {
    /// Starts both.
    pub async fn start(
        settings: HttpCache,
        answer: impl Fn(&Got) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        let (port, got) = run_application(answer).await;
        Self::before(Front::new(settings, port), got).await
    }

    /// The same, of a service whose replicas share a Redis.
    pub async fn sharing(
        redis: &settings::Redis,
        lookup: Duration,
        answer: impl Fn(&Got) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        let (port, got) = run_application(answer).await;
        let front = Front::sharing(self::settings(), Origin::at(port), redis, lookup, Orders::http());
        Self::before(front, got).await
    }

    async fn before(front: Arc<Front>, got: Arc<Mutex<Vec<Got>>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            let _ = stopped.await;
        };
        tokio::spawn(serve(listener, front.clone(), stopped, Duration::from_secs(1)));
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { address, front, got, client, _stop: stop }
    }

    /// Requests that have reached the application.
    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    pub async fn get(&self, target: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask(Method::GET, target, headers, "").await
    }

    /// Sends these bytes and returns what comes back until the end of the connection.
    pub async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        tokio::time::timeout(Duration::from_secs(20), read).await.expect("an end in time").unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub async fn ask(&self, method: Method, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("http://{}{target}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::from(body.to_owned())).unwrap();
        let response = tokio::time::timeout(Duration::from_secs(20), self.client.request(request));
        let (parts, body) = response.await.expect("an answer in time").unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }
}

/// An application on a port of its own, and the requests that it gets.
pub async fn run_application(
    answer: impl Fn(&Got) -> Response<Bytes> + Send + Sync + 'static,
) -> (u16, Arc<Mutex<Vec<Got>>>) {
    let got = Arc::<Mutex<Vec<Got>>>::default();
    let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = app.local_addr().unwrap().port();
    tokio::spawn(application(app, got.clone(), Arc::new(answer)));
    (port, got)
}

async fn application(
    listener: TcpListener,
    got: Arc<Mutex<Vec<Got>>>,
    answer: Arc<impl Fn(&Got) -> Response<Bytes> + Send + Sync + 'static>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let (got, answer) = (got.clone(), answer.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (got, answer) = (got.clone(), answer.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let asked =
                    Got { method: parts.method, target: parts.uri.to_string(), headers: parts.headers, body };
                got.lock().unwrap().push(asked.clone());
                let answer = answer(&asked);
                // It hangs up in place of an answer.
                if answer.headers().contains_key(HANG_UP) {
                    return Err("hung up".into());
                }
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(answer.map(Full::new))
            }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
