//! The plan for specs and sightings of all kinds.

mod balancing;
mod near_cache;
mod sidecar;

use serde_json::{Value, json};

use super::*;
use crate::operator::{
    sample::{self, autoscaler, credentials, deployment, nothing, ours, planned},
    seen::Sighting,
};

mod replicas {
    use super::*;

    fn handover(spec: Value, seen: &Seen) -> i32 {
        match planned(spec, seen).unwrap().replicas {
            Replicas::Autoscaled { handover, .. } => handover,
            Replicas::Fixed(replicas) => panic!("fixed at {replicas}"),
        }
    }

    fn running(replicas: i32) -> Seen {
        Seen { deployment: ours(deployment(replicas, &json!({}))), ..nothing() }
    }

    fn scaled(replicas: i32, desired: i32) -> Seen {
        Seen { autoscaler: ours(autoscaler(&json!({ "desiredReplicas": desired }))), ..running(replicas) }
    }

    #[test]
    fn a_new_service_starts_with_min_replicas() {
        assert_eq!(handover(json!({}), &nothing()), 2);
        assert_eq!(handover(json!({ "autoscaling": { "minReplicas": 5 } }), &nothing()), 5);
    }

    #[test]
    fn a_running_service_keeps_its_pods_when_autoscaling_is_switched_on() {
        assert_eq!(handover(json!({}), &running(7)), 7);
    }

    #[test]
    fn a_stopped_service_starts_with_min_replicas_when_autoscaling_is_switched_on() {
        assert_eq!(handover(json!({}), &running(0)), 2);
    }

    #[test]
    fn the_autoscalers_number_comes_before_the_deployments() {
        assert_eq!(handover(json!({}), &scaled(3, 8)), 8);
    }

    #[test]
    fn an_autoscaler_without_a_number_yet_does_not_count() {
        assert_eq!(handover(json!({}), &scaled(6, 0)), 6);
    }

    #[test]
    fn a_deployment_that_was_deleted_comes_back_at_the_autoscalers_number() {
        let seen = Seen { deployment: Sighting::Absent, ..scaled(1, 9) };
        assert_eq!(handover(json!({}), &seen), 9);
    }

    #[test]
    fn the_number_stays_within_the_range() {
        let range = json!({ "autoscaling": { "minReplicas": 4, "maxReplicas": 6 } });
        assert_eq!(handover(range.clone(), &running(1)), 4);
        assert_eq!(handover(range.clone(), &running(30)), 6);
        assert_eq!(handover(range, &scaled(30, 30)), 6);
    }

    #[test]
    fn what_is_not_ours_sets_no_number() {
        let seen = Seen {
            deployment: Sighting::Foreign { owner: "nobody".to_owned() },
            autoscaler: Sighting::Foreign { owner: "nobody".to_owned() },
            ..nothing()
        };
        assert_eq!(handover(json!({}), &seen), 2);
    }

    #[test]
    fn a_fixed_number_is_the_specs_and_min_replicas_without_one() {
        let fixed = |spec| planned(spec, &scaled(7, 7)).unwrap().replicas;
        assert_eq!(fixed(json!({ "autoscaling": { "enabled": false }, "replicas": 3 })), Replicas::Fixed(3));
        assert_eq!(fixed(json!({ "autoscaling": { "enabled": false }, "replicas": 0 })), Replicas::Fixed(0));
        let without = json!({ "autoscaling": { "enabled": false, "minReplicas": 4 } });
        assert_eq!(fixed(without), Replicas::Fixed(4));
    }

    #[test]
    fn ready_needs_the_fixed_number_or_min_replicas() {
        let least = |spec| planned(spec, &running(9)).unwrap().replicas.least();
        assert_eq!(least(json!({ "autoscaling": { "enabled": false }, "replicas": 3 })), 3);
        assert_eq!(least(json!({ "autoscaling": { "minReplicas": 4 } })), 4);
    }
}

mod durations {
    use super::*;

    fn shutdown(drain: &str, timeout: &str) -> Result<ShutdownPlan, Invalid> {
        let spec = json!({ "shutdown": { "drain": drain, "timeout": timeout } });
        planned(spec, &nothing()).map(|plan| plan.shutdown)
    }

    fn deadline(text: &str) -> Result<i32, Invalid> {
        planned(json!({ "progressDeadline": text }), &nothing()).map(|plan| plan.progress_deadline_seconds)
    }

    #[test]
    fn a_leaving_pod_has_the_drain_and_then_the_timeout() {
        assert_eq!(shutdown("5s", "30s").unwrap(), ShutdownPlan { drain_seconds: 5, grace_seconds: 35 });
    }

    #[test]
    fn a_part_of_a_second_is_rounded_up() {
        assert_eq!(shutdown("1ms", "1s1ms").unwrap(), ShutdownPlan { drain_seconds: 1, grace_seconds: 3 });
        assert_eq!(deadline("90s1ms").unwrap(), 91);
    }

    #[test]
    fn zero_becomes_the_least_that_kubernetes_takes() {
        assert_eq!(shutdown("0s", "0s").unwrap(), ShutdownPlan { drain_seconds: 0, grace_seconds: 1 });
        assert_eq!(deadline("0s").unwrap(), 1);
    }

    #[test]
    fn a_day_is_the_longest_duration() {
        assert_eq!(deadline("24h").unwrap(), 86_400);
        assert_eq!(shutdown("24h", "24h").unwrap().grace_seconds, 2 * 86_400);
        let invalid = deadline("24h1ms").unwrap_err();
        assert_eq!(invalid.to_string(), "spec.progressDeadline: 24h1ms is too long; write at most 24h");
    }

    #[test]
    fn what_is_no_duration_is_refused_under_the_name_of_its_field() {
        assert_eq!(shutdown("5", "30s").unwrap_err().field, "spec.shutdown.drain");
        assert_eq!(shutdown("5s", "").unwrap_err().field, "spec.shutdown.timeout");
        let invalid = deadline("soon").unwrap_err();
        assert_eq!(invalid.field, "spec.progressDeadline");
        assert!(invalid.problem.contains("10m"), "{invalid}");
    }
}

mod redis {
    use super::*;
    use crate::operator::external::ExternalState;

    fn standalone(redis: &Value) -> Result<StandaloneRedis, Invalid> {
        match planned(json!({ "redis": redis }), &nothing())?.redis {
            RedisPlan::Standalone(redis) => Ok(*redis),
            RedisPlan::External { .. } => panic!("external"),
        }
    }

    #[test]
    fn data_may_fill_three_quarters_of_the_memory() {
        let redis = standalone(&json!({ "memory": "1Gi" })).unwrap();
        assert_eq!(redis.max_memory_bytes, 768 * 1024 * 1024);
        assert_eq!(redis.memory, Quantity("1Gi".to_owned()));
    }

    #[test]
    fn memory_that_is_no_amount_is_refused_with_examples() {
        for memory in ["", "lots", "-1Gi", "1Zi"] {
            let invalid = standalone(&json!({ "memory": memory })).unwrap_err();
            assert_eq!(invalid.field, "spec.redis.memory", "{memory}");
            assert!(invalid.problem.contains("256Mi"), "{invalid}");
        }
    }

    #[test]
    fn the_installations_image_is_used_where_the_spec_names_none() {
        assert_eq!(standalone(&json!({})).unwrap().image, "redis:8.2");
        assert_eq!(standalone(&json!({ "image": "mine:1" })).unwrap().image, "mine:1");
    }

    #[test]
    fn the_credentials_are_those_of_the_secret() {
        let redis = standalone(&json!({})).unwrap();
        assert_eq!(redis.credentials, Some(credentials("first")));
    }

    #[test]
    fn without_auth_there_are_no_credentials() {
        assert_eq!(standalone(&json!({ "auth": { "enabled": false } })).unwrap().credentials, None);
    }

    #[test]
    fn registry_credentials_reach_redis_too() {
        let plan = planned(json!({ "imagePullSecrets": [{ "name": "registry" }] }), &nothing()).unwrap();
        let RedisPlan::Standalone(redis) = plan.redis else { panic!("external") };
        assert_eq!(redis.image_pull_secrets, [LocalObjectReference { name: "registry".to_owned() }]);
    }

    fn external() -> Value {
        json!({ "redis": { "mode": "External", "external": { "urlSecretRef": { "name": "cache" } } } })
    }

    #[test]
    fn external_without_a_reference_says_what_to_write() {
        let invalid = planned(json!({ "redis": { "mode": "External" } }), &nothing()).unwrap_err();
        assert!(invalid.to_string().contains("urlSecretRef: {name: my-redis, key: url}"), "{invalid}");
    }

    #[test]
    fn pods_are_rolled_with_the_url_as_soon_as_it_is_known() {
        let revision = |external_state| {
            let seen = Seen { external: external_state, ..nothing() };
            match planned(external(), &seen).unwrap().redis {
                RedisPlan::External { url, revision } => {
                    assert_eq!((url.name.as_str(), url.key.as_str()), ("cache", "url"));
                    revision
                }
                RedisPlan::Standalone(_) => panic!("standalone"),
            }
        };
        let text = || "r1".to_owned();
        assert_eq!(revision(None), "");
        assert_eq!(revision(Some(ExternalState::Unknown)), "");
        let no_url = ExternalState::NoUrl { reason: "SecretMissing", message: text() };
        assert_eq!(revision(Some(no_url)), "");
        assert_eq!(revision(Some(ExternalState::Connecting { revision: text() })), "r1");
        let unreachable = ExternalState::Unreachable { revision: text(), endpoint: text(), message: text() };
        assert_eq!(revision(Some(unreachable)), "r1");
        assert_eq!(revision(Some(ExternalState::Answered { revision: text(), endpoint: text() })), "r1");
    }
}

mod template_revision {
    use super::*;
    use crate::{
        api::{CachedServiceStatus, TemplateRevisions, names::TEMPLATE_REVISION_ANNOTATION},
        operator::sample::{revision_is_of, stateful_set},
    };

    fn revision(spec: Value, seen: &Seen) -> Result<i32, Invalid> {
        planned(spec, seen).map(|plan| plan.template_revision.number())
    }

    /// A Deployment of this revision, written by this manager.
    fn running(revision: &str, manager: &str) -> Seen {
        let mut deployment = deployment(2, &json!({}));
        let annotations = &mut deployment.spec.template.metadata.annotations;
        annotations.insert(TEMPLATE_REVISION_ANNOTATION.to_owned(), revision.to_owned());
        deployment.metadata.managed_fields = Some(vec![revision_is_of(manager)]);
        Seen { deployment: ours(deployment), ..nothing() }
    }

    fn ours_of(revision: &str) -> Seen {
        running(revision, "cachedservice-operator")
    }

    fn remembering(current: i32, seen: Seen) -> Seen {
        let revisions = TemplateRevisions { current: Some(current), newest: 2 };
        let status =
            CachedServiceStatus { template_revision: Some(revisions), ..CachedServiceStatus::default() };
        Seen { status, ..seen }
    }

    #[test]
    fn a_new_service_gets_the_newest() {
        assert_eq!(revision(json!({}), &nothing()), Ok(2));
    }

    #[test]
    fn what_runs_stays() {
        assert_eq!(revision(json!({}), &ours_of("1")), Ok(1));
        assert_eq!(revision(json!({ "image": "other" }), &remembering(2, ours_of("1"))), Ok(1));
    }

    #[test]
    fn what_the_user_writes_comes_first() {
        assert_eq!(revision(json!({ "templateRevision": 2 }), &ours_of("1")), Ok(2));
        assert_eq!(revision(json!({ "templateRevision": 1 }), &ours_of("2")), Ok(1));
        assert_eq!(revision(json!({ "templateRevision": 1 }), &nothing()), Ok(1));
    }

    #[test]
    fn a_deployment_that_was_deleted_comes_back_with_its_own() {
        assert_eq!(revision(json!({}), &remembering(1, nothing())), Ok(1));
    }

    #[test]
    fn where_only_redis_is_left_it_is_not_restarted() {
        let mut set = stateful_set("d1", &json!({}));
        let annotations = &mut set.spec.template.metadata.annotations;
        annotations.insert(TEMPLATE_REVISION_ANNOTATION.to_owned(), "1".to_owned());
        set.metadata.managed_fields = Some(vec![revision_is_of("cachedservice-operator")]);
        assert_eq!(revision(json!({}), &Seen { stateful_set: ours(set), ..nothing() }), Ok(1));
    }

    #[test]
    fn what_somebody_else_wrote_into_the_deployment_does_not_count() {
        assert_eq!(revision(json!({}), &remembering(2, running("1", "kubectl-edit"))), Ok(2));
        assert_eq!(revision(json!({}), &remembering(1, running("9", "kubectl-edit"))), Ok(1));
    }

    #[test]
    fn an_unknown_one_is_refused_and_nothing_is_rolled() {
        let invalid = revision(json!({ "templateRevision": 3 }), &nothing()).unwrap_err();
        assert_eq!(invalid.field, "spec.templateRevision");
        assert!(invalid.problem.contains("knows 1 to 2"), "{invalid}");
        let invalid = revision(json!({}), &ours_of("3")).unwrap_err();
        assert!(invalid.problem.contains("the pods have revision 3"), "{invalid}");
        assert_eq!(revision(json!({ "templateRevision": 2 }), &ours_of("3")), Ok(2));
    }
}

#[test]
fn an_object_that_was_never_in_a_cluster_is_refused() {
    let mut service = sample::service(json!({}));
    service.metadata.uid = None;
    let invalid = plan(&service, &nothing(), &Defaults::default()).unwrap_err();
    assert_eq!(invalid.field, "metadata.uid");
}

#[test]
fn a_template_with_an_unknown_field_is_refused_under_its_path() {
    let spec = json!({ "template": { "spec": { "volumes": [{ "name": "a", "emptydir": {} }] } } });
    let invalid = planned(spec, &nothing()).unwrap_err();
    assert_eq!(invalid.field, "spec.template.spec.volumes[0].emptydir");
}

#[test]
fn a_metric_whose_quantity_is_none_is_refused_under_its_path() {
    let metric = json!({ "type": "Pods", "pods": {
        "metric": { "name": "rps" }, "target": { "type": "AverageValue", "averageValue": "30/s" },
    } });
    let invalid = planned(json!({ "autoscaling": { "metrics": [metric] } }), &nothing()).unwrap_err();
    assert_eq!(invalid.field, "spec.autoscaling.metrics[0].pods.target.averageValue");
}
