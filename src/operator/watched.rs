//! The objects of one kind as the watch shows them, a moment ahead where the
//! operator itself has just written.

use std::{collections::HashMap, fmt::Debug, sync::Arc, time::Duration};

use k8s_openapi::NamespaceResourceScope;
use kube::{
    Resource, ResourceExt,
    runtime::{reflector::ObjectRef, watcher},
};
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::watch::error::RecvError, time::Instant};

use super::{
    client::REQUEST_TIMEOUT,
    store::{Store, Writer, store},
};

/// How long a written object counts as present before the watch has shown it.
/// Watches lag by milliseconds; what is not shown by then was deleted again.
pub(super) const PROVISIONAL: Duration = Duration::from_secs(5);

/// A kind whose objects live in namespaces, can be read and can be kept.
pub trait Child:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Child for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// The objects of one kind.
pub struct Watched<K: Child> {
    store: Store<K>,
    recent: Mutex<HashMap<ObjectRef<K>, Recent<K>>>,
    gone: Mutex<Gone>,
}

/// The uids of what the watch has shown deleted: the answer to a write of ours may still be on its way.
struct Gone {
    since: HashMap<String, Instant>,
    tidied: Instant,
}

impl Gone {
    fn new() -> Self {
        Self { since: HashMap::new(), tidied: Instant::now() }
    }

    fn add(&mut self, uid: String) {
        let now = Instant::now();
        if now.duration_since(self.tidied) >= REQUEST_TIMEOUT {
            self.since.retain(|_, since| now.duration_since(*since) < REQUEST_TIMEOUT);
            self.tidied = now;
        }
        self.since.insert(uid, now);
    }

    /// Shown again: it had lost its label, which looks the same.
    fn remove(&mut self, uid: Option<&str>) {
        if !self.since.is_empty()
            && let Some(uid) = uid
        {
            self.since.remove(uid);
        }
    }

    fn contains(&self, uid: Option<&str>) -> bool {
        uid.is_some_and(|uid| self.since.contains_key(uid))
    }
}

/// What was written a moment ago.
struct Recent<K> {
    object: Arc<K>,
    /// The object was deleted; another of the name is another.
    deleted: bool,
    since: Instant,
}

/// What is known of a name.
pub enum Found<K> {
    /// The newest state known.
    Known(Arc<K>),
    /// Written by us, not yet shown by the watch.
    Provisional(Arc<K>),
    /// Not among the watched objects: absent, or without our label.
    Unknown,
}

impl<K: Child> Watched<K> {
    /// An empty store and the writer that fills it.
    #[must_use]
    pub fn new() -> (Arc<Self>, Writer<K>) {
        let (store, writer) = store();
        (Arc::new(Self { store, recent: Mutex::default(), gone: Mutex::new(Gone::new()) }), writer)
    }

    /// Waits until the first list is complete.
    ///
    /// # Errors
    /// When the watch has ended.
    pub async fn wait_until_ready(&self) -> Result<(), RecvError> {
        self.store.wait_until_ready().await
    }

    /// What is known of the object `name` in `namespace`.
    pub fn find(&self, namespace: &str, name: &str) -> Found<K> {
        let key = ObjectRef::new(name).within(namespace);
        let stored = self.store.get(&key);
        let recent = self.recent.lock();
        let recent = recent.get(&key).filter(|recent| recent.since.elapsed() < PROVISIONAL);
        match (stored, recent) {
            (Some(stored), Some(recent)) if recent.deleted => {
                if stored.uid() == recent.object.uid() {
                    Found::Unknown
                } else {
                    Found::Known(stored)
                }
            }
            (None, Some(recent)) if recent.deleted => Found::Unknown,
            (Some(stored), Some(recent)) if is_newer(&*recent.object, &*stored) => {
                Found::Known(recent.object.clone())
            }
            (Some(stored), _) => Found::Known(stored),
            (None, Some(recent)) => Found::Provisional(recent.object.clone()),
            (None, None) => Found::Unknown,
        }
    }

    /// Takes note of an object that the API server answered a write with.
    pub fn wrote(&self, object: K) -> Arc<K> {
        let object = Arc::new(object);
        let key = ObjectRef::from_obj(&*object);
        let mut recent = self.recent.lock();
        // The watch may be quicker than the answer, and nothing would end the entry then.
        let is_gone = self.gone.lock().contains(object.meta().uid.as_deref());
        if !is_gone && self.store.get(&key).is_none_or(|stored| is_newer(&*object, &*stored)) {
            recent.insert(key, Recent { object: object.clone(), deleted: false, since: Instant::now() });
        }
        object
    }

    /// Takes note that the API server has deleted an object.
    pub fn deleted(&self, object: &Arc<K>) {
        let key = ObjectRef::from_obj(&**object);
        let mut recent = self.recent.lock();
        // The watch may be quicker than the answer, and nothing would end the entry then.
        if self.store.get(&key).is_some() {
            recent.insert(key, Recent { object: object.clone(), deleted: true, since: Instant::now() });
        }
    }

    /// Forgets what the watch has caught up with. The store has taken the event in before.
    pub fn observe(&self, event: &watcher::Event<K>) {
        let mut recent = self.recent.lock();
        match event {
            watcher::Event::Apply(object) => {
                self.gone.lock().remove(object.meta().uid.as_deref());
                let key = ObjectRef::from_obj(object);
                let is_over = |recent: &Recent<K>| {
                    if recent.deleted {
                        recent.object.uid() != object.uid()
                    } else {
                        !is_newer(&*recent.object, object)
                    }
                };
                if recent.get(&key).is_some_and(is_over) {
                    recent.remove(&key);
                }
            }
            watcher::Event::Delete(object) => {
                let key = ObjectRef::from_obj(object);
                if let Some(uid) = object.uid() {
                    self.gone.lock().add(uid);
                }
                if recent.get(&key).is_some_and(|recent| recent.object.uid() == object.uid()) {
                    recent.remove(&key);
                }
            }
            watcher::Event::InitApply(object) => self.gone.lock().remove(object.meta().uid.as_deref()),
            // The store shows a list when it is complete.
            watcher::Event::Init => {}
            watcher::Event::InitDone => recent.retain(|key, recent| {
                recent.since.elapsed() < PROVISIONAL
                    && self.store.get(key).map_or(!recent.deleted, |stored| {
                        if recent.deleted {
                            recent.object.uid() == stored.uid()
                        } else {
                            is_newer(&*recent.object, &*stored)
                        }
                    })
            }),
        }
    }
}

/// Resource versions of one kind are comparable as numbers
/// (Kubernetes documentation, "Resource Version comparability").
fn is_newer<K: Resource>(left: &K, right: &K) -> bool {
    let version =
        |object: &K| object.meta().resource_version.as_ref().and_then(|text| text.parse::<u64>().ok());
    version(left) > version(right)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::ObjectMeta;

    use super::*;

    fn object(version: &str, uid: &str) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                name: Some("a".to_owned()),
                namespace: Some("n".to_owned()),
                uid: Some(uid.to_owned()),
                resource_version: Some(version.to_owned()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        }
    }

    fn show(watched: &Watched<ConfigMap>, writer: &mut Writer<ConfigMap>, event: &watcher::Event<ConfigMap>) {
        writer.apply_watcher_event(event);
        watched.observe(event);
    }

    fn version(found: Found<ConfigMap>) -> Option<String> {
        match found {
            Found::Known(object) | Found::Provisional(object) => object.metadata.resource_version.clone(),
            Found::Unknown => None,
        }
    }

    #[tokio::test]
    async fn a_write_counts_before_the_watch_shows_it() {
        let (watched, _writer) = Watched::new();
        watched.wrote(object("5", "u"));
        assert!(matches!(watched.find("n", "a"), Found::Provisional(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_the_watch_never_shows_is_forgotten() {
        let (watched, _writer) = Watched::new();
        watched.wrote(object("5", "u"));
        tokio::time::advance(PROVISIONAL).await;
        assert!(matches!(watched.find("n", "a"), Found::Unknown));
    }

    #[tokio::test]
    async fn a_write_is_not_hidden_by_an_older_event() {
        let (watched, mut writer) = Watched::new();
        watched.wrote(object("10", "u"));
        show(&watched, &mut writer, &watcher::Event::Apply(object("9", "u")));
        assert_eq!(version(watched.find("n", "a")).as_deref(), Some("10"));
        show(&watched, &mut writer, &watcher::Event::Apply(object("11", "u")));
        assert_eq!(version(watched.find("n", "a")).as_deref(), Some("11"));
    }

    #[tokio::test]
    async fn a_list_under_way_does_not_hide_what_we_wrote() {
        let (watched, mut writer) = Watched::new();
        watched.wrote(object("10", "u"));
        for event in [watcher::Event::Init, watcher::Event::InitApply(object("10", "u"))] {
            show(&watched, &mut writer, &event);
            assert_eq!(version(watched.find("n", "a")).as_deref(), Some("10"));
        }
        show(&watched, &mut writer, &watcher::Event::InitDone);
        assert_eq!(version(watched.find("n", "a")).as_deref(), Some("10"));
        assert!(watched.recent.lock().is_empty());
    }

    #[tokio::test]
    async fn what_the_watch_showed_before_the_answer_is_not_kept_twice() {
        let (watched, mut writer) = Watched::new();
        show(&watched, &mut writer, &watcher::Event::Apply(object("10", "u")));
        watched.wrote(object("10", "u"));
        assert!(watched.recent.lock().is_empty());
    }

    #[tokio::test]
    async fn what_the_watch_showed_deleted_before_the_answer_is_not_there() {
        let (watched, mut writer) = Watched::new();
        show(&watched, &mut writer, &watcher::Event::Apply(object("10", "u")));
        show(&watched, &mut writer, &watcher::Event::Delete(object("11", "u")));
        watched.wrote(object("10", "u"));
        assert!(matches!(watched.find("n", "a"), Found::Unknown));
        watched.wrote(object("12", "new"));
        assert!(matches!(watched.find("n", "a"), Found::Provisional(_)));
    }

    #[tokio::test]
    async fn what_only_lost_its_label_is_there_again_when_it_is_shown() {
        for shown in [watcher::Event::Apply, watcher::Event::InitApply] {
            let (watched, mut writer) = Watched::new();
            show(&watched, &mut writer, &watcher::Event::Delete(object("11", "u")));
            show(&watched, &mut writer, &shown(object("12", "u")));
            watched.wrote(object("13", "u"));
            assert_eq!(version(watched.find("n", "a")).as_deref(), Some("13"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn deletions_are_forgotten_when_no_answer_comes_any_more() {
        let (watched, mut writer) = Watched::new();
        show(&watched, &mut writer, &watcher::Event::Delete(object("11", "u")));
        tokio::time::advance(REQUEST_TIMEOUT).await;
        show(&watched, &mut writer, &watcher::Event::Delete(object("12", "v")));
        assert_eq!(watched.gone.lock().since.len(), 1);
    }

    #[tokio::test]
    async fn what_we_deleted_is_gone_before_the_watch_shows_it() {
        let (watched, mut writer) = Watched::new();
        show(&watched, &mut writer, &watcher::Event::Apply(object("5", "u")));
        watched.deleted(&Arc::new(object("5", "u")));
        assert!(matches!(watched.find("n", "a"), Found::Unknown));
        // The last change before the deletion may still be on its way.
        show(&watched, &mut writer, &watcher::Event::Apply(object("6", "u")));
        assert!(matches!(watched.find("n", "a"), Found::Unknown));
        show(&watched, &mut writer, &watcher::Event::Delete(object("7", "u")));
        show(&watched, &mut writer, &watcher::Event::Apply(object("8", "new")));
        assert_eq!(version(watched.find("n", "a")).as_deref(), Some("8"));
        assert!(watched.recent.lock().is_empty());
    }

    #[tokio::test]
    async fn a_deletion_ends_what_we_wrote() {
        let (watched, mut writer) = Watched::new();
        watched.wrote(object("5", "u"));
        show(&watched, &mut writer, &watcher::Event::Delete(object("6", "u")));
        assert!(matches!(watched.find("n", "a"), Found::Unknown));
    }

    #[tokio::test]
    async fn the_deletion_of_a_predecessor_does_not_end_what_we_wrote() {
        let (watched, mut writer) = Watched::new();
        watched.wrote(object("7", "new"));
        show(&watched, &mut writer, &watcher::Event::Delete(object("6", "old")));
        assert!(matches!(watched.find("n", "a"), Found::Provisional(_)));
    }
}
