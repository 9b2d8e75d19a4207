//! From everything that was seen to the status. PURE; [`publish`] writes it.
//!
//! [`publish`]: publish::publish

mod application;
mod autoscaling;
mod balancing;
mod cache;
mod conditions;
mod publish;
mod redis;
mod revision;
mod sidecars;
mod switches;
#[cfg(test)]
mod tests;

pub use publish::publish;

use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    apply::Applied,
    error::{ChildError, Class, Error, reason_of},
    observe::Seen,
    ordered::Ordered,
    plan::{Content, Invalid, Plan, Replicas},
    seen::SeenDeployment,
};
use crate::api::{
    CachedService, CachedServiceStatus, condition_type,
    names::{APP, COMPONENT_LABEL, NAME_LABEL, REDIS_PORT, redis_name},
};
use conditions::{Condition, Verdict};

/// The status of a CachedService.
///
/// `ordered` is what the Deployment controller was told last, if that is known. `attempts` is the number of
/// failures in a row before this reconcile: a failure that may pass by itself is told as a retry first, and
/// as a degradation when it stays.
#[must_use]
pub fn status(
    service: &CachedService,
    seen: &Seen,
    plan: &Result<Plan, Invalid>,
    applied: Option<&Applied>,
    ordered: Option<&Ordered>,
    attempts: u32,
    now: Timestamp,
) -> CachedServiceStatus {
    let before = &seen.status;
    let deployment = deployment(seen, applied);
    let generation = service.metadata.generation;
    let patience = Patience { attempts, was_ready: was_ready(before, generation) };
    let held_back = switches::hindrance(service, applied, patience);
    let in_force = match plan {
        Ok(_) if held_back.is_some() => Err(NotInForce::Paused),
        Ok(plan) => Ok(plan),
        Err(_) => Err(NotInForce::Invalid),
    };
    let redis = redis::verdict(service, seen, in_force, applied, patience);
    let application = application::verdict(seen, in_force, applied, patience, deployment, ordered);
    let autoscaling = autoscaling::verdict(seen, in_force, applied, patience, &application, deployment);
    let cache = cache::verdict(before, in_force, applied, patience, &application, deployment);
    let balancing = balancing::verdict(seen, in_force, applied, patience, &application);
    let paused = switches::paused(service, applied);

    let refused = refusal(plan, applied, patience)
        .filter(|refused| !(refused.passing && held_back.is_some()))
        .or(held_back);
    let ready = ready(refused.as_ref(), patience, &redis, &application);
    // Nobody who wonders why nothing happens is to look further than the first line.
    let ready = if ready.is_true && paused.is_true {
        Verdict::yes(switches::PAUSED, format!("{}; {}", ready.message, paused.message))
    } else {
        ready
    };
    let progressing = progressing(refused.as_ref(), &redis.verdict, &application);
    let shortage = deployment
        .filter(|_| application.is_true)
        .and_then(|deployment| application::shortage(seen, deployment));
    let interrupted = seen.interrupted.clone().map(|words| Verdict::yes("WatchInterrupted", words));
    let local_only = balancing.as_ref().filter(|balancing| balancing.reason == sidecars::LOCAL_ONLY);
    let of_sidecars = sidecars::trouble(seen, &application, deployment)
        .or_else(|| local_only.map(|told| Verdict::yes(told.reason, told.message.clone())));
    let beside = interrupted.or_else(|| unreadable(seen)).or(shortage).or(of_sidecars);
    let degraded = degraded(refused.as_ref(), &redis, &application, beside);

    let at =
        |(type_, verdict), generation| Condition { type_, verdict }.at(generation, &before.conditions, now);
    let whole = [
        (condition_type::READY, ready),
        (condition_type::PROGRESSING, progressing),
        (condition_type::DEGRADED, degraded),
    ]
    .map(|condition| at(condition, generation));
    let parts = [
        (condition_type::APPLICATION_READY, application),
        (condition_type::REDIS_READY, redis.verdict),
        (condition_type::AUTOSCALING_READY, autoscaling),
    ]
    .into_iter()
    .chain(cache.map(|cache| (condition_type::CACHE_READY, cache)))
    .chain(balancing.map(|balancing| (condition_type::BALANCING_READY, balancing)))
    .map(|condition| {
        // Of a spec that was not applied, what runs says nothing.
        let is_about =
            if in_force.is_ok() { generation } else { generation_of(before, condition.0).or(generation) };
        at(condition, is_about)
    });

    let revisions = revision::revisions(seen, deployment);
    let beside = [
        (condition_type::PAUSED, paused),
        (condition_type::UP_TO_DATE, revision::up_to_date(service, &revisions, in_force)),
    ]
    .map(|condition| at(condition, generation));

    let counts = deployment.map(|deployment| deployment.status.clone()).unwrap_or_default();
    let desired = deployment.and_then(|deployment| deployment.spec.replicas).unwrap_or_default();
    let ready_pods = counts.ready_replicas.unwrap_or_default();
    CachedServiceStatus {
        observed_generation: generation,
        conditions: whole.into_iter().chain(parts).chain(beside).collect(),
        replicas: counts.replicas.unwrap_or_default(),
        selector: Some(format!("{COMPONENT_LABEL}={APP},{NAME_LABEL}={}", service.name_any())),
        desired_replicas: desired,
        ready_replicas: ready_pods,
        updated_replicas: application::updated_available(&counts),
        replicas_ready: deployment.map(|_| format!("{ready_pods}/{desired}")),
        replicas_range: plan
            .as_ref()
            .ok()
            .map_or_else(|| before.replicas_range.clone(), |plan| Some(range(plan))),
        cpu: autoscaling::cpu(plan, seen, applied),
        address: plan.as_ref().ok().map_or_else(|| before.address.clone(), |plan| Some(address(plan))),
        redis: Some(redis.status),
        sidecars: sidecars::told(in_force, seen),
        template_revision: Some(revisions),
        last_handled_reconcile_at: switches::handled(service, seen, applied),
    }
}

/// The status where nothing could be seen or done: what was known stays, and the failure is told.
#[must_use]
pub fn blind(
    service: &CachedService,
    before: &CachedServiceStatus,
    failure: &Error,
    attempts: u32,
    now: Timestamp,
) -> CachedServiceStatus {
    let generation = service.metadata.generation;
    let reason = match failure {
        Error::Read { source, .. } => reason_of(source),
        Error::Panic => "OperatorBug",
        _ => "Retrying",
    };
    let message = failure.to_string();
    let passing = failure.class() == Class::Transient && attempts < Patience::END;
    let mut news = vec![if passing {
        (condition_type::PROGRESSING, Verdict::yes(reason, message.clone()))
    } else {
        (condition_type::PROGRESSING, Verdict::no(reason, message.clone()))
    }];
    if !passing {
        news.push((condition_type::DEGRADED, Verdict::yes(reason, message.clone())));
        if !was_ready(before, generation) {
            news.push((condition_type::READY, Verdict::no(reason, message)));
        }
    }
    let mut status = before.clone();
    for (type_, verdict) in news {
        let condition = Condition { type_, verdict }.at(generation, &before.conditions, now);
        match status.conditions.iter_mut().find(|known| known.type_ == type_) {
            Some(known) => *known = condition,
            None => status.conditions.push(condition),
        }
    }
    status
}

fn deployment<'a>(seen: &'a Seen, applied: Option<&'a Applied>) -> Option<&'a SeenDeployment> {
    match applied.map(|applied| &applied.deployment) {
        Some(Ok(Some(deployment))) => Some(deployment),
        _ => seen.deployment.ours(),
    }
}

fn range(plan: &Plan) -> String {
    match &plan.replicas {
        Replicas::Fixed(replicas) => replicas.to_string(),
        Replicas::Autoscaled { autoscaling, .. } => {
            format!("{}-{}", autoscaling.min_replicas, autoscaling.max_replicas)
        }
    }
}

fn address(plan: &Plan) -> String {
    let identity = &plan.identity;
    format!("{}.{}.svc:{}", identity.name, identity.namespace, plan.spec.service.port)
}

/// Host and port of the Redis that the operator runs.
fn redis_endpoint(name: &str, namespace: &str) -> String {
    format!("{}.{namespace}.svc:{REDIS_PORT}", redis_name(name))
}

/// What stops this generation from being applied.
struct Refusal {
    reason: &'static str,
    message: String,
    /// It may pass by itself.
    passing: bool,
    /// Nothing failed: something else has to happen first.
    waiting: bool,
    /// Nothing failed: the user wants it so.
    by_choice: bool,
}

/// Why what runs was not made from the present spec.
#[derive(Clone, Copy)]
enum NotInForce {
    Invalid,
    Paused,
}

/// How failures that may pass by themselves count.
#[derive(Clone, Copy)]
struct Patience {
    /// Failures in a row before this reconcile.
    attempts: u32,
    /// This generation was applied and served before: such a failure takes nothing away from it.
    was_ready: bool,
}

impl Patience {
    /// From this many tries on, a failure that may pass by itself is a degradation.
    const END: u32 = 3;

    fn passes(self, failure: &ChildError) -> bool {
        match failure.class() {
            Class::Waiting => true,
            Class::Transient => self.attempts < Self::END,
            Class::Invalid | Class::Foreign | Class::Denied | Class::Bug => false,
        }
    }

    /// What the worst failure among the children of a part says of that part. `None`: what runs tells.
    fn verdict(self, outcomes: &[Option<&ChildError>]) -> Option<Verdict> {
        let failures = outcomes.iter().rev().flatten().filter(|failure| !failure.is_paused());
        let failure = failures.max_by_key(|failure| failure.class())?;
        match self.passes(failure) {
            true if self.was_ready => None,
            true => Some(Verdict::not_yet(failure.reason(), failure.to_string())),
            false => Some(Verdict::no(failure.reason(), failure.to_string())),
        }
    }
}

/// A part of which nothing is there.
fn absent(plan: Result<&Plan, NotInForce>, kind: &str) -> Verdict {
    match plan {
        Ok(_) => Verdict::not_yet("Creating", format!("the {kind} is being created")),
        Err(NotInForce::Invalid) => {
            Verdict::no("InvalidSpec", format!("the {kind} is not created before the spec is valid"))
        }
        Err(NotInForce::Paused) => {
            Verdict::no(switches::PAUSED, format!("the {kind} is not created while a pause is ordered"))
        }
    }
}

fn was_ready(before: &CachedServiceStatus, generation: Option<i64>) -> bool {
    before.conditions.iter().any(|condition| {
        condition.type_ == condition_type::READY
            && condition.status == "True"
            && condition.observed_generation == generation
    })
}

/// The generation that a condition is about.
fn generation_of(status: &CachedServiceStatus, type_: &str) -> Option<i64> {
    status.conditions.iter().find(|condition| condition.type_ == type_)?.observed_generation
}

fn refusal(plan: &Result<Plan, Invalid>, applied: Option<&Applied>, patience: Patience) -> Option<Refusal> {
    if let Err(invalid) = plan {
        return Some(Refusal {
            reason: "InvalidSpec",
            message: invalid.to_string(),
            passing: false,
            waiting: false,
            by_choice: false,
        });
    }
    let mut failures = applied?.failures();
    failures.retain(|failure| !failure.is_paused());
    let worst = failures.iter().max_by_key(|failure| failure.class())?;
    let message = failures
        .iter()
        .filter(|failure| failure.class() == worst.class())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ");
    Some(Refusal {
        reason: worst.reason(),
        message,
        passing: patience.passes(worst),
        waiting: worst.class() == Class::Waiting,
        by_choice: false,
    })
}

fn ready(
    refused: Option<&Refusal>,
    patience: Patience,
    redis: &redis::Redis,
    application: &Verdict,
) -> Verdict {
    if let Some(refused) = refused.filter(|refused| !(refused.passing && patience.was_ready)) {
        // What is waited for tells more than who waits for it.
        if refused.waiting && !redis.verdict.is_true {
            return Verdict::no(redis.verdict.reason, redis.verdict.message.clone());
        }
        return Verdict::no(refused.reason, refused.message.clone());
    }
    if !redis.has_answered {
        return Verdict::no(redis.verdict.reason, redis.verdict.message.clone());
    }
    if !application.is_true {
        return application.clone();
    }
    Verdict::yes("Serving", application.message.clone())
}

/// That changes of what the application refers to would go unnoticed.
fn unreadable(seen: &Seen) -> Option<Verdict> {
    let unread = seen.references.iter().filter_map(|(reference, content)| match content {
        Content::Unreadable(words) => Some(format!("{reference}: {words}")),
        Content::Unknown | Content::Absent | Content::Digest(_) => None,
    });
    let unread = unread.collect::<Vec<_>>().join("; ");
    let told = || {
        let meaning = "changes of it roll nothing until it can be read";
        Verdict::yes("ReferenceUnreadable", format!("{unread}; {meaning}"))
    };
    (!unread.is_empty()).then(told)
}

fn progressing(refused: Option<&Refusal>, redis: &Verdict, application: &Verdict) -> Verdict {
    match refused {
        Some(refused) if refused.passing => return Verdict::yes(refused.reason, refused.message.clone()),
        Some(refused) if !refused.by_choice => return Verdict::no(refused.reason, refused.message.clone()),
        // Kubernetes may be at work still.
        Some(_) | None => {}
    }
    // A part that is on its way says so; one that is stuck is no progress.
    for part in [redis, application] {
        if !part.is_true && part.on_its_way {
            return Verdict::yes(part.reason, part.message.clone());
        }
    }
    if let Some(refused) = refused {
        Verdict::no(refused.reason, refused.message.clone())
    } else if redis.is_true && application.is_true {
        Verdict::no("Stable", "the cluster is in the wanted state".to_owned())
    } else {
        Verdict::no("Blocked", "waits for what Degraded tells".to_owned())
    }
}

fn degraded(
    refused: Option<&Refusal>,
    redis: &redis::Redis,
    application: &Verdict,
    beside: Option<Verdict>,
) -> Verdict {
    if let Some(refused) = refused.filter(|refused| !(refused.passing || refused.by_choice)) {
        return Verdict::yes(refused.reason, refused.message.clone());
    }
    for part in [&redis.verdict, application] {
        if !part.is_true && !part.on_its_way && part.reason != switches::PAUSED {
            return Verdict::yes(part.reason, part.message.clone());
        }
    }
    beside.unwrap_or_else(|| Verdict::no("AllWell", "nothing is wrong".to_owned()))
}
