//! The sidecars of all CachedServices: each is read once a minute, for the status.
//!
//! ```text
//!  watch of pods ─▶ pods ─┐
//!  reconcile ─▶ schedule ─┴▶ rounds ▸ call ▸ reading ─▶ a reconcile, if something is new
//! ```
//!
//! `pods` and [`reading`] are pure. Nothing here asks the API server, and a CachedService without a sidecar
//! costs nothing.

pub(in crate::operator) mod call;
pub(in crate::operator) mod pods;
pub mod reading;
mod rounds;
mod schedule;

use std::{collections::HashMap, sync::Arc};

use kube::runtime::{reflector::ObjectRef, watcher};
use parking_lot::Mutex;

pub(super) use rounds::follow;

use self::{
    call::Caller,
    pods::{Pods, ServiceKey},
    reading::{Asked, Reading, is_news},
    schedule::Schedule,
};
use super::{
    seen::SeenPod,
    watched::{Found, Watched},
};
use crate::{
    api::{
        CachedService,
        names::{SECRET_TOKEN, sidecar_name},
    },
    operator::seen::SeenSecret,
};

/// The sidecars of all CachedServices.
#[derive(Default)]
pub struct Sidecars {
    caller: Caller,
    pods: Pods,
    schedule: Schedule,
    told: Mutex<HashMap<ServiceKey, Arc<[Asked]>>>,
}

impl Sidecars {
    /// From now on the sidecars of a CachedService are read, or are not.
    pub fn want(&self, service: &ObjectRef<CachedService>, is_wanted: bool) {
        let key = key(service);
        if is_wanted {
            self.schedule.put(key);
        } else {
            self.told.lock().remove(&key);
            self.schedule.remove(&key);
        }
    }

    /// What those that run told last, in the order of their pods' names. None: none of them was asked yet.
    #[must_use]
    pub fn told(&self, service: &ObjectRef<CachedService>) -> Option<Vec<Asked>> {
        let key = key(service);
        let running = self.pods.of(&key);
        let told = self.told.lock().get(&key).cloned();
        let still = told.iter().flat_map(|told| told.iter()).filter(|asked| running.contains_key(&asked.pod));
        let still: Vec<_> = still.cloned().collect();
        (running.is_empty() || !still.is_empty()).then_some(still)
    }

    /// Takes in an event of the pods' watch.
    pub fn observe(&self, event: &watcher::Event<SeenPod>) {
        for service in self.pods.observe(event) {
            // Beside one that was asked it waits for its turn: none is read twice in a minute.
            if self.told(&ObjectRef::new(&service.1).within(&service.0)).is_none() {
                self.schedule.hurry(&service);
            }
        }
    }

    /// Keeps what was told. Whether it is news.
    fn keep(&self, service: &ServiceKey, told: Vec<(String, Result<Reading, String>)>) -> bool {
        if !self.schedule.has(service) {
            // It has none any more.
            return false;
        }
        let mut all = self.told.lock();
        let before = all.get(service).cloned();
        let of = |pod: &str| before.iter().flat_map(|before| before.iter()).find(|asked| asked.pod == pod);
        let told = told.into_iter().map(|(pod, told)| Asked::after(of(&pod), pod, told));
        let told: Arc<[Asked]> = told.collect();
        all.insert(service.clone(), told.clone());
        drop(all);
        if told.iter().any(Asked::is_newly_apart) {
            self.schedule.hurry(service);
        }
        before.is_none_or(|before| is_news(&before, &told))
    }
}

fn key(service: &ObjectRef<CachedService>) -> ServiceKey {
    (service.namespace.clone().unwrap_or_default(), service.name.clone())
}

/// The token of the sidecars of a CachedService, once it is made.
pub(super) fn token(secrets: &Watched<SeenSecret>, namespace: &str, service: &str) -> Option<String> {
    let (Found::Known(secret) | Found::Provisional(secret)) = secrets.find(namespace, &sidecar_name(service))
    else {
        return None;
    };
    let token = String::from_utf8(secret.data.get(SECRET_TOKEN)?.0.clone()).ok()?;
    Some(token.trim().to_owned()).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kube::runtime::watcher::Event::{Apply, Delete};
    use serde_json::json;
    use tokio::time::timeout;

    use super::{
        reading::{Peers, Upstream},
        *,
    };
    use crate::api::names::{APP, COMPONENT_LABEL, NAME_LABEL, SIDECAR_CONTAINER};

    fn pod(name: &str) -> SeenPod {
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "namespace": "n", "uid": format!("uid-{name}"),
                "labels": { NAME_LABEL: "shop", COMPONENT_LABEL: APP, "pod-template-hash": "7d4b" },
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-7d4b", "uid": "r", "controller": true,
                }],
            },
            "status": {
                "podIP": "10.0.0.1",
                "initContainerStatuses": [{
                    "name": SIDECAR_CONTAINER, "image": "", "imageID": "", "ready": true, "restartCount": 0,
                    "state": { "running": {} },
                }],
            },
        }))
        .unwrap()
    }

    fn shop() -> ObjectRef<CachedService> {
        ObjectRef::new("shop").within("n")
    }

    fn asked(pod: &str) -> (String, Result<Reading, String>) {
        (pod.to_owned(), Ok(Reading::default()))
    }

    fn names(told: Option<Vec<Asked>>) -> Option<Vec<String>> {
        told.map(|told| told.into_iter().map(|asked| asked.pod).collect())
    }

    #[tokio::test(start_paused = true)]
    async fn only_those_that_run_tell_something_and_before_one_was_asked_nobody_knows() {
        let sidecars = Sidecars::default();
        sidecars.want(&shop(), true);
        assert_eq!(names(sidecars.told(&shop())), Some(Vec::new()), "none runs");
        sidecars.observe(&Apply(pod("a")));
        assert_eq!(sidecars.told(&shop()), None);
        assert!(sidecars.keep(&key(&shop()), vec![asked("a")]));
        let well = || {
            let upstream = Upstream { peers: Some(Peers::default()), ..Upstream::default() };
            vec![("a".to_owned(), Ok(Reading { upstream, ..Reading::default() }))]
        };
        assert!(sidecars.keep(&key(&shop()), well()));
        assert!(!sidecars.keep(&key(&shop()), well()), "it is no news");
        sidecars.observe(&Apply(pod("b")));
        assert_eq!(names(sidecars.told(&shop())), Some(vec!["a".to_owned()]));
        sidecars.observe(&Delete(pod("a")));
        assert_eq!(sidecars.told(&shop()), None);
        sidecars.want(&shop(), false);
        assert!(!sidecars.keep(&key(&shop()), vec![asked("b")]), "it came too late");
        assert_eq!(sidecars.told(&shop()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_starts_beside_one_that_was_asked_waits_for_its_turn() {
        let sidecars = Sidecars::default();
        sidecars.want(&shop(), true);
        assert_eq!(sidecars.schedule.next().await, key(&shop()));
        let soon = Duration::from_secs(10);
        sidecars.observe(&Apply(pod("a")));
        assert_eq!(timeout(soon, sidecars.schedule.next()).await.unwrap(), key(&shop()));
        sidecars.keep(&key(&shop()), vec![asked("a")]);
        sidecars.observe(&Apply(pod("b")));
        assert!(timeout(soon, sidecars.schedule.next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn where_others_have_not_proven_who_they_are_it_is_looked_again_soon_and_then_in_turn() {
        let sidecars = Sidecars::default();
        sidecars.want(&shop(), true);
        assert_eq!(sidecars.schedule.next().await, key(&shop()));
        let missing = || {
            let peers = Some(Peers { named: 1, ..Peers::default() });
            let upstream = Upstream { peers, ..Upstream::default() };
            vec![("a".to_owned(), Ok(Reading { upstream, ..Reading::default() }))]
        };
        let soon = Duration::from_secs(10);
        sidecars.keep(&key(&shop()), missing());
        assert_eq!(timeout(soon, sidecars.schedule.next()).await.unwrap(), key(&shop()));
        sidecars.keep(&key(&shop()), missing());
        assert!(timeout(soon, sidecars.schedule.next()).await.is_err());
    }
}
