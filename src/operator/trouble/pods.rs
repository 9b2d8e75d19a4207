//! The troubles of all pods, by CachedService. PURE.
//!
//! Two watches meet here: that of our pods, and that of the Events about volumes
//! of all pods, which carry no label of ours. So pods on their way are
//! remembered, and an Event counts as long as its pod is one of them.

use std::collections::{BTreeMap, HashMap};

use kube::{ResourceExt, runtime::watcher};
use parking_lot::Mutex;

use super::{Trouble, is_on_its_way, reports::Reports, trouble};
use crate::{
    api::names::{COMPONENT_LABEL, NAME_LABEL, TEMPLATE_ANNOTATION},
    operator::seen::{SeenEvent, SeenPod},
};

/// So many pods are remembered on their way, a megabyte at most. Of more the volumes' failures
/// are not told.
const MOST_ON_THEIR_WAY: usize = 2000;

/// Namespace and name of a CachedService.
type ServiceKey = (String, String);

/// What keeps a volume from a pod, as kubelet or attach-detach controller report it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeFailure {
    /// It cannot be mounted; a Secret or ConfigMap is missing, mostly.
    Mount,
    /// It cannot be attached to the node.
    Attach,
}

impl VolumeFailure {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Mount, Self::Attach];

    /// The reason of the Events, and of the trouble.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Mount => "FailedMount",
            Self::Attach => "FailedAttachVolume",
        }
    }
}

/// The troubles of all pods, by CachedService; healthy pods cost nothing.
#[derive(Default)]
pub struct Troubles(Mutex<State>);

#[derive(Default)]
struct State {
    pods: Pods,
    /// A list that is not complete yet: until then, what was known before counts.
    listing: Pods,
    mounts: Reports,
    attachments: Reports,
}

/// The pods that do not run.
#[derive(Default)]
struct Pods {
    services: HashMap<ServiceKey, BTreeMap<String, Kept>>,
    /// Where the pods on their way are, by their identity.
    on_their_way: HashMap<String, Place>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    service: ServiceKey,
    pod: String,
}

enum Kept {
    InTrouble(Trouble),
    OnItsWay { uid: String, component: String, template: Option<String> },
}

impl Troubles {
    /// The troubles of the pods of the CachedService `name` in `namespace`.
    pub fn of(&self, namespace: &str, name: &str) -> Vec<Trouble> {
        self.0.lock().of(&(namespace.to_owned(), name.to_owned()))
    }

    /// Takes in an event of the pods' watch and names the CachedServices whose troubles changed.
    pub fn observe(&self, event: &watcher::Event<SeenPod>) -> Vec<ServiceKey> {
        let mut state = self.0.lock();
        match event {
            watcher::Event::Apply(pod) => state.put(pod, kept(pod)).into_iter().collect(),
            watcher::Event::Delete(pod) => state.put(pod, None).into_iter().collect(),
            watcher::Event::Init => {
                state.listing = Pods::default();
                Vec::new()
            }
            watcher::Event::InitApply(pod) => {
                if let Some(place) = place(pod) {
                    state.listing.put(&place, kept(pod));
                }
                Vec::new()
            }
            watcher::Event::InitDone => state.replace(),
        }
    }

    /// Takes in an event of the watch of this failure's Events and names the CachedServices
    /// whose troubles changed.
    pub fn observe_failure(
        &self,
        failure: VolumeFailure,
        event: &watcher::Event<SeenEvent>,
    ) -> Vec<ServiceKey> {
        let mut state = self.0.lock();
        let places: Vec<Place> = state
            .reports(failure)
            .concerned(event)
            .iter()
            .filter_map(|uid| state.pods.on_their_way.get(uid).cloned())
            .collect();
        let before: Vec<_> = places.iter().map(|place| state.at(place)).collect();
        state.report(failure, event);
        let changed = places.into_iter().zip(before).filter(|(place, before)| state.at(place) != *before);
        changed.map(|(place, _)| place.service).collect()
    }
}

impl State {
    fn of(&self, service: &ServiceKey) -> Vec<Trouble> {
        let pods = self.pods.services.get(service);
        pods.into_iter().flatten().filter_map(|(name, kept)| self.trouble(name, kept)).collect()
    }

    fn at(&self, place: &Place) -> Option<Trouble> {
        let kept = self.pods.services.get(&place.service)?.get(&place.pod)?;
        self.trouble(&place.pod, kept)
    }

    fn trouble(&self, pod: &str, kept: &Kept) -> Option<Trouble> {
        match kept {
            Kept::InTrouble(trouble) => Some(trouble.clone()),
            Kept::OnItsWay { uid, component, template } => {
                let reports = VolumeFailure::ALL
                    .into_iter()
                    .filter_map(|failure| Some((failure, self.reports(failure).of(uid)?)));
                let (failure, newest) = reports.max_by_key(|(_, report)| report.at)?;
                Some(Trouble {
                    component: component.clone(),
                    template: template.clone(),
                    reason: failure.reason().to_owned(),
                    message: format!("pod {pod}: {}", newest.message),
                })
            }
        }
    }

    fn reports(&self, failure: VolumeFailure) -> &Reports {
        match failure {
            VolumeFailure::Mount => &self.mounts,
            VolumeFailure::Attach => &self.attachments,
        }
    }

    fn report(&mut self, failure: VolumeFailure, event: &watcher::Event<SeenEvent>) {
        let Self { pods, mounts, attachments, .. } = self;
        let reports = match failure {
            VolumeFailure::Mount => mounts,
            VolumeFailure::Attach => attachments,
        };
        reports.observe(event, |uid| pods.on_their_way.contains_key(uid));
    }

    /// Puts one pod into what is known; names its CachedService if that has another trouble now.
    fn put(&mut self, pod: &SeenPod, kept: Option<Kept>) -> Option<ServiceKey> {
        let place = place(pod)?;
        let before = self.at(&place);
        let entered = kept.as_ref().and_then(Kept::uid).map(str::to_owned);
        let left = self.pods.put(&place, kept).filter(|left| entered.as_ref() != Some(left));
        self.turn_over(left.as_slice());
        (self.at(&place) != before).then_some(place.service)
    }

    /// Puts the list in the place of what was known.
    fn replace(&mut self) -> Vec<ServiceKey> {
        let listed = std::mem::take(&mut self.listing);
        let concerned: Vec<_> = self.pods.services.keys().chain(listed.services.keys()).cloned().collect();
        let before: Vec<_> = concerned.iter().map(|service| self.of(service)).collect();
        let known = std::mem::replace(&mut self.pods, listed).on_their_way.into_keys();
        let left: Vec<_> = known.filter(|uid| !self.pods.on_their_way.contains_key(uid)).collect();
        self.turn_over(&left);
        let changed =
            concerned.into_iter().zip(before).filter(|(service, before)| self.of(service) != *before);
        changed.map(|(service, _)| service).collect()
    }

    /// What was reported of pods that are no longer on their way is over; what was reported
    /// of others before they were known counts from now on.
    fn turn_over(&mut self, left: &[String]) {
        for reports in [&mut self.mounts, &mut self.attachments] {
            for uid in left {
                reports.forget(uid);
            }
            reports.claim(|uid| self.pods.on_their_way.contains_key(uid));
        }
    }
}

impl Pods {
    /// Returns the identity of the pod that stood there on its way.
    fn put(&mut self, place: &Place, kept: Option<Kept>) -> Option<String> {
        let pods = self.services.entry(place.service.clone()).or_default();
        let before = pods.remove(&place.pod);
        let left = before.as_ref().and_then(Kept::uid).map(str::to_owned);
        if let Some(left) = &left {
            self.on_their_way.remove(left);
        }
        let is_one_too_many =
            |kept: &Kept| kept.uid().is_some() && self.on_their_way.len() >= MOST_ON_THEIR_WAY;
        if let Some(kept) = kept.filter(|kept| !is_one_too_many(kept)) {
            if let Some(uid) = kept.uid() {
                self.on_their_way.insert(uid.to_owned(), place.clone());
            }
            pods.insert(place.pod.clone(), kept);
        }
        if pods.is_empty() {
            self.services.remove(&place.service);
        }
        left
    }
}

impl Kept {
    /// The identity of a pod on its way.
    fn uid(&self) -> Option<&str> {
        match self {
            Self::OnItsWay { uid, .. } => Some(uid),
            Self::InTrouble(_) => None,
        }
    }
}

fn place(pod: &SeenPod) -> Option<Place> {
    let service = (pod.namespace()?, pod.labels().get(NAME_LABEL)?.clone());
    Some(Place { service, pod: pod.name_any() })
}

/// What is kept of a pod; nothing of one that runs.
fn kept(pod: &SeenPod) -> Option<Kept> {
    if let Some(trouble) = trouble(pod) {
        return Some(Kept::InTrouble(trouble));
    }
    if !is_on_its_way(pod) {
        return None;
    }
    Some(Kept::OnItsWay {
        uid: pod.uid()?,
        component: pod.labels().get(COMPONENT_LABEL)?.clone(),
        template: pod.annotations().get(TEMPLATE_ANNOTATION).cloned(),
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ContainerStatus;
    use serde_json::{Value, json};

    use super::*;
    use crate::operator::trouble::tests::{pod, waiting};

    fn service() -> ServiceKey {
        ("n".to_owned(), "shop".to_owned())
    }

    fn creating() -> SeenPod {
        waiting("ContainerCreating", "")
    }

    fn running() -> SeenPod {
        pod(&json!({ "phase": "Running", "containerStatuses": [{
            "name": "app", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
            "state": { "running": {} },
        }] }))
    }

    fn report(event: &str, uid: &str, message: &str, at: &str) -> SeenEvent {
        serde_json::from_value(json!({
            "metadata": { "name": event, "namespace": "n" },
            "involvedObject": { "kind": "Pod", "name": "shop-1", "uid": uid },
            "message": message, "lastTimestamp": at,
        }))
        .unwrap()
    }

    /// The uid of the pod in these tests.
    const UID: &str = "0-1";
    const EARLY: &str = "2026-01-01T00:00:00Z";
    const LATER: &str = "2026-01-01T00:01:00Z";

    fn mount(troubles: &Troubles, event: &watcher::Event<SeenEvent>) -> Vec<ServiceKey> {
        troubles.observe_failure(VolumeFailure::Mount, event)
    }

    fn told(troubles: &Troubles) -> Vec<(String, String)> {
        let (namespace, name) = service();
        let all = troubles.of(&namespace, &name).into_iter();
        all.map(|trouble| (trouble.reason, trouble.message)).collect()
    }

    fn told_as(reason: &str, message: &str) -> Vec<(String, String)> {
        vec![(reason.to_owned(), message.to_owned())]
    }

    #[test]
    fn troubles_name_who_is_concerned_only_when_they_change() {
        let troubles = Troubles::default();
        let broken = watcher::Event::Apply(waiting("ErrImagePull", "m"));
        assert_eq!(troubles.observe(&broken), [service()]);
        assert!(troubles.observe(&broken).is_empty());
        assert_eq!(troubles.of("n", "shop").len(), 1);
        assert_eq!(troubles.observe(&watcher::Event::Delete(waiting("ErrImagePull", "m"))), [service()]);
        assert!(troubles.of("n", "shop").is_empty());
    }

    #[test]
    fn a_new_list_replaces_what_was_known_when_it_is_complete() {
        let troubles = Troubles::default();
        troubles.observe(&watcher::Event::Apply(waiting("ErrImagePull", "m")));
        troubles.observe(&watcher::Event::Init);
        assert_eq!(troubles.of("n", "shop").len(), 1);
        assert_eq!(troubles.observe(&watcher::Event::InitDone), [service()]);
        assert!(troubles.of("n", "shop").is_empty());
    }

    #[test]
    fn a_failed_mount_is_told_of_a_pod_on_its_way_and_ends_when_it_runs() {
        let troubles = Troubles::default();
        assert!(troubles.observe(&watcher::Event::Apply(creating())).is_empty());
        let failed = watcher::Event::Apply(report("e", UID, "no secret", EARLY));
        assert_eq!(mount(&troubles, &failed), [service()]);
        assert_eq!(told(&troubles), told_as("FailedMount", "pod shop-1: no secret"));
        assert!(mount(&troubles, &failed).is_empty(), "said before");
        assert!(troubles.observe(&watcher::Event::Apply(creating())).is_empty(), "still on its way");

        assert_eq!(troubles.observe(&watcher::Event::Apply(running())), [service()]);
        assert!(told(&troubles).is_empty());
        troubles.observe(&watcher::Event::Apply(creating()));
        assert!(told(&troubles).is_empty(), "what was said of an earlier start is over");
    }

    #[test]
    fn a_failed_mount_bears_the_component_and_the_template_of_its_pod() {
        let troubles = Troubles::default();
        let mut pod = creating();
        pod.metadata.annotations = Some([(TEMPLATE_ANNOTATION.to_owned(), "t1".to_owned())].into());
        troubles.observe(&watcher::Event::Apply(pod));
        mount(&troubles, &watcher::Event::Apply(report("e", UID, "no secret", EARLY)));
        let trouble = troubles.of("n", "shop").pop().unwrap();
        assert_eq!((trouble.component.as_str(), trouble.template.as_deref()), ("app", Some("t1")));
    }

    #[test]
    fn an_event_that_comes_before_its_pod_counts_from_when_the_pod_is_known() {
        let troubles = Troubles::default();
        assert!(mount(&troubles, &watcher::Event::Apply(report("e", UID, "no secret", EARLY))).is_empty());
        assert_eq!(troubles.observe(&watcher::Event::Apply(creating())), [service()]);
        assert_eq!(told(&troubles), told_as("FailedMount", "pod shop-1: no secret"));

        let troubles = Troubles::default();
        mount(&troubles, &watcher::Event::Apply(report("e", UID, "no secret", EARLY)));
        for event in [watcher::Event::Init, watcher::Event::InitApply(creating())] {
            assert!(troubles.observe(&event).is_empty());
        }
        assert_eq!(troubles.observe(&watcher::Event::InitDone), [service()]);
    }

    #[test]
    fn of_the_events_about_pods_that_are_not_ours_few_are_kept() {
        let troubles = Troubles::default();
        mount(&troubles, &watcher::Event::Apply(report("e", UID, "no secret", EARLY)));
        for stranger in 0..64 {
            let foreign = report(&format!("e{stranger}"), &format!("foreign-{stranger}"), "m", LATER);
            assert!(mount(&troubles, &watcher::Event::Apply(foreign)).is_empty());
        }
        assert!(troubles.observe(&watcher::Event::Apply(creating())).is_empty(), "pushed out");
        let again = report("e", UID, "no secret", LATER);
        assert_eq!(mount(&troubles, &watcher::Event::Apply(again)), [service()], "the kubelet repeats it");
    }

    #[test]
    fn the_newest_of_several_events_is_told() {
        let troubles = Troubles::default();
        troubles.observe(&watcher::Event::Apply(creating()));
        let attach = watcher::Event::Apply(report("a", UID, "elsewhere", LATER));
        assert_eq!(troubles.observe_failure(VolumeFailure::Attach, &attach), [service()]);
        assert!(mount(&troubles, &watcher::Event::Apply(report("e", UID, "old", EARLY))).is_empty());
        assert_eq!(told(&troubles), told_as("FailedAttachVolume", "pod shop-1: elsewhere"));
        let expired = watcher::Event::Delete(report("a", UID, "elsewhere", LATER));
        assert_eq!(troubles.observe_failure(VolumeFailure::Attach, &expired), [service()]);
        assert_eq!(told(&troubles), told_as("FailedMount", "pod shop-1: old"));
    }

    #[test]
    fn a_list_of_events_under_way_hides_nothing_and_then_replaces_what_was_said() {
        let troubles = Troubles::default();
        troubles.observe(&watcher::Event::Apply(creating()));
        mount(&troubles, &watcher::Event::Apply(report("e", UID, "no secret", EARLY)));
        assert!(mount(&troubles, &watcher::Event::Init).is_empty());
        assert_eq!(told(&troubles).len(), 1);
        assert_eq!(mount(&troubles, &watcher::Event::InitDone), [service()]);
        assert!(told(&troubles).is_empty());
    }

    #[test]
    fn a_pod_of_the_same_name_that_came_later_begins_anew() {
        let troubles = Troubles::default();
        troubles.observe(&watcher::Event::Apply(creating()));
        mount(&troubles, &watcher::Event::Apply(report("e", UID, "no secret", EARLY)));
        let mut later = creating();
        later.metadata.uid = Some("0-2".to_owned());
        assert_eq!(troubles.observe(&watcher::Event::Apply(later)), [service()]);
        assert!(told(&troubles).is_empty());
    }

    #[test]
    fn where_volumes_are_mounted_a_pod_is_no_longer_on_its_way() {
        let with = |change: fn(&mut SeenPod)| {
            let mut pod = creating();
            change(&mut pod);
            is_on_its_way(&pod)
        };
        assert!(with(|_| {}));
        assert!(with(|pod| pod.status.container_statuses = None), "the kubelet has not seen it yet");
        assert!(!with(|pod| pod.status.phase = Some("Failed".to_owned())));
        assert!(!with(|pod| {
            let ready = json!([{ "type": "PodReadyToStartContainers", "status": "True" }]);
            pod.status.conditions = serde_json::from_value(ready).unwrap();
        }));
        assert!(!with(|pod| pod.status.init_container_statuses = Some(vec![started()])));
    }

    fn started() -> ContainerStatus {
        let state: Value = json!({ "name": "init", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": { "running": {} } });
        serde_json::from_value(state).unwrap()
    }

    #[test]
    fn more_pods_than_can_be_remembered_leave_those_that_are() {
        let mut pods = Pods::default();
        for number in 0..=MOST_ON_THEIR_WAY {
            let mut pod = creating();
            pod.metadata.name = Some(format!("shop-{number}"));
            pod.metadata.uid = Some(number.to_string());
            pods.put(&place(&pod).unwrap(), kept(&pod));
        }
        assert_eq!(pods.on_their_way.len(), MOST_ON_THEIR_WAY);
        assert!(pods.on_their_way.contains_key("0"));
    }
}
