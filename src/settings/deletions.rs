//! What is deleted in Redis, as it is ordered and as it is told how far that has come.

use serde::{Deserialize, Serialize};

use super::purges::Target;

/// What keys of the sidecars themselves begin with. They are no matter of the application.
pub const OWN: &str = "cachedservice:";

/// Keys that are to be deleted in Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Deletion {
    /// Which order it is: the same again is no other.
    pub id: String,
    /// Keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// What keys begin with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<String>,
}

/// How it is with a deletion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// It goes on.
    #[default]
    Running,
    /// All that was there when it began is deleted.
    Done,
    /// Redis was not reached, or lost meanwhile. Who orders it again has it begin anew.
    Unreachable,
    /// Redis has refused it. The same.
    Refused,
}

/// How far a deletion has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// How it is with it.
    pub state: State,
    /// About how many keys of Redis were looked at for prefixes.
    pub searched: u64,
    /// How many keys were deleted.
    pub deleted: u64,
}

impl Deletion {
    /// What a purge names of Redis.
    #[must_use]
    pub fn of(id: &str, targets: &[Target]) -> Self {
        let mut deletion = Self { id: id.to_owned(), ..Self::default() };
        for target in targets {
            match target {
                Target::RedisKey(key) => deletion.keys.push(key.clone()),
                Target::RedisPrefix(prefix) => deletion.prefixes.push(prefix.clone()),
                Target::Everything | Target::Key(_) | Target::Prefix(_) | Target::Tag(_) => {}
            }
        }
        deletion
    }

    /// What is named and is of the sidecars themselves.
    #[must_use]
    pub fn own(&self) -> Option<&str> {
        self.keys.iter().chain(&self.prefixes).map(String::as_str).find(|name| name.starts_with(OWN))
    }

    /// What `SCAN` is to look for, so that it finds all keys that begin with one of the prefixes: what these have in
    /// common, and anything after that. None where there are no prefixes.
    #[must_use]
    pub fn pattern(&self) -> Option<String> {
        let (first, others) = self.prefixes.split_first()?;
        let mut common = first.as_str();
        for other in others {
            while !other.starts_with(common) {
                common = common.char_indices().next_back().map_or("", |(at, _)| &common[..at]);
            }
        }
        let mut pattern = String::with_capacity(common.len() + 1);
        for letter in common.chars() {
            if "*?[]\\^-".contains(letter) {
                pattern.push('\\');
            }
            pattern.push(letter);
        }
        pattern.push('*');
        Some(pattern)
    }

    /// Whether a key that `SCAN` has found is to be deleted.
    #[must_use]
    pub fn is_about(&self, key: &[u8]) -> bool {
        let is_own = key.starts_with(OWN.as_bytes());
        !is_own && self.prefixes.iter().any(|prefix| key.starts_with(prefix.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(keys: &[&str], prefixes: &[&str]) -> Deletion {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Deletion { id: "u".to_owned(), keys: owned(keys), prefixes: owned(prefixes) }
    }

    #[test]
    fn what_a_purge_names_of_redis_is_deleted_and_nothing_else() {
        let targets = [
            Target::Everything,
            Target::Key("/a".to_owned()),
            Target::RedisKey("user:1".to_owned()),
            Target::RedisPrefix("job:".to_owned()),
        ];
        assert_eq!(Deletion::of("u", &targets), of(&["user:1"], &["job:"]));
    }

    #[test]
    fn one_search_finds_what_begins_with_any_of_the_prefixes() {
        let pattern = |prefixes: &[&str]| of(&[], prefixes).pattern();
        assert_eq!(pattern(&[]), None);
        assert_eq!(pattern(&["user:"]).unwrap(), "user:*");
        assert_eq!(pattern(&["user:1", "user:22", "us"]).unwrap(), "us*");
        assert_eq!(pattern(&["a", "b"]).unwrap(), "*");
        assert_eq!(pattern(&["ä:1", "ö:1"]).unwrap(), "*");
        assert_eq!(pattern(&["a*?[b]^-\\"]).unwrap(), r"a\*\?\[b\]\^\-\\*");
    }

    #[test]
    fn what_is_found_beside_and_what_is_of_the_sidecars_stays() {
        let deletion = of(&[], &["c", "user:"]);
        let about = |key: &str| deletion.is_about(key.as_bytes());
        assert!(about("c") && about("cart:1") && about("user:1"));
        assert!(!about("use") && !about("cachedservice:u:purges"));
        assert_eq!(of(&["a", "cachedservice:x"], &[]).own(), Some("cachedservice:x"));
        assert_eq!(of(&["a"], &["cachedservice"]).own(), None);
    }
}
