//! What the application and the preStop hook order, and how.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use bytes::Bytes;
use http::{Request, header::AUTHORIZATION};
use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::Deserialize;
use tokio::time::{sleep, timeout};

use super::Token;
use crate::settings::{
    Settings,
    purges::{Force, Target, Written},
};

/// So many targets has a purge at most, as a `CachePurge`.
const TARGETS: usize = 100;
/// How long the running sidecar may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A purge as the application writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Purge {
    keys: Vec<String>,
    prefixes: Vec<String>,
    tags: Vec<String>,
    everything: bool,
    soft: bool,
}

/// What a body asks to purge; or what is wrong with it.
pub(super) fn purge(body: &[u8]) -> Result<(Vec<Target>, Force), String> {
    let Purge { keys, prefixes, tags, everything, soft } =
        serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let written = Written { keys: &keys, prefixes: &prefixes, tags: &tags, everything };
    let targets = written.targets().map_err(|error| error.to_string())?;
    if targets.len() > TARGETS {
        return Err(format!("it names {} targets, and may name {TARGETS}", targets.len()));
    }
    Ok((targets, if soft { Force::Soft } else { Force::Hard }))
}

/// Has the sidecar that runs by these settings drain, and waits as long as they say.
///
/// # Errors
/// When it does not do so.
pub async fn drain(settings: &Settings) -> Result<(), String> {
    let token = Token::of(settings.token_file.as_deref().map(Path::new));
    let token = token.text().map_err(|error| format!("no token: {error}"))?;
    let request = Request::post(format!("http://{}:{}/drain", Ipv4Addr::LOCALHOST, settings.admin_port))
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let client: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let answer = timeout(PATIENCE, client.request(request)).await;
    let answer = answer.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?;
    let answer = answer.map_err(|error| format!("the sidecar is not reached: {error}"))?;
    if !answer.status().is_success() {
        let status = answer.status();
        let words = answer.into_body().collect().await.map(http_body_util::Collected::to_bytes);
        let words = words.unwrap_or_default();
        return Err(format!("{status}: {}", String::from_utf8_lossy(&words).trim_end()));
    }
    sleep(Duration::from_secs(settings.drain_seconds)).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_of_the_application_is_read_strictly() {
        let (targets, force) = purge(br#"{"keys":["/a"],"tags":["t"],"soft":true}"#).unwrap();
        assert_eq!(targets, [Target::Key("/a".to_owned()), Target::Tag("t".to_owned())]);
        assert_eq!(force, Force::Soft);
        assert_eq!(purge(br#"{"everything":true}"#).unwrap(), (vec![Target::Everything], Force::Hard));
        let many: Vec<String> = (0..=TARGETS).map(|number| format!("/{number}")).collect();
        let many = serde_json::json!({ "keys": many }).to_string();
        for (body, why) in [
            ("{}", "names nothing"),
            (r#"{"keys":["a"]}"#, "is no URL"),
            (r#"{"tag":["a"]}"#, "unknown field `tag`"),
            ("x", "expected value"),
            (many.as_str(), "101 targets"),
        ] {
            assert!(purge(body.as_bytes()).unwrap_err().contains(why), "{body}");
        }
    }
}
