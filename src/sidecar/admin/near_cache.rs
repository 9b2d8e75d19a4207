//! What the admin port tells of the near-cache: how it is with it, and which keys are hit most.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use super::{Admin, Refusal, json_of, word};
use crate::sidecar::near_cache::{near::top::Counted, server::Relay};

/// For so many seconds it is counted at most, and where nobody says how long.
const LONGEST: u64 = 60;
const USUAL: u64 = 3;
/// So many keys are told at most, and where nobody says how many.
const MOST: usize = 1000;
const SOME: usize = 100;

/// How it is with the near-cache.
pub(super) fn near_cache(relay: &Relay) -> Value {
    let (near, reach, pool, pins) = (relay.near(), relay.reach(), relay.pool(), relay.pins());
    let (figures, store) = (near.figures(), near.store());
    let (hits, misses) = figures.reads();
    let (lines, passed) = (pool.told(), &figures.passed);
    let rules = figures.by_prefix.told();
    let rules =
        rules.iter().map(|rule| json!({ "prefix": rule.prefix, "hits": rule.hits, "misses": rule.misses }));
    let tracking = near.tracking().into_iter().map(|(state, count)| (state.to_owned(), json!(count)));
    json!({
        "hits": hits,
        "misses": misses,
        "rules": rules.collect::<Vec<_>>(),
        "passed": { "rule": passed.rule.get(), "untracked": passed.untracked.get(), "large": passed.large.get() },
        "invalidations": { "key": figures.pushes.get(), "all": figures.flushes.get() },
        "keys": store.keys(),
        "bytes": store.bytes(),
        "limit": store.limit(),
        "clients": relay.clients(),
        "breaker": word(reach.state()),
        "tracking": tracking.collect::<Map<_, _>>(),
        "pool": {
            "used": lines.used,
            "idle": lines.idle,
            "opening": lines.opening,
            "max": lines.most,
            "waits": pool.figures().waits.get(),
            "refused": pool.figures().refused.get(),
            "pinned": pins.used(),
            "maxPinned": lines.most_pinned,
            "refusedPins": pins.refused.get(),
        },
    })
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    time: Duration,
    limit: usize,
}

/// Reads `seconds=…&limit=…`, of which none has to be there.
fn wanted(query: &str) -> Result<Wanted, String> {
    let (mut seconds, mut limit) = (USUAL, SOME);
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        match name {
            "seconds" => {
                let known = value.parse().ok().filter(|seconds| (1..=LONGEST).contains(seconds));
                seconds = known.ok_or_else(|| format!("{part}: write a number from 1 to {LONGEST}"))?;
            }
            "limit" => {
                let known = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                limit = known.ok_or_else(|| format!("{part}: write a number from 1 to {MOST}"))?;
            }
            other => return Err(format!("{other} is not known; write seconds= and limit=")),
        }
    }
    Ok(Wanted { time: Duration::from_secs(seconds), limit })
}

/// Counts for as long as is asked for which keys are hit, and tells those that were most.
pub(super) async fn top(
    State(admin): State<Arc<Admin>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    admin.check_token(&headers)?;
    let wanted = wanted(&query.unwrap_or_default()).map_err(Refusal::Wrong)?;
    let none = || Refusal::Wrong("this pod has no near-cache; write spec.cache.application".to_owned());
    let relay = admin.near.as_ref().ok_or_else(none)?;
    // Where whoever has asked goes, it is counted no longer.
    let counting = relay.near().count_keys().ok_or(Refusal::Busy)?;
    sleep(wanted.time).await;
    let mut told = told(relay, counting.end(), wanted.limit);
    told["pod"] = json!(admin.pod.name);
    told["seconds"] = json!(wanted.time.as_secs());
    Ok(json_of(StatusCode::OK, &told))
}

fn told(relay: &Relay, counted: Counted, limit: usize) -> Value {
    let (near, all, long, missed) = (relay.near(), counted.all, counted.long, counted.missed);
    let now = near.now();
    let keys = counted.top(limit).into_iter().map(|top| {
        let of_key = near.store().of_key(&top.key, now);
        json!({
            "key": text(&top.key),
            "hits": top.hits,
            "bytes": of_key.map_or(0, |of_key| of_key.bytes),
            "replies": of_key.map_or(0, |of_key| of_key.replies),
            "ttlMs": of_key.map(|of_key| of_key.left),
        })
    });
    let keys: Vec<_> = keys.collect();
    json!({ "hits": all, "hitsOfLongKeys": long, "missed": missed, "keys": keys })
}

/// A key as it can be printed, and told from any other: what cannot is escaped, and so is the backslash.
fn text(key: &[u8]) -> String {
    let mut text = String::with_capacity(key.len());
    for chunk in key.utf8_chunks() {
        for character in chunk.valid().chars() {
            if matches!(character, '"' | '\'') {
                text.push(character);
            } else {
                text.extend(character.escape_debug());
            }
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_bounded_and_what_is_wrong_is_said() {
        let of = |seconds, limit| Wanted { time: Duration::from_secs(seconds), limit };
        assert_eq!(wanted(""), Ok(of(3, 100)));
        assert_eq!(wanted("limit=1000&seconds=60"), Ok(of(60, 1000)));
        for (query, why) in [
            ("seconds=0", "seconds=0: write a number from 1 to 60"),
            ("seconds=61", "from 1 to 60"),
            ("seconds", "from 1 to 60"),
            ("limit=1001", "from 1 to 1000"),
            ("limit=-1", "from 1 to 1000"),
            ("keys=2", "keys is not known; write seconds= and limit="),
        ] {
            let told = wanted(query).unwrap_err();
            assert!(told.contains(why), "{query}: {told}");
        }
    }

    #[test]
    fn a_key_is_told_so_that_it_can_be_printed_and_is_no_other() {
        for (key, told) in [
            (&b"user:1"[..], "user:1"),
            ("größe \"'".as_bytes(), "größe \"'"),
            (b"a\x1b[2J\n", "a\\u{1b}[2J\\n"),
            (b"\\n", "\\\\n"),
            (b"a\xff\xc3b", "a\\xff\\xc3b"),
            (b"", ""),
        ] {
            assert_eq!(text(key), told);
        }
    }
}
