//! What the operator keeps of the objects that it watches: as little as it needs.

use std::{collections::BTreeMap, fmt::Debug};

use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::{Deployment, DeploymentStatus, StatefulSet, StatefulSetStatus},
        autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus},
        core::v1::{
            ConfigMap, Event, PersistentVolumeClaim, Pod, PodStatus, Secret, Service, ServiceAccount,
        },
        networking::v1::{Ingress, NetworkPolicy},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time},
};
use kube::{Resource, core::PartialObjectMeta};
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    custom_kinds::{HTTPRoute, PodMonitor},
    ownership::owns_template_revision,
};
use crate::api::names::{
    REFERENCES_ANNOTATION, SIDECAR_CONTAINER, TEMPLATE_ANNOTATION, TEMPLATE_REVISION_ANNOTATION,
};

/// A Deployment: its metadata, its number of replicas and its status.
#[derive(Resource, Serialize, Deserialize, Clone, Debug)]
#[resource(inherit = "Deployment")]
pub struct SeenDeployment {
    /// Name, owners and field ownership.
    pub metadata: ObjectMeta,
    /// What the operator reads of the spec.
    #[serde(default)]
    pub spec: SeenDeploymentSpec,
    /// As reported by the Deployment controller.
    #[serde(default)]
    pub status: DeploymentStatus,
}

impl SeenDeployment {
    /// The digest of its pod template.
    #[must_use]
    pub fn template(&self) -> Option<&str> {
        self.annotation(TEMPLATE_ANNOTATION)
    }

    /// The image of the sidecar in its pod template.
    #[must_use]
    pub fn sidecar_image(&self) -> Option<&str> {
        self.spec.template.spec.init_containers.first()?.image.as_deref()
    }

    /// An annotation of its pod template.
    #[must_use]
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.spec.template.metadata.annotations.get(name).map(String::as_str)
    }

    /// The revision of the operator's defaults in its pod template.
    #[must_use]
    pub fn template_revision(&self) -> Option<i32> {
        self.spec.template.revision(&self.metadata)
    }
}

/// What the operator reads of a Deployment's spec.
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
pub struct SeenDeploymentSpec {
    /// The number of pods wanted now.
    pub replicas: Option<i32>,
    /// What the pods are made from.
    #[serde(default)]
    pub template: SeenTemplate,
}

/// What the operator reads of a pod template.
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
pub struct SeenTemplate {
    /// Its annotations.
    #[serde(default)]
    pub metadata: SeenAnnotations,
    /// Its containers.
    #[serde(default)]
    pub spec: SeenContainers,
}

/// A pod's spec, of which the sidecar alone counts.
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase")]
pub struct SeenContainers {
    /// The sidecar, where there is one.
    #[serde(default, deserialize_with = "sidecar_alone", skip_serializing_if = "Vec::is_empty")]
    pub init_containers: Vec<SeenContainer>,
}

/// A container, as far as the operator reads it again.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct SeenContainer {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: Option<String>,
}

fn sidecar_alone<'de, D: Deserializer<'de>>(all: D) -> Result<Vec<SeenContainer>, D::Error> {
    let mut containers = Option::<Vec<SeenContainer>>::deserialize(all)?.unwrap_or_default();
    containers.retain(|container| container.name == SIDECAR_CONTAINER);
    Ok(containers)
}

impl SeenTemplate {
    /// The revision of the operator's defaults in it, unless somebody else wrote it there.
    fn revision(&self, of_whole: &ObjectMeta) -> Option<i32> {
        let revision = self.metadata.annotations.get(TEMPLATE_REVISION_ANNOTATION)?;
        owns_template_revision(of_whole).then(|| revision.parse().ok()).flatten()
    }
}

/// Metadata of which few annotations count.
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
pub struct SeenAnnotations {
    /// Those that the operator reads again.
    #[serde(default, deserialize_with = "read_again")]
    pub annotations: BTreeMap<String, String>,
}

/// Users may have others, and large ones.
fn read_again<'de, D: Deserializer<'de>>(all: D) -> Result<BTreeMap<String, String>, D::Error> {
    let mut annotations = Option::<BTreeMap<String, String>>::deserialize(all)?.unwrap_or_default();
    let names = [REFERENCES_ANNOTATION, TEMPLATE_ANNOTATION, TEMPLATE_REVISION_ANNOTATION];
    annotations.retain(|name, _| names.contains(&name.as_str()));
    Ok(annotations)
}

/// A StatefulSet: its metadata, its pod template and its status.
#[derive(Resource, Serialize, Deserialize, Clone, Debug)]
#[resource(inherit = "StatefulSet")]
pub struct SeenStatefulSet {
    /// Name, owners and field ownership.
    pub metadata: ObjectMeta,
    /// What the operator reads of the spec.
    #[serde(default)]
    pub spec: SeenStatefulSetSpec,
    /// As reported by the StatefulSet controller.
    #[serde(default)]
    pub status: StatefulSetStatus,
}

impl SeenStatefulSet {
    /// The revision of the operator's defaults in its pod template.
    #[must_use]
    pub fn template_revision(&self) -> Option<i32> {
        self.spec.template.revision(&self.metadata)
    }
}

/// What the operator reads of a StatefulSet's spec.
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
pub struct SeenStatefulSetSpec {
    /// What the pods are made from.
    #[serde(default)]
    pub template: SeenTemplate,
}

/// A HorizontalPodAutoscaler: its metadata and status.
#[derive(Resource, Serialize, Deserialize, Clone, Debug)]
#[resource(inherit = "HorizontalPodAutoscaler")]
pub struct SeenAutoscaler {
    /// Name, owners and field ownership.
    pub metadata: ObjectMeta,
    /// As reported by the autoscaler's controller.
    #[serde(default)]
    pub status: HorizontalPodAutoscalerStatus,
}

/// A Secret that the operator generated.
#[derive(Resource, Serialize, Deserialize, Clone)]
#[resource(inherit = "Secret")]
pub struct SeenSecret {
    /// Name, owners and field ownership.
    pub metadata: ObjectMeta,
    /// The credentials.
    #[serde(default)]
    pub data: BTreeMap<String, ByteString>,
}

impl Debug for SeenSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SeenSecret").field("metadata", &self.metadata).finish_non_exhaustive()
    }
}

/// A Service, of which only the metadata counts.
pub type SeenService = PartialObjectMeta<Service>;
/// A ConfigMap, of which only the metadata counts.
pub type SeenConfigMap = PartialObjectMeta<ConfigMap>;
/// A ServiceAccount, of which only the metadata counts.
pub type SeenServiceAccount = PartialObjectMeta<ServiceAccount>;
/// A PodDisruptionBudget, of which only the metadata counts.
pub type SeenDisruptionBudget = PartialObjectMeta<PodDisruptionBudget>;
/// A PersistentVolumeClaim, of which only the metadata counts.
pub type SeenClaim = PartialObjectMeta<PersistentVolumeClaim>;
/// A NetworkPolicy, of which only the metadata counts.
pub type SeenNetworkPolicy = PartialObjectMeta<NetworkPolicy>;
/// An Ingress, of which only the metadata counts.
pub type SeenIngress = PartialObjectMeta<Ingress>;
/// An `HTTPRoute`, of which only the metadata counts.
pub type SeenHttpRoute = PartialObjectMeta<HTTPRoute>;
/// A `PodMonitor`, of which only the metadata counts.
pub type SeenPodMonitor = PartialObjectMeta<PodMonitor>;

/// A pod: read for what keeps it from running.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = "Pod")]
pub struct SeenPod {
    /// Name and labels.
    pub metadata: ObjectMeta,
    /// As reported by scheduler and kubelet.
    #[serde(default)]
    pub status: PodStatus,
}

/// An Event: of a StatefulSet whose pod was refused, or of a pod that misses a volume.
#[derive(Resource, Deserialize, Clone, Debug)]
#[resource(inherit = "Event")]
#[serde(rename_all = "camelCase")]
pub struct SeenEvent {
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// What it is about.
    #[serde(default)]
    pub involved_object: Involved,
    /// The server's words.
    #[serde(default)]
    pub message: String,
    /// When it last happened, if the reporter counts repetitions.
    pub last_timestamp: Option<Time>,
    /// When it happened, if it was reported in the newer form.
    pub event_time: Option<MicroTime>,
}

/// The object that an Event is about.
#[derive(Deserialize, Clone, Debug, Default)]
pub struct Involved {
    /// Its name.
    pub name: Option<String>,
    /// Its identity: an object of the same name that came later has another.
    pub uid: Option<String>,
}

/// What stands at the name of a child.
#[derive(Clone, Debug)]
pub enum Sighting<K> {
    /// Nothing.
    Absent,
    /// An object that this CachedService controls.
    Ours(std::sync::Arc<K>),
    /// An object of an earlier CachedService of the same name, which is being cleared away.
    Leaving,
    /// An object that somebody else made; it is left alone.
    Foreign {
        /// Who controls it, in words.
        owner: String,
    },
}

impl<K> Sighting<K> {
    /// The object, if it is ours.
    #[must_use]
    pub fn ours(&self) -> Option<&K> {
        match self {
            Self::Ours(object) => Some(object),
            Self::Absent | Self::Leaving | Self::Foreign { .. } => None,
        }
    }
}
