//! What keeps pods from running, in the words of scheduler, kubelet and API server.

mod pods;
mod refusals;
mod reports;

pub use pods::{Troubles, VolumeFailure};
pub use refusals::Refusals;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::ContainerStatus;
use kube::ResourceExt;

use super::seen::SeenPod;
use crate::api::names::{COMPONENT_LABEL, TEMPLATE_ANNOTATION};

/// What keeps one pod from running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// `app` or `redis`.
    pub component: String,
    /// The digest of the template that the pod was made from, if it bears one.
    pub template: Option<String>,
    /// A stable reason for a condition.
    pub reason: String,
    /// The server's words, with pod and container.
    pub message: String,
}

/// What is wrong with a pod. PURE.
#[must_use]
pub fn trouble(pod: &SeenPod) -> Option<Trouble> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let component = pod.labels().get(COMPONENT_LABEL)?.clone();
    let template = pod.annotations().get(TEMPLATE_ANNOTATION).cloned();
    let name = pod.name_any();
    let status = &pod.status;
    let over = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"));
    let mut containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let words = containers
        .find_map(|container| waiting(container).or_else(|| crashing(container, pod).filter(|_| !over)));
    if let Some((reason, words)) = words {
        return Some(Trouble { component, template, reason, message: format!("pod {name}, {words}") });
    }
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unscheduled {
        let words = condition.message.clone().unwrap_or_default();
        return Some(Trouble {
            component,
            template,
            reason: "Unschedulable".to_owned(),
            message: format!("pod {name}: {words}"),
        });
    }
    (status.phase.as_deref() == Some("Failed")).then(|| {
        let reason = status.reason.clone().unwrap_or_else(|| "PodFailed".to_owned());
        let words = status.message.clone().unwrap_or_default();
        let message = format!("pod {name}: {reason} {words}").trim_end().to_owned();
        Trouble { component, template, reason, message }
    })
}

fn waiting(container: &ContainerStatus) -> Option<(String, String)> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    let stable = match reason {
        // On the ordinary way to running.
        "ContainerCreating" | "PodInitializing" => return None,
        // The kubelet alternates between these while it retries.
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "RegistryUnavailable"
        | "ImageInspectError" => "ImagePullFailed",
        other => other,
    };
    let words = waiting.message.as_deref().unwrap_or(reason);
    let ended = container.last_state.as_ref().and_then(|state| state.terminated.as_ref()).map(|ended| {
        let why = ended.reason.as_deref().unwrap_or("ended");
        format!("; last run: {why}, exit code {}", ended.exit_code)
    });
    Some((stable.to_owned(), format!("container {}: {words}{}", container.name, ended.unwrap_or_default())))
}

/// A container that ends again and again also runs in between, and waits for nothing then:
/// that is no recovery.
fn crashing(container: &ContainerStatus, pod: &SeenPod) -> Option<(String, String)> {
    if ran_well(container, pod) {
        return None;
    }
    let state = container.state.as_ref()?;
    let last = container.last_state.as_ref();
    let ended = state.terminated.as_ref().or_else(|| last?.terminated.as_ref())?;
    let ends = container.restart_count + i32::from(state.terminated.is_some());
    let why = ended.reason.as_deref().unwrap_or("ended");
    (!container.ready && ends >= 2).then(|| {
        let words = format!(
            "container {}: not ready after {ends} runs; last run: {why}, exit code {}",
            container.name, ended.exit_code
        );
        ("CrashLoopBackOff".to_owned(), words)
    })
}

/// Whether a container had been up for long when its pod ceased to be ready, or when it ended last:
/// a probe fails now, or it starts anew, and its ends of long ago are no loop. The kubelet too forgets them after ten minutes
/// (Kubernetes documentation, "Pod Lifecycle", restart policy).
fn ran_well(container: &ContainerStatus, pod: &SeenPod) -> bool {
    const LONG: SignedDuration = SignedDuration::from_mins(10);
    let started = container.state.as_ref().and_then(|state| state.running.as_ref()?.started_at.as_ref());
    let ready = pod.status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
    let turned = ready.and_then(|condition| condition.last_transition_time.as_ref());
    let ended = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let last_run = ended.and_then(|ended| ended.started_at.as_ref().zip(ended.finished_at.as_ref()));
    // A node that restarts ends what ran well.
    started.zip(turned).into_iter().chain(last_run).any(|(from, to)| to.0.duration_since(from.0) > LONG)
}

/// Whether a pod is on its way to its first container: until then volumes may be what it waits for. PURE.
///
/// With the sandbox all volumes are mounted; the kubelet says so from Kubernetes 1.29 on.
fn is_on_its_way(pod: &SeenPod) -> bool {
    let status = &pod.status;
    let over = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"));
    let has_sandbox = status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == "PodReadyToStartContainers" && condition.status == "True");
    let mut containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    pod.metadata.deletion_timestamp.is_none()
        && !over
        && !has_sandbox
        && containers.all(|container| {
            container.state.as_ref().is_none_or(|state| state.running.is_none() && state.terminated.is_none())
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::names::NAME_LABEL;

    pub(super) fn pod(status: &serde_json::Value) -> SeenPod {
        serde_json::from_value(json!({
            "metadata": { "name": "shop-1", "namespace": "n", "uid": "0-1", "labels": { NAME_LABEL: "shop", COMPONENT_LABEL: "app" } },
            "status": status,
        }))
        .unwrap()
    }

    pub(super) fn waiting(reason: &str, message: &str) -> SeenPod {
        pod(&json!({ "containerStatuses": [{
            "name": "app", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": reason, "message": message } },
        }] }))
    }

    #[test]
    fn a_missing_secret_is_told_in_the_kubelets_words() {
        let trouble = trouble(&waiting("CreateContainerConfigError", "secret \"x\" not found")).unwrap();
        assert_eq!(trouble.reason, "CreateContainerConfigError");
        assert!(trouble.message.contains("secret \"x\" not found") && trouble.message.contains("shop-1"));
    }

    #[test]
    fn the_ways_of_a_failing_pull_have_one_reason() {
        for reason in ["ErrImagePull", "ImagePullBackOff"] {
            assert_eq!(trouble(&waiting(reason, "m")).unwrap().reason, "ImagePullFailed");
        }
    }

    fn after_a_crash(restarts: i32, ready: bool, state: &serde_json::Value) -> SeenPod {
        pod(&json!({ "phase": "Running", "containerStatuses": [{
            "name": "app", "image": "i", "imageID": "", "ready": ready, "restartCount": restarts,
            "state": state,
            "lastState": { "terminated": { "exitCode": 1, "reason": "Error" } },
        }] }))
    }

    #[test]
    fn a_container_that_runs_between_two_crashes_has_not_recovered() {
        let running = json!({ "running": {} });
        let ended = json!({ "terminated": { "exitCode": 1, "reason": "Error" } });
        for pod in [after_a_crash(2, false, &running), after_a_crash(1, false, &ended)] {
            let trouble = trouble(&pod).unwrap();
            assert_eq!(trouble.reason, "CrashLoopBackOff");
            assert!(trouble.message.ends_with("last run: Error, exit code 1"), "{}", trouble.message);
        }
        assert_eq!(trouble(&after_a_crash(2, true, &running)), None, "ready again");
        assert_eq!(trouble(&after_a_crash(1, false, &running)), None, "once is no loop");
    }

    #[test]
    fn a_container_that_ran_well_for_long_before_it_failed_its_probe_is_in_no_loop() {
        let not_ready_since = |time: &str| {
            let mut pod =
                after_a_crash(2, false, &json!({ "running": { "startedAt": "2026-01-01T00:00:00Z" } }));
            let ready = json!([{ "type": "Ready", "status": "False", "lastTransitionTime": time }]);
            pod.status.conditions = serde_json::from_value(ready).unwrap();
            pod
        };
        assert_eq!(trouble(&not_ready_since("2026-01-01T00:10:01Z")), None);
        for soon in ["2026-01-01T00:09:59Z", "2025-12-31T23:00:00Z"] {
            assert_eq!(trouble(&not_ready_since(soon)).unwrap().reason, "CrashLoopBackOff", "{soon}");
        }
    }

    #[test]
    fn a_container_that_starts_anew_after_a_long_run_is_in_no_loop() {
        let ended_after = |time: &str| {
            let mut pod =
                after_a_crash(2, false, &json!({ "running": { "startedAt": "2026-01-02T00:00:00Z" } }));
            let statuses = pod.status.container_statuses.as_mut().unwrap();
            let last = json!({ "terminated": {
                "exitCode": 255, "startedAt": "2026-01-01T00:00:00Z", "finishedAt": time,
            } });
            statuses[0].last_state = serde_json::from_value(last).unwrap();
            pod
        };
        assert_eq!(trouble(&ended_after("2026-01-01T00:10:01Z")), None);
        assert_eq!(trouble(&ended_after("2026-01-01T00:00:03Z")).unwrap().reason, "CrashLoopBackOff");
    }

    #[test]
    fn an_evicted_pod_tells_why_and_not_how_its_containers_ended() {
        let mut pod = after_a_crash(3, false, &json!({ "terminated": { "exitCode": 137 } }));
        pod.status.phase = Some("Failed".to_owned());
        pod.status.reason = Some("Evicted".to_owned());
        assert_eq!(trouble(&pod).unwrap().reason, "Evicted");
    }

    #[test]
    fn a_pod_on_its_way_has_no_trouble() {
        assert_eq!(trouble(&waiting("ContainerCreating", "")), None);
    }

    #[test]
    fn a_pod_without_a_node_tells_the_schedulers_words() {
        let pod = pod(&json!({ "conditions": [
            { "type": "PodScheduled", "status": "False", "message": "0/1 nodes are available" },
        ] }));
        assert!(trouble(&pod).unwrap().message.contains("0/1 nodes are available"));
    }
}
