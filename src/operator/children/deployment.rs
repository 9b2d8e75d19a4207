//! The application's Deployment.
//!
//! The pod template comes about in three layers, the later winning: the
//! operator's defaults, the user's `template`, the fields of the spec.

use std::collections::BTreeMap;

use k8s_openapi::{
    DeepMerge,
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, Lifecycle, LifecycleHandler,
            PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SecretKeySelector, SleepAction,
            TopologySpreadConstraint,
        },
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use super::pod;
use crate::{
    api::{
        ProbeSwitch,
        names::{
            APP, APP_CONTAINER, APP_PORT_NAME, CREDENTIALS_ANNOTATION, PORT_ENV, REDIS_PORT, REDIS_URL_ENV,
            SECRET_URL, TEMPLATE_REVISION, TEMPLATE_REVISION_ANNOTATION,
        },
    },
    operator::plan::{Plan, RedisPlan, Replicas},
};

/// Requested where the user names neither a CPU request nor a CPU limit: an
/// autoscaler without a request has nothing to measure against.
const CPU_REQUEST: &str = "100m";

/// The application's Deployment, without `spec.replicas` where the autoscaler sets it.
pub(super) fn deployment(plan: &Plan) -> Deployment {
    let identity = &plan.identity;
    Deployment {
        metadata: identity.child(&identity.name, APP),
        spec: DeploymentSpec {
            replicas: match plan.replicas {
                Replicas::Fixed(replicas) => Some(replicas),
                Replicas::Autoscaled { .. } => None,
            },
            selector: identity.selector(APP),
            // A new pod is available before an old one leaves.
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::String("25%".to_owned())),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            progress_deadline_seconds: Some(plan.progress_deadline_seconds),
            template: pod_template(plan),
            ..DeploymentSpec::default()
        },
        status: None,
    }
}

fn pod_template(plan: &Plan) -> PodTemplateSpec {
    let user = &plan.template;
    let user_app =
        user.spec.iter().flat_map(|spec| &spec.containers).find(|container| container.name == APP_CONTAINER);
    let mut template = defaults(plan, user_app);
    template.merge_from(user.clone());
    template.merge_from(from_spec(plan));
    template
}

/// The operator's defaults; what the user's own `app` container says of a
/// handler replaces the default whole, as two handlers do not merge.
fn defaults(plan: &Plan, user_app: Option<&Container>) -> PodTemplateSpec {
    let identity = &plan.identity;
    let probes = &plan.spec.probes;
    let default_probe = |switch: &ProbeSwitch, users: Option<&Probe>, probe: Probe| {
        (switch.enabled && switch.custom.is_none() && users.is_none()).then_some(probe)
    };
    let http_get = HTTPGetAction {
        path: Some(probes.path.clone()),
        port: IntOrString::String(APP_PORT_NAME.to_owned()),
        ..HTTPGetAction::default()
    };
    let probe = |period_seconds, failure_threshold| Probe {
        http_get: Some(http_get.clone()),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(3),
        failure_threshold: Some(failure_threshold),
        ..Probe::default()
    };
    let users_pre_stop =
        user_app.and_then(|app| app.lifecycle.as_ref()).is_some_and(|lifecycle| lifecycle.pre_stop.is_some());
    let drains = plan.shutdown.drain_seconds > 0 && !users_pre_stop;
    PodTemplateSpec {
        metadata: None,
        spec: Some(PodSpec {
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            security_context: Some(pod::security_context()),
            termination_grace_period_seconds: Some(plan.shutdown.grace_seconds),
            topology_spread_constraints: Some(vec![
                spread(plan, "kubernetes.io/hostname"),
                spread(plan, "topology.kubernetes.io/zone"),
            ]),
            containers: vec![Container {
                name: APP_CONTAINER.to_owned(),
                env: Some(default_env(plan)),
                security_context: Some(pod::container_security_context()),
                startup_probe: default_probe(
                    &probes.startup,
                    user_app.and_then(|app| app.startup_probe.as_ref()),
                    probe(1, 120),
                ),
                readiness_probe: default_probe(
                    &probes.readiness,
                    user_app.and_then(|app| app.readiness_probe.as_ref()),
                    probe(5, 2),
                ),
                liveness_probe: default_probe(
                    &probes.liveness,
                    user_app.and_then(|app| app.liveness_probe.as_ref()),
                    probe(10, 3),
                ),
                // The kubelet's own sleep needs no shell in the image.
                lifecycle: drains.then(|| Lifecycle {
                    pre_stop: Some(LifecycleHandler {
                        sleep: Some(SleepAction { seconds: plan.shutdown.drain_seconds }),
                        ..LifecycleHandler::default()
                    }),
                    ..Lifecycle::default()
                }),
                ..Container::default()
            }],
            ..PodSpec::default()
        }),
    }
    .labelled(identity.labels(APP))
}

/// The fields of the spec.
fn from_spec(plan: &Plan) -> PodTemplateSpec {
    let spec = &plan.spec;
    let custom = |switch: &ProbeSwitch| switch.custom.clone().filter(|_| switch.enabled);
    let mut annotations = spec.pod_annotations.clone();
    annotations.insert(TEMPLATE_REVISION_ANNOTATION.to_owned(), TEMPLATE_REVISION.to_owned());
    if let Some(revision) = credentials_revision(plan) {
        annotations.insert(CREDENTIALS_ANNOTATION.to_owned(), revision);
    }
    let container = Container {
        name: APP_CONTAINER.to_owned(),
        image: Some(spec.image.clone()),
        image_pull_policy: spec.image_pull_policy.clone(),
        command: spec.command.clone(),
        args: spec.args.clone(),
        env: some_unless_empty(spec.env.clone()),
        env_from: some_unless_empty(spec.env_from.clone()),
        ports: Some(vec![ContainerPort {
            container_port: spec.port,
            name: Some(APP_PORT_NAME.to_owned()),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        resources: Some(resources(plan)),
        startup_probe: custom(&spec.probes.startup),
        readiness_probe: custom(&spec.probes.readiness),
        liveness_probe: custom(&spec.probes.liveness),
        security_context: spec.run_as_non_root.then(|| k8s_openapi::api::core::v1::SecurityContext {
            run_as_non_root: Some(true),
            ..k8s_openapi::api::core::v1::SecurityContext::default()
        }),
        ..Container::default()
    };
    PodTemplateSpec {
        metadata: Some(ObjectMeta { annotations: Some(annotations), ..ObjectMeta::default() }),
        spec: Some(PodSpec {
            image_pull_secrets: some_unless_empty(spec.image_pull_secrets.clone()),
            containers: vec![container],
            ..PodSpec::default()
        }),
    }
    // The user's template may add labels but not take the pods out of the selector.
    .labelled(plan.identity.selector_labels(APP))
}

fn default_env(plan: &Plan) -> Vec<EnvVar> {
    let identity = &plan.identity;
    let from_secret = |name: String, key: String| EnvVar {
        name: REDIS_URL_ENV.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector { name, key, optional: None }),
            ..EnvVarSource::default()
        }),
    };
    let literal =
        |name: &str, value: String| EnvVar { name: name.to_owned(), value: Some(value), value_from: None };
    let redis_url = match &plan.redis {
        RedisPlan::External { url, .. } => from_secret(url.name.clone(), url.key.clone()),
        RedisPlan::Standalone(redis) if redis.credentials.is_some() => {
            from_secret(identity.redis_name(), SECRET_URL.to_owned())
        }
        RedisPlan::Standalone(_) => {
            let (name, namespace) = (identity.redis_name(), &identity.namespace);
            literal(REDIS_URL_ENV, format!("redis://{name}.{namespace}.svc:{REDIS_PORT}/0"))
        }
    };
    // A variable that the user sets, in the spec or the template, replaces ours
    // whole: a value and a source of one do not merge.
    let user_sets = |name: &str| {
        let template = plan.template.spec.iter().flat_map(|spec| &spec.containers);
        let in_template = template
            .filter(|container| container.name == APP_CONTAINER)
            .flat_map(|container| container.env.iter().flatten())
            .any(|variable| variable.name == name);
        in_template || plan.spec.env.iter().any(|variable| variable.name == name)
    };
    [literal(PORT_ENV, plan.spec.port.to_string()), redis_url]
        .into_iter()
        .filter(|variable| !user_sets(&variable.name))
        .collect()
}

fn credentials_revision(plan: &Plan) -> Option<String> {
    match &plan.redis {
        RedisPlan::Standalone(redis) => {
            redis.credentials.as_ref().map(super::super::plan::Credentials::revision)
        }
        RedisPlan::External { revision, .. } => {
            Some(revision.clone()).filter(|revision| !revision.is_empty())
        }
    }
}

fn resources(plan: &Plan) -> ResourceRequirements {
    let given = &plan.spec.resources;
    let mut requests = given.requests.clone();
    if !requests.contains_key("cpu") && !given.limits.contains_key("cpu") {
        requests.insert("cpu".to_owned(), Quantity(CPU_REQUEST.to_owned()));
    }
    ResourceRequirements {
        requests: Some(requests),
        limits: Some(given.limits.clone()).filter(|limits| !limits.is_empty()),
        claims: None,
    }
}

/// Spread as evenly as the nodes allow, but never leave a pod unscheduled for it.
fn spread(plan: &Plan, topology_key: &str) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: topology_key.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(plan.identity.selector(APP)),
        ..TopologySpreadConstraint::default()
    }
}

fn some_unless_empty<T>(items: Vec<T>) -> Option<Vec<T>> {
    Some(items).filter(|items| !items.is_empty())
}

trait Labelled {
    fn labelled(self, labels: BTreeMap<String, String>) -> Self;
}

impl Labelled for PodTemplateSpec {
    fn labelled(mut self, labels: BTreeMap<String, String>) -> Self {
        self.metadata.get_or_insert_default().labels = Some(labels);
        self
    }
}
