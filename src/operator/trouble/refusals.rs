//! Why the pods of StatefulSets were refused. PURE.

use kube::runtime::watcher;
use parking_lot::Mutex;

use super::reports::Reports;
use crate::operator::seen::SeenEvent;

/// Why the pods of StatefulSets were refused, by the StatefulSet's identity. A
/// Deployment says so in its status; a StatefulSet only in Events.
#[derive(Default)]
pub struct Refusals(Mutex<Reports>);

impl Refusals {
    /// The newest refusal of a pod of the StatefulSet with this `uid`.
    pub fn of(&self, uid: &str) -> Option<String> {
        self.0.lock().of(uid).map(|report| report.message.clone())
    }

    /// Takes in an event of the Events' watch.
    pub fn observe(&self, event: &watcher::Event<SeenEvent>) {
        // Foreign StatefulSets are kept too: refusals are few, and expire.
        self.0.lock().observe(event, |_| true);
    }

    /// The StatefulSet with this `uid` has a pod: what was said before is over.
    pub fn forget(&self, uid: &str) {
        self.0.lock().forget(uid);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(message: &str) -> SeenEvent {
        serde_json::from_value(json!({
            "metadata": { "name": "e", "namespace": "n" },
            "involvedObject": { "kind": "StatefulSet", "name": "shop-redis", "uid": "0-1" },
            "message": message, "lastTimestamp": "2026-01-01T00:00:00Z",
        }))
        .unwrap()
    }

    #[test]
    fn a_list_under_way_or_failing_takes_nothing_away() {
        let refusals = Refusals::default();
        refusals.observe(&watcher::Event::Apply(refusal("quota")));
        for _ in 0..2 {
            refusals.observe(&watcher::Event::Init);
            assert_eq!(refusals.of("0-1").as_deref(), Some("quota"));
        }
        refusals.observe(&watcher::Event::InitApply(refusal("another quota")));
        assert_eq!(refusals.of("0-1").as_deref(), Some("quota"));
        refusals.observe(&watcher::Event::InitDone);
        assert_eq!(refusals.of("0-1").as_deref(), Some("another quota"));
        refusals.observe(&watcher::Event::Init);
        refusals.observe(&watcher::Event::InitDone);
        assert_eq!(refusals.of("0-1"), None);
    }

    #[test]
    fn a_set_that_has_had_a_pod_was_refused_no_longer() {
        let refusals = Refusals::default();
        refusals.observe(&watcher::Event::Apply(refusal("quota")));
        refusals.forget("0-1");
        assert_eq!(refusals.of("0-1"), None);
        refusals.observe(&watcher::Event::Init);
        refusals.observe(&watcher::Event::InitApply(refusal("quota")));
        refusals.forget("0-1");
        refusals.observe(&watcher::Event::InitDone);
        assert_eq!(refusals.of("0-1"), None, "within a list too");
    }
}
