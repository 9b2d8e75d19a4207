//! ConfigMaps and Secrets that applications refer to: one small task follows each,
//! for all CachedServices that refer to it. It sees their metadata only, and reads
//! the object when that changes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, hash_map::Entry},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, future};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Client,
    core::PartialObjectMeta,
    runtime::{WatchStreamExt, reflector::ObjectRef, watcher},
};
use parking_lot::Mutex;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    digest::hex,
    error::{self, in_words},
    interruptions::Pauses,
    plan::{Content, Reference, ReferenceKind},
    triggers::Triggers,
    watched::Child,
};
use crate::{api::CachedService, telemetry::Metrics};

/// How long the first read of an object may take before it counts as one that cannot be read.
const PATIENCE: Duration = Duration::from_secs(3);
/// What changes within this time rolls once.
const SETTLING: Duration = Duration::from_secs(1);
/// When an object that could not be read is tried again.
const RETRY: Duration = Duration::from_secs(5);

type Users = Arc<Mutex<HashSet<ObjectRef<CachedService>>>>;

/// What applications refer to.
pub struct References {
    client: Client,
    triggers: Triggers,
    metrics: Metrics,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By namespace and reference.
    followed: HashMap<(String, Reference), Followed>,
    /// What each CachedService refers to.
    wanted: HashMap<ObjectRef<CachedService>, BTreeSet<Reference>>,
}

struct Followed {
    users: Users,
    content: watch::Receiver<Content>,
    task: JoinHandle<()>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl References {
    /// Follows nothing yet.
    #[must_use]
    pub fn new(client: Client, triggers: Triggers, metrics: Metrics) -> Self {
        Self { client, triggers, metrics, state: Mutex::default() }
    }

    /// What these objects hold; from now on they, and no others, are followed for this CachedService.
    pub async fn contents(
        &self,
        service: &ObjectRef<CachedService>,
        wanted: BTreeSet<Reference>,
    ) -> BTreeMap<Reference, Content> {
        let reads = self.follow(service, wanted).into_iter().map(|(reference, mut receiver)| async move {
            // The first read takes milliseconds; without it pods would start with what is not noted.
            let read = receiver.wait_for(|content| *content != Content::Unknown).await;
            let content = read.map_or(Content::Unknown, |content| content.clone());
            (reference, content)
        });
        future::join_all(reads).await.into_iter().collect()
    }

    /// Stops following what this CachedService refers to.
    pub fn forget(&self, service: &ObjectRef<CachedService>) {
        self.follow(service, BTreeSet::new());
    }

    fn follow(
        &self,
        service: &ObjectRef<CachedService>,
        wanted: BTreeSet<Reference>,
    ) -> Vec<(Reference, watch::Receiver<Content>)> {
        let namespace = service.namespace.clone().unwrap_or_default();
        let mut state = self.state.lock();
        let State { followed, wanted: all } = &mut *state;
        let before = all.remove(service).unwrap_or_default();
        for gone in before.difference(&wanted) {
            if let Entry::Occupied(entry) = followed.entry((namespace.clone(), gone.clone())) {
                let mut users = entry.get().users.lock();
                users.remove(service);
                let is_last = users.is_empty();
                drop(users);
                if is_last {
                    entry.remove();
                }
            }
        }
        let receivers = wanted
            .iter()
            .map(|reference| {
                let followed = followed
                    .entry((namespace.clone(), reference.clone()))
                    .or_insert_with(|| self.start(&namespace, reference));
                followed.users.lock().insert(service.clone());
                (reference.clone(), followed.content.clone())
            })
            .collect();
        if !wanted.is_empty() {
            all.insert(service.clone(), wanted);
        }
        self.metrics.set_references_followed(followed.len());
        receivers
    }

    fn start(&self, namespace: &str, reference: &Reference) -> Followed {
        let (sender, content) = watch::channel(Content::Unknown);
        let users = Users::default();
        let follower = Follower {
            reference: reference.clone(),
            content: sender,
            users: users.clone(),
            triggers: self.triggers.clone(),
        };
        let (client, namespace) = (self.client.clone(), namespace.to_owned());
        let task = match reference.kind {
            ReferenceKind::ConfigMap => {
                let digest = |map: &ConfigMap| digest(&(&map.data, &map.binary_data));
                tokio::spawn(follower.follow(client, namespace, digest))
            }
            ReferenceKind::Secret => {
                let digest = |secret: &Secret| digest(&secret.data);
                tokio::spawn(follower.follow(client, namespace, digest))
            }
        };
        Followed { users, content, task }
    }
}

struct Follower {
    reference: Reference,
    content: watch::Sender<Content>,
    users: Users,
    triggers: Triggers,
}

impl Follower {
    async fn follow<K: Child>(self, client: Client, namespace: String, digest: fn(&K) -> String) {
        let api: Api<K> = Api::namespaced(client.clone(), &namespace);
        let metadata: Api<PartialObjectMeta<K>> = Api::namespaced(client, &namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={}", self.reference.name));
        let mut events = pin!(watcher(metadata, config).backoff(Pauses::default()));
        let mut overdue = pin!(sleep(PATIENCE));
        let mut is_listed = false;
        // When the object is to be read.
        let mut due: Option<Instant> = None;
        loop {
            let reading = async move {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => future::pending().await,
                }
            };
            let event = tokio::select! {
                event = events.next() => event,
                () = &mut overdue, if !overdue.is_elapsed() => {
                    if *self.content.borrow() == Content::Unknown {
                        self.tell_unread(no_answer(), false);
                    }
                    continue;
                }
                () = reading => {
                    due = self.read(&api, digest).await.err().map(|_: Unread| Instant::now() + RETRY);
                    continue;
                }
            };
            match event {
                None => return,
                Some(Ok(watcher::Event::Init)) => is_listed = false,
                Some(Ok(watcher::Event::InitApply(_))) => is_listed = true,
                Some(Ok(watcher::Event::InitDone)) if is_listed => due = Some(Instant::now()),
                Some(Ok(watcher::Event::Apply(_))) => {
                    due.get_or_insert_with(|| Instant::now() + SETTLING);
                }
                Some(Ok(watcher::Event::InitDone | watcher::Event::Delete(_))) => {
                    due = None;
                    self.tell(Content::Absent);
                }
                Some(Err(error)) => {
                    tracing::warn!(reference = %self.reference, %error, "watch interrupted; starting it again");
                    // A watch that works again shows in nothing while nothing happens: what counts is
                    // whether the object can be read.
                    let is_known = *self.content.borrow() != Content::Unknown;
                    due.get_or_insert_with(|| Instant::now() + if is_known { RETRY } else { Duration::ZERO });
                }
            }
        }
    }

    async fn read<K: Child>(&self, api: &Api<K>, digest: fn(&K) -> String) -> Result<(), Unread> {
        // Somebody's turn waits for it.
        let Ok(answer) = timeout(PATIENCE, api.get_opt(&self.reference.name)).await else {
            self.tell_unread(no_answer(), false);
            return Err(Unread);
        };
        match answer {
            Ok(object) => {
                self.tell(object.map_or(Content::Absent, |object| Content::Digest(digest(&object))));
                Ok(())
            }
            Err(error) => {
                tracing::warn!(reference = %self.reference, %error, "cannot read what an application refers to; trying again");
                self.tell_unread(in_words(&error), error::is_forbidden(&error));
                Err(Unread)
            }
        }
    }

    /// What was read before stays while it may be read again by itself.
    fn tell_unread(&self, words: String, lasts: bool) {
        let is_read = matches!(*self.content.borrow(), Content::Absent | Content::Digest(_));
        if lasts || !is_read {
            self.tell(Content::Unreadable(words));
        }
    }

    fn tell(&self, content: Content) {
        let changed = self.content.send_if_modified(|known| {
            let changed = *known != content;
            *known = content;
            changed
        });
        if changed {
            for service in self.users.lock().iter() {
                self.triggers.send(service.clone());
            }
        }
    }
}

fn no_answer() -> String {
    format!("no answer within {} s", PATIENCE.as_secs())
}

/// The object could not be read.
struct Unread;

/// Of data, of which nothing can be told from it but whether it is the same.
fn digest<D: Serialize>(data: &D) -> String {
    // Maps of text and bytes can be written as JSON.
    hex(&Sha256::digest(serde_json::to_vec(data).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response, StatusCode};
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;
    use crate::operator::store::store;

    /// An API server with one ConfigMap, of which nobody may watch.
    fn client(data: Arc<Mutex<&'static str>>) -> Client {
        let answer = move |request: &Request<Body>| -> (StatusCode, Value) {
            let metadata = json!({ "name": "settings", "namespace": "n", "resourceVersion": "1" });
            let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
            if query.contains("watch=true") {
                let status =
                    json!({ "kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403 });
                (StatusCode::FORBIDDEN, status)
            } else if path.ends_with("/settings") {
                (StatusCode::OK, json!({ "metadata": metadata, "data": { "a": *data.lock() } }))
            } else {
                (
                    StatusCode::OK,
                    json!({ "metadata": { "resourceVersion": "1" }, "items": [{ "metadata": metadata }] }),
                )
            }
        };
        let service = tower::service_fn(move |request: Request<Body>| {
            let (code, body) = answer(&request);
            let response = Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
            async move { Ok::<_, Infallible>(response.unwrap()) }
        });
        Client::new(service, "n")
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_not_be_watched_is_read_again_and_again() {
        let data = Arc::new(Mutex::new("before"));
        let metrics = Metrics::default();
        let triggers = Triggers::new(store().0, metrics.clone(), 16);
        let references = References::new(client(data.clone()), triggers, metrics);
        let shop = ObjectRef::new("shop").within("n");
        let settings = Reference { kind: ReferenceKind::ConfigMap, name: "settings".to_owned() };
        let read = async || references.contents(&shop, [settings.clone()].into()).await[&settings].clone();
        let before = read().await;
        assert!(matches!(before, Content::Digest(_)), "{before:?}");

        *data.lock() = "after";
        let changed = async {
            loop {
                match read().await {
                    Content::Digest(digest) if Content::Digest(digest.clone()) != before => return,
                    Content::Digest(_) => tokio::time::sleep(Duration::from_secs(1)).await,
                    other => panic!("{other:?}"),
                }
            }
        };
        timeout(Duration::from_mins(1), changed).await.unwrap();
    }
}
