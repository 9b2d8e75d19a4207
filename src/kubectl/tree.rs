//! A CachedService and what belongs to it, as a tree for people. PURE.

use std::fmt::Write;

use k8s_openapi::{
    api::{
        autoscaling::v2::HorizontalPodAutoscaler,
        core::v1::{Pod, Service},
    },
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::ResourceExt;
use serde::Serialize;
use serde_json::Value;

use super::{
    children::Children,
    figures::{Told, cache_node, sidecar_node},
};

/// A line, and what stands below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Kind and name.
    pub title: String,
    /// How it fares.
    pub state: String,
    /// The same for programs, where there is more than words: what a sidecar told.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub figures: Value,
    /// What it is made of.
    pub below: Vec<Node>,
}

impl Node {
    pub(super) fn leaf(title: impl Into<String>, state: impl Into<String>) -> Self {
        Self::above(title, state, Vec::new())
    }

    pub(super) fn above(title: impl Into<String>, state: impl Into<String>, below: Vec<Self>) -> Self {
        Self { title: title.into(), state: state.into(), figures: Value::Null, below }
    }
}

/// The tree of a CachedService.
#[must_use]
pub fn tree(children: &Children, sidecars: &Told) -> Node {
    let Children { service, deployment, pods, autoscaler, front, redis } = children;
    let status = service.status.clone().unwrap_or_default();
    let mut below: Vec<Node> = status
        .conditions
        .iter()
        .filter(|condition| is_of_interest(condition))
        .map(|condition| {
            let Condition { type_, status, reason, message, .. } = condition;
            Node::leaf(format!("{type_}={status}"), format!("{reason}: {message}"))
        })
        .collect();
    if let Some(deployment) = deployment {
        let seen = deployment.status.clone().unwrap_or_default();
        let (ready, wanted) = (seen.ready_replicas.unwrap_or(0), deployment.spec.replicas.unwrap_or(1));
        let settings = status.sidecars.as_ref().and_then(|told| told.settings.as_deref());
        let pods = pods.iter().map(|pod| pod_node(pod, sidecars.get(&pod.name_any()), settings)).collect();
        let title = format!("Deployment/{}", deployment.name_any());
        below.push(Node::above(title, format!("{ready} of {wanted} pods ready"), pods));
    }
    below.extend(cache_node(service, sidecars));
    below.extend(autoscaler.as_ref().map(|autoscaler| autoscaler_node(autoscaler, status.cpu.as_deref())));
    below.extend(front.as_ref().map(front_node));
    if let Some(redis) = redis {
        let ready = redis.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
        let wanted = redis.spec.replicas.unwrap_or(1);
        below.push(Node::leaf(
            format!("StatefulSet/{}", redis.name_any()),
            format!("{ready} of {wanted} pods ready"),
        ));
    }
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
    let state = ready.map_or("no status yet".to_owned(), |ready| {
        format!("Ready={} ({}: {})", ready.status, ready.reason, ready.message)
    });
    Node::above(format!("CachedService/{}", service.name_any()), state, below)
}

/// What is well needs no line of its own.
fn is_of_interest(condition: &Condition) -> bool {
    match condition.type_.as_str() {
        "Ready" => false,
        "Progressing" | "Degraded" | "Paused" => condition.status == "True",
        _ => condition.status != "True",
    }
}

fn pod_node(pod: &Pod, sidecar: Option<&Result<Value, String>>, settings: Option<&str>) -> Node {
    let status = pod.status.clone().unwrap_or_default();
    let is_ready = status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let restarts: i32 =
        status.container_statuses.iter().flatten().map(|container| container.restart_count).sum();
    let mut state = match (pod.metadata.deletion_timestamp.is_some(), is_ready) {
        (true, _) => "leaving".to_owned(),
        (false, true) => "ready".to_owned(),
        (false, false) => format!("{}, not ready", status.phase.unwrap_or_default()),
    };
    if restarts > 0 {
        let _ = write!(state, ", {restarts} restarts");
    }
    let below = sidecar.map(|told| sidecar_node(told, settings)).into_iter().collect();
    Node::above(format!("Pod/{}", pod.name_any()), state, below)
}

fn autoscaler_node(autoscaler: &HorizontalPodAutoscaler, cpu: Option<&str>) -> Node {
    let (least, most) = (autoscaler.spec.min_replicas.unwrap_or(1), autoscaler.spec.max_replicas);
    let cpu = cpu.map_or(String::new(), |cpu| format!(", CPU {cpu}"));
    Node::leaf(
        format!("HorizontalPodAutoscaler/{}", autoscaler.name_any()),
        format!(
            "{least} to {most} pods, wants {}{cpu}",
            autoscaler.status.as_ref().map_or(0, |status| status.desired_replicas)
        ),
    )
}

fn front_node(front: &Service) -> Node {
    let spec = front.spec.clone().unwrap_or_default();
    let ports: Vec<String> = spec.ports.iter().flatten().map(|port| port.port.to_string()).collect();
    let address = spec.cluster_ip.unwrap_or_default();
    Node::leaf(
        format!("Service/{}", front.name_any()),
        format!("{} {address}:{}", spec.type_.unwrap_or_default(), ports.join(",")),
    )
}

/// The tree as text, a line for each node.
#[must_use]
pub fn text(root: &Node) -> String {
    let mut text = format!("{}  {}\n", root.title, root.state);
    push(&mut text, &root.below, "");
    text
}

fn push(text: &mut String, nodes: &[Node], indent: &str) {
    for (index, node) in nodes.iter().enumerate() {
        let is_last = index + 1 == nodes.len();
        let (branch, beyond) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let _ = writeln!(text, "{indent}{branch}{}  {}", node.title, node.state);
        push(text, &node.below, &format!("{indent}{beyond}"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn children() -> Children {
        let pod = |name: &str, ready: &str, restarts: i32| {
            from_value(json!({
                "metadata": { "name": name },
                "status": {
                    "phase": "Running",
                    "conditions": [{ "type": "Ready", "status": ready }],
                    "containerStatuses": [{ "name": "app", "image": "", "imageID": "", "ready": true, "restartCount": restarts }],
                },
            }))
            .unwrap()
        };
        let condition = |type_: &str, status: &str, reason: &str| {
            json!({
                "type": type_, "status": status, "reason": reason, "message": format!("of {type_}"),
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            })
        };
        let service = json!({
            "apiVersion": "cachedservice.dev/v1alpha1",
            "kind": "CachedService",
            "metadata": { "name": "shop" },
            "spec": { "image": "shop:1" },
            "status": { "cpu": "35%/70%", "conditions": [
                condition("Ready", "True", "Serving"),
                condition("Degraded", "False", "AllWell"),
                condition("RedisReady", "False", "Unreachable"),
            ] },
        });
        Children {
            service: from_value(service).unwrap(),
            deployment: Some(
                from_value(json!({
                    "metadata": { "name": "shop" },
                    "spec": { "replicas": 2, "selector": {}, "template": {} },
                    "status": { "readyReplicas": 1 },
                }))
                .unwrap(),
            ),
            pods: vec![pod("shop-a", "True", 0), pod("shop-b", "False", 3)],
            autoscaler: None,
            front: Some(
                from_value(json!({
                    "metadata": { "name": "shop" },
                    "spec": { "type": "ClusterIP", "clusterIP": "10.0.0.1", "ports": [{ "port": 80 }] },
                }))
                .unwrap(),
            ),
            redis: None,
        }
    }

    #[test]
    fn what_is_not_well_and_what_is_there_has_a_line_each() {
        let told = Told::from([
            ("shop-a".to_owned(), Ok(json!({ "ready": true }))),
            ("shop-b".to_owned(), Err("no answer within 5 s".to_owned())),
        ]);
        assert_eq!(
            text(&tree(&children(), &told)),
            "\
CachedService/shop  Ready=True (Serving: of Ready)
├─ RedisReady=False  Unreachable: of RedisReady
├─ Deployment/shop  1 of 2 pods ready
│  ├─ Pod/shop-a  ready
│  │  └─ sidecar  ready
│  └─ Pod/shop-b  Running, not ready, 3 restarts
│     └─ sidecar  does not answer: no answer within 5 s
└─ Service/shop  ClusterIP 10.0.0.1:80
"
        );
    }

    #[test]
    fn a_cache_has_a_line_with_the_figures_of_all_its_sidecars() {
        let mut children = children();
        children.service.spec.cache = from_value(json!({ "http": {} })).unwrap();
        let told = Told::from([
            ("shop-a".to_owned(), Ok(json!({ "hits": 3, "misses": 0, "savedRequests": 3, "settings": "d" }))),
            ("shop-b".to_owned(), Ok(json!({ "hits": 0, "misses": 1, "savedRequests": 0, "settings": "e" }))),
        ]);
        let told_of = |children: &Children| text(&tree(children, &told));
        let line = "├─ cache  75.0 % of 4 requests from the cache, 3 requests saved";
        assert!(told_of(&children).contains(&format!("{line}\n")), "{}", told_of(&children));
        let status = json!({ "sidecars": { "settings": "d" } });
        children.service.status = from_value(status).unwrap();
        let text = told_of(&children);
        assert!(text.contains(&format!("{line}, settings loaded 1/2\n")), "{text}");
        assert!(text.contains("hits 100.0 % (3 of 3), 3 requests saved, settings loaded\n"), "{text}");
        assert!(text.contains("settings not loaded yet\n"), "{text}");
    }
}
