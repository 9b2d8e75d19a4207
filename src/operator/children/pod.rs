//! What all pods have in common. Each revision is final: a change here rolls every
//! pod of every CachedService, so it needs a new template revision.

use k8s_openapi::api::core::v1::{
    Capabilities, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext,
};

pub(super) use crate::operator::plan::written as bytes;
use crate::{api::TemplateRevision, operator::plan::Placement};

/// Security of a pod: the runtime's seccomp profile.
pub(super) fn security_context() -> PodSecurityContext {
    PodSecurityContext {
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

/// Security of a container: no way to more rights than it starts with, and none
/// of root's (Kubernetes documentation, "Pod Security Standards", Restricted).
pub(super) fn container_security_context() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        ..SecurityContext::default()
    }
}

/// The resource that logs, emptyDirs and what a container writes over its image count as.
pub(super) const EPHEMERAL_STORAGE: &str = "ephemeral-storage";

/// As much of it is requested for a container: its logs at the kubelet's defaults (five files of
/// 10 MiB) and a little. Where a node runs short, the pods go first that use more than they request,
/// which without a request is every pod that logs.
pub(super) const STORAGE_REQUEST: u64 = 64 << 20;

/// From revision 2 on, a container that fails leaves the end of its log as its message: it stands
/// in the pod's status, also when the container has been started again.
pub(super) fn termination_message_policy(revision: TemplateRevision) -> Option<String> {
    (revision >= TemplateRevision::Second).then(|| "FallbackToLogsOnError".to_owned())
}

/// A pod with nothing but the place where it may run.
pub(super) fn placed(placement: &Placement) -> PodSpec {
    let Placement { affinity, tolerations, node_selector, priority_class_name } = placement.clone();
    PodSpec {
        affinity,
        tolerations: Some(tolerations).filter(|tolerations| !tolerations.is_empty()),
        node_selector: Some(node_selector).filter(|labels| !labels.is_empty()),
        priority_class_name,
        ..PodSpec::default()
    }
}
