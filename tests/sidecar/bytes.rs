//! An application that records each byte it gets, behind the sidecar, and a client that sends bytes.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use cachedservice::{
    settings::HttpCache,
    sidecar::http::{Front, server::serve},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::timeout,
};

use crate::application::settings;

/// Whatever is waited for comes within this, or the test fails.
pub const SOON: Duration = Duration::from_secs(20);

/// What an application has got, over all its connections.
#[derive(Clone, Default)]
pub struct Record(Arc<Mutex<Vec<u8>>>);

impl Record {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// Reads from a connection until what it got there ends so; None if the connection ends before.
    pub async fn until(&self, stream: &mut TcpStream, end: &str) -> Option<Vec<u8>> {
        let mut got = Vec::new();
        while !got.ends_with(end.as_bytes()) {
            let mut byte = [0];
            if stream.read(&mut byte).await.ok()? == 0 {
                return None;
            }
            got.push(byte[0]);
            self.0.lock().unwrap().push(byte[0]);
        }
        Some(got)
    }
}

/// The sidecar in front of an application of bytes.
pub struct Wired {
    pub address: SocketAddr,
    pub record: Record,
    pub front: Arc<Front>,
    stop: oneshot::Sender<()>,
}

impl Wired {
    /// `serve_one` has each connection of the application.
    pub async fn start<F>(serve_one: impl Fn(TcpStream, Record) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start_with(settings(), serve_one).await
    }

    /// The same with other settings.
    pub async fn start_with<F>(
        settings: HttpCache,
        serve_one: impl Fn(TcpStream, Record) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let record = Record::default();
        let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = app.local_addr().unwrap().port();
        let recorded = record.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = app.accept().await {
                tokio::spawn(serve_one(stream, recorded.clone()));
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            let _ = stopped.await;
        };
        let front = Front::new(settings, port);
        tokio::spawn(serve(listener, front.clone(), stopped, Duration::from_secs(1)));
        Self { address, record, front, stop }
    }

    /// What SIGTERM does: nothing new is taken, and what has come is answered.
    pub fn end(self) -> Record {
        self.front.drain();
        let _ = self.stop.send(());
        self.record
    }

    /// An application that takes the body and answers `ok`.
    pub async fn answering() -> Self {
        Self::start(answer_all).await
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends these bytes, and nothing more; what comes back until the end of the connection.
    pub async fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        // It may have been refused before all is sent.
        let _ = stream.write_all(bytes.as_ref()).await;
        rest(&mut stream).await
    }
}

/// All that comes until the end of the connection.
pub async fn rest(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let read = timeout(SOON, stream.read_to_end(&mut all)).await.expect("an end in time");
    if let Err(error) = read {
        all.extend_from_slice(format!("<{error}>").as_bytes());
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// What comes until it ends so.
pub async fn until(stream: &mut TcpStream, end: &str) -> String {
    let read = async { Record::default().until(stream, end).await };
    let got = timeout(SOON, read).await.expect("it in time").expect("no end before it");
    String::from_utf8(got).unwrap()
}

/// Answers each request when its body is there, as long as the connection lasts.
pub async fn answer_all(mut stream: TcpStream, record: Record) {
    while let Some(head) = record.until(&mut stream, "\r\n\r\n").await {
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        if head.contains("transfer-encoding: chunked") {
            if record.until(&mut stream, "0\r\n\r\n").await.is_none() {
                return;
            }
        } else if let Some(length) = length.and_then(|length| length.parse().ok()) {
            let mut body = vec![0; length];
            if stream.read_exact(&mut body).await.is_err() {
                return;
            }
            record.0.lock().unwrap().extend_from_slice(&body);
        }
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
            return;
        }
    }
}
