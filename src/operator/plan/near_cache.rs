//! What the sidecar is told of the near-cache.

use super::{Invalid, quantity};
use crate::{
    api::{
        NearCache, NearCachePool, NearCacheRule, WhenRedisFails, names::SIDECAR_REDIS_PORT, parse_duration,
    },
    settings::near_cache as settings,
};

/// The tier's field.
pub(super) const FIELD: &str = "spec.cache.application";

pub(super) fn near_cache(wanted: &NearCache) -> Result<settings::NearCache, Invalid> {
    let mut rules = wanted
        .rules
        .iter()
        .enumerate()
        .map(|(at, written)| rule(&format!("rules[{at}]"), written))
        .collect::<Result<Vec<_>, _>>()?;
    settings::Rule::sort(&mut rules);
    let told = settings::NearCache {
        port: number("enabled", SIDECAR_REDIS_PORT)?,
        memory: bytes("memory", &wanted.memory)?,
        ttl_ms: milliseconds("ttl", &wanted.ttl)?,
        max_value: bytes("maxValueSize", &wanted.max_value_size)?,
        when_redis_fails: match wanted.when_redis_fails {
            WhenRedisFails::Error => settings::WhenRedisFails::Error,
            WhenRedisFails::Miss => settings::WhenRedisFails::Miss,
        },
        pool: pool(&wanted.pool)?,
        rules,
    };
    // What a sidecar would not take is not given to any.
    told.check().map_err(|error| Invalid::new(FIELD, error.to_string()))?;
    Ok(told)
}

fn pool(wanted: &NearCachePool) -> Result<settings::Pool, Invalid> {
    Ok(settings::Pool {
        max: number("pool.max", wanted.max)?,
        min: number("pool.min", wanted.min)?,
        idle_timeout_ms: milliseconds("pool.idleTimeout", &wanted.idle_timeout)?,
        connect_timeout_ms: milliseconds("pool.connectTimeout", &wanted.connect_timeout)?,
        max_pinned: number("pool.maxPinned", wanted.max_pinned)?,
    })
}

fn rule(field: &str, written: &NearCacheRule) -> Result<settings::Rule, Invalid> {
    let ttl = written.ttl.as_ref().map(|text| milliseconds(&format!("{field}.ttl"), text));
    let max_value = written.max_value_size.as_ref().map(|text| bytes(&format!("{field}.maxValueSize"), text));
    Ok(settings::Rule {
        prefix: written.prefix.clone(),
        off: !written.enabled,
        ttl_ms: ttl.transpose()?,
        max_value: max_value.transpose()?,
    })
}

fn bytes(field: &str, text: &str) -> Result<u64, Invalid> {
    quantity::bytes(text).ok_or_else(|| {
        let problem = format!("{text:?} is not an amount of memory; write one such as 1Mi or 64Mi");
        Invalid::new(format!("{FIELD}.{field}"), problem)
    })
}

fn milliseconds(field: &str, text: &str) -> Result<u64, Invalid> {
    let refuse = |problem: String| Invalid::new(format!("{FIELD}.{field}"), problem);
    let duration = parse_duration(text).map_err(|error| refuse(error.to_string()))?;
    u64::try_from(duration.as_millis()).map_err(|_| refuse(format!("{text} is too long; write at most 24h")))
}

fn number<N: TryFrom<i32>>(field: &str, number: i32) -> Result<N, Invalid> {
    let refuse = |_| Invalid::new(format!("{FIELD}.{field}"), "write a number that is not negative");
    N::try_from(number).map_err(refuse)
}
