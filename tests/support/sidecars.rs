//! Plays the sidecars of an application's pods: each is a small server on an address of its own.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    time::Instant,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use cachedservice::{
    api::names::{APP, COMPONENT_LABEL, SIDECAR_ADMIN_PORT, SIDECAR_CONTAINER},
    settings::{deletions::Deletion, purges::PurgeRecord},
};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use super::{Kubelet, Sandbox, kubelet::ready};

/// What a sidecar does with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It acknowledges it.
    Acknowledges,
    /// It does not answer.
    Hangs,
    /// It does not know the token.
    Refuses,
    /// It is not that of the pod, which has had the address before.
    IsAnothers,
    /// It acknowledges, and has done a purge of this number before.
    HasDone(u64),
}

/// The sidecars of the pods of a namespace, as they come. All end when it is dropped.
#[derive(Clone)]
pub struct Sidecars(Arc<Fleet>);

struct Fleet {
    /// The first two numbers after 127 of all addresses.
    net: [u8; 2],
    pods: Mutex<HashMap<String, Sidecar>>,
    /// What those do that come.
    manner: Mutex<Manner>,
    /// What those tell that come.
    told: Mutex<Value>,
}

struct Sidecar {
    address: SocketAddr,
    state: Arc<SidecarState>,
    server: JoinHandle<()>,
}

struct SidecarState {
    pod: String,
    uid: String,
    manner: Mutex<Manner>,
    got: Mutex<Vec<(String, PurgeRecord)>>,
    /// Orders to delete keys in Redis.
    deletions: Mutex<Vec<Deletion>>,
    told: Mutex<Value>,
    /// The tokens of those who asked what it tells, and when.
    reads: Mutex<Vec<(String, Instant)>>,
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Sidecars {
    /// None yet; those that come do this.
    pub fn that(manner: Manner) -> Self {
        static FLEETS: AtomicU8 = AtomicU8::new(1);
        let [.., low] = std::process::id().to_be_bytes();
        let net = [128 | low, FLEETS.fetch_add(1, Ordering::Relaxed)];
        Self(Arc::new(Fleet {
            net,
            pods: Mutex::default(),
            manner: Mutex::new(manner),
            told: Mutex::new(json!({})),
        }))
    }

    /// A kubelet that gives each pod of the application a sidecar.
    pub fn kubelet(&self, sandbox: &Sandbox) -> Kubelet {
        let sidecars = self.clone();
        let runtime = tokio::runtime::Handle::current();
        Kubelet::on_a_node(sandbox, move |pod| {
            let mut status = ready(pod);
            if pod.labels().get(COMPONENT_LABEL).is_some_and(|of| of == APP) {
                let address = sidecars.address(pod, &runtime);
                status["podIP"] = json!(address.ip());
                status["podIPs"] = json!([{ "ip": address.ip() }]);
                if has_sidecar(pod) {
                    status["initContainerStatuses"] = json!([{
                        "name": SIDECAR_CONTAINER, "image": "", "imageID": "", "ready": true,
                        "started": true, "restartCount": 0, "state": { "running": {} },
                    }]);
                }
            }
            Some(status)
        })
    }

    fn address(&self, pod: &Pod, runtime: &tokio::runtime::Handle) -> SocketAddr {
        let mut pods = self.0.pods.lock().unwrap();
        let number = u8::try_from(pods.len() + 1).expect("few pods");
        let manner = *self.0.manner.lock().unwrap();
        let sidecar = pods.entry(pod.name_any()).or_insert_with(|| {
            let [a, b] = self.0.net;
            let port = u16::try_from(SIDECAR_ADMIN_PORT).unwrap();
            let address = SocketAddr::from((Ipv4Addr::new(127, a, b, number), port));
            let state = Arc::new(SidecarState {
                pod: pod.name_any(),
                uid: pod.uid().unwrap(),
                manner: Mutex::new(manner),
                got: Mutex::default(),
                deletions: Mutex::default(),
                told: Mutex::new(self.0.told.lock().unwrap().clone()),
                reads: Mutex::default(),
            });
            let listener = std::net::TcpListener::bind(address).expect("an address of its own");
            listener.set_nonblocking(true).unwrap();
            let router = Router::new()
                .route("/purges", post(purges))
                .route("/deletions", post(deletions))
                .route("/status", get(status))
                .with_state(state.clone());
            let server = runtime.spawn(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                axum::serve(listener, router).await.unwrap();
            });
            Sidecar { address, state, server }
        });
        sidecar.address
    }

    /// From here on the sidecar of this pod does this.
    pub fn set(&self, pod: &str, manner: Manner) {
        let pods = self.0.pods.lock().unwrap();
        *pods[pod].state.manner.lock().unwrap() = manner;
    }

    /// From here on all do this, also those that come.
    pub fn set_all(&self, manner: Manner) {
        *self.0.manner.lock().unwrap() = manner;
        for sidecar in self.0.pods.lock().unwrap().values() {
            *sidecar.state.manner.lock().unwrap() = manner;
        }
    }

    /// From here on the sidecar of this pod tells this.
    pub fn tells(&self, pod: &str, told: Value) {
        *self.0.pods.lock().unwrap()[pod].state.told.lock().unwrap() = told;
    }

    /// From here on all tell this, also those that come.
    pub fn all_tell(&self, told: &Value) {
        self.new_ones_tell(told);
        for sidecar in self.0.pods.lock().unwrap().values() {
            *sidecar.state.told.lock().unwrap() = told.clone();
        }
    }

    /// From here on those that come tell this.
    pub fn new_ones_tell(&self, told: &Value) {
        *self.0.told.lock().unwrap() = told.clone();
    }

    /// Whether the pod has come, with a sidecar that can be asked.
    pub fn has(&self, pod: &str) -> bool {
        self.0.pods.lock().unwrap().contains_key(pod)
    }

    /// When the sidecar of this pod was asked what it tells, and with which token.
    pub fn reads(&self, pod: &str) -> Vec<(String, Instant)> {
        self.0.pods.lock().unwrap()[pod].state.reads.lock().unwrap().clone()
    }

    /// What the sidecar of this pod was handed: tokens and records.
    pub fn got(&self, pod: &str) -> Vec<(String, PurgeRecord)> {
        self.0.pods.lock().unwrap()[pod].state.got.lock().unwrap().clone()
    }
}

impl Sidecars {
    /// What the sidecar of this pod was asked to delete in Redis, and how often.
    pub fn deletions(&self, pod: &str) -> Vec<Deletion> {
        self.0.pods.lock().unwrap()[pod].state.deletions.lock().unwrap().clone()
    }
}

fn has_sidecar(pod: &Pod) -> bool {
    let containers = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    containers.into_iter().any(|container| container.name == SIDECAR_CONTAINER)
}

async fn status(State(state): State<Arc<SidecarState>>, headers: HeaderMap) -> Response {
    let token = headers["authorization"].to_str().unwrap().to_owned();
    state.reads.lock().unwrap().push((token, Instant::now()));
    let manner = *state.manner.lock().unwrap();
    match manner {
        Manner::Acknowledges | Manner::IsAnothers | Manner::HasDone(_) => {
            state.told.lock().unwrap().to_string().into_response()
        }
        Manner::Hangs => std::future::pending().await,
        Manner::Refuses => (StatusCode::UNAUTHORIZED, "another token\n").into_response(),
    }
}

/// The first time that it is asked it goes on, and then it is done.
async fn deletions(State(state): State<Arc<SidecarState>>, body: String) -> Response {
    let order: Deletion = serde_json::from_str(&body).expect("an order");
    let asked = {
        let mut deletions = state.deletions.lock().unwrap();
        deletions.push(order.clone());
        deletions.iter().filter(|asked| **asked == order).count()
    };
    let (pod, uid) = (state.pod.as_str(), state.uid.as_str());
    let manner = *state.manner.lock().unwrap();
    let (pod, uid) = match manner {
        Manner::Acknowledges | Manner::HasDone(_) => (pod, uid),
        Manner::IsAnothers => ("another", "another"),
        Manner::Hangs => std::future::pending().await,
        Manner::Refuses => return (StatusCode::UNAUTHORIZED, "another token\n").into_response(),
    };
    let (deleted, word) = if asked == 1 { (1, "running") } else { (2, "done") };
    let told = json!({ "state": word, "searched": 1000, "deleted": deleted, "pod": pod, "uid": uid });
    told.to_string().into_response()
}

async fn purges(State(state): State<Arc<SidecarState>>, headers: HeaderMap, body: String) -> Response {
    let token = headers["authorization"].to_str().unwrap().to_owned();
    let record = PurgeRecord::parse(&body).expect("a record");
    let last = record.last();
    let before = if let Manner::HasDone(before) = *state.manner.lock().unwrap() { before } else { 0 };
    let unknown = (!record.knows(before) && before < last).then_some(before);
    state.got.lock().unwrap().push((token, record));
    let manner = *state.manner.lock().unwrap();
    match manner {
        Manner::Acknowledges | Manner::HasDone(_) => {
            let answer = json!({
                "epoch": last.max(before), "unknown": unknown, "pod": state.pod, "uid": state.uid,
            });
            answer.to_string().into_response()
        }
        Manner::IsAnothers => {
            Value::to_string(&json!({ "epoch": last, "pod": "another", "uid": "another" })).into_response()
        }
        Manner::Hangs => std::future::pending().await,
        Manner::Refuses => (StatusCode::UNAUTHORIZED, "another token\n").into_response(),
    }
}
