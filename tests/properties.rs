//! What holds for every spec and whatever is seen of the cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod pure;

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use cachedservice::{
    api::{
        CachedService, Resources,
        names::{
            APP_CONTAINER, APP_OWN_PORT_NAME, APP_PORT_NAME, NAME_LABEL, SIDECAR_HTTP_PORT,
            TEMPLATE_ANNOTATION,
        },
    },
    operator::{
        apply::Applied,
        children::{Children, children},
        external::ExternalState,
        observe::Seen,
        plan::{Plan, RedisPlan, Replicas, plan},
        seen::Sighting,
        status::status,
        trouble::Trouble,
    },
    settings::Settings,
};
use k8s_openapi::{
    api::core::v1::{Container, PodTemplateSpec, Probe},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use proptest::{collection::vec, prelude::*, sample::select, test_runner::Config};
use pure::generate;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn config() -> Config {
    // A failure prints its case; a file of seeds would go stale with the generator.
    Config { cases: 200, failure_persistence: None, ..Config::default() }
}

/// A CachedService that the operator can read, from a random spec.
fn services() -> impl Strategy<Value = CachedService> {
    generate::spec().prop_filter_map("readable", |spec| {
        serde_json::from_value(json!({
            "apiVersion": "cachedservice.dev/v1alpha1",
            "kind": "CachedService",
            "metadata": { "name": "shop", "namespace": "prod", "uid": "0-1", "generation": 3 },
            "spec": spec,
        }))
        .ok()
    })
}

fn object<K: DeserializeOwned>(kind: &str, fields: &Value) -> Sighting<K> {
    let mut object =
        json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": "shop", "generation": 2 } });
    object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    Sighting::Ours(Arc::new(serde_json::from_value(object).unwrap()))
}

fn sightings() -> impl Strategy<Value = Seen> {
    let count = || prop_oneof![4 => 0..6_i32, 1 => Just(i32::MAX)];
    let word = || select(vec!["True", "False", "Unknown"]);
    let deployment = (vec(count(), 5), word(), 0..4_i64, ".*").prop_map(|(counts, word, generation, text)| {
        let reasons = ["ProgressDeadlineExceeded", "NewReplicaSetAvailable", "ReplicaSetUpdated", &text];
        json!({
            "spec": {
                "replicas": counts[0],
                "template": { "metadata": { "annotations": { TEMPLATE_ANNOTATION: "a" } } },
            },
            "status": {
                "observedGeneration": generation, "replicas": counts[1], "updatedReplicas": counts[2],
                "readyReplicas": counts[3], "availableReplicas": counts[4],
                "conditions": [
                    { "type": "Progressing", "status": word, "reason": reasons[usize::try_from(generation).unwrap()] },
                    { "type": "ReplicaFailure", "status": word, "reason": "FailedCreate", "message": text },
                ],
            },
        })
    });
    let set = (vec(count(), 3), "[ab]", "[ab]").prop_map(|(counts, current, update)| {
        json!({ "status": {
            "replicas": counts[0], "readyReplicas": counts[1], "updatedReplicas": counts[2],
            "currentRevision": current, "updateRevision": update,
        } })
    });
    let autoscaler = (any::<i32>(), any::<i32>(), word(), ".*").prop_map(|(cpu, desired, word, text)| {
        json!({ "status": {
            "desiredReplicas": desired,
            "conditions": [{ "type": "ScalingActive", "status": word, "reason": text, "message": text }],
            "currentMetrics": [{ "type": "ContainerResource", "containerResource": {
                "name": "cpu", "container": "app", "current": { "averageUtilization": cpu },
            } }],
        } })
    });
    let external = prop_oneof![
        Just(None),
        Just(Some(ExternalState::Unknown)),
        ("[a-f]{16}", ".*", ".{0,3000}").prop_map(|(revision, endpoint, message)| {
            Some(ExternalState::Unreachable { revision, endpoint, message })
        }),
        ".*".prop_map(|message| Some(ExternalState::NoUrl { reason: "SecretMissing", message })),
        "[a-f]{16}".prop_map(|revision| Some(ExternalState::Connecting { revision })),
        ("[a-f]{16}", ".*")
            .prop_map(|(revision, endpoint)| Some(ExternalState::Answered { revision, endpoint })),
    ];
    let troubles = vec(
        (select(vec!["app", "redis", "other"]), proptest::option::of("[ab]"), ".*", ".{0,3000}").prop_map(
            |(component, template, reason, message)| Trouble {
                component: component.to_owned(),
                template,
                reason,
                message,
            },
        ),
        0..3,
    );
    let refusal = proptest::option::of(".{0,3000}");
    (
        at_a_name("Deployment", deployment),
        at_a_name("StatefulSet", set),
        at_a_name("HorizontalPodAutoscaler", autoscaler),
        external,
        troubles,
        refusal,
    )
        .prop_map(|(deployment, stateful_set, autoscaler, external, troubles, redis_refusal)| Seen {
            deployment,
            stateful_set,
            autoscaler,
            external,
            troubles,
            redis_refusal,
            ..pure::nothing()
        })
}

/// What stands at the name of a child: mostly ours, with these fields.
fn at_a_name<K: DeserializeOwned + Clone + Debug + 'static>(
    kind: &'static str,
    fields: impl Strategy<Value = Value> + 'static,
) -> BoxedStrategy<Sighting<K>> {
    prop_oneof![
        7 => fields.prop_map(move |fields| object::<K>(kind, &fields)),
        1 => Just(Sighting::Absent),
        1 => Just(Sighting::Leaving),
        1 => ".*".prop_map(|owner| Sighting::Foreign { owner }),
    ]
    .boxed()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_spec_becomes_children_or_says_which_field_is_wrong(service in services(), seen in sightings()) {
        match plan(&service, &seen, &pure::defaults()) {
            Ok(plan) => {
                let built = children(&plan);
                prop_assert_eq!(
                    pure::manifests(&built), pure::manifests(&children(&plan)), "the same plan, other children"
                );
                names_and_owners(&built)?;
                selectors(&built)?;
                pods(&plan, &built)?;
            }
            Err(invalid) => {
                prop_assert!(invalid.field.starts_with("spec."), "{}", invalid);
                prop_assert!(!invalid.problem.is_empty(), "{}", invalid);
            }
        }
    }

    #[test]
    fn replicas_stay_within_the_range(service in services(), seen in sightings()) {
        let Ok(plan) = plan(&service, &seen, &pure::defaults()) else { return Ok(()) };
        let replicas = children(&plan).deployment.spec.replicas;
        match &plan.replicas {
            Replicas::Fixed(fixed) => prop_assert_eq!(replicas, Some(*fixed)),
            Replicas::Autoscaled { autoscaling, handover } => {
                prop_assert_eq!(replicas, None);
                if autoscaling.min_replicas <= autoscaling.max_replicas {
                    let range = autoscaling.min_replicas..=autoscaling.max_replicas;
                    prop_assert!(range.contains(handover), "{} is not in {:?}", handover, range);
                }
            }
        }
    }

    #[test]
    fn every_situation_has_a_status(
        earlier in (services(), sightings()), service in services(), seen in sightings(), attempts in 0..9_u32,
    ) {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let told = |service: &CachedService, seen: &Seen| {
            let plan = plan(service, seen, &pure::defaults());
            let applied = plan.is_ok().then(|| applied(seen));
            (status(service, seen, &plan, applied.as_ref(), None, attempts, now), plan)
        };
        let (mut before, mut seen) = (earlier.0, seen);
        before.metadata.generation = Some(2);
        seen.status = told(&before, &earlier.1).0;
        let (status, plan) = told(&service, &seen);
        prop_assert_eq!(status.observed_generation, Some(3));
        // Of a spec that was not applied, the tier that runs is told of.
        let was_told = |type_: &str| seen.status.conditions.iter().any(|known| known.type_ == type_);
        let (has_cache, balances) = match &plan {
            Ok(plan) => (plan.spec.has_cache(), plan.spec.balancing().is_some()),
            Err(_) => (was_told("CacheReady"), was_told("BalancingReady")),
        };
        prop_assert_eq!(status.conditions.len(), 8 + usize::from(has_cache) + usize::from(balances));
        for condition in &status.conditions {
            // Of a spec that was not applied, a part tells of an earlier one.
            let is_part = condition.type_.ends_with("Ready") && condition.type_ != "Ready";
            let is_about = if plan.is_err() && is_part { Some(2) } else { Some(3) };
            prop_assert_eq!(condition.observed_generation, is_about, "{:?}", condition);
            prop_assert!(["True", "False"].contains(&condition.status.as_str()));
            prop_assert!(condition.reason.chars().all(|c| c.is_ascii_alphanumeric()), "{:?}", condition);
            prop_assert!(!condition.reason.is_empty() && condition.message.len() < 1100, "{:?}", condition);
        }
        let is = |type_: &str| status.conditions.iter().any(|known| known.type_ == type_ && known.status == "True");
        prop_assert!(!is("Ready") || is("ApplicationReady"), "{:?}", status.conditions);
        prop_assert!(!is("Ready") || plan.is_ok());
    }

    #[test]
    fn durations_read_as_they_are_written(parts in vec((0..100_000_u64, 0..4_usize), 1..5)) {
        let units = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
        let text = parts.iter().map(|(number, unit)| format!("{number}{}", units[*unit].0)).collect::<Vec<_>>().concat();
        let milliseconds: u64 = parts.iter().map(|(number, unit)| number * units[*unit].1).sum();
        let read = cachedservice::api::parse_duration(&text).unwrap();
        prop_assert_eq!(read, std::time::Duration::from_millis(milliseconds), "{}", text);
    }

    #[test]
    fn a_duration_of_any_text_is_read_or_refused(text in ".*") {
        // Not to panic is all that is asked.
        let _ = cachedservice::api::parse_duration(&text);
    }

    #[test]
    fn memory_of_any_form_leaves_redis_its_quarter(whole in 32..100_000_u64, unit in 0..4_usize) {
        let (suffix, factor) = [("Mi", 1 << 20), ("Gi", 1 << 30), ("M", 1_000_000), ("e6", 1_000_000)][unit];
        let spec = json!({ "image": "a", "redis": { "memory": format!("{whole}{suffix}") } });
        let service: CachedService = serde_json::from_value(json!({
            "apiVersion": "cachedservice.dev/v1alpha1", "kind": "CachedService", "spec": spec,
            "metadata": { "name": "shop", "namespace": "prod", "uid": "0-1" },
        })).unwrap();
        let plan = plan(&service, &pure::nothing(), &pure::defaults()).unwrap();
        let RedisPlan::Standalone(redis) = plan.redis else { panic!("external") };
        let bytes: u64 = whole * factor;
        prop_assert!(redis.max_memory_bytes <= bytes * 3 / 4 && redis.max_memory_bytes + 4 > bytes * 3 / 4);
    }
}

fn names_and_owners(children: &Children) -> Result<(), TestCaseError> {
    for child in pure::manifests(children) {
        let metadata = &child["metadata"];
        let is_redis = metadata["labels"]["app.kubernetes.io/component"] == "redis";
        let suffixes: &[&str] = match child["kind"].as_str() {
            _ if is_redis => &["-redis"],
            Some("Secret") => &["-digest-key", "-sidecar"],
            Some("ConfigMap") => &["-sidecar"],
            Some("Service") => &["", "-peers"],
            _ => &[""],
        };
        let name = metadata["name"].as_str().unwrap_or_default();
        prop_assert!(suffixes.iter().any(|suffix| name == format!("shop{suffix}")), "{}", name);
        prop_assert_eq!(&metadata["namespace"], "prod");
        prop_assert_eq!(&metadata["labels"][NAME_LABEL], "shop");
        prop_assert_eq!(&metadata["ownerReferences"][0]["uid"], "0-1");
        prop_assert_eq!(&metadata["ownerReferences"][0]["controller"], true);
    }
    Ok(())
}

/// Whatever the user's template says, each selector finds its own pods and only them.
fn selectors(children: &Children) -> Result<(), TestCaseError> {
    let app = labels(Some(&children.deployment.spec.template));
    let redis = labels(children.stateful_set.as_ref().map(|set| &set.spec.template));
    let service = children.service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap();
    let budget = children.disruption_budget.as_ref().and_then(|budget| budget.spec.as_ref());
    let budget = budget.map(|spec| required(spec.selector.as_ref()));
    let peers = children.peers_service.as_ref().and_then(|service| service.spec.as_ref());
    let peers = peers.and_then(|spec| spec.selector.clone());
    let of_app = [required(Some(&children.deployment.spec.selector)), service];
    for selector in of_app.into_iter().chain(budget).chain(peers) {
        prop_assert!(selects(&selector, &app), "{:?} {:?}", selector, app);
        prop_assert!(redis.is_empty() || !selects(&selector, &redis), "{:?} {:?}", selector, redis);
    }
    let redis_service = children.redis_service.as_ref().and_then(|service| service.spec.as_ref());
    let redis_service = redis_service.and_then(|spec| spec.selector.clone());
    let set = children.stateful_set.as_ref().map(|set| required(Some(&set.spec.selector)));
    for selector in redis_service.into_iter().chain(set) {
        prop_assert!(selects(&selector, &redis) && !selects(&selector, &app), "{:?}", selector);
    }
    Ok(())
}

fn labels(template: Option<&PodTemplateSpec>) -> BTreeMap<String, String> {
    template.and_then(|template| template.metadata.as_ref()?.labels.clone()).unwrap_or_default()
}

fn required(selector: Option<&LabelSelector>) -> BTreeMap<String, String> {
    selector.and_then(|selector| selector.match_labels.clone()).unwrap()
}

fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// The application's container is the first, and what the operator puts in is valid.
fn pods(plan: &Plan, children: &Children) -> Result<(), TestCaseError> {
    let containers = &children.deployment.spec.template.spec.as_ref().unwrap().containers;
    let apps: Vec<&Container> =
        containers.iter().filter(|container| container.name == APP_CONTAINER).collect();
    prop_assert_eq!(apps.len(), 1);
    let app = &containers[0];
    prop_assert_eq!(&app.name, APP_CONTAINER);
    prop_assert_eq!(app.image.as_ref(), Some(&plan.spec.image));
    let ports = app.ports.iter().flatten().map(|port| (port.container_port, port.name.as_deref()));
    let (taken, own) = match plan.sidecar {
        Some(_) => (vec![(SIDECAR_HTTP_PORT, Some(APP_PORT_NAME))], APP_OWN_PORT_NAME),
        None => (Vec::new(), APP_PORT_NAME),
    };
    let expected: Vec<_> = taken.into_iter().chain([(plan.spec.port, Some(own))]).collect();
    prop_assert_eq!(ports.take(expected.len()).collect::<Vec<_>>(), expected);
    sidecar(plan, children)?;

    let names: Vec<&str> = app.env.iter().flatten().map(|variable| variable.name.as_str()).collect();
    let mut unique = names.clone();
    unique.sort_unstable();
    unique.dedup();
    prop_assert_eq!(names.len(), unique.len(), "{:?}", names);
    prop_assert!(names.contains(&"PORT") && names.contains(&"REDIS_URL"), "{:?}", names);
    for variable in app.env.iter().flatten() {
        prop_assert!(variable.value.is_none() || variable.value_from.is_none(), "{:?}", variable);
    }
    for probe in [&app.startup_probe, &app.readiness_probe, &app.liveness_probe].into_iter().flatten() {
        prop_assert_eq!(handlers(probe), 1, "{:?}", probe);
        // The kubelet asks the application, not what stands before it.
        let asks = json!(probe)["httpGet"]["port"].clone();
        prop_assert!(plan.sidecar.is_none() || asks != APP_PORT_NAME, "{:?}", probe);
    }
    // The autoscaler measures against it.
    let Resources { requests, limits } = &plan.spec.resources;
    let asked = app.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let has_request = asked.is_some_and(|asked| asked.contains_key("cpu"));
    prop_assert!(has_request || limits.contains_key("cpu"), "{:?} {:?}", requests, limits);
    Ok(())
}

/// It is there if and only if a tier is on, the last of the init containers, with what it reads.
fn sidecar(plan: &Plan, children: &Children) -> Result<(), TestCaseError> {
    let pod = children.deployment.spec.template.spec.as_ref().unwrap();
    let wanted = plan.sidecar.is_some();
    prop_assert_eq!(wanted, plan.spec.has_sidecar());
    prop_assert_eq!((children.sidecar_secret.is_some(), children.sidecar_config.is_some()), (wanted, wanted));
    let last = pod.init_containers.iter().flatten().last();
    if !wanted {
        return Ok(());
    }
    let sidecar = last.unwrap();
    prop_assert_eq!((sidecar.name.as_str(), sidecar.restart_policy.as_deref()), ("sidecar", Some("Always")));
    let volumes: Vec<&str> = pod.volumes.iter().flatten().map(|volume| volume.name.as_str()).collect();
    for mount in sidecar.volume_mounts.iter().flatten() {
        prop_assert!(volumes.contains(&mount.name.as_str()), "{} of {:?}", mount.name, volumes);
    }
    let asked = sidecar.resources.iter().flat_map(|resources| [&resources.requests, &resources.limits]);
    prop_assert!(asked.flatten().any(|quantities| quantities.contains_key("cpu")));
    let config = children.sidecar_config.as_ref().and_then(|config| config.data.as_ref()).unwrap();
    let settings =
        Settings::parse(&config["settings.json"]).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(i32::from(settings.app_port), plan.spec.port);
    prop_assert_eq!(settings.http.is_some(), plan.spec.http_cache().is_some());
    prop_assert_eq!(settings.redis.is_some(), volumes.contains(&"sidecar-redis"));
    // Who is asked has a name, and who asks knows itself.
    let env = sidecar.env.iter().flatten().filter(|variable| variable.name == "POD_IP");
    let counts = [children.peers_service.iter().count(), env.count(), settings.balancing.iter().count()];
    let balanced = usize::from(plan.spec.balancing().is_some());
    prop_assert_eq!(counts, [balanced; 3]);
    Ok(())
}

fn handlers(probe: &Probe) -> usize {
    let Probe { exec, grpc, http_get, tcp_socket, .. } = probe;
    [exec.is_some(), grpc.is_some(), http_get.is_some(), tcp_socket.is_some()]
        .into_iter()
        .filter(|there| *there)
        .count()
}

/// An apply that found every child as it should be.
fn applied(seen: &Seen) -> Applied {
    fn object<K>(sighting: &Sighting<K>) -> Option<Arc<K>> {
        match sighting {
            Sighting::Ours(object) => Some(object.clone()),
            Sighting::Absent | Sighting::Leaving | Sighting::Foreign { .. } => None,
        }
    }
    Applied {
        redis_secret: Ok(None),
        redis_config: Ok(None),
        redis_service: Ok(None),
        stateful_set: Ok(object(&seen.stateful_set)),
        service: Ok(None),
        peers_service: Ok(None),
        digest_key: Ok(None),
        sidecar_secret: Ok(None),
        sidecar_config: Ok(None),
        service_account: Ok(None),
        disruption_budget: Ok(None),
        redis_policy: Ok(None),
        redis_claim: Ok(None),
        redis_monitor: Ok(None),
        app_policy: Ok(None),
        ingress: Ok(None),
        http_route: Ok(None),
        app_monitor: Ok(None),
        deployment: Ok(object(&seen.deployment)),
        autoscaler: Ok(object(&seen.autoscaler)),
        changes: Vec::new(),
    }
}
