//! The purges as the watch shows them: which are open, and when those that are complete go.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use kube::{ResourceExt, api::ObjectMeta, runtime::reflector::ObjectRef};
use parking_lot::Mutex;
use rand::RngExt;
use tokio::{sync::Notify, time::Instant};

use super::record::GREATEST_NUMBER;
use crate::api::{CachePurge, CachePurgeSpec, CachedService};

/// What is due at the same time goes within this time.
const JITTER: Duration = Duration::from_secs(2);

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
    Complete { uid: String, epoch: Option<u64>, due: Instant },
}

/// Calls who works for a CachedService.
#[derive(Default)]
pub(super) struct Bell {
    /// For another purge.
    pub(super) rung: Notify,
    /// For what the watches show of the service.
    pub(super) called: Notify,
}

/// The open purges of a CachedService.
pub(super) struct Orders {
    /// In the order in which they were made. Some have no targets: see [`names_nothing`].
    pub(super) open: Vec<Arc<CachePurge>>,
    /// The numbers that its purges were told with, also those that are complete.
    pub(super) numbers: BTreeSet<u64>,
}

impl Desk {
    /// A purge was made or has changed. The CachedService that nobody works for yet, if it is open. Of one whose
    /// CachedService is not `served`, it is not kept what is to be purged: there may be many, for long.
    pub(super) fn put(
        &self,
        purge: CachePurge,
        is_served: bool,
    ) -> Option<(ObjectRef<CachedService>, Arc<Bell>)> {
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
        let (is_same, is_light) = match purges.known.get(&key) {
            // What was written before it was complete may be shown after that.
            Some(Known::Complete { uid, .. }) if Some(uid) == purge.uid().as_ref() => return None,
            Some(Known::Open(known)) if known.uid() == purge.uid() => (true, names_nothing(&known.spec)),
            // What is to be deleted in Redis is needed before it is recorded.
            _ => (false, !is_served && purge.spec.to_delete().is_none()),
        };
        let service = service_of(&key);
        purges.remove(&key);
        let purge = if is_light { lightened(&purge) } else { purge };
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
        let mut orders = Orders { open: Vec::new(), numbers: BTreeSet::new() };
        for (_, known) in purges.of(service) {
            orders.numbers.extend(known.epoch());
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

    /// The numbers that purges of a CachedService were told with.
    pub(super) fn numbers(&self, service: &ObjectRef<CachedService>) -> BTreeSet<u64> {
        self.0.lock().of(service).filter_map(|(_, known)| known.epoch()).collect()
    }

    /// These are in the record: it need not be kept here any more what they are about.
    pub(super) fn recorded(&self, open: &[Arc<CachePurge>]) {
        let mut purges = self.0.lock();
        for purge in open.iter().filter(|purge| !names_nothing(&purge.spec)) {
            let known = key(purge).and_then(|key| purges.known.get_mut(&key));
            if let Some(Known::Open(known)) = known.filter(|known| known.uid() == purge.uid()) {
                *known = Arc::new(lightened(known));
            }
        }
    }

    /// When the oldest of the open ones was ordered.
    pub(super) fn oldest_open(&self) -> Option<Timestamp> {
        let purges = self.0.lock();
        let open = purges.known.values().filter_map(|known| match known {
            Known::Open(purge) => purge.creation_timestamp(),
            Known::Complete { .. } => None,
        });
        open.map(|ordered| ordered.0).min()
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

    /// Calls who waits for a CachedService, its pods or its token.
    pub(super) fn look_again(&self, service: &ObjectRef<CachedService>) {
        let purges = self.0.lock();
        if let Some(bell) = purges.workers.get(service) {
            bell.called.notify_one();
        }
    }

    /// When the next complete one goes.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.0.lock().dues.first().map(|(due, _)| *due)
    }

    /// Those whose time is over, `most` of them, each once.
    pub(super) fn overdue(&self, now: Instant, most: usize) -> Vec<(Key, String)> {
        let mut purges = self.0.lock();
        let mut overdue = Vec::new();
        while overdue.len() < most
            && let Some((_, key)) = purges.dues.first().filter(|(due, _)| *due <= now).cloned()
        {
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
        let later = Instant::now() + pause + jitter();
        if let Some(Known::Complete { uid: known, due, .. }) = purges.known.get_mut(key)
            && known == uid
        {
            *due = later;
            purges.dues.insert((later, key.clone()));
        }
    }
}

impl Purges {
    fn of(&self, service: &ObjectRef<CachedService>) -> impl Iterator<Item = (&Key, &Known)> {
        let namespace = service.namespace.clone().unwrap_or_default();
        let first = (namespace, service.name.clone(), String::new());
        self.known.range(first..).take_while(|(key, _)| service_of(key) == *service)
    }

    fn remove(&mut self, key: &Key) {
        if let Some(Known::Complete { due, .. }) = self.known.remove(key) {
            self.dues.remove(&(due, key.clone()));
        }
    }

    fn complete(&mut self, key: Key, purge: &CachePurge) {
        self.remove(&key);
        let status = purge.status.clone().unwrap_or_default();
        let due = Instant::now() + time_left(purge, Timestamp::now()) + jitter();
        let (uid, epoch) = (purge.uid().unwrap_or_default(), status.epoch);
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

    fn epoch(&self) -> Option<u64> {
        let epoch = match self {
            Self::Open(purge) => purge.status.as_ref()?.epoch,
            Self::Complete { epoch, .. } => *epoch,
        };
        epoch.filter(|epoch| *epoch <= GREATEST_NUMBER)
    }
}

fn key(purge: &CachePurge) -> Option<Key> {
    Some((purge.namespace()?, purge.spec.service_name.clone(), purge.metadata.name.clone()?))
}

fn service_of((namespace, service, _): &Key) -> ObjectRef<CachedService> {
    ObjectRef::new(service).within(namespace)
}

/// Whether what is to be purged is not kept here. The API server takes no purge that names nothing.
pub(super) fn names_nothing(spec: &CachePurgeSpec) -> bool {
    let CachePurgeSpec { keys, prefixes, tags, application, everything, .. } = spec;
    !everything && application.is_none() && keys.is_empty() && prefixes.is_empty() && tags.is_empty()
}

/// What is needed to tell of it.
fn lightened(purge: &CachePurge) -> CachePurge {
    let ObjectMeta { name, namespace, uid, generation, resource_version, creation_timestamp, .. } =
        purge.metadata.clone();
    let spec = CachePurgeSpec {
        service_name: purge.spec.service_name.clone(),
        ttl_seconds_after_finished: purge.spec.ttl_seconds_after_finished,
        ..CachePurgeSpec::default()
    };
    let metadata = ObjectMeta {
        name,
        namespace,
        uid,
        generation,
        resource_version,
        creation_timestamp,
        ..ObjectMeta::default()
    };
    CachePurge { metadata, spec, status: purge.status.clone() }
}

fn jitter() -> Duration {
    rand::rng().random_range(Duration::ZERO..JITTER)
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
        assert_eq!(desk.put(purge("a", "shop", false), true).unwrap().0, shop());
        assert!(desk.put(purge("b", "shop", false), true).is_none(), "somebody is at it");
        assert!(desk.put(purge("c", "shop-2", false), true).is_some());
        assert_eq!(names(desk.take(&shop())), ["a", "b"]);
        assert!(desk.complete(&purge("a", "shop", true)));
        desk.remove(&purge("b", "shop", false));
        assert!(desk.take(&shop()).is_none());
        assert!(desk.put(purge("d", "shop", false), true).is_some(), "nobody is at it any more");
        assert_eq!(desk.take(&shop()).unwrap().numbers, [5].into(), "also of those that are complete");
    }

    #[tokio::test]
    async fn the_oldest_of_the_open_ones_is_known() {
        let desk = Desk::default();
        let ordered = |name: &str, second, complete| {
            let mut purge = purge(name, "shop", complete);
            let at = Timestamp::from_second(second).unwrap();
            purge.metadata.creation_timestamp =
                Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at));
            purge
        };
        assert_eq!(desk.oldest_open(), None);
        for (name, second, complete) in [("a", 10, true), ("b", 30, false), ("c", 20, false)] {
            let _ = desk.put(ordered(name, second, complete), true);
        }
        assert_eq!(desk.oldest_open(), Timestamp::from_second(20).ok());
    }

    #[tokio::test]
    async fn what_is_complete_is_not_opened_by_an_older_event() {
        let desk = Desk::default();
        let _ = desk.put(purge("a", "shop", false), true);
        assert!(desk.complete(&purge("a", "shop", true)));
        assert!(desk.take(&shop()).is_none());
        assert!(desk.put(purge("a", "shop", false), true).is_none());
        assert!(desk.take(&shop()).is_none());
        let another: CachePurge = {
            let mut another = purge("a", "shop", false);
            another.metadata.uid = Some("another".to_owned());
            another
        };
        assert!(desk.put(another, true).is_some());
        assert!(!desk.complete(&purge("a", "shop", true)), "that was the one before");
        assert_eq!(names(desk.take(&shop())), ["a"]);
    }

    #[tokio::test]
    async fn what_a_new_list_leaves_out_is_gone() {
        let desk = Desk::default();
        let _ = desk.put(purge("a", "shop", false), true);
        let _ = desk.put(purge("b", "shop", true), true);
        desk.begin_list();
        let _ = desk.put(purge("c", "shop", false), true);
        desk.end_list();
        assert_eq!(names(desk.take(&shop())), ["c"]);
        assert_eq!(desk.next_due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_complete_goes_once_its_time_is_over() {
        let desk = Desk::default();
        let _ = desk.put(purge("a", "shop", true), true);
        let due = desk.next_due().unwrap();
        assert!(due > Instant::now() + Duration::from_secs(50));
        assert!(desk.overdue(due - Duration::from_secs(1), 9).is_empty());
        let key = ("n".to_owned(), "shop".to_owned(), "a".to_owned());
        assert_eq!(desk.overdue(due, 9), [(key.clone(), "uid-a".to_owned())]);
        assert!(desk.overdue(due, 9).is_empty());
        desk.postpone(&key, "uid-a", Duration::from_secs(15));
        let pause = desk.next_due().unwrap() - Instant::now();
        assert!(pause >= Duration::from_secs(15) && pause <= Duration::from_secs(15) + JITTER, "{pause:?}");
        desk.remove(&purge("a", "shop", true));
        desk.postpone(&key, "uid-a", Duration::from_secs(15));
        assert_eq!(desk.next_due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn many_whose_time_is_over_go_a_few_at_a_time() {
        let desk = Desk::default();
        for number in 0..40 {
            let mut old = purge(&format!("p{number:02}"), "shop", true);
            old.spec.ttl_seconds_after_finished = 0;
            let _ = desk.put(old, true);
        }
        let dues: BTreeSet<_> = desk.0.lock().dues.iter().map(|(due, _)| *due).collect();
        assert!(dues.len() > 30, "not all at the same moment: {dues:?}");
        let late = Instant::now() + JITTER;
        let counts: Vec<usize> = (0..4).map(|_| desk.overdue(late, 16).len()).collect();
        assert_eq!(counts, [16, 16, 8, 0]);
    }

    #[tokio::test]
    async fn what_waits_for_a_service_that_is_not_there_takes_little_room() {
        let desk = Desk::default();
        let large = |name: &str| {
            let mut large = purge(name, "shop", false);
            large.spec.everything = false;
            large.spec.tags = vec!["x".repeat(2048); 100];
            large.metadata.labels = Some([("x".to_owned(), "y".repeat(63))].into());
            large
        };
        let size = || {
            let open = desk.take(&shop()).unwrap().open;
            open.iter().map(|purge| serde_json::to_string(&**purge).unwrap().len()).sum::<usize>()
        };
        for name in ["a", "b"] {
            let _ = desk.put(large(name), false);
            // As the watch shows it once it was told, also when the service is there by then.
            let _ = desk.put(large(name), true);
        }
        assert!(size() < 2000, "{}", size());
        let kept = &desk.take(&shop()).unwrap().open[0];
        assert!(names_nothing(&kept.spec) && kept.uid().as_deref() == Some("uid-a") && kept.status.is_some());

        let _ = desk.put(large("c"), true);
        assert!(size() > 200_000, "what is to be recorded is whole");
        desk.recorded(&desk.take(&shop()).unwrap().open);
        assert!(size() < 3000, "{}", size());
        assert_eq!(names(desk.take(&shop())), ["a", "b", "c"]);
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
    async fn another_purge_rings_and_a_change_of_the_service_calls() {
        let desk = Desk::default();
        let (_, bell) = desk.put(purge("a", "shop", false), true).unwrap();
        let is_noted =
            async |of: &Notify| tokio::time::timeout(Duration::from_millis(10), of.notified()).await.is_ok();
        desk.look_again(&shop());
        assert_eq!((is_noted(&bell.rung).await, is_noted(&bell.called).await), (false, true));
        let _ = desk.put(purge("a", "shop", false), true);
        assert!(!is_noted(&bell.rung).await, "its own status is no news");
        let _ = desk.put(purge("b", "shop", false), true);
        assert_eq!((is_noted(&bell.rung).await, is_noted(&bell.called).await), (true, false));
    }
}
