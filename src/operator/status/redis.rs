//! Whether Redis answers, and whether it ever has. PURE.

use kube::ResourceExt;

use super::{
    NotInForce, Patience, absent,
    conditions::{Verdict, known_reason},
    redis_endpoint,
};
use crate::{
    api::{
        CachedService, RedisMode, RedisStatus,
        names::{APPLIED_ANNOTATION, REDIS},
    },
    operator::{
        apply::Applied,
        external::ExternalState,
        observe::Seen,
        plan::{Plan, RedisPlan},
        seen::SeenStatefulSet,
    },
};

/// What is so of Redis.
pub(super) struct Redis {
    pub(super) verdict: Verdict,
    pub(super) status: RedisStatus,
    /// The Redis that is wanted has answered at least once.
    pub(super) has_answered: bool,
}

pub(super) fn verdict(
    service: &CachedService,
    seen: &Seen,
    plan: Result<&Plan, NotInForce>,
    applied: Option<&Applied>,
    patience: Patience,
) -> Redis {
    let mode = match plan {
        // What runs is told of, not what is wanted.
        Err(_) if seen.stateful_set.ours().is_some() => RedisMode::Standalone,
        _ => service.spec.redis.mode,
    };
    let redis = match mode {
        RedisMode::Standalone => standalone(service, seen, plan, applied, patience),
        RedisMode::External => external(seen),
    };
    // A spec that was not applied may ask for another Redis than the one that is there.
    match (plan, &seen.status.redis) {
        (Err(_), Some(before)) => Redis { status: before.clone(), ..redis },
        _ => redis,
    }
}

fn external(seen: &Seen) -> Redis {
    let before = seen.status.redis.clone().unwrap_or_default();
    match seen.external.as_ref().unwrap_or(&ExternalState::Unknown) {
        // A new leader has not read the Secret yet; that takes nothing away.
        ExternalState::Unknown => Redis {
            has_answered: before.answered.is_some(),
            verdict: Verdict::not_yet("ReadingSecret", "the Secret with the URL is being read".to_owned()),
            status: before,
        },
        ExternalState::NoUrl { reason, message } => {
            Redis { has_answered: false, verdict: Verdict::no(reason, message.clone()), status: before }
        }
        ExternalState::Connecting { revision } => {
            let verdict = Verdict::not_yet("Connecting", "the first answer of Redis is awaited".to_owned());
            Redis { has_answered: before.answered.as_ref() == Some(revision), verdict, status: before }
        }
        ExternalState::Unreachable { revision, endpoint, message } => Redis {
            verdict: Verdict::no("Unreachable", format!("{endpoint} does not answer: {message}")),
            has_answered: before.answered.as_ref() == Some(revision),
            status: RedisStatus { endpoint: Some(endpoint.clone()), ..before },
        },
        ExternalState::Answered { revision, endpoint } => Redis {
            verdict: Verdict::yes("External", format!("{endpoint} has answered")),
            status: RedisStatus {
                endpoint: Some(endpoint.clone()),
                answered: Some(revision.clone()),
                credentials: None,
            },
            has_answered: true,
        },
    }
}

fn standalone(
    service: &CachedService,
    seen: &Seen,
    plan: Result<&Plan, NotInForce>,
    applied: Option<&Applied>,
    patience: Patience,
) -> Redis {
    let before = seen.status.redis.clone().unwrap_or_default();
    let endpoint = redis_endpoint(&service.name_any(), &service.namespace().unwrap_or_default());
    let credentials = plan.ok().and_then(|plan| match &plan.redis {
        RedisPlan::Standalone(redis) => {
            redis.credentials.as_ref().map(crate::operator::plan::Credentials::revision)
        }
        RedisPlan::External { .. } => None,
    });
    let set = match applied.map(|applied| &applied.stateful_set) {
        Some(Ok(Some(set))) => Some(&**set),
        _ => seen.stateful_set.ours(),
    };
    let wanted = set.and_then(|set| set.annotations().get(APPLIED_ANNOTATION).cloned());
    // Switched on or off, a password is a new configuration and no new password.
    let rotating = before.credentials.is_some() && credentials.is_some() && before.credentials != credentials;
    let (verdict, serves) = judge(seen, plan, applied, patience, set, rotating);
    let status = if serves {
        RedisStatus { endpoint: Some(endpoint), answered: wanted.clone(), credentials }
    } else {
        RedisStatus { endpoint: Some(endpoint), ..before }
    };
    Redis { verdict, has_answered: wanted.is_some() && status.answered == wanted, status }
}

fn judge(
    seen: &Seen,
    plan: Result<&Plan, NotInForce>,
    applied: Option<&Applied>,
    patience: Patience,
    set: Option<&SeenStatefulSet>,
    rotating: bool,
) -> (Verdict, bool) {
    if let Some(applied) = applied {
        let failures = [
            applied.redis_secret.as_ref().err(),
            applied.redis_config.as_ref().err(),
            applied.redis_service.as_ref().err(),
            applied.redis_policy.as_ref().err(),
            applied.redis_claim.as_ref().err(),
            applied.redis_monitor.as_ref().err(),
            applied.stateful_set.as_ref().err(),
        ];
        if let Some(verdict) = patience.verdict(&failures) {
            return (verdict, false);
        }
    }
    let Some(set) = set else {
        return (absent(plan, "StatefulSet"), false);
    };
    let status = &set.status;
    let current = status.observed_generation >= set.metadata.generation
        && status.updated_replicas.unwrap_or_default() >= 1
        && status.current_revision == status.update_revision;
    let ready = status.ready_replicas.unwrap_or_default() >= 1;
    if current && ready {
        return (Verdict::yes("Available", "Redis answers".to_owned()), true);
    }
    if let Some(trouble) = seen.troubles.iter().find(|trouble| trouble.component == REDIS) {
        return (
            Verdict::no(known_reason(&trouble.reason).unwrap_or("PodsNotRunning"), trouble.message.clone()),
            false,
        );
    }
    if let Some(refusal) = seen.redis_refusal.as_ref().filter(|_| status.replicas < 1) {
        return (Verdict::no("FailedCreate", refusal.clone()), false);
    }
    let answered = seen.status.redis.as_ref().and_then(|redis| redis.answered.as_ref());
    let verdict = if rotating {
        Verdict::not_yet(
            "RotatingPassword",
            "Redis and the application are rolled onto the new password".to_owned(),
        )
    } else if answered.is_none() {
        Verdict::not_yet("Starting", "the first answer of Redis is awaited".to_owned())
    } else if answered == set.annotations().get(APPLIED_ANNOTATION) {
        Verdict::no("NotAnswering", "Redis has answered before and does not now".to_owned())
    } else {
        Verdict::not_yet("RollingOut", "Redis is restarted with a new configuration".to_owned())
    };
    (verdict, false)
}
