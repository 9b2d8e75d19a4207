//! Where pods may run, read strictly.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration, TopologySpreadConstraint};
use serde_json::{Value, json};

use super::{Invalid, strict};
use crate::api::{CachedServiceSpec, Redis};

/// Where pods may run.
#[derive(Clone, Debug, Default)]
pub struct Placement {
    /// Nodes and neighbours that they need, prefer or avoid.
    pub affinity: Option<Affinity>,
    /// Taints that they tolerate.
    pub tolerations: Vec<Toleration>,
    /// Labels that a node needs.
    pub node_selector: BTreeMap<String, String>,
    /// What they may preempt.
    pub priority_class_name: Option<String>,
}

impl Placement {
    pub(super) fn of_application(spec: &CachedServiceSpec) -> Result<Self, Invalid> {
        Ok(Self {
            affinity: affinity("spec", spec.affinity.as_ref())?,
            tolerations: tolerations("spec", &spec.tolerations)?,
            node_selector: spec.node_selector.clone(),
            priority_class_name: spec.priority_class_name.clone(),
        })
    }

    pub(super) fn of_redis(redis: &Redis) -> Result<Self, Invalid> {
        Ok(Self {
            affinity: affinity("spec.redis", redis.affinity.as_ref())?,
            tolerations: tolerations("spec.redis", &redis.tolerations)?,
            node_selector: redis.node_selector.clone(),
            priority_class_name: redis.priority_class_name.clone(),
        })
    }
}

fn affinity(parent: &str, written: Option<&Value>) -> Result<Option<Affinity>, Invalid> {
    let parse = |written| strict::parse(parent, "affinity", written, "pod.spec.affinity");
    written.map(parse).transpose()
}

fn tolerations(parent: &str, written: &[Value]) -> Result<Vec<Toleration>, Invalid> {
    strict::parse(parent, "tolerations", &json!(written), "pod.spec.tolerations")
}

/// How the application's pods are spread; `None` where the user leaves it to the operator.
pub(super) fn spread(written: Option<&[Value]>) -> Result<Option<Vec<TopologySpreadConstraint>>, Invalid> {
    let (name, explained) = ("topologySpreadConstraints", "pod.spec.topologySpreadConstraints");
    written.map(|written| strict::parse("spec", name, &json!(written), explained)).transpose()
}
