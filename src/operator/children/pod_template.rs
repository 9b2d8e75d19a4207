//! The template of the application's pods.
//!
//! It comes about in three layers, the later winning: the operator's defaults,
//! the user's `template`, the fields of the spec. They are merged field by
//! field, lists by their key; [`app_container`] sees to what would be invalid so.
//!
//! [`app_container`]: super::app_container

use std::collections::BTreeMap;

use k8s_openapi::{
    DeepMerge,
    api::core::v1::{
        Container, PodSpec, PodTemplateSpec, ResourceRequirements, SecurityContext, TopologySpreadConstraint,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};

use super::{app_container::Handmade, pod, sidecar_container};
use crate::{
    api::{
        TemplateRevision,
        names::{
            APP, APP_CONTAINER, CREDENTIALS_ANNOTATION, REFERENCES_ANNOTATION, TEMPLATE_ANNOTATION,
            TEMPLATE_REVISION_ANNOTATION, TOKEN_ANNOTATION,
        },
    },
    operator::{
        digest::digest,
        plan::{Credentials, Plan, RedisPlan},
    },
};

/// Requested where the user names neither a CPU request nor a CPU limit: an
/// autoscaler without a request has nothing to measure against.
const CPU_REQUEST: &str = "100m";

pub(super) fn pod_template(plan: &Plan) -> PodTemplateSpec {
    let template = merged(plan);
    let running = plan.sidecar.as_ref().and_then(|sidecar| sidecar.running.as_ref());
    let kept = running.and_then(|running| {
        let mut kept = template.clone();
        kept.spec.iter_mut().for_each(|spec| sidecar_container::set_image(spec, &running.image));
        let kept = marked(plan, kept);
        let annotations = kept.metadata.as_ref().and_then(|metadata| metadata.annotations.as_ref());
        let is_same = annotations.is_some_and(|all| all.get(TEMPLATE_ANNOTATION) == Some(&running.template));
        is_same.then_some(kept)
    });
    kept.unwrap_or_else(|| marked(plan, template))
}

/// The three layers in one.
fn merged(plan: &Plan) -> PodTemplateSpec {
    let mut user = plan.template.clone();
    if plan.template_revision >= TemplateRevision::Second {
        give_account_both_names(&mut user);
    }
    let handmade = Handmade::take_out_of(&mut user).merged(plan);
    let mut template = defaults(plan);
    template.merge_from(user);
    template.merge_from(from_spec(plan));
    template.merge_from(only_app(handmade));
    if let Some(constraints) = &plan.spread {
        template.spec.get_or_insert_default().topology_spread_constraints =
            some_unless_empty(constraints.iter().map(|constraint| counted(plan, constraint)).collect());
    }
    // Without one, a container of the user's by this name stays where it is.
    if let Some(spec) = template.spec.as_mut().filter(|_| plan.sidecar.is_some()) {
        sidecar_container::tell_pod(plan, spec);
        sidecar_container::know_names(plan, spec);
        sidecar_container::hide_api_token(spec);
        sidecar_container::put_last(spec);
    }
    template
}

/// The template with a digest of itself.
fn marked(plan: &Plan, mut template: PodTemplateSpec) -> PodTemplateSpec {
    // What cannot be written as JSON is refused when it is applied.
    let text = serde_json::to_value(&template).unwrap_or_default().to_string();
    // An image that the user chose is not kept once it is not written any more.
    let is_chosen = plan.spec.sidecar.image.is_some();
    let image = plan.sidecar.as_ref().filter(|_| !is_chosen).map(|_| "the sidecar of the installation");
    let annotations = template.metadata.get_or_insert_default().annotations.get_or_insert_default();
    annotations.insert(TEMPLATE_ANNOTATION.to_owned(), digest([text.as_str()].into_iter().chain(image)));
    template
}

/// The operator's defaults.
fn defaults(plan: &Plan) -> PodTemplateSpec {
    let identity = &plan.identity;
    let sidecar = plan.sidecar.as_ref().map(|sidecar| sidecar_container::defaults(plan, sidecar));
    let spec = PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(pod::security_context()),
        termination_grace_period_seconds: Some(plan.shutdown.grace_seconds),
        topology_spread_constraints: Some(
            ["kubernetes.io/hostname", "topology.kubernetes.io/zone"].map(|key| spread(plan, key)).into(),
        ),
        containers: vec![Container {
            name: APP_CONTAINER.to_owned(),
            security_context: Some(pod::container_security_context()),
            resources: storage_request(plan),
            termination_message_policy: pod::termination_message_policy(plan.template_revision),
            ..Container::default()
        }],
        ..sidecar.unwrap_or_default()
    };
    PodTemplateSpec { metadata: None, spec: Some(spec) }.labelled(identity.labels(APP))
}

/// The fields of the spec.
fn from_spec(plan: &Plan) -> PodTemplateSpec {
    let spec = &plan.spec;
    let mut annotations = spec.pod_annotations.clone();
    annotations.insert(TEMPLATE_REVISION_ANNOTATION.to_owned(), plan.template_revision.number().to_string());
    if let Some(revision) = credentials_revision(plan) {
        annotations.insert(CREDENTIALS_ANNOTATION.to_owned(), revision);
    }
    if let Some(referred) = &plan.referred {
        annotations.insert(REFERENCES_ANNOTATION.to_owned(), referred.revisions.clone());
    }
    if let Some(sidecar) = &plan.sidecar {
        annotations.insert(TOKEN_ANNOTATION.to_owned(), sidecar.token.revision());
    }
    let mut template = only_app(Container {
        name: APP_CONTAINER.to_owned(),
        image: Some(spec.image.clone()),
        image_pull_policy: spec.image_pull_policy.clone(),
        command: spec.command.clone(),
        args: spec.args.clone(),
        env_from: some_unless_empty(spec.env_from.clone()),
        resources: Some(resources(plan)),
        security_context: spec
            .run_as_non_root
            .then(|| SecurityContext { run_as_non_root: Some(true), ..SecurityContext::default() }),
        ..Container::default()
    });
    template.metadata = Some(ObjectMeta { annotations: Some(annotations), ..ObjectMeta::default() });
    template.spec.get_or_insert_default().merge_from(PodSpec {
        image_pull_secrets: some_unless_empty(spec.image_pull_secrets.clone()),
        // Under both its names, see give_account_both_names.
        service_account: account(plan),
        service_account_name: account(plan),
        automount_service_account_token: spec.service_account.automount_token.then_some(true),
        ..pod::placed(&plan.placement)
    });
    if let Some(sidecar) = &plan.sidecar {
        template.spec.get_or_insert_default().merge_from(sidecar_container::from_spec(plan, sidecar));
    }
    // The user may add labels but not take the pods out of the selector.
    let mut labels = spec.pod_labels.clone();
    labels.extend(plan.identity.selector_labels(APP));
    template.labelled(labels)
}

/// The API server fills in the older name of the account's field from the newer one, and the newer
/// from the older when it is given no more: only where both are ours does an account go that is
/// taken out of the template.
fn give_account_both_names(template: &mut PodTemplateSpec) {
    let Some(spec) = &mut template.spec else { return };
    spec.service_account = spec.service_account.take().or_else(|| spec.service_account_name.clone());
    spec.service_account_name = spec.service_account_name.take().or_else(|| spec.service_account.clone());
}

fn account(plan: &Plan) -> Option<String> {
    let wanted = &plan.spec.service_account;
    if wanted.create { Some(plan.identity.name.clone()) } else { wanted.name.clone() }
}

fn only_app(app: Container) -> PodTemplateSpec {
    PodTemplateSpec { metadata: None, spec: Some(PodSpec { containers: vec![app], ..PodSpec::default() }) }
}

fn credentials_revision(plan: &Plan) -> Option<String> {
    match &plan.redis {
        RedisPlan::Standalone(redis) => redis.credentials.as_ref().map(Credentials::revision),
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

/// From revision 2 on, unless the user writes of it. There is no limit: it would end applications
/// that write more than somebody else thought of.
fn storage_request(plan: &Plan) -> Option<ResourceRequirements> {
    let names_it = |quantities: &BTreeMap<String, Quantity>| quantities.contains_key(pod::EPHEMERAL_STORAGE);
    let given = &plan.spec.resources;
    let containers = plan.template.spec.iter().flat_map(|spec| &spec.containers);
    let mut in_template = containers
        .filter(|container| container.name == APP_CONTAINER)
        .filter_map(|app| app.resources.as_ref())
        .flat_map(|resources| [&resources.requests, &resources.limits])
        .flatten();
    let is_given = names_it(&given.requests) || names_it(&given.limits) || in_template.any(names_it);
    let request = pod::bytes(pod::STORAGE_REQUEST);
    (plan.template_revision >= TemplateRevision::Second && !is_given).then(|| ResourceRequirements {
        requests: Some(BTreeMap::from([(pod::EPHEMERAL_STORAGE.to_owned(), request)])),
        ..ResourceRequirements::default()
    })
}

/// Spread as evenly as the nodes allow, but never leave a pod unscheduled for it.
fn spread(plan: &Plan, topology_key: &str) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: topology_key.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(plan.identity.selector(APP)),
        // The pods of a rollout among themselves: those that they replace are gone afterwards, and
        // would have pushed them together onto the other nodes.
        match_label_keys: (plan.template_revision >= TemplateRevision::Second)
            .then(|| vec!["pod-template-hash".to_owned()]),
        ..TopologySpreadConstraint::default()
    }
}

/// A constraint without a selector counts no pods at all; the application's are meant.
fn counted(plan: &Plan, constraint: &TopologySpreadConstraint) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        label_selector: constraint.label_selector.clone().or_else(|| Some(plan.identity.selector(APP))),
        ..constraint.clone()
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
