//! A Redis that speaks TLS alone.

use std::{path::PathBuf, process::Command, sync::Arc, time::Duration};

use cachedservice::sidecar::near_cache::{
    connect::{Identity, Protocol, Refused, Upstream},
    near::Near,
    server::{Bounds, Relay, listen},
};
use redis::{TlsCertificates, aio::MultiplexedConnection};
use tokio_rustls::rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::{PASSWORD, Pod, run, settings, until};
use crate::{
    near_cache::Client,
    redis_server::{Redis, free_port},
};

const LIMIT: Duration = Duration::from_secs(2);

/// A Redis with a certificate for `localhost` that nobody has issued but itself.
struct Stage {
    server: Redis,
    folder: PathBuf,
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Stage {
    fn begin() -> Self {
        let port = free_port();
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("encrypted-{port}"));
        std::fs::create_dir_all(&folder).unwrap();
        let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let (key, certificate) = (file("key"), file("certificate"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
            .args(["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", &key, "-out", &certificate])
            .output()
            .expect("run openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let tls =
            ["--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-ca-cert-file", &certificate];
        let ports = ["--port", "0", "--tls-port", &port.to_string(), "--tls-auth-clients", "no"];
        let server = Redis::with(port, &[&tls[..], &ports, &["--requirepass", PASSWORD]].concat());
        Self { server, folder }
    }

    /// The way to it by a name that its certificate has, or has not.
    fn upstream(&self, scheme: &str, host: &str) -> Upstream {
        let url_file = self.url_file(scheme, host);
        Upstream::to(&url_file, LIMIT)
    }

    fn url_file(&self, scheme: &str, host: &str) -> PathBuf {
        let url_file = self.folder.join(format!("url-{scheme}-{host}"));
        let (password, port) = (PASSWORD.replace('@', "%40"), self.server.port);
        std::fs::write(&url_file, format!("{scheme}://:{password}@{host}:{port}/0\n")).unwrap();
        url_file
    }

    fn certificate(&self) -> Vec<u8> {
        std::fs::read(self.folder.join("certificate")).unwrap()
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&self.certificate()).unwrap()).unwrap();
        roots
    }

    /// Somebody else.
    async fn client(&self) -> MultiplexedConnection {
        let url = std::fs::read_to_string(self.url_file("rediss", "localhost")).unwrap();
        let certificates = TlsCertificates { client_tls: None, root_cert: Some(self.certificate()) };
        let client = redis::Client::build_with_tls(url.trim(), certificates).unwrap();
        until("Redis", async || client.get_multiplexed_async_connection().await.ok()).await
    }
}

#[tokio::test]
async fn a_redis_that_speaks_tls_fills_the_memory_and_tells_what_changes() {
    let stage = Stage::begin();
    let other = stage.client().await;
    let upstream = Arc::new(stage.upstream("rediss", "localhost").trusting(stage.roots()));
    let opened = upstream.open(&Identity::Own, 3, Protocol::Three).await.unwrap();
    assert!(opened.greeting.starts_with(b"%"), "{:?}", opened.greeting);
    let pod = Pod::of(Near::start(&settings(), upstream));
    let large = "x".repeat(60_000);
    for text in ["one", "two", &large] {
        let _: () = run(&other, &format!("SET a {text}")).await;
        pod.gone("GET a").await;
        let reply = format!("${}\r\n{text}\r\n", text.len());
        assert_eq!(pod.fill("GET a").await, reply);
        assert_eq!(pod.hit("GET a"), Some(reply));
    }
}

/// What a client is told by a relay that has this URL of Redis.
async fn told(stage: &Stage, scheme: &str, host: &str) -> String {
    let listener = listen(0).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut settings = settings();
    settings.pool.connect_timeout_ms = 1000;
    let relay = Relay::to(&stage.url_file(scheme, host), &settings, Bounds::default());
    let serving = tokio::spawn(relay.serve(listener));
    let told = Client::at(port).await.unwrap().ask(&["GET", "a"]).await;
    serving.abort();
    told
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_told_as_such() {
    let stage = Stage::begin();
    stage.client().await;
    let untrusted = told(&stage, "rediss", "localhost").await;
    let beginning = "-ERR Redis is not reached: its certificate is not trusted (";
    assert!(untrusted.starts_with(beginning) && untrusted.contains("UnknownIssuer"), "{untrusted}");
    assert!(
        untrusted.ends_with("for localhost, and issued by an authority that Mozilla trusts\r\n"),
        "{untrusted}"
    );
    let by_address = stage.upstream("rediss", "127.0.0.1").trusting(stage.roots());
    let refused = by_address.open(&Identity::Own, 0, Protocol::Two).await.unwrap_err();
    let Refused::Unreachable(reason) = refused else { panic!("{refused}") };
    assert!(reason.contains("it has to be valid now, for 127.0.0.1,"), "{reason}");
}

#[tokio::test]
async fn a_redis_that_speaks_no_tls_where_the_url_says_so_is_told_as_such() {
    let mut stage = Stage::begin();
    stage.server = Redis::start(free_port(), PASSWORD);
    until("Redis", async || Client::at(stage.server.port).await.ok()).await;
    let silent = told(&stage, "rediss", "localhost").await;
    assert!(silent.ends_with("no connection within 1s; does it speak TLS at this port?\r\n"), "{silent}");
}
