//! Requests to the application of the pod.

use std::{net::IpAddr, time::Duration};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version,
    header::HOST,
    uri::{Authority, PathAndQuery, Scheme},
};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, Error, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

use super::edge::limits::BUFFER;
use crate::sidecar::cache::{
    hop::remove_hop_by_hop,
    surrogate::{CAPABILITY, SURROGATE_CAPABILITY},
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// It is on the same pod.
const CONNECT: Duration = Duration::from_secs(1);
/// Shorter than any server keeps a connection that is not used.
const IDLE: Duration = Duration::from_secs(4);

/// The application, with connections that are used again.
#[derive(Clone)]
pub struct Origin {
    client: Client<HttpConnector, Incoming>,
    bare: Client<HttpConnector, http_body_util::Empty<bytes::Bytes>>,
    authority: Authority,
}

impl Origin {
    /// The application at a port of this pod.
    #[must_use]
    pub fn at(port: u16) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_idle_timeout(IDLE).pool_timer(TokioTimer::new()).set_host(false);
        // What an application sends faster than a client takes it is not kept here.
        builder.http1_max_buf_size(BUFFER);
        let authority = Authority::try_from(format!("127.0.0.1:{port}")).unwrap_or_else(|_| unreachable!());
        Self { client: builder.build(connector.clone()), bare: builder.build(connector), authority }
    }

    /// Passes a request on.
    ///
    /// # Errors
    /// When no answer has come.
    pub async fn pass_on(&self, mut request: Request<Incoming>) -> Result<Response<Incoming>, Error> {
        *request.uri_mut() = self.uri(request.uri().path_and_query());
        *request.version_mut() = Version::HTTP_11;
        self.client.request(request).await
    }

    /// Asks by a GET of these fields.
    ///
    /// # Errors
    /// When no answer has come.
    pub async fn get(&self, target: &PathAndQuery, headers: HeaderMap) -> Result<Response<Incoming>, Error> {
        self.ask(Method::GET, target, headers).await
    }

    /// Asks by a HEAD of these fields.
    ///
    /// # Errors
    /// When no answer has come.
    pub async fn head(&self, target: &PathAndQuery, headers: HeaderMap) -> Result<Response<Incoming>, Error> {
        self.ask(Method::HEAD, target, headers).await
    }

    async fn ask(
        &self,
        method: Method,
        target: &PathAndQuery,
        headers: HeaderMap,
    ) -> Result<Response<Incoming>, Error> {
        let mut request = Request::new(http_body_util::Empty::new());
        *request.method_mut() = method;
        *request.uri_mut() = self.uri(Some(target));
        *request.headers_mut() = headers;
        self.bare.request(request).await
    }

    fn uri(&self, target: Option<&PathAndQuery>) -> Uri {
        let target = target.cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(target);
        // All three parts are there.
        Uri::from_parts(parts).unwrap_or_default()
    }
}

/// Makes the fields of a request what the application is to see of it.
pub fn prepare(headers: &mut HeaderMap, host: &str, scheme: &str, peer: IpAddr) {
    remove_hop_by_hop(headers);
    let set = |headers: &mut HeaderMap, name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(headers, HOST, host);
    // What was there came from whoever is before this pod, and is kept; who that is stands last.
    let before: Vec<&str> =
        headers.get_all(X_FORWARDED_FOR).iter().filter_map(|line| line.to_str().ok()).collect();
    let chain = before.into_iter().chain([peer.to_string().as_str()]).collect::<Vec<_>>().join(", ");
    set(headers, X_FORWARDED_FOR, &chain);
    // What is in the key, and nothing else that a client may have written there.
    set(headers, X_FORWARDED_PROTO, scheme);
    set(headers, X_FORWARDED_HOST, host);
}

/// Fields by which frameworks take another target, host or port for that of the request. They are not
/// in the key, so with them a response that is stored could be another than that which was asked for.
const UNKEYED: [&str; 26] = [
    "forwarded",
    "front-end-https",
    "x-forwarded-path",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-protocol",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-forwarded-uri",
    "x-forwarded-url",
    "x-host",
    "x-http-destinationurl",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-host",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-proxy-url",
    "x-rewrite-uri",
    "x-rewrite-url",
    "x-script-name",
    "x-url-scheme",
];

/// Whether a field is one of those.
#[must_use]
pub fn is_unkeyed(name: &HeaderName) -> bool {
    UNKEYED.contains(&name.as_str())
}

/// Takes those out of a request that may be answered from the cache. Of the caches before it the application
/// sees this one alone: with a capability that a client claims it would make pages that are not for all.
pub fn remove_unkeyed(headers: &mut HeaderMap) {
    for name in UNKEYED {
        headers.remove(name);
    }
    headers.insert(SURROGATE_CAPABILITY, CAPABILITY);
}

/// The scheme that the client used: what stands before this pod tells it.
#[must_use]
pub fn scheme(headers: &HeaderMap) -> &'static str {
    let mut lines = headers.get_all(X_FORWARDED_PROTO).iter();
    match (lines.next().map(HeaderValue::as_bytes), lines.next()) {
        (Some(b"https"), None) => "https",
        _ => "http",
    }
}
