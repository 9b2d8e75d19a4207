//! What all pods have in common. Final since the first version: a change here
//! rolls every pod of every CachedService, so it needs a new template revision.

use k8s_openapi::api::core::v1::{Capabilities, PodSecurityContext, SeccompProfile, SecurityContext};

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
