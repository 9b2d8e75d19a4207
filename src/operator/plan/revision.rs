//! Which revision of the operator's defaults the pods get. PURE.

use super::{Invalid, Seen};
use crate::{
    api::{CachedServiceSpec, TemplateRevision},
    operator::seen::{SeenDeployment, SeenStatefulSet},
};

const FIELD: &str = "spec.templateRevision";

/// The revision for the application and Redis together: what the user wrote, else what runs, so
/// that an operator that knows a newer one restarts nothing. Where the Deployment was deleted,
/// the status remembers; Redis, which is not to lose its contents for that, comes last.
pub(super) fn revision(spec: &CachedServiceSpec, seen: &Seen) -> Result<TemplateRevision, Invalid> {
    let newest = TemplateRevision::NEWEST.number();
    if let Some(written) = spec.template_revision {
        return TemplateRevision::of(written).ok_or_else(|| {
            Invalid::new(
                FIELD,
                format!("this operator knows 1 to {newest}; write one of these, or upgrade it"),
            )
        });
    }
    let of_deployment = seen.deployment.ours().and_then(SeenDeployment::template_revision);
    let remembered = || seen.status.template_revision.as_ref().and_then(|revision| revision.current);
    let of_redis = || seen.stateful_set.ours().and_then(SeenStatefulSet::template_revision);
    let Some(running) = of_deployment.or_else(remembered).or_else(of_redis) else {
        return Ok(TemplateRevision::NEWEST);
    };
    TemplateRevision::of(running).ok_or_else(|| {
        // Made by a newer operator, which may come back: what runs goes on as it is.
        let problem = format!(
            "the pods have revision {running}, and this operator knows 1 to {newest}; upgrade it, or write one of these to go back"
        );
        Invalid::new(FIELD, problem)
    })
}
