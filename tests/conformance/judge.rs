//! Says of exchanges, one in a line (JSON), what the rules of the HTTP cache make of them: `semantics.mjs`
//! holds that against what others made of the same standard.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{self, BufRead, Write};

use bytes::Bytes;
use cachedservice::sidecar::cache::{
    Exchange, RequestDirectives, ResponseDirectives, Stored, may_store,
    reuse::{ByRule, Reuse},
    stored::Origin,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Fields in the order of their lines.
type Lines = Vec<(String, String)>;

#[derive(Deserialize)]
struct Case {
    request: Lines,
    status: u16,
    response: Lines,
    /// Times are in milliseconds since 1970.
    requested: i64,
    received: i64,
    /// The request that could be answered by what is stored, and when it comes.
    next: Lines,
    now: i64,
}

/// Times in seconds.
#[derive(Serialize)]
struct Answer {
    /// Why it is not stored.
    refused: Option<String>,
    lifetime: f64,
    age: f64,
    is_for: bool,
    reuse: &'static str,
}

fn headers(lines: &Lines) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn answer(case: &Case) -> Answer {
    let [request, response, next] = [&case.request, &case.response, &case.next].map(headers);
    let [requested, received, now] =
        [case.requested, case.received, case.now].map(|time| Timestamp::from_millisecond(time).unwrap());
    let status = StatusCode::from_u16(case.status).unwrap();
    let directives = ResponseDirectives::of(&response);
    let stored = may_store(&Method::GET, &request, status, &response, &directives);
    let origin = Origin {
        request: &request,
        exchange: Exchange { requested, received },
        lifetime: None,
        default_lifetime: None,
        tags: Vec::new(),
    };
    let kept = Stored::new(status, response, Bytes::new(), origin);
    Answer {
        refused: stored.err().map(|why| format!("{why:?}")),
        lifetime: kept.lifetime.as_secs_f64(),
        age: kept.age(now).as_secs_f64(),
        is_for: kept.is_for(&next),
        reuse: match kept.reuse(&RequestDirectives::of(&next), ByRule::default(), now) {
            Reuse::Fresh => "fresh",
            Reuse::WhileRevalidated => "while revalidated",
            Reuse::IfError | Reuse::IfUnreachable | Reuse::Validate => "asked",
        },
    }
}

fn main() {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for line in io::stdin().lock().lines() {
        let case: Case = serde_json::from_str(&line.unwrap()).unwrap();
        serde_json::to_writer(&mut out, &answer(&case)).unwrap();
        out.write_all(b"\n").unwrap();
    }
}
