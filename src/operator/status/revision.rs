//! Which revision of the operator's defaults the pods have, and what a newer one would bring. PURE.

use kube::ResourceExt;

use super::{NotInForce, conditions::Verdict};
use crate::{
    api::{CachedService, TemplateRevision, TemplateRevisions},
    operator::{observe::Seen, plan::Plan, seen::SeenDeployment},
};

/// What the Deployment has. What it had before it was deleted is what it comes back with.
pub(super) fn revisions(seen: &Seen, deployment: Option<&SeenDeployment>) -> TemplateRevisions {
    let running = deployment.and_then(SeenDeployment::template_revision);
    let before = seen.status.template_revision.as_ref().and_then(|before| before.current);
    TemplateRevisions { current: running.or(before), newest: TemplateRevision::NEWEST.number() }
}

/// Whether the pods have the newest revision; if not, how to take it over.
pub(super) fn up_to_date(
    service: &CachedService,
    revisions: &TemplateRevisions,
    plan: Result<&Plan, NotInForce>,
) -> Verdict {
    let newest = TemplateRevision::NEWEST;
    let planned = plan.map_or(newest, |plan| plan.template_revision).number();
    let current = revisions.current.unwrap_or(planned);
    let number = newest.number();
    if current >= number {
        return Verdict::yes("NewestTemplate", format!("template revision {current} is the newest known"));
    }
    let brings: Vec<&str> =
        (current + 1..=number).filter_map(TemplateRevision::of).map(TemplateRevision::brings).collect();
    let (name, namespace) = (service.name_any(), service.namespace().unwrap_or_default());
    Verdict::no(
        "NewTemplateRevision",
        format!(
            "the pods have template revision {current}, and nothing forces you to change that; revision {number} brings {}; to take it over, which restarts the pods of the application one after another, and Redis, write spec.templateRevision: {number}, as by: kubectl patch cachedservice {name} --namespace {namespace} --type merge --patch '{{\"spec\":{{\"templateRevision\":{number}}}}}'",
            brings.join("; "),
        ),
    )
}
