//! Where requests go.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::HOST;
use axum::http::response::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// What to ask for, and whom.
pub(crate) struct Target {
    pub(crate) uri: Uri,
    host: HeaderValue,
    pub(crate) address: (String, u16),
    path: String,
}

impl Target {
    pub(crate) fn from_url(uri: Uri) -> Result<Self, String> {
        let wrong = || format!("{uri} is no URL to send to; write http://HOST[:PORT]/PATH");
        let authority = uri.authority().ok_or_else(wrong)?;
        if uri.scheme_str() != Some("http") || authority.as_str().contains('@') {
            return Err(wrong());
        }
        Ok(Self {
            host: HeaderValue::from_str(authority.as_str()).map_err(|_| wrong())?,
            address: (
                authority.host().trim_matches(['[', ']']).to_owned(),
                authority.port_u16().unwrap_or(80),
            ),
            path: uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
            uri,
        })
    }

    /// The same, but somebody else is asked.
    pub(crate) fn at(uri: Uri, at: &Authority) -> Result<Self, String> {
        let port = at.port_u16().ok_or_else(|| format!("{at} has no port; write HOST:PORT"))?;
        Ok(Self { address: (at.host().trim_matches(['[', ']']).to_owned(), port), ..Self::from_url(uri)? })
    }

    pub(crate) async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let (host, port) = &self.address;
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect((host.as_str(), *port)))
            .await
            .map_err(|_| "connect: timed out".to_owned())?
            .map_err(|e| format!("connect: {e}"))?;
        let (requests, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|e| format!("connect: {e}"))?;
        // Ends by itself once `requests` is dropped. Its errors also reach the
        // request they belong to.
        tokio::spawn(connection);
        Ok(requests)
    }

    /// A GET.
    pub(crate) fn request(&self) -> Result<Request<Full<Bytes>>, String> {
        self.request_with(Bytes::new())
    }

    /// A request with a body, whose method is still to be set.
    pub(crate) fn request_with(&self, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
        Request::get(&self.path)
            .header(HOST, self.host.clone())
            .body(Full::new(body))
            .map_err(|e| format!("request: {e}"))
    }

    /// Sends one request on a connection of its own, and reads the whole answer.
    pub(crate) async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<(Parts, Bytes), String> {
        let exchange = async {
            let answer = self.connect().await?.send_request(request).await;
            let (head, body) = answer.map_err(|e| format!("request: {e}"))?.into_parts();
            let body = body.collect().await.map_err(|e| format!("answer: {e}"))?.to_bytes();
            Ok((head, body))
        };
        timeout(limit, exchange).await.map_err(|_| "no answer in time".to_owned())?
    }
}
