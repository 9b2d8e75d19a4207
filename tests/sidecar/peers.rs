//! Who may be asked: whoever is at an address that DNS names, and proves that it is of this service.

use std::{
    convert::Infallible,
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use cachedservice::{
    settings::{Balancing, Settings, VERSION, balancing::Mode},
    sidecar::upstream::{
        Origin, Timing,
        identity::{Card, Key, Question},
    },
};
use http::{HeaderValue, Request, Response};
use http_body_util::{Empty, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    process::{Process, TOKEN},
    replicas::{App, POD, Service, TIMING, balancing, until},
};

/// What a sidecar says when it is asked for a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// That it is of the service, with its application at this port.
    Proof { port: u16 },
    /// The same, and that its pod is on its way out.
    Leaving { port: u16 },
    /// A proof with the token of another service.
    Strange { port: u16 },
    /// What the sidecar at another address has said.
    Passed { by: IpAddr, port: u16 },
    /// As one that knows no such question.
    NotFound,
    /// Nothing.
    Nothing,
}

/// The sidecar of an application, as far as the others ask it.
pub struct Neighbour {
    says: Arc<Mutex<Says>>,
    listening: JoinHandle<()>,
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Neighbour {
    pub fn on(listener: TcpListener, says: Says) -> Self {
        let says = Arc::new(Mutex::new(says));
        let told = says.clone();
        let listening = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let told = told.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let says = *told.lock().unwrap();
                    async move { Ok::<_, Infallible>(answer(&request, says).await) }
                });
                connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { says, listening }
    }

    pub fn says(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }
}

async fn answer(request: &Request<Incoming>, says: Says) -> Response<Full<Bytes>> {
    let question = Question::parse(request.uri().query().unwrap()).unwrap();
    let key = key(TOKEN);
    let card = match says {
        Says::Proof { port } => Card::answering(&question, &key, port, false),
        Says::Leaving { port } => Card::answering(&question, &key, port, true),
        Says::Strange { port } => Card::answering(&question, &self::key("of-another-service"), port, false),
        Says::Passed { by, port } => {
            let query = request.uri().query().unwrap();
            let asked = question.address().to_string();
            let question = Question::parse(&query.replace(&asked, &by.to_string())).unwrap();
            Card::answering(&question, &key, port, false)
        }
        Says::NotFound => {
            return Response::builder().status(404).body(Full::default()).unwrap();
        }
        Says::Nothing => std::future::pending().await,
    };
    Response::new(Full::from(serde_json::to_vec(&card).unwrap()))
}

fn key(token: &str) -> Key {
    Key::of(token.as_bytes()).unwrap()
}

/// The mark of this service's sidecars.
pub fn mark() -> HeaderValue {
    key(TOKEN).mark().unwrap()
}

/// The file with the token of the service.
pub fn token_file() -> PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let name = format!("token-of-peers-{}", std::process::id());
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&file, format!("{TOKEN}\n")).unwrap();
        file
    })
    .clone()
}

#[tokio::test]
async fn whoever_does_not_prove_to_be_of_the_service_gets_no_request() {
    let service = Service::of(3, balancing()).await;
    let port = service.apps[0].address.port();
    let by = service.apps[1].address.ip();
    for says in [
        Says::Strange { port },
        Says::Passed { by, port },
        Says::NotFound,
        Says::Nothing,
        Says::Leaving { port },
    ] {
        service.neighbours[1].says(says);
        until("it is found out", || service.origin.figures().len() == 2).await;
        let before = service.apps[2].count();
        for _ in 0..6 {
            assert_eq!(service.get().await.0, 200);
        }
        assert_eq!(service.apps[2].count(), before, "{says:?}");
        let sight = service.origin.sight().unwrap();
        assert_eq!((sight.named, sight.proven, sight.leaving), (2, 1, usize::from(sight.trouble.is_none())));
        service.neighbours[1].says(Says::Proof { port });
        until("it is a replica again", || service.origin.figures().len() == 3).await;
    }
}

#[tokio::test]
async fn a_sidecar_that_is_silent_for_a_moment_is_a_replica_still() {
    // A round is as long as a sidecar may take, so that one of them is waited for.
    let timing = Timing { proof: Duration::from_secs(1), ..TIMING };
    let service = Service::with(2, balancing(), timing).await;
    service.neighbours[0].says(Says::Nothing);
    let began = std::time::Instant::now();
    until("it is not asked any more", || service.origin.figures().len() == 1).await;
    assert!(began.elapsed() > Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_application_is_asked_at_the_port_that_its_own_sidecar_names() {
    let service = Service::of(2, balancing()).await;
    let other = TcpListener::bind((service.apps[1].address.ip(), 0)).await.unwrap();
    let old = App::on(other.local_addr().unwrap());
    drop(other);
    old.listen().await;
    service.neighbours[0].says(Says::Proof { port: old.address.port() });
    until("its port is known", || service.origin.figures()[1].address == old.address).await;
    for _ in 0..4 {
        assert_eq!(service.get().await.0, 200);
    }
    assert_eq!((service.counts(), old.count()), (vec![2, 0], 2));
}

#[tokio::test]
async fn where_dns_names_nobody_the_others_go_at_once_and_without_an_answer_they_stay() {
    let service = Service::of(3, balancing()).await;
    service.names.are(None).await;
    assert_eq!(service.origin.figures().len(), 3, "those of before are kept for a while");
    until("it is told", || service.origin.sight().unwrap().trouble.is_some()).await;
    service.names.are(Some(Vec::new())).await;
    until("they are gone", || service.origin.figures().len() == 1).await;
}

#[tokio::test]
async fn without_a_token_no_other_is_asked() {
    let service = Service::of(2, balancing()).await;
    let file = token_file().with_extension("absent");
    service.follow(balancing(), Some(file));
    until("nobody is a replica", || service.origin.figures().len() == 1).await;
    let trouble = service.origin.sight().unwrap().trouble.unwrap();
    assert!(trouble.contains("token"), "{trouble}");
    service.follow(balancing(), Some(token_file()));
    until("it is", || service.origin.figures().len() == 2).await;
}

#[tokio::test]
async fn a_token_that_cannot_be_read_for_a_moment_or_changes_takes_no_replica_away() {
    let service = Service::of(2, balancing()).await;
    let file = token_file().with_extension("changing");
    fs::write(&file, TOKEN).unwrap();
    service.follow(balancing(), Some(file.clone()));
    until("it is asked", || service.origin.sight().is_some_and(|sight| sight.proven == 1)).await;
    fs::remove_file(&file).unwrap();
    let trouble = || service.origin.sight().and_then(|sight| sight.trouble);
    until("it is told", || trouble().is_some_and(|trouble| trouble.contains("token"))).await;
    assert_eq!(service.origin.figures().len(), 2);
    // The other has not seen it yet.
    fs::write(&file, "the-next-token-of-the-service").unwrap();
    until("it is read", || trouble().is_none()).await;
    assert_eq!(service.origin.figures().len(), 2);
    for _ in 0..2 {
        assert_eq!(service.get().await.0, 200);
    }
    let got = service.apps[1].got();
    let marks: Vec<_> = got[0].get_all("cachedservice-hop").iter().cloned().collect();
    assert_eq!(marks, [key("the-next-token-of-the-service").mark().unwrap(), mark()], "either knows its own");
    fs::remove_file(&file).unwrap();
}

#[tokio::test]
async fn the_settings_say_where_the_others_prove_who_they_are() {
    let service = Service::of(2, balancing()).await;
    let other = service.apps[1].address;
    let settings = Settings {
        version: VERSION,
        http_port: 1,
        admin_port: service.admin_port,
        app_port: service.apps[0].address.port(),
        drain_seconds: 0,
        token_file: Some(token_file().to_str().unwrap().to_owned()),
        purges_file: None,
        purges_copy: None,
        redis: None,
        http: None,
        application: None,
        balancing: Some(Balancing { peers_host: other.ip().to_string(), ..balancing() }),
        first_byte_ms: None,
        access_log: false,
    };
    let origin = Origin::of(&settings, vec![POD]);
    until("the other is known", || origin.figures().iter().any(|replica| replica.address == other)).await;
    assert!(origin.is_at(POD) && !origin.is_at(other.ip()));
    assert_eq!(origin.own_port(), settings.app_port);
}

#[tokio::test]
async fn what_others_write_into_the_field_of_a_hop_changes_nothing_and_goes_no_further() {
    let service = Service::of(2, Balancing { mode: Mode::RoundRobin, ..balancing() }).await;
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new());
    let client = client.build_http();
    let theirs = key("of-another-service").mark().unwrap();
    for written in [HeaderValue::from_static("1"), theirs, HeaderValue::from_static("")] {
        for _ in 0..2 {
            let request = Request::get(format!("http://{}/", service.address))
                .header("cachedservice-hop", written.clone())
                .body(Empty::<Bytes>::new())
                .unwrap();
            assert_eq!(client.request(request).await.unwrap().status(), 200);
        }
    }
    assert_eq!(service.counts(), [3, 3], "by turns as ever");
    assert!(service.apps[0].got().iter().all(|got| !got.contains_key("cachedservice-hop")));
    assert!(service.apps[1].got().iter().all(|got| got["cachedservice-hop"] == mark()));
}

/// What the sidecar of a process says of itself.
async fn card(process: &Process, question: &Question) -> (u16, Option<Card>) {
    let url = format!("/peer?{}", question.query());
    let answer = process.admin(http::Method::GET, &url, None, "").await.unwrap();
    (answer.status, serde_json::from_str(&answer.body).ok())
}

#[tokio::test]
async fn a_sidecar_proves_who_it_is_at_its_own_addresses_alone_and_says_when_it_leaves() {
    let app: SocketAddr = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let process = Process::start(app.port(), |_| {});
    process.until_readyz(200).await;
    // As Process has it in its environment.
    let question = Question::to(POD, 7);
    let (status, said) = card(&process, &question).await;
    let said = said.unwrap();
    assert!(status == 200 && said.proves(&question, &key(TOKEN)));
    assert_eq!((said.port(), said.is_draining()), (app.port(), false));
    let (status, said) = card(&process, &Question::to("127.0.0.1".parse().unwrap(), 7)).await;
    assert_eq!((status, said), (400, None), "that is no address by which others know this pod");
    process.order("/drain", "").await;
    let (_, said) = card(&process, &question).await;
    let said = said.unwrap();
    assert!(said.is_draining() && said.proves(&question, &key(TOKEN)));
}
