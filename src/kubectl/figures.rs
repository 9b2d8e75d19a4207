//! What sidecars tell, in words. PURE.
//!
//! A sidecar may be of another version than this program: what it does not tell is left out.

use std::collections::BTreeMap;

use serde_json::Value;

use super::tree::Node;
use crate::api::CachedService;

/// What the sidecars answered, by the name of their pod.
pub type Told = BTreeMap<String, Result<Value, String>>;

/// A sidecar, with a line for its near-cache, and for each replica of the application that it knows besides others.
/// `settings` is the digest of those that it should have loaded, if that is known.
pub(super) fn sidecar_node(told: &Result<Value, String>, settings: Option<&str>) -> Node {
    let told = match told {
        Ok(told) => told,
        Err(error) => return Node::leaf("sidecar", format!("does not answer: {error}")),
    };
    let parts = [
        Some(state(told)),
        hits(told),
        number(told, "savedRequests").map(|saved| format!("{saved} requests saved")),
        memory(&told["memory"]),
        loaded(told, settings),
        unknown(told),
        reduced(told),
        told["purgesRefused"].as_str().map(|why| format!("record of purges refused: {why}")),
        told["redis"]["breaker"].as_str().map(|breaker| format!("breaker of Redis {breaker}")),
        (told["upstream"]["localOnly"] == true)
            .then(|| "the application listens on localhost alone".to_owned()),
        peers(&told["upstream"]["peers"]),
    ];
    let state = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let replicas = told["upstream"]["breakers"].as_array().into_iter().flatten().map(replica_node);
    let below = near_cache_node(&told["nearCache"]).into_iter().chain(replicas).collect();
    Node { figures: told.clone(), ..Node::above("sidecar", state, below) }
}

/// The figures of all sidecars together, for a CachedService with a cache of which one told some.
pub(super) fn cache_node(service: &CachedService, sidecars: &Told) -> Option<Node> {
    service.spec.http_cache()?;
    let told: Vec<&Value> = sidecars.values().filter_map(|told| told.as_ref().ok()).collect();
    let sum = |name: &str| told.iter().filter_map(|told| number(told, name)).sum::<u64>();
    let (hits, all) = (sum("hits"), sum("hits") + sum("misses"));
    let settings = service.status.as_ref().and_then(|status| status.sidecars.as_ref()?.settings.as_deref());
    let loaded = settings.map(|settings| {
        let loaded = told.iter().filter(|told| told["settings"] == settings).count();
        format!("settings loaded {loaded}/{}", sidecars.len())
    });
    let parts = [
        ratio(hits, all).map(|ratio| format!("{ratio} of {all} requests from the cache")),
        Some(format!("{} requests saved", sum("savedRequests"))),
        loaded,
    ];
    let state = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    (!told.is_empty()).then(|| Node::leaf("cache", state))
}

/// What the application asks its Redis, of a sidecar that is in between.
fn near_cache_node(told: &Value) -> Option<Node> {
    told.is_object().then(|| {
        let pool = &told["pool"];
        let refused = |name| number(pool, name).filter(|refused| *refused > 0);
        let untracked = number(&told["tracking"], "refused").filter(|refused| *refused > 0);
        let parts = [
            hits(told),
            number(told, "keys").map(|keys| format!("{keys} keys")),
            memory(told),
            number(told, "clients").map(|clients| format!("{clients} connections of the application")),
            connections(pool),
            told["breaker"].as_str().map(|breaker| format!("breaker of Redis {breaker}")),
            untracked.map(|_| "Redis refuses to tell what changes, its log says why".to_owned()),
            refused("refused").map(|refused| format!("{refused} connections refused by the pool")),
            refused("refusedPins").map(|refused| format!("{refused} pinned connections refused")),
        ];
        let state = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let rules: Vec<_> = told["rules"].as_array().into_iter().flatten().collect();
        // Without rules it is what stands above.
        let rules = rules.iter().filter(|_| rules.len() > 1);
        Node::above("near-cache", state, rules.map(|rule| rule_node(rule)).collect())
    })
}

/// To Redis, for commands.
fn connections(pool: &Value) -> Option<String> {
    let (used, idle, most) = (number(pool, "used")?, number(pool, "idle")?, number(pool, "max")?);
    let pinned = number(pool, "pinned").zip(number(pool, "maxPinned"));
    let pinned = pinned.map(|(pinned, most)| format!(" and {pinned} of {most} pinned")).unwrap_or_default();
    Some(format!("{} of {most} connections to Redis{pinned}", used + idle))
}

/// A rule of the near-cache.
fn rule_node(rule: &Value) -> Node {
    let prefix = rule["prefix"].as_str().unwrap_or_default();
    let title = if prefix.is_empty() { "no rule".to_owned() } else { format!("rule {prefix}") };
    Node::leaf(title, hits(rule).unwrap_or_else(|| "nothing read yet".to_owned()))
}

fn replica_node(replica: &Value) -> Node {
    let text = |name: &str| replica[name].as_str().unwrap_or("?");
    let whose = if replica["own"] == true { ", of this pod" } else { "" };
    let well = if replica["healthy"] == false { ", checks fail" } else { "" };
    let title = format!("replica {}", text("replica"));
    Node::leaf(title, format!("breaker {}{well}{whose}", text("breaker")))
}

fn state(told: &Value) -> String {
    match (told["draining"] == true, told["ready"] == true) {
        (true, _) => "draining",
        (false, true) => "ready",
        (false, false) => "not ready",
    }
    .to_owned()
}

fn hits(told: &Value) -> Option<String> {
    let (hits, misses) = (number(told, "hits")?, number(told, "misses")?);
    let all = hits + misses;
    ratio(hits, all).map(|ratio| format!("hits {ratio} ({hits} of {all})"))
}

fn memory(memory: &Value) -> Option<String> {
    let (used, limit) = (number(memory, "bytes")?, number(memory, "limit")?);
    // Without a cache there is none.
    (limit > 0).then(|| format!("{} of {} in memory", bytes(used), bytes(limit)))
}

fn loaded(told: &Value, settings: Option<&str>) -> Option<String> {
    if let Some(why) = told["settingsRefused"].as_str() {
        return Some(format!("settings refused: {why}"));
    }
    let has = told["settings"].as_str()?;
    Some(match settings {
        Some(settings) if settings == has => "settings loaded".to_owned(),
        Some(_) => "settings not loaded yet".to_owned(),
        None => format!("settings {has}"),
    })
}

/// What a sidecar of an older version leaves out.
fn unknown(told: &Value) -> Option<String> {
    let names: Vec<_> = told["settingsUnknown"].as_array()?.iter().filter_map(Value::as_str).collect();
    (!names.is_empty())
        .then(|| format!("settings of a later version left out: {} (restart the rollout)", names.join(" ")))
}

/// What a sidecar has less of than its settings say.
fn reduced(told: &Value) -> Option<String> {
    let amounts: Vec<_> = told["settingsReduced"].as_array()?.iter().filter_map(Value::as_str).collect();
    (!amounts.is_empty()).then(|| {
        format!("made with less room than the settings ask for: {} (restart the rollout)", amounts.join(", "))
    })
}

/// Which of those in other pods may be asked.
fn peers(peers: &Value) -> Option<String> {
    let named = number(peers, "named").filter(|named| *named > 0)?;
    let proven = number(peers, "proven").unwrap_or_default();
    let leaving = number(peers, "leaving").filter(|leaving| *leaving > 0);
    let leaving = leaving.map(|leaving| format!(", {leaving} on their way out")).unwrap_or_default();
    let trouble = peers["trouble"].as_str().map(|why| format!(" ({why})")).unwrap_or_default();
    Some(format!("{proven} of {named} other pods proven{leaving}{trouble}"))
}

fn number(told: &Value, name: &str) -> Option<u64> {
    told[name].as_u64()
}

/// To a tenth of a percent.
fn ratio(part: u64, all: u64) -> Option<String> {
    let permille = (u128::from(part) * 1000 + u128::from(all) / 2).checked_div(u128::from(all))?;
    Some(format!("{}.{} %", permille / 10, permille % 10))
}

/// As Kubernetes writes amounts, in whole units.
fn bytes(amount: u64) -> String {
    let units = [(1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
    let unit = units.into_iter().find(|(size, _)| amount >= *size);
    unit.map_or_else(|| amount.to_string(), |(size, unit)| format!("{}{unit}", amount / size))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kubectl::tree::text;

    #[test]
    fn a_sidecar_tells_its_hits_its_settings_and_each_breaker() {
        let told = Ok(json!({
            "version": "0.2.0", "ready": true, "draining": false, "settings": "d", "settingsRefused": null,
            "epoch": 4, "purgesRefused": null, "memory": { "bytes": 1_572_864, "limit": 67_108_864 },
            "hits": 720, "misses": 280, "hitRatio": 0.72, "savedRequests": 700,
            "redis": { "breaker": "closed" },
            "upstream": { "replicas": 2, "healthy": 1, "open": ["10.0.0.2:8080"], "localOnly": false, "breakers": [
                { "replica": "127.0.0.1:8080", "own": true, "breaker": "closed", "healthy": true },
                { "replica": "10.0.0.2:8080", "own": false, "breaker": "open", "healthy": false },
            ] },
        }));
        assert_eq!(
            text(&sidecar_node(&told, Some("d"))),
            "\
sidecar  ready, hits 72.0 % (720 of 1000), 700 requests saved, 1Mi of 64Mi in memory, settings loaded, breaker of Redis closed
├─ replica 127.0.0.1:8080  breaker closed, of this pod
└─ replica 10.0.0.2:8080  breaker open, checks fail
"
        );
    }

    #[test]
    fn a_near_cache_has_a_line_of_its_own_above_the_replicas() {
        let told = |near_cache: Value| {
            Ok(json!({
                "ready": true, "settings": "d", "nearCache": near_cache,
                "upstream": { "breakers": [{ "replica": "127.0.0.1:8080", "own": true, "breaker": "closed" }] },
            }))
        };
        let near_cache = json!({
            "hits": 9, "misses": 1, "keys": 12, "bytes": 3_145_728, "limit": 67_108_864, "clients": 4, "breaker": "open",
        });
        assert_eq!(
            text(&sidecar_node(&told(near_cache), Some("d"))),
            "\
sidecar  ready, settings loaded
├─ near-cache  hits 90.0 % (9 of 10), 12 keys, 3Mi of 64Mi in memory, 4 connections of the application, breaker of Redis open
└─ replica 127.0.0.1:8080  breaker closed, of this pod
"
        );
        let unused = json!({ "hits": 0, "misses": 0, "keys": 0, "bytes": 0, "limit": 67_108_864, "clients": 0, "breaker": "closed" });
        let node = sidecar_node(&told(unused), Some("d"));
        assert_eq!(
            node.below[0].state,
            "0 keys, 0 of 64Mi in memory, 0 connections of the application, breaker of Redis closed"
        );
        // A rule each, where there are some, and what is not as it should be.
        let near_cache = json!({
            "hits": 9, "misses": 1, "keys": 1, "bytes": 9, "limit": 1024, "clients": 2, "breaker": "closed",
            "rules": [
                { "prefix": "", "hits": 3, "misses": 1 }, { "prefix": "user:", "hits": 6, "misses": 0 },
                { "prefix": "job:", "hits": 0, "misses": 0 },
            ],
            "tracking": { "asleep": 0, "connecting": 0, "on": 0, "refused": 1 },
            "pool": {
                "used": 2, "idle": 3, "opening": 0, "max": 20, "waits": 9, "refused": 0, "pinned": 100, "maxPinned": 100,
                "refusedPins": 7,
            },
        });
        assert_eq!(
            text(&sidecar_node(&told(near_cache), Some("d"))),
            "\
sidecar  ready, settings loaded
├─ near-cache  hits 90.0 % (9 of 10), 1 keys, 9 of 1Ki in memory, 2 connections of the application, 5 of 20 connections to Redis and 100 of 100 pinned, breaker of Redis closed, Redis refuses to tell what changes, its log says why, 7 pinned connections refused
│  ├─ no rule  hits 75.0 % (3 of 4)
│  ├─ rule user:  hits 100.0 % (6 of 6)
│  └─ rule job:  nothing read yet
└─ replica 127.0.0.1:8080  breaker closed, of this pod
"
        );
        // Where it is off.
        assert_eq!(sidecar_node(&told(Value::Null), Some("d")).below.len(), 1);
    }

    #[test]
    fn what_is_not_as_it_should_be_is_said() {
        let told = json!({
            "ready": false, "settings": "d", "memory": { "bytes": 0, "limit": 0 }, "hits": 0, "misses": 0,
            "upstream": { "localOnly": true },
        });
        let state = |told: &Value, settings| sidecar_node(&Ok(told.clone()), settings).state;
        let local = "the application listens on localhost alone";
        assert_eq!(state(&told, Some("e")), format!("not ready, settings not loaded yet, {local}"));
        assert_eq!(state(&told, None), format!("not ready, settings d, {local}"));
        let refused = json!({ "draining": true, "settings": "d", "settingsRefused": "no JSON" });
        assert_eq!(state(&refused, Some("d")), "draining, settings refused: no JSON");
        // Of a version that tells nothing of what is known here.
        assert_eq!(state(&json!({ "ready": true }), Some("d")), "ready");
    }

    #[test]
    fn settings_left_out_and_pods_that_prove_nothing_are_named() {
        let told = json!({
            "ready": true, "settings": "d", "settingsUnknown": ["http.new", "other"],
            "settingsReduced": ["http.memory: 1 of 2", "http.maxObject: 1 of 2"], "upstream": { "peers": {
                "named": 3, "proven": 1, "leaving": 1, "trouble": "10.0.0.2 does not prove to be a replica: silent",
            } },
        });
        assert_eq!(
            sidecar_node(&Ok(told), Some("d")).state,
            "ready, settings loaded, settings of a later version left out: http.new other (restart the rollout), \
             made with less room than the settings ask for: http.memory: 1 of 2, http.maxObject: 1 of 2 (restart the \
             rollout), 1 of 3 other pods proven, 1 on their way out (10.0.0.2 does not prove to be a replica: silent)"
        );
        let none = json!({ "ready": true, "settingsUnknown": null, "settingsReduced": null, "upstream": { "peers": null } });
        assert_eq!(sidecar_node(&Ok(none), None).state, "ready");
    }

    #[test]
    fn programs_read_what_a_sidecar_told_as_it_was() {
        let told = json!({ "ready": true, "hits": 1, "misses": 0, "unknown": [1] });
        let node = json!(sidecar_node(&Ok(told.clone()), None));
        assert_eq!((&node["title"], &node["figures"]), (&json!("sidecar"), &told));
        let silent = json!(sidecar_node(&Err("no answer".to_owned()), None));
        assert_eq!(silent, json!({ "title": "sidecar", "state": "does not answer: no answer", "below": [] }));
    }
}
