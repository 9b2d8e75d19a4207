//! A user is changed through one replica, and looked for on another.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use serde_json::json;
use tokio::time::Instant;

use crate::target::Target;

const LIMIT: Duration = Duration::from_secs(5);

/// What `demo update` can be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The user, as `http://HOST[:PORT]/users/ID`.
    url: Uri,
    /// The replica that changes it, as HOST:PORT.
    #[arg(long)]
    through: Authority,
    /// The other one, as HOST:PORT.
    #[arg(long)]
    seen_at: Authority,
    /// The new name.
    #[arg(long)]
    name: String,
}

/// Prints one line of JSON: how the other replica answered before and afterwards, how often with the old name,
/// and how long after the update was answered it had answered with the new one.
pub(crate) async fn run(options: Options) -> Result<(), String> {
    let through = Target::at(options.url.clone(), &options.through)?;
    let other = Target::at(options.url, &options.seen_at)?;
    // Once more, so that the second one comes from where the first one was put.
    read(&other).await?;
    let before = read(&other).await?;
    let name = json!({ "name": options.name });
    let mut request = through.request_with(Bytes::from(name.to_string()))?;
    *request.method_mut() = Method::PUT;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let begun = Instant::now();
    let (head, body) = through.exchange(request, LIMIT).await?;
    if head.status != StatusCode::OK {
        return Err(format!("the update: {}: {}", head.status, String::from_utf8_lossy(&body).trim()));
    }
    let updated = Instant::now();
    let mut old = 0_u32;
    let after = loop {
        let user = read(&other).await?;
        if user["name"] == name["name"] {
            break user;
        }
        old += 1;
        if updated.elapsed() > LIMIT {
            return Err(format!(
                "{} s after the update {} still answers {user}",
                LIMIT.as_secs(),
                options.seen_at
            ));
        }
    };
    println!(
        "{}",
        json!({
            "before": before["name"],
            "after": after["name"],
            "old": old,
            "update_ms": milliseconds(updated - begun),
            "seen_ms": milliseconds(updated.elapsed()),
        })
    );
    Ok(())
}

async fn read(target: &Target) -> Result<serde_json::Value, String> {
    let (head, body) = target.exchange(target.request()?, LIMIT).await?;
    let told = String::from_utf8_lossy(&body);
    if head.status != StatusCode::OK {
        return Err(format!("{}: {}: {}", target.uri, head.status, told.trim()));
    }
    serde_json::from_str(&told).map_err(|error| format!("{} answers no user but {told}: {error}", target.uri))
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 10.0
}
