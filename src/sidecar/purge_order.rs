//! A purge as an application writes it: to the admin port, or to the channel in Redis. PURE.

use serde::Deserialize;

use crate::settings::purges::{Force, Target, Written};

/// So many targets has a purge at most, as a `CachePurge`.
const TARGETS: usize = 100;

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
///
/// # Errors
/// What is wrong, in words for who wrote it.
pub fn purge(body: &[u8]) -> Result<(Vec<Target>, Force), String> {
    let Purge { keys, prefixes, tags, everything, soft } =
        serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let written = Written { keys: &keys, prefixes: &prefixes, tags: &tags, everything };
    let targets = written.targets().map_err(|error| error.to_string())?;
    if targets.len() > TARGETS {
        return Err(format!("it names {} targets, and may name {TARGETS}", targets.len()));
    }
    Ok((targets, if soft { Force::Soft } else { Force::Hard }))
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
