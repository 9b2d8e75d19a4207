//! A purge as an application writes it: to the admin port, or to the channel in Redis. PURE.

use serde::Deserialize;

use crate::settings::{
    deletions::{Deletion, OWN},
    purges::{Force, Target, Tiers, Written},
};

/// So many targets has a purge at most, as a `CachePurge`.
const TARGETS: usize = 100;

/// A purge as the application writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Purge {
    keys: Vec<String>,
    prefixes: Vec<String>,
    tags: Vec<String>,
    application: Application,
    everything: bool,
    soft: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Application {
    keys: Vec<String>,
    prefixes: Vec<String>,
    redis: InRedis,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
enum InRedis {
    #[default]
    Keep,
    Delete,
}

/// What is to be purged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What it matches.
    pub targets: Vec<Target>,
    /// What becomes of it.
    pub force: Force,
    /// Whether keys are deleted in Redis before.
    pub delete: bool,
}

/// What a body asks to purge, in a service that has these tiers; or what is wrong with it.
///
/// # Errors
/// What is wrong, in words for who wrote it.
pub fn purge(body: &[u8], tiers: Tiers) -> Result<Order, String> {
    let Purge { keys, prefixes, tags, application, everything, soft } =
        serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let written = Written {
        keys: &keys,
        prefixes: &prefixes,
        tags: &tags,
        redis_keys: &application.keys,
        redis_prefixes: &application.prefixes,
        everything,
    };
    let targets = written.targets().map_err(|error| error.to_string())?;
    if targets.len() > TARGETS {
        return Err(format!("it names {} targets, and may name {TARGETS}", targets.len()));
    }
    if let Some(tier) = tiers.missing(&targets) {
        return Err(format!("{tier} is off here, and it names something of it; leave that out"));
    }
    if targets.iter().any(is_empty) {
        return Err("application has an empty key or prefix; everything: true drops all of memory".to_owned());
    }
    let delete = application.redis == InRedis::Delete;
    if delete && !targets.iter().any(Target::is_of_redis) {
        return Err("application.redis is Delete; name the keys or prefixes beside it".to_owned());
    }
    if let Some(own) = Deletion::of("", &targets).own().filter(|_| delete) {
        return Err(format!(
            "{own:?} is of the sidecars themselves, as all that begins with {OWN}; leave it out"
        ));
    }
    Ok(Order { targets, force: if soft { Force::Soft } else { Force::Hard }, delete })
}

fn is_empty(target: &Target) -> bool {
    matches!(target, Target::RedisKey(name) | Target::RedisPrefix(name) if name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Tiers = Tiers { http: true, application: true };

    #[test]
    fn a_purge_of_the_application_is_read_strictly() {
        let Order { targets, force, delete } =
            purge(br#"{"keys":["/a"],"tags":["t"],"soft":true}"#, BOTH).unwrap();
        assert_eq!(targets, [Target::Key("/a".to_owned()), Target::Tag("t".to_owned())]);
        assert_eq!((force, delete), (Force::Soft, false));
        let everything = Order { targets: vec![Target::Everything], force: Force::Hard, delete: false };
        assert_eq!(purge(br#"{"everything":true}"#, BOTH).unwrap(), everything);
        let many: Vec<String> = (0..=TARGETS).map(|number| format!("/{number}")).collect();
        let many = serde_json::json!({ "keys": many }).to_string();
        for (body, why) in [
            ("{}", "names nothing"),
            (r#"{"keys":["a"]}"#, "is no URL"),
            (r#"{"tag":["a"]}"#, "unknown field `tag`"),
            ("x", "expected value"),
            (many.as_str(), "101 targets"),
        ] {
            assert!(purge(body.as_bytes(), BOTH).unwrap_err().contains(why), "{body}");
        }
    }

    #[test]
    fn keys_of_redis_are_named_beside_and_deleted_where_that_is_asked_for() {
        let body = r#"{"tags":["t"],"application":{"keys":["user:1"],"prefixes":["job:"]}}"#;
        let targets = vec![
            Target::Tag("t".to_owned()),
            Target::RedisKey("user:1".to_owned()),
            Target::RedisPrefix("job:".to_owned()),
        ];
        let order = Order { targets, force: Force::Hard, delete: false };
        assert_eq!(purge(body.as_bytes(), BOTH).unwrap(), order);
        let body = body.replace("]}}", r#"],"redis":"Delete"}}"#);
        assert_eq!(purge(body.as_bytes(), BOTH).unwrap(), Order { delete: true, ..order });
        for (body, why) in [
            (r#"{"application":{}}"#, "names nothing"),
            (r#"{"application":{"tags":["a"]}}"#, "unknown field `tags`"),
            (r#"{"application":{"keys":["a"],"redis":"Flush"}}"#, "unknown variant `Flush`"),
            (r#"{"application":{"prefixes":[""]}}"#, "everything: true"),
            (r#"{"everything":true,"application":{"redis":"Delete"}}"#, "name the keys"),
            (
                r#"{"application":{"prefixes":["cachedservice:u"],"redis":"Delete"}}"#,
                "of the sidecars themselves",
            ),
        ] {
            let told = purge(body.as_bytes(), BOTH).unwrap_err();
            assert!(told.contains(why), "{body}: {told}");
        }
    }

    #[test]
    fn what_is_of_a_tier_that_is_off_is_refused_by_its_name() {
        let (redis, url) = (&br#"{"application":{"keys":["a"]}}"#[..], &br#"{"keys":["/a"]}"#[..]);
        let (http, application) =
            (Tiers { http: true, application: false }, Tiers { http: false, application: true });
        assert!(purge(redis, http).unwrap_err().starts_with("cache.application is off"));
        assert!(purge(url, application).unwrap_err().starts_with("cache.http is off"));
        assert!(purge(redis, application).is_ok() && purge(url, http).is_ok());
    }
}
