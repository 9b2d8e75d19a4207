//! Objects as the watch shows them, kept small: thousands are held for one that is
//! looked at. What kube's reflector holds as Rust values, a tree of maps for the
//! managed fields alone, is held here as JSON, compressed with another object of
//! the kind as the dictionary: what they have in common is kept once for many.

use std::{collections::HashMap, marker::PhantomData, sync::Arc};

use kube::{
    Resource,
    runtime::{reflector::ObjectRef, watcher::Event},
};
use lz4_flex::block::{compress_with_dict, decompress_with_dict};
use parking_lot::RwLock;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch::{self, error::RecvError};

/// An empty store and the writer that fills it.
#[must_use]
pub fn store<K>() -> (Store<K>, Writer<K>) {
    let (complete, listed) = watch::channel(false);
    let objects = Arc::<RwLock<Objects>>::default();
    let store = Store { objects: objects.clone(), listed, kind: PhantomData };
    let writer =
        Writer { objects, complete, listing: Objects::default(), press: Press::default(), kind: PhantomData };
    (store, writer)
}

/// Reads what its [`Writer`] has written.
pub struct Store<K> {
    objects: Arc<RwLock<Objects>>,
    listed: watch::Receiver<bool>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self { objects: self.objects.clone(), listed: self.listed.clone(), kind: PhantomData }
    }
}

impl<K: Resource<DynamicType = ()> + DeserializeOwned> Store<K> {
    /// The object, if it is there.
    #[must_use]
    pub fn get(&self, reference: &ObjectRef<K>) -> Option<Arc<K>> {
        let objects = self.objects.read();
        let namespace = objects.namespaces.get(reference.namespace.as_deref()?)?;
        let packed = namespace.get(reference.name.as_str())?.clone();
        drop(objects);
        match packed.unpack() {
            Ok(object) => Some(Arc::new(object)),
            Err(error) => {
                // What was read once can be read again.
                tracing::error!(kind = %K::kind(&()), %reference, %error, "what was kept cannot be read");
                None
            }
        }
    }

    /// Where all objects are.
    #[must_use]
    pub fn references(&self) -> Vec<ObjectRef<K>> {
        let objects = self.objects.read();
        let all = objects.namespaces.iter().flat_map(|(namespace, names)| {
            names.keys().map(move |name| ObjectRef::new(name).within(namespace))
        });
        all.collect()
    }

    /// All objects, unpacked one by one.
    pub fn objects(&self) -> impl Iterator<Item = Arc<K>> {
        self.references().into_iter().filter_map(|reference| self.get(&reference))
    }

    /// A number that is another one after each change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.objects.read().version
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.objects.read().namespaces.values().map(HashMap::len).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.read().namespaces.is_empty()
    }

    /// Waits until the first list is complete.
    ///
    /// # Errors
    /// When the watch has ended.
    pub async fn wait_until_ready(&self) -> Result<(), RecvError> {
        self.listed.clone().wait_for(|complete| *complete).await.map(drop)
    }
}

/// Fills a [`Store`].
pub struct Writer<K> {
    objects: Arc<RwLock<Objects>>,
    complete: watch::Sender<bool>,
    /// A list that is under way; it counts when it is complete.
    listing: Objects,
    press: Press,
    kind: PhantomData<fn() -> K>,
}

impl<K: Resource<DynamicType = ()> + Serialize> Writer<K> {
    /// Takes in an event of the watch.
    pub fn apply_watcher_event(&mut self, event: &Event<K>) {
        match event {
            Event::Apply(object) => {
                if let Some(packed) = self.pack(object) {
                    self.objects.write().put(object, packed);
                }
            }
            Event::Delete(object) => self.objects.write().remove(object),
            Event::Init => self.listing = Objects::default(),
            Event::InitApply(object) => {
                if let Some(packed) = self.pack(object) {
                    self.listing.put(object, packed);
                }
            }
            Event::InitDone => {
                let mut objects = self.objects.write();
                objects.namespaces = std::mem::take(&mut self.listing).namespaces;
                objects.version += 1;
                drop(objects);
                self.complete.send_replace(true);
            }
        }
    }

    fn pack(&mut self, object: &K) -> Option<Packed> {
        let packed = serde_json::to_vec(object).map(|json| self.press.pack(&json));
        let name = object.meta().name.as_deref();
        packed
            .inspect_err(|error| {
                // It was read from JSON, and so can be written as such.
                tracing::error!(kind = %K::kind(&()), name, %error, "an object cannot be kept");
            })
            .ok()
    }
}

/// By namespace and name.
#[derive(Default)]
struct Objects {
    namespaces: HashMap<Box<str>, HashMap<Box<str>, Packed>>,
    version: u64,
}

impl Objects {
    fn put(&mut self, object: &impl Resource, packed: Packed) {
        let Some((namespace, name)) = place(object) else { return };
        self.version += 1;
        if !self.namespaces.contains_key(namespace) {
            self.namespaces.insert(namespace.into(), HashMap::new());
        }
        if let Some(names) = self.namespaces.get_mut(namespace) {
            names.insert(name.into(), packed);
        }
    }

    fn remove(&mut self, object: &impl Resource) {
        let Some((namespace, name)) = place(object) else { return };
        self.version += 1;
        let Some(names) = self.namespaces.get_mut(namespace) else { return };
        names.remove(name);
        if names.is_empty() {
            self.namespaces.remove(namespace);
        }
    }
}

fn place(object: &impl Resource) -> Option<(&str, &str)> {
    let meta = object.meta();
    Some((meta.namespace.as_deref()?, meta.name.as_deref()?))
}

/// After so many objects another one becomes the dictionary, as objects change while they come
/// up. A dictionary stays as long as one object needs it, so each has to serve many.
const SERVES: u32 = 256;

/// Packs the objects of one kind.
#[derive(Default)]
struct Press {
    dictionary: Arc<[u8]>,
    served: u32,
}

impl Press {
    fn pack(&mut self, json: &[u8]) -> Packed {
        if self.served == 0 {
            self.dictionary = json.into();
        }
        self.served = (self.served + 1) % SERVES;
        let bytes = compress_with_dict(json, &self.dictionary).into();
        Packed { dictionary: self.dictionary.clone(), bytes, length: json.len() }
    }
}

/// An object as it is kept.
#[derive(Clone)]
struct Packed {
    dictionary: Arc<[u8]>,
    bytes: Arc<[u8]>,
    /// Of the JSON.
    length: usize,
}

impl Packed {
    fn unpack<K: DeserializeOwned>(&self) -> Result<K, Unreadable> {
        let json = decompress_with_dict(&self.bytes, self.length, &self.dictionary)?;
        Ok(serde_json::from_slice(&json)?)
    }
}

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum Unreadable {
    Packing(#[from] lz4_flex::block::DecompressError),
    Json(#[from] serde_json::Error),
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;

    fn object(name: &str, value: &str) -> ConfigMap {
        serde_json::from_value(json!({
            "metadata": { "name": name, "namespace": "n", "labels": { "a-long-label-that-all-have": "yes" } },
            "data": { "key": value },
        }))
        .unwrap()
    }

    fn value(store: &Store<ConfigMap>, name: &str) -> Option<String> {
        store.get(&ObjectRef::new(name).within("n"))?.data.clone()?.remove("key")
    }

    #[test]
    fn what_was_put_in_comes_out_the_same() {
        let (store, mut writer) = store();
        let objects: Vec<ConfigMap> = (0..3 * SERVES)
            .map(|number| object(&format!("c-{number}"), &"x".repeat(number as usize)))
            .collect();
        for object in &objects {
            writer.apply_watcher_event(&Event::Apply(object.clone()));
        }
        assert_eq!((store.len(), store.version()), (objects.len(), u64::from(3 * SERVES)));
        assert_eq!(store.objects().count(), objects.len());
        for object in &objects {
            assert_eq!(store.get(&ObjectRef::from_obj(object)).as_deref(), Some(object));
        }
    }

    #[test]
    fn what_objects_have_in_common_is_kept_once() {
        let mut press = Press::default();
        let json = |name: &str| serde_json::to_vec(&object(name, "v")).unwrap();
        press.pack(&json("first"));
        let (text, packed) = (json("second"), press.pack(&json("second")));
        assert!(packed.bytes.len() * 4 < text.len(), "{} of {} bytes", packed.bytes.len(), text.len());
    }

    #[test]
    fn a_list_counts_when_it_is_complete_and_replaces_what_was_there() {
        let (store, mut writer) = store();
        writer.apply_watcher_event(&Event::Apply(object("old", "1")));
        for event in [Event::Init, Event::InitApply(object("new", "2"))] {
            writer.apply_watcher_event(&event);
            assert_eq!((value(&store, "old").as_deref(), value(&store, "new")), (Some("1"), None));
        }
        writer.apply_watcher_event(&Event::InitDone);
        assert_eq!((value(&store, "old"), value(&store, "new").as_deref()), (None, Some("2")));
        assert_eq!(store.references(), [ObjectRef::new("new").within("n")]);
    }

    #[test]
    fn a_deleted_object_is_gone_and_its_namespace_with_the_last() {
        let (store, mut writer) = store();
        writer.apply_watcher_event(&Event::Apply(object("a", "1")));
        writer.apply_watcher_event(&Event::Delete(object("b", "1")));
        assert_eq!(value(&store, "a").as_deref(), Some("1"));
        writer.apply_watcher_event(&Event::Delete(object("a", "1")));
        assert!(store.is_empty() && store.get(&ObjectRef::new("a").within("n")).is_none());
    }

    #[tokio::test]
    async fn a_store_is_ready_with_the_first_list_and_fails_with_its_writer() {
        let (store, mut writer) = store::<ConfigMap>();
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        assert!(store.wait_until_ready().await.is_ok());
        let (never, writer) = super::store::<ConfigMap>();
        drop(writer);
        assert!(never.wait_until_ready().await.is_err());
    }
}
