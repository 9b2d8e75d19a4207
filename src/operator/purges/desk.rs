//! The purges as the watch shows them: which are open, and when those that are complete go.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::api::{CachePurge, CachedService};

/// Namespace, CachedService and name of a purge.
pub(super) type Key = (String, String, String);

/// All purges.
#[derive(Default)]
pub(super) struct Desk(Mutex<Purges>);

#[derive(Default)]
struct Purges {
    known: BTreeMap<Key, Known>,
    /// When complete ones go.
    dues: BTreeSet<(Instant, Key)>,
    /// Who works on the open ones of a CachedService.
    workers: HashMap<ObjectRef<CachedService>, Arc<Bell>>,
    /// The UIDs of a list that is not complete yet.
    listing: Option<HashSet<String>>,
}

enum Known {
    Open(Arc<CachePurge>),
    Complete { uid: String, epoch: u64, due: Instant },
}

/// Calls who works for a CachedService.
#[derive(Default)]
pub(super) struct Bell {
    pub(super) rung: Notify,
    /// It waits for something that only the watches of CachedServices and Secrets show.
    pub(super) is_held: AtomicBool,
}

/// The open purges of a CachedService.
pub(super) struct Orders {
    /// In the order in which they were made.
    pub(super) open: Vec<Arc<CachePurge>>,
    /// The greatest number that one of its purges was told with.
    pub(super) greatest: u64,
}

impl Desk {
    /// A purge was made or has changed. The CachedService that nobody works for yet, if it is open.
    pub(super) fn put(&self, purge: CachePurge) -> Option<(ObjectRef<CachedService>, Arc<Bell>)> {
        let key = key(&purge)?;
        let mut guard = self.0.lock();
        let purges = &mut *guard;
        if let (Some(listing), Some(uid)) = (&mut purges.listing, purge.uid()) {
            listing.insert(uid);
        }
        if purge.metadata.deletion_timestamp.is_some() {
            purges.remove(&key);
            return None;
        }
        let status = purge.status.clone().unwrap_or_default();
        if status.is_complete() {
            purges.complete(key, &purge);
            return None;
        }
        let is_same = match purges.known.get(&key) {
            // What was written before it was complete may be shown after that.
            Some(Known::Complete { uid, .. }) if Some(uid) == purge.uid().as_ref() => return None,
            Some(Known::Open(known)) => known.uid() == purge.uid(),
            _ => false,
        };
        let service = service_of(&key);
        purges.remove(&key);
        purges.known.insert(key, Known::Open(Arc::new(purge)));
        if let Some(bell) = purges.workers.get(&service) {
            if !is_same {
                bell.rung.notify_one();
            }
            return None;
        }
        let bell = Arc::<Bell>::default();
        purges.workers.insert(service.clone(), bell.clone());
        Some((service, bell))
    }

    /// A purge is gone.
    pub(super) fn remove(&self, purge: &CachePurge) {
        if let Some(key) = key(purge) {
            self.0.lock().remove(&key);
        }
    }

    /// A list begins.
    pub(super) fn begin_list(&self) {
        self.0.lock().listing = Some(HashSet::new());
    }

    /// A list is complete: what is not in it is gone.
    pub(super) fn end_list(&self) {
        let mut purges = self.0.lock();
        let listed = purges.listing.take().unwrap_or_default();
        let gone: Vec<Key> = purges
            .known
            .iter()
            .filter(|(_, known)| !known.uid().is_some_and(|uid| listed.contains(&uid)))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            purges.remove(&key);
        }
    }

    /// The open purges of a CachedService; if there is none, nobody works for it from here on.
    pub(super) fn take(&self, service: &ObjectRef<CachedService>) -> Option<Orders> {
        let mut purges = self.0.lock();
        let namespace = service.namespace.clone().unwrap_or_default();
        let first = (namespace, service.name.clone(), String::new());
        let of_service = purges.known.range(first..).take_while(|(key, _)| service_of(key) == *service);
        let mut orders = Orders { open: Vec::new(), greatest: 0 };
        for (_, known) in of_service {
            orders.greatest = orders.greatest.max(known.epoch());
            if let Known::Open(purge) = known {
                orders.open.push(purge.clone());
            }
        }
        if orders.open.is_empty() {
            purges.workers.remove(service);
            return None;
        }
        orders.open.sort_by_key(|purge| (purge.creation_timestamp(), purge.name_any()));
        Some(orders)
    }

    /// An open purge was told to be complete. Whether it is still there.
    pub(super) fn complete(&self, purge: &CachePurge) -> bool {
        let Some(key) = key(purge) else { return false };
        let mut purges = self.0.lock();
        let is_there = purges.known.get(&key).is_some_and(|known| known.uid() == purge.uid());
        if is_there {
            purges.complete(key, purge);
        }
        is_there
    }

    /// Calls who waits for a CachedService or its token.
    pub(super) fn look_again(&self, service: &ObjectRef<CachedService>) {
        let purges = self.0.lock();
        if let Some(bell) = purges.workers.get(service)
            && bell.is_held.load(Ordering::Acquire)
        {
            bell.rung.notify_one();
        }
    }

    /// When the next complete one goes.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.0.lock().dues.first().map(|(due, _)| *due)
    }

    /// Those whose time is over, each once.
    pub(super) fn overdue(&self, now: Instant) -> Vec<(Key, String)> {
        let mut purges = self.0.lock();
        let mut overdue = Vec::new();
        while let Some((_, key)) = purges.dues.first().filter(|(due, _)| *due <= now).cloned() {
            purges.dues.pop_first();
            if let Some(uid) = purges.known.get(&key).and_then(Known::uid) {
                overdue.push((key, uid));
            }
        }
        overdue
    }

    /// One that could not be deleted is tried again.
    pub(super) fn postpone(&self, key: &Key, uid: &str, pause: Duration) {
        let mut purges = self.0.lock();
        let later = Instant::now() + pause;
        if let Some(Known::Complete { uid: known, due, .. }) = purges.known.get_mut(key)
            && known == uid
        {
            *due = later;
            purges.dues.insert((later, key.clone()));
        }
    }
}

impl Purges {
    fn remove(&mut self, key: &Key) {
        if let Some(Known::Complete { due, .. }) = self.known.remove(key) {
            self.dues.remove(&(due, key.clone()));
        }
    }

    fn complete(&mut self, key: Key, purge: &CachePurge) {
        self.remove(&key);
        let status = purge.status.clone().unwrap_or_default();
        let due = Instant::now() + time_left(purge, Timestamp::now());
        let (uid, epoch) = (purge.uid().unwrap_or_default(), status.epoch.unwrap_or_default());
        self.dues.insert((due, key.clone()));
        self.known.insert(key, Known::Complete { uid, epoch, due });
    }
}

impl Known {
    fn uid(&self) -> Option<String> {
        match self {
            Self::Open(purge) => purge.uid(),
            Self::Complete { uid, .. } => Some(uid.clone()),
        }
    }

    fn epoch(&self) -> u64 {
        match self {
            Self::Open(purge) => purge.status.as_ref().and_then(|status| status.epoch).unwrap_or_default(),
            Self::Complete { epoch, .. } => *epoch,
        }
    }
}

fn key(purge: &CachePurge) -> Option<Key> {
    Some((purge.namespace()?, purge.spec.service_name.clone(), purge.metadata.name.clone()?))
}

fn service_of((namespace, service, _): &Key) -> ObjectRef<CachedService> {
    ObjectRef::new(service).within(namespace)
}

/// How long a complete purge stays.
fn time_left(purge: &CachePurge, now: Timestamp) -> Duration {
    let completed = purge.status.as_ref().and_then(|status| status.completion_time.as_ref());
    let passed = completed.map_or(0, |completed| now.as_second().saturating_sub(completed.0.as_second()));
    let left = i64::from(purge.spec.ttl_seconds_after_finished).saturating_sub(passed);
    Duration::from_secs(u64::try_from(left).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn purge(name: &str, service: &str, complete: bool) -> CachePurge {
        let word = if complete { "True" } else { "False" };
        let now = Timestamp::now().to_string();
        serde_json::from_value(json!({
            "metadata": { "name": name, "namespace": "n", "uid": format!("uid-{name}") },
            "spec": { "serviceName": service, "everything": true, "ttlSecondsAfterFinished": 60 },
            "status": {
                "epoch": 5,
                "completionTime": complete.then_some(&now),
                "conditions": [{
                    "type": "Complete", "status": word, "reason": "R", "message": "", "lastTransitionTime": now,
                }],
            },
        }))
        .unwrap()
    }

    fn shop() -> ObjectRef<CachedService> {
        ObjectRef::new("shop").within("n")
    }

    fn names(orders: Option<Orders>) -> Vec<String> {
        orders.into_iter().flat_map(|orders| orders.open).map(|purge| purge.name_any()).collect()
    }

    #[tokio::test]
    async fn one_works_for_a_service_as_long_as_something_is_open() {
        let desk = Desk::default();
        assert_eq!(desk.put(purge("a", "shop", false)).unwrap().0, shop());
        assert!(desk.put(purge("b", "shop", false)).is_none(), "somebody is at it");
        assert!(desk.put(purge("c", "shop-2", false)).is_some());
        assert_eq!(names(desk.take(&shop())), ["a", "b"]);
        assert!(desk.complete(&purge("a", "shop", true)));
        desk.remove(&purge("b", "shop", false));
        assert!(desk.take(&shop()).is_none());
        assert!(desk.put(purge("d", "shop", false)).is_some(), "nobody is at it any more");
        assert_eq!(desk.take(&shop()).unwrap().greatest, 5, "also of those that are complete");
    }

    #[tokio::test]
    async fn what_is_complete_is_not_opened_by_an_older_event() {
        let desk = Desk::default();
        let _ = desk.put(purge("a", "shop", false));
        assert!(desk.complete(&purge("a", "shop", true)));
        assert!(desk.take(&shop()).is_none());
        assert!(desk.put(purge("a", "shop", false)).is_none());
        assert!(desk.take(&shop()).is_none());
        let another: CachePurge = {
            let mut another = purge("a", "shop", false);
            another.metadata.uid = Some("another".to_owned());
            another
        };
        assert!(desk.put(another).is_some());
        assert!(!desk.complete(&purge("a", "shop", true)), "that was the one before");
        assert_eq!(names(desk.take(&shop())), ["a"]);
    }

    #[tokio::test]
    async fn what_a_new_list_leaves_out_is_gone() {
        let desk = Desk::default();
        let _ = desk.put(purge("a", "shop", false));
        let _ = desk.put(purge("b", "shop", true));
        desk.begin_list();
        let _ = desk.put(purge("c", "shop", false));
        desk.end_list();
        assert_eq!(names(desk.take(&shop())), ["c"]);
        assert_eq!(desk.next_due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_complete_goes_once_its_time_is_over() {
        let desk = Desk::default();
        let _ = desk.put(purge("a", "shop", true));
        let due = desk.next_due().unwrap();
        assert!(due > Instant::now() + Duration::from_secs(50));
        assert!(desk.overdue(due - Duration::from_secs(1)).is_empty());
        let key = ("n".to_owned(), "shop".to_owned(), "a".to_owned());
        assert_eq!(desk.overdue(due), [(key.clone(), "uid-a".to_owned())]);
        assert!(desk.overdue(due).is_empty());
        desk.postpone(&key, "uid-a", Duration::from_secs(15));
        assert_eq!(desk.next_due(), Some(Instant::now() + Duration::from_secs(15)));
        desk.remove(&purge("a", "shop", true));
        desk.postpone(&key, "uid-a", Duration::from_secs(15));
        assert_eq!(desk.next_due(), None);
    }

    #[test]
    fn the_time_after_a_restart_is_counted_from_the_completion() {
        let mut old = purge("a", "shop", true);
        let completed = Timestamp::from_second(1000).unwrap();
        old.status.as_mut().unwrap().completion_time =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(completed));
        let left = |second| time_left(&old, Timestamp::from_second(second).unwrap()).as_secs();
        assert_eq!((left(1000), left(1059), left(1061), left(990)), (60, 1, 0, 70));
    }

    #[tokio::test]
    async fn only_who_waits_for_a_service_is_called_by_it() {
        let desk = Desk::default();
        let (_, bell) = desk.put(purge("a", "shop", false)).unwrap();
        let is_rung =
            async || tokio::time::timeout(Duration::from_millis(10), bell.rung.notified()).await.is_ok();
        desk.look_again(&shop());
        assert!(!is_rung().await);
        bell.is_held.store(true, Ordering::Release);
        desk.look_again(&shop());
        assert!(is_rung().await);
        let _ = desk.put(purge("a", "shop", false));
        assert!(!is_rung().await, "its own status is no news");
        let _ = desk.put(purge("b", "shop", false));
        assert!(is_rung().await);
    }
}
