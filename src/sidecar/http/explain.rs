//! Why a request is answered from the cache or not, by the same decisions as when it comes.

mod words;

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, uri::PathAndQuery};
use jiff::Timestamp;
use serde::Serialize;

use super::{
    Front,
    edge::request::without_doubles,
    front::{Asked, Held, why_not},
    route::{Head, Route, keep_keyed},
};
use crate::{
    settings::Rule,
    sidecar::{
        cache::{
            RequestDirectives, Stored,
            cache_status::{Forwarded, Left, Level, Status},
            purges::{Force, Target},
            reuse::Reuse,
        },
        memory::Found,
        redis::{Peek, Wanted},
    },
};

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// A request that nobody has sent.
#[derive(Clone, Debug)]
pub struct Question {
    /// Its method.
    pub method: Method,
    /// With scheme and host, as the client asks for it.
    pub url: Uri,
    /// Its fields, without the host.
    pub headers: HeaderMap,
}

/// What would become of a request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// What the field `Cache-Status` would say at first.
    pub cache_status: String,
    /// Why, and what would be done.
    pub because: Vec<String>,
    /// The rule that holds for it.
    pub rule: Option<ByRule>,
    /// What its responses are stored under.
    pub key: Option<String>,
    /// What the memory of this replica has (L1).
    pub memory: Option<AtLevel>,
    /// What all replicas share in Redis (L2).
    pub redis: Option<AtLevel>,
}

/// A rule, and which of all it is.
#[derive(Clone, Debug, Serialize)]
pub struct ByRule {
    /// Counted from one, as in `spec.cache.http.rules`.
    pub number: usize,
    /// What it says.
    pub says: Rule,
}

/// What is at one level.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AtLevel {
    /// What it has for the request.
    pub state: &'static str,
    /// The response.
    pub response: Option<Response>,
}

/// A response that is stored.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// How old it is, in seconds.
    pub age: u64,
    /// How long it is fresh in all, in seconds.
    pub lifetime: u64,
    /// By what it is.
    pub lifetime_by: String,
    /// How long it is fresh still; how long it has not been fresh where that is negative.
    pub fresh_for: i64,
    /// The fields of a request that it varies by.
    pub varies_by: Vec<String>,
    /// By what it can be purged, beside its URL.
    pub tags: Vec<String>,
    /// The bytes of its body.
    pub bytes: usize,
    /// A soft purge has asked for it to be validated.
    pub purged_softly: bool,
    /// Its `Cache-Control`, as the application wrote it.
    pub cache_control: Option<String>,
    /// What it is good for, and the directive or the rule that decides.
    pub verdict: String,
}

impl Front {
    /// What would become of a request now. Nothing is asked of the application, and nothing changes.
    pub async fn explain(&self, question: &Question) -> Explanation {
        let Question { method, url, headers } = question;
        let mut headers = headers.clone();
        without_doubles(&mut headers);
        if url.scheme_str() == Some("https") {
            headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static("https"));
        }
        let target = url.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        let settings = self.settings();
        let host = url.authority().map_or("", http::uri::Authority::as_str);
        let head = Head { method, host, target: &target, headers: &headers, has_body: false };
        let route = Route::of(&settings.rules, &head);
        let rule = route.rule.map(|rule| ByRule {
            number: settings.rules.iter().take_while(|other| !std::ptr::eq(*other, rule)).count() + 1,
            says: rule.clone(),
        });
        if let Some(past) = route.past {
            let cache_status = forwarded(past.forwarded());
            let because = vec![format!("it goes past the cache: {}", past.as_str())];
            return Explanation { cache_status, because, rule, key: None, memory: None, redis: None };
        }
        let (target, key) = route.keyed(&target);
        keep_keyed(&mut headers, method, route.rule);
        let mut parts = Request::new(()).into_parts().0;
        parts.method = method.clone();
        let directives = RequestDirectives::of(&headers);
        parts.headers = headers;
        let asked = Asked {
            key,
            target,
            parts,
            directives,
            rule: route.rule.and_then(|rule| Held::of(&settings, rule)),
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            scheme: route.scheme,
            host: route.host,
        };
        let (cache_status, because, memory, redis) = self.explain_levels(&asked).await;
        Explanation { cache_status, because, rule, key: Some(asked.key.to_string()), memory, redis }
    }

    async fn explain_levels(&self, asked: &Asked) -> (String, Vec<String>, Option<AtLevel>, Option<AtLevel>) {
        let now = Timestamp::now();
        if self.settings().max_object == 0 {
            let because = vec!["there is no cache: spec.cache.http is not set".to_owned()];
            return (forwarded(Forwarded::UriMiss), because, None, None);
        }
        let found = self.levels.memory.get(&asked.key, &asked.parts.headers);
        let shared = match &self.levels.shared {
            Some(shared) => {
                let wanted = Wanted {
                    key: &asked.key,
                    request: &asked.parts.headers,
                    is_of_a_user: asked.is_of_a_user(),
                    newer_than: None,
                };
                Some(shared.peek(&wanted).await)
            }
            None => None,
        };
        let mut because = Vec::new();
        let in_memory = if let Found::Stored(stored) = &found { Some(&**stored) } else { None };
        // What is no newer than that in memory is not taken.
        let is_newer = |stored: &Stored| in_memory.is_none_or(|known| stored.received > known.received);
        let in_redis = if let Some(Peek::Stored(stored)) = &shared { Some(&**stored) } else { None };
        let in_redis = in_redis.filter(|stored| is_newer(stored));
        let answering =
            [(in_memory, Level::Memory), (in_redis, Level::Redis)].into_iter().find_map(|(stored, level)| {
                let stored = stored?;
                let reuse = asked.reuse(stored, now);
                matches!(reuse, Reuse::Fresh | Reuse::WhileRevalidated).then_some((stored, level))
            });
        let cache_status = if let Some((stored, level)) = answering {
            because.push(words::verdict(asked, stored, now));
            let age = stored.age(now);
            let left = match stored.lifetime.checked_sub(age) {
                Some(left) => Left::Fresh(left),
                None => Left::Stale(age.saturating_sub(stored.lifetime)),
            };
            Status::Hit { level, left }.member()
        } else {
            let stale = in_redis.or(in_memory);
            let why = match (stale, &found, &shared) {
                (Some(stored), _, _) => {
                    because.push(words::verdict(asked, stored, now));
                    why_not(stored, asked.reuse(stored, now), now)
                }
                (None, Found::OtherVariants, _) => Forwarded::VaryMiss,
                (None, _, _) => Forwarded::UriMiss,
            };
            if stale.is_none() {
                because.extend(self.why_nothing(asked, why));
            }
            because.extend(words::on_a_miss(asked, stale.is_some()));
            forwarded(why)
        };
        let memory = match &found {
            Found::Stored(stored) => told("stored", Some((asked, stored, now))),
            Found::OtherVariants => told(words::OTHERS, None),
            Found::Nothing => told(words::NOTHING, None),
        };
        let redis = shared.as_ref().map(|peek| match peek {
            Peek::Stored(stored) => told("stored", Some((asked, stored, now))),
            Peek::Purged(stored) => told("purged since it was stored", Some((asked, stored, now))),
            Peek::OtherVariants => told(words::OTHERS, None),
            Peek::Nothing => told(words::NOTHING, None),
            Peek::Unreadable => told("something that is no response of this release", None),
            Peek::Unshared => told("not asked: nothing came of it for others a moment ago", None),
            Peek::NotReached => told("not reached", None),
        });
        (cache_status, because, Some(memory), redis)
    }

    /// Why there is nothing.
    fn why_nothing(&self, asked: &Asked, why: Forwarded) -> Vec<String> {
        let first = if why == Forwarded::VaryMiss {
            "of this URL there are responses, to requests that differ in what they vary by"
        } else {
            "nothing is stored for it"
        };
        let mut told = vec![first.to_owned()];
        if let Some((why, since)) = self.unstored.get(&asked.key) {
            let seconds = since.elapsed().as_secs();
            told.push(format!("{seconds} s ago an answer to it was not stored: {}", words::not_stored(why)));
        }
        if let Some((target, force)) = self.levels.memory.last_purge(&asked.key) {
            let of = match target {
                Target::Everything => "everything".to_owned(),
                Target::Prefix(prefix) => format!("what begins with {prefix}"),
                Target::Tag(tag) => format!("the tag {tag}"),
                Target::Key(key) => format!("the key {key}"),
                Target::RedisKey(key) | Target::RedisPrefix(key) => format!("the key {key} of Redis"),
            };
            let force = if force == Force::Soft { "soft" } else { "hard" };
            told.push(format!("a {force} purge of {of} has hit it"));
        }
        told
    }
}

fn forwarded(why: Forwarded) -> String {
    Status::Forwarded { why, answered: None, stored: false }.member()
}

fn told(state: &'static str, response: Option<(&Asked, &Stored, Timestamp)>) -> AtLevel {
    let response = response.map(|(asked, stored, now)| {
        let age = stored.age(now).as_secs();
        let lifetime = stored.lifetime.as_secs();
        let headers = stored.headers();
        let lines = headers.get_all(http::header::CACHE_CONTROL).iter();
        let lines: Vec<&str> = lines.filter_map(|line| line.to_str().ok()).collect();
        Response {
            status: stored.status.as_u16(),
            age,
            lifetime,
            lifetime_by: words::lifetime_by(stored, asked.rule.as_deref()),
            fresh_for: lifetime.cast_signed().saturating_sub(age.cast_signed()),
            varies_by: stored.secondary.parts().map(|(name, _)| name.to_owned()).collect(),
            tags: stored.tags.to_vec(),
            bytes: stored.body.len(),
            purged_softly: stored.is_purged_softly,
            cache_control: (!lines.is_empty()).then(|| lines.join(", ")),
            verdict: words::verdict(asked, stored, now),
        }
    });
    AtLevel { state, response }
}
