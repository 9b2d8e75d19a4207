//! The status for situations of all kinds, each made from one in which all is well.

mod application;
mod autoscaling;
mod balancing;
mod cache;
mod conditions;
mod news;
mod parts;
mod publish;
mod redis;
mod revision;
mod sidecars;
mod switches;

use k8s_openapi::apimachinery::pkg::apis::meta::v1;
use serde_json::{Value, json};

use super::*;
use crate::operator::{
    apply::Outcome,
    sample::{applied, autoscaler, deployment, nothing, ours, planned, service, stateful_set},
    sidecars::reading::{Answered, Asked, Peers, Reading, Upstream},
    trouble::Trouble,
};

/// What the status is made from.
struct Situation {
    spec: Value,
    annotations: Vec<(&'static str, String)>,
    seen: Seen,
    /// Changes what the apply came to.
    apply: fn(&mut Applied),
    /// What the Deployment controller was told last.
    ordered: Option<Ordered>,
    attempts: u32,
    now: Timestamp,
}

impl Situation {
    /// Everything runs: two pods, Redis, figures of the autoscaler.
    fn all_well() -> Self {
        let seen = Seen {
            deployment: ours(deployment(2, &pods(2))),
            stateful_set: ours(stateful_set("d1", &answering())),
            autoscaler: ours(autoscaler(&following(34))),
            ..nothing()
        };
        Self {
            spec: json!({}),
            annotations: Vec::new(),
            seen,
            apply: |_| {},
            ordered: None,
            attempts: 0,
            now: time("2026-01-01T00:00:00Z"),
        }
    }

    /// Nothing is there yet.
    fn new() -> Self {
        Self { seen: nothing(), ..Self::all_well() }
    }

    fn spec(self, spec: Value) -> Self {
        Self { spec, ..self }
    }

    fn annotated(mut self, name: &'static str, value: &str) -> Self {
        self.annotations.push((name, value.to_owned()));
        self
    }

    fn deployment(mut self, replicas: i32, status: &Value) -> Self {
        self.seen.deployment = ours(deployment(replicas, status));
        self
    }

    /// The Deployment is as ordered, and somebody has scaled it to this since: its controller has not seen that.
    fn just_scaled_to(mut self, replicas: i32) -> Self {
        let before = self.seen.deployment.ours().unwrap().clone();
        self.ordered = Ordered::after(None, Some(&before), None);
        let mut scaled = before;
        scaled.spec.replicas = Some(replicas);
        scaled.metadata.generation = Some(3);
        self.seen.deployment = ours(scaled);
        self
    }

    fn stateful_set(mut self, digest: &str, status: &Value) -> Self {
        self.seen.stateful_set = ours(stateful_set(digest, status));
        self
    }

    fn autoscaler(mut self, status: &Value) -> Self {
        self.seen.autoscaler = ours(autoscaler(status));
        self
    }

    fn trouble(self, component: &str, reason: &str, message: &str) -> Self {
        self.trouble_of_template(None, component, reason, message)
    }

    fn trouble_of_template(
        mut self,
        template: Option<&str>,
        component: &str,
        reason: &str,
        message: &str,
    ) -> Self {
        self.seen.troubles.push(Trouble {
            component: component.to_owned(),
            template: template.map(ToOwned::to_owned),
            reason: reason.to_owned(),
            message: message.to_owned(),
        });
        self
    }

    /// With what was reported in a situation before.
    fn after(mut self, before: CachedServiceStatus) -> Self {
        self.seen.status = before;
        self
    }

    /// With what the sidecars told.
    fn asked(mut self, asked: Option<Vec<Asked>>) -> Self {
        self.seen.sidecars = asked;
        self
    }

    fn applying(self, apply: fn(&mut Applied)) -> Self {
        Self { apply, ..self }
    }

    fn attempts(self, attempts: u32) -> Self {
        Self { attempts, ..self }
    }

    fn status(&self) -> CachedServiceStatus {
        self.status_in_generation(3)
    }

    fn status_in_generation(&self, generation: i64) -> CachedServiceStatus {
        let mut service = service(self.spec.clone());
        service.metadata.generation = Some(generation);
        let annotations = self.annotations.iter().cloned();
        service.metadata.annotations =
            Some(annotations.map(|(name, value)| (name.to_owned(), value)).collect());
        let plan = planned(self.spec.clone(), &self.seen);
        let applied = plan.is_ok().then(|| {
            let mut applied = applied(&self.seen);
            (self.apply)(&mut applied);
            applied
        });
        let ordered = self.ordered.as_ref();
        status(&service, &self.seen, &plan, applied.as_ref(), ordered, self.attempts, self.now)
    }

    /// The condition as `True Reason`.
    #[track_caller]
    fn shows(&self, type_: &str, expected: &str) -> String {
        let status = self.status();
        let condition = condition(&status, type_);
        assert_eq!(format!("{} {}", condition.status, condition.reason), expected, "{condition:?}");
        condition.message.clone()
    }
}

fn condition<'a>(status: &'a CachedServiceStatus, type_: &str) -> &'a v1::Condition {
    status.conditions.iter().find(|condition| condition.type_ == type_).unwrap()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A sidecar that told this.
fn told(pod: &str, reading: Reading) -> Asked {
    Asked::after(None, pod.to_owned(), Ok(reading))
}

fn silent_sidecar(pod: &str) -> Asked {
    let silent = || Err("no answer within 1 s".to_owned());
    let once = Asked::after(None, pod.to_owned(), silent());
    Asked::after(Some(&once), pod.to_owned(), silent())
}

/// The status of a Deployment whose pods are all of the newest template, `available` of them available.
fn pods(available: i32) -> Value {
    json!({
        "replicas": 2, "updatedReplicas": 2, "readyReplicas": available, "availableReplicas": available,
        "conditions": [{ "type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable" }],
    })
}

/// The status of a StatefulSet whose pod is ready and of the newest template.
fn answering() -> Value {
    json!({
        "replicas": 1, "readyReplicas": 1, "updatedReplicas": 1,
        "currentRevision": "a", "updateRevision": "a",
    })
}

/// The status of a StatefulSet whose pod is not ready.
fn silent() -> Value {
    json!({
        "replicas": 1, "readyReplicas": 0, "updatedReplicas": 1,
        "currentRevision": "a", "updateRevision": "a",
    })
}

/// The status of an autoscaler that works, at this CPU.
fn following(cpu: i32) -> Value {
    json!({
        "desiredReplicas": 2,
        "conditions": [
            { "type": "AbleToScale", "status": "True", "reason": "ReadyForNewScale" },
            { "type": "ScalingActive", "status": "True", "reason": "ValidMetricFound" },
        ],
        "currentMetrics": [{ "type": "ContainerResource", "containerResource": {
            "name": "cpu", "container": "app", "current": { "averageUtilization": cpu },
        } }],
    })
}

/// An answer of the API server to the write of a Deployment.
fn refused<K>(code: u16, message: &str) -> Outcome<K> {
    let answer = kube::core::Status { code, message: message.to_owned(), ..kube::core::Status::default() };
    Err(ChildError::Refused {
        act: "apply",
        kind: "Deployment",
        name: "shop".to_owned(),
        source: kube::Error::Api(Box::new(answer)),
    })
}

fn foreign<K>(kind: &'static str) -> Outcome<K> {
    Err(ChildError::Foreign { kind, name: "shop".to_owned(), owner: "nobody".to_owned() })
}
