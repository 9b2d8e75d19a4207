//! What the sidecar is told of the near-cache.

use super::{Invalid, quantity};
use crate::{
    api::{
        NearCache, NearCachePool, NearCachePreset, NearCacheRule, NearCacheSingleFlight, WhenRedisFails,
        names::SIDECAR_REDIS_PORT, parse_duration,
    },
    settings::near_cache as settings,
};

/// The tier's field.
pub(super) const FIELD: &str = "spec.cache.application";

pub(super) fn near_cache(wanted: &NearCache) -> Result<settings::NearCache, Invalid> {
    let default_ttl = milliseconds("defaultTTL", &wanted.default_ttl)?;
    let mut rules = wanted
        .rules
        .iter()
        .enumerate()
        .map(|(at, written)| rule(&format!("rules[{at}]"), written, default_ttl))
        .collect::<Result<Vec<_>, _>>()?;
    settings::Rule::sort(&mut rules);
    let told = settings::NearCache {
        port: number("enabled", SIDECAR_REDIS_PORT)?,
        memory: bytes("memory", &wanted.memory)?,
        ttl_ms: milliseconds("ttl", &wanted.ttl)?,
        max_value: bytes("maxValueSize", &wanted.max_value_size)?,
        when_redis_fails: when_redis_fails(wanted.when_redis_fails),
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

fn when_redis_fails(wanted: WhenRedisFails) -> settings::WhenRedisFails {
    match wanted {
        WhenRedisFails::Error => settings::WhenRedisFails::Error,
        WhenRedisFails::Miss => settings::WhenRedisFails::Miss,
        WhenRedisFails::StaleOrError => settings::WhenRedisFails::StaleOrError,
        WhenRedisFails::StaleOrMiss => settings::WhenRedisFails::StaleOrMiss,
    }
}

/// A rule with what its preset says; a TTL that it adds is that of the tier where neither says another.
fn rule(field: &str, written: &NearCacheRule, default_ttl: u64) -> Result<settings::Rule, Invalid> {
    let lasts = |name: &str, text: &Option<String>| {
        text.as_ref().map(|text| milliseconds(&format!("{field}.{name}"), text)).transpose()
    };
    let (ttl, own_default) = (lasts("ttl", &written.ttl)?, lasts("defaultTTL", &written.default_ttl)?);
    let preset = written.preset;
    let added = own_default.or(preset.map(NearCachePreset::default_ttl_ms)).unwrap_or(default_ttl);
    let max_value = written.max_value_size.as_ref().map(|text| bytes(&format!("{field}.maxValueSize"), text));
    Ok(settings::Rule {
        prefix: written.prefix.clone(),
        off: !written.enabled,
        ttl_ms: ttl.or(preset.map(NearCachePreset::ttl_ms)),
        max_value: max_value.transpose()?,
        add_ttl_ms: written.add_ttl.then_some(added),
        when_redis_fails: written.when_redis_fails.map(when_redis_fails),
        single_flight: written
            .single_flight
            .as_ref()
            .map(|wanted| single_flight(field, wanted))
            .transpose()?,
    })
}

fn single_flight(field: &str, wanted: &NearCacheSingleFlight) -> Result<settings::SingleFlight, Invalid> {
    Ok(settings::SingleFlight {
        wait_ms: milliseconds(&format!("{field}.singleFlight.wait"), &wanted.wait)?,
        lease_ms: milliseconds(&format!("{field}.singleFlight.lease"), &wanted.lease)?,
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
    u64::try_from(duration.as_millis())
        .map_err(|_| refuse(format!("{text} is too long; write at most 8760h")))
}

fn number<N: TryFrom<i32>>(field: &str, number: i32) -> Result<N, Invalid> {
    let refuse = |_| Invalid::new(format!("{FIELD}.{field}"), "write a number that is not negative");
    N::try_from(number).map_err(refuse)
}
