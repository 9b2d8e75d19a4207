//! One reconcile of one CachedService. Read this page first.

use std::{fmt::Display, panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt;
use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use tokio::time::Instant;
use tracing::Instrument;

use super::{
    apply::{Applied, apply},
    client::is_fenced,
    context::Context,
    error::{Class, Error, retry_after},
    interruptions::RECHECK,
    observe::{Look, Seen, observe},
    ordered::Ordered,
    plan::{Invalid, Plan, plan},
    status::{blind, publish, status},
    watched::PROVISIONAL,
};
use crate::{
    api::{CachedService, CachedServiceStatus},
    telemetry::traces::{reconcile_ended, reconcile_span},
};

/// One turn of a CachedService; another follows when the queue says so.
pub async fn turn(reference: ObjectRef<CachedService>, context: &Context) {
    let span = reconcile_span(reference.namespace.as_deref(), &reference.name);
    let again = async {
        match reconcile(&reference, context).await {
            Ok(again) => again,
            Err(error) => on_error(&reference, &error, context),
        }
    };
    let again = again.instrument(span).await;
    context.purges.look_again(&reference);
    context.triggers.end(&reference, again);
}

/// Brings one CachedService's children and status into the wanted state. Returns
/// when to do it again, if not only after a change.
///
/// # Errors
/// When something did not work; [`on_error`] says when it is tried again.
async fn reconcile(
    reference: &ObjectRef<CachedService>,
    context: &Context,
) -> Result<Option<Duration>, Error> {
    let Some(service) = context.services.get(reference) else {
        context.forget(reference);
        return Ok(None);
    };
    // Owner references bring the children down; a write now could only be in the way.
    if service.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let started = Instant::now();
    let _in_flight = context.metrics.reconcile_started();
    // One that panics is not to take the others with it.
    let result = AssertUnwindSafe(Box::pin(steps(&service, context))).catch_unwind().await;
    let result = match result {
        Ok(result) => result,
        Err(_) => tell(&service, context, Error::Panic).await,
    };
    let class = result.as_ref().err().map(Error::class);
    context.metrics.reconciled(started.elapsed(), class.map_or(Ok(()), |class| Err(class.as_str())));
    let attempt = context.remember(reference, |memory| {
        memory.failed = class.is_some_and(|class| class != Class::Waiting);
        let attempt = memory.transient_failures.saturating_add(1);
        memory.transient_failures = if class == Some(Class::Transient) { attempt } else { 0 };
        attempt
    });
    let failure = result.as_ref().err().filter(|_| class != Some(Class::Waiting));
    reconcile_ended(attempt, class.map_or("ok", Class::as_str), failure.map(|error| error as &dyn Display));
    result
}

async fn steps(service: &CachedService, context: &Context) -> Result<Option<Duration>, Error> {
    let reference = ObjectRef::from_obj(service);
    context.sidecars.want(&reference, service.spec.has_sidecar());
    let (failed, attempts) =
        context.remember(&reference, |memory| (memory.failed, memory.transient_failures));
    let look = match service.pause().holds() {
        false if is_ordered_anew(service, &context.latest_status(service)) => Look::Anew,
        false if !failed => Look::Watches,
        // What is held back is told, so it has to be known.
        _ => Look::Names,
    };
    let mut converged = converge(service, context, look).await;
    if let Ok((_, _, Some(applied))) = &converged
        && applied.found_a_name_taken()
    {
        // What stands there may be ours without its label: look, and do it again.
        converged = converge(service, context, Look::Names).await;
    }
    let (seen, plan, applied) = match converged {
        Ok(converged) => converged,
        Err(unread) => return tell(service, context, unread).await,
    };
    // An order to look at everything is over once it was carried out, whatever had to be made.
    if look != Look::Anew && applied.as_ref().is_some_and(Applied::is_creation) {
        // A second pass hands the replicas over and tells what has become of it, in milliseconds.
        // With many waiting to be created, they go first.
        return Ok(Some(Duration::ZERO));
    }
    let (changes, ordered) =
        context.remember(&reference, |memory| (memory.changes.clone(), memory.ordered.clone()));
    let status =
        status(service, &seen, &plan, applied.as_ref(), ordered.as_ref(), attempts, Timestamp::now());
    // After a failure the next turn is when that is tried again, which may be long after.
    let can_wait = applied.as_ref().is_some_and(|applied| applied.failures().is_empty());
    let rest_due = publish(context, service, &seen.status, status, &changes, can_wait).await?;
    context.remember(&reference, |memory| memory.changes = Vec::new());
    next(&seen, plan, applied, rest_due)
}

/// Whether every child is to be looked at and applied anew. What was never reconciled is new anyway.
fn is_ordered_anew(service: &CachedService, status: &CachedServiceStatus) -> bool {
    let order = service.reconcile_at();
    status.observed_generation.is_some() && order.is_some() && order != status.last_handled_reconcile_at
}

/// Tells what kept the operator from seeing and doing anything.
async fn tell(service: &CachedService, context: &Context, failure: Error) -> Result<Option<Duration>, Error> {
    let attempts = context.remember(&ObjectRef::from_obj(service), |memory| memory.transient_failures);
    let before = context.latest_status(service);
    let status = blind(service, &before, &failure, attempts, Timestamp::now());
    publish(context, service, &before, status, &[], false).await?;
    Err(failure)
}

async fn converge(
    service: &CachedService,
    context: &Context,
    look: Look,
) -> Result<(Seen, Result<Plan, Invalid>, Option<Applied>), Error> {
    let seen = observe(context, service, look).await?;
    let plan = plan(service, &seen, &context.defaults);
    let applied = match &plan {
        // Boxed: the futures of all children together are large, and most reconciles do not need them.
        Ok(valid) => Some(Box::pin(apply(context, valid, &seen)).await),
        Err(_) => None,
    };
    context.remember(&ObjectRef::from_obj(service), |memory| {
        let deployment = applied.as_ref().map(|applied| &applied.deployment);
        memory.ordered = Ordered::after(memory.ordered.take(), seen.deployment.ours(), deployment);
        for change in applied.iter().flat_map(|applied| &applied.changes) {
            if !memory.changes.contains(change) {
                memory.changes.push(change.clone());
            }
        }
    });
    Ok((seen, plan, applied))
}

fn next(
    seen: &Seen,
    plan: Result<Plan, Invalid>,
    applied: Option<Applied>,
    rest_due: Option<Duration>,
) -> Result<Option<Duration>, Error> {
    plan?;
    let mut failures = applied.map(Applied::into_failures).unwrap_or_default();
    // The end of a pause is a change of the CachedService.
    failures.retain(|failure| !failure.is_paused());
    if !failures.is_empty() {
        return Err(Error::Children(failures));
    }
    let provisional = seen.provisional.then_some(PROVISIONAL);
    let interrupted = seen.interrupted.is_some().then_some(RECHECK);
    Ok([provisional, interrupted, rest_due].into_iter().flatten().min())
}

/// When to try again.
fn on_error(reference: &ObjectRef<CachedService>, error: &Error, context: &Context) -> Option<Duration> {
    let class = error.class();
    if is_not_leader(error) {
        // The process ends; the new leader goes on.
        return None;
    }
    if class == Class::Waiting {
        tracing::debug!(%error, "waiting");
        return retry_after(class, 0);
    }
    let failures = context.remember(reference, |memory| memory.transient_failures);
    let retry = retry_after(class, failures);
    tracing::warn!(class = class.as_str(), failures, ?retry, %error, "reconcile failed");
    retry
}

fn is_not_leader(error: &Error) -> bool {
    match error {
        Error::Read { source, .. } | Error::Publish(source) => is_fenced(source),
        Error::Children(failures) => {
            failures.iter().any(|failure| failure.source_error().is_some_and(is_fenced))
        }
        Error::Spec(_) | Error::Panic => false,
    }
}
