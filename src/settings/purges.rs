//! The record of purges: which of them a replica has to know, also one that starts later.
//!
//! The operator writes it, numbers the purges, and hands it to each replica; a replica that starts
//! reads it from a file. A replica that has taken it up to a number acknowledges the number.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::SettingsError;

/// The version of the record that this release writes and reads.
pub const VERSION: u32 = 1;

/// The purges of a service, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PurgeRecord {
    /// The version of the record.
    pub version: u32,
    /// After which number it was begun. Purges up to it are of records that were there before and are lost.
    #[serde(skip_serializing_if = "is_zero")]
    pub begun: u64,
    /// Up to this number purges are not in the record any more: what was asked for before them is not given.
    pub forgotten: u64,
    /// Those after it, by rising numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub purges: Vec<Purge>,
}

/// A record as it is written, whatever a later release may have put into its purges.
#[derive(Deserialize)]
struct Text {
    #[serde(default)]
    begun: u64,
    forgotten: u64,
    #[serde(default)]
    purges: Vec<Value>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde calls it.
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// One purge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Purge {
    /// Its number, which counts up from purge to purge, with gaps.
    pub epoch: u64,
    /// Who asked for it: the UID of its object.
    pub id: String,
    /// What becomes of what it matches.
    pub force: Force,
    /// What it matches.
    pub targets: Vec<Target>,
}

/// What a purge is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// All that is stored.
    Everything,
    /// One URL with all its variants. Without scheme and host, from its `/` on, that of any host.
    Key(String),
    /// All URLs that begin so. Without scheme and host, from its `/` on, those of any host.
    Prefix(String),
    /// All responses with the tag.
    Tag(String),
    /// What the near-cache has of one key of Redis, in whichever database.
    RedisKey(String),
    /// What it has of all keys that begin so.
    RedisPrefix(String),
}

/// The tiers of a service that are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiers {
    /// The cache of responses.
    pub http: bool,
    /// The near-cache.
    pub application: bool,
}

impl Tiers {
    /// The field of the tier that a purge is about and that is off, if there is one. Where no tier is on, what is stored
    /// of responses may be used again later, and is purged.
    #[must_use]
    pub fn missing(self, targets: &[Target]) -> Option<&'static str> {
        let is_of_http = |target: &Target| !target.is_of_redis() && *target != Target::Everything;
        if !self.application && targets.iter().any(Target::is_of_redis) {
            return Some("cache.application");
        }
        (!self.http && self.application && targets.iter().any(is_of_http)).then_some("cache.http")
    }
}

/// What becomes of what is purged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Force {
    /// It is validated before it is used again.
    Soft,
    /// It is gone.
    #[default]
    Hard,
}

impl PurgeRecord {
    /// Without any purge.
    #[must_use]
    pub fn empty() -> Self {
        Self::begun(0)
    }

    /// Without any purge, after those of records that are lost, whose last number was this at most.
    #[must_use]
    pub fn begun(after: u64) -> Self {
        Self { version: VERSION, begun: after, forgotten: after, purges: Vec::new() }
    }

    /// Reads and checks a record. A purge of a form that is not known here, as one of a later release, counts
    /// as one of everything.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        super::of_version(text, VERSION)?;
        let Text { begun, forgotten, purges } = serde_json::from_str(text)?;
        let purges = purges.into_iter().map(Purge::read).collect::<Result<_, _>>()?;
        let record = Self { version: VERSION, begun, forgotten, purges };
        let before = std::iter::once(record.forgotten).chain(record.purges.iter().map(|purge| purge.epoch));
        if before.zip(&record.purges).any(|(before, purge)| before >= purge.epoch) {
            return Err(SettingsError::Wrong("the numbers of the purges do not count up".to_owned()));
        }
        Ok(record)
    }

    /// The number of the last purge.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.purges.last().map_or(self.forgotten, |purge| purge.epoch)
    }

    /// What is to be purged of what was there when the record was known up to a number. What is not in the record any
    /// more may have been anything.
    #[must_use]
    pub fn since(&self, known: u64) -> Vec<Target> {
        if known < self.forgotten || (known < self.last() && !self.knows(known)) {
            return vec![Target::Everything];
        }
        let new = self.purges.iter().filter(|purge| purge.epoch > known);
        new.flat_map(|purge| purge.targets.iter().cloned()).collect()
    }

    /// Whether a purge of this number is in it, or was. One that is not was in a record that is lost.
    #[must_use]
    pub fn knows(&self, number: u64) -> bool {
        number <= self.forgotten || self.purges.binary_search_by_key(&number, |purge| purge.epoch).is_ok()
    }
}

impl Purge {
    fn read(value: Value) -> Result<Self, SettingsError> {
        let (epoch, id) = (value["epoch"].as_u64(), value["id"].as_str().unwrap_or_default().to_owned());
        if let Ok(purge) = serde_json::from_value(value) {
            return Ok(purge);
        }
        let epoch = epoch.ok_or_else(|| SettingsError::Wrong("a purge has no number".to_owned()))?;
        Ok(Self { epoch, id, force: Force::Hard, targets: vec![Target::Everything] })
    }
}

/// What a purge is to be about, as people and applications write it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written<'a> {
    /// URLs, with scheme and host or from their `/` on.
    pub keys: &'a [String],
    /// What URLs begin with.
    pub prefixes: &'a [String],
    /// Tags of responses.
    pub tags: &'a [String],
    /// Keys of Redis.
    pub redis_keys: &'a [String],
    /// What keys of Redis begin with.
    pub redis_prefixes: &'a [String],
    /// All that is stored.
    pub everything: bool,
}

impl Written<'_> {
    /// What the purge matches, with hosts as they stand in keys.
    ///
    /// # Errors
    /// What is no URL, or that there is nothing.
    pub fn targets(&self) -> Result<Vec<Target>, SettingsError> {
        let urls = self.keys.iter().chain(self.prefixes);
        if let Some(url) = urls.into_iter().find(|url| !is_url(url)) {
            let wrong = format!("{url:?} is no URL and begins with no `/`");
            return Err(SettingsError::Wrong(wrong));
        }
        let mut urls = self.keys.iter().chain(self.prefixes);
        if let Some(url) = urls.find(|url| url.contains('#')) {
            // RFC 9110 §7.1.
            let wrong =
                format!("{url:?} has a `#`, which no client sends; leave it out with what follows it");
            return Err(SettingsError::Wrong(wrong));
        }
        let redis_keys = self.redis_keys.iter().cloned().map(Target::RedisKey);
        let redis = redis_keys.chain(self.redis_prefixes.iter().cloned().map(Target::RedisPrefix));
        if self.everything {
            return Ok([Target::Everything].into_iter().chain(redis).collect());
        }
        let keys = self.keys.iter().map(|url| Target::Key(normal(url, true)));
        let prefixes = self.prefixes.iter().map(|url| Target::Prefix(normal(url, false)));
        let tags = self.tags.iter().map(|tag| Target::Tag(tag.clone()));
        let targets: Vec<_> = keys.chain(prefixes).chain(tags).chain(redis).collect();
        if targets.is_empty() {
            return Err(SettingsError::Wrong("it names nothing to purge".to_owned()));
        }
        Ok(targets)
    }
}

fn is_url(text: &str) -> bool {
    text.starts_with('/')
        || ["http://", "https://"]
            .iter()
            .any(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
}

/// Scheme and host are the same in any case of their letters, and with the port of the scheme; no path is
/// the same as `/` (RFC 9110 §4.2.3).
///
/// Characters that no client sends as they are become what clients send for them (RFC 3986 §2.1).
fn normal(url: &str, is_whole: bool) -> String {
    let url = &encoded(url);
    let Some((scheme, rest)) = url.split_once("://").filter(|_| !url.starts_with('/')) else {
        return url.to_owned();
    };
    let scheme = scheme.to_ascii_lowercase();
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let port = if scheme == "https" { ":443" } else { ":80" };
    let host = host.to_ascii_lowercase();
    // What begins so need not end here.
    let host = host.strip_suffix(port).filter(|_| is_whole || !path.is_empty()).unwrap_or(&host);
    let root = if path.starts_with('?') || is_whole && path.is_empty() { "/" } else { "" };
    format!("{scheme}://{host}{root}{path}")
}

fn encoded(url: &str) -> String {
    url.bytes().fold(String::with_capacity(url.len()), |mut encoded, byte| {
        if byte.is_ascii_graphic() {
            encoded.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

impl Target {
    /// Whether a stored response is of it. Its `key` is a URL.
    #[must_use]
    pub fn matches(&self, key: &str, tags: &[String]) -> bool {
        match self {
            Self::Everything => true,
            Self::Key(purged) => as_long_as(purged, key) == purged,
            Self::Prefix(prefix) => as_long_as(prefix, key).starts_with(prefix.as_str()),
            Self::Tag(tag) => tags.contains(tag),
            Self::RedisKey(_) | Self::RedisPrefix(_) => false,
        }
    }

    /// Whether it is of the near-cache alone.
    #[must_use]
    pub fn is_of_redis(&self) -> bool {
        matches!(self, Self::RedisKey(_) | Self::RedisPrefix(_))
    }
}

/// The key, without scheme and host if what it is compared with has none.
fn as_long_as<'a>(purged: &str, key: &'a str) -> &'a str {
    if !purged.starts_with('/') {
        return key;
    }
    let after_scheme = key.find("://").map_or(0, |at| at + 3);
    let host_and_path = &key[after_scheme..];
    host_and_path.find('/').map_or("", |at| &host_and_path[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purge(epoch: u64) -> Purge {
        Purge { epoch, id: "u".to_owned(), force: Force::Soft, targets: vec![Target::Tag("a".to_owned())] }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let record =
            PurgeRecord { version: VERSION, begun: 0, forgotten: 3, purges: vec![purge(4), purge(7)] };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(
            text,
            r#"{"version":1,"forgotten":3,"purges":[{"epoch":4,"id":"u","force":"soft","targets":[{"tag":"a"}]},{"epoch":7,"id":"u","force":"soft","targets":[{"tag":"a"}]}]}"#
        );
        assert_eq!(PurgeRecord::parse(&text).unwrap(), record);
        assert_eq!((record.last(), PurgeRecord::empty().last()), (7, 0));
        let begun = PurgeRecord::begun(5);
        let text = serde_json::to_string(&begun).unwrap();
        assert_eq!(text, r#"{"version":1,"begun":5,"forgotten":5}"#);
        assert_eq!(PurgeRecord::parse(&text).unwrap(), begun);
    }

    #[test]
    fn a_record_knows_the_numbers_that_are_in_it_or_were() {
        let record =
            PurgeRecord { version: VERSION, begun: 2, forgotten: 3, purges: vec![purge(5), purge(7)] };
        let known: Vec<u64> = (0..10).filter(|number| record.knows(*number)).collect();
        assert_eq!(known, [0, 1, 2, 3, 5, 7]);
    }

    #[test]
    fn what_a_later_release_has_put_into_a_record_counts_as_a_purge_of_everything() {
        let known = r#"{"epoch":4,"id":"u","force":"soft","targets":[{"tag":"a"}]}"#;
        for unknown in [
            r#"{"epoch":7,"id":"v","force":"soft","targets":[{"colour":"red"}]}"#,
            r#"{"epoch":7,"id":"v","force":"gentle","targets":[{"tag":"a"}]}"#,
            r#"{"epoch":7,"id":"v","force":"soft","targets":[{"tag":"a"}],"unless":"b"}"#,
        ] {
            let text = format!(r#"{{"version":1,"new":[],"forgotten":3,"purges":[{known},{unknown}]}}"#);
            let record = PurgeRecord::parse(&text).unwrap();
            let everything =
                Purge { epoch: 7, id: "v".to_owned(), force: Force::Hard, targets: vec![Target::Everything] };
            assert_eq!(record.purges, [purge(4), everything], "{unknown}");
        }
        let without = r#"{"version":1,"forgotten":3,"purges":[{"id":"u"}]}"#;
        assert_eq!(PurgeRecord::parse(without).unwrap_err().to_string(), "a purge has no number");
    }

    #[test]
    fn numbers_that_do_not_count_up_are_refused() {
        for (forgotten, purges) in [(4, vec![purge(4)]), (0, vec![purge(2), purge(2)]), (0, vec![purge(0)])] {
            let record = PurgeRecord { version: VERSION, begun: 0, forgotten, purges };
            let refused = PurgeRecord::parse(&serde_json::to_string(&record).unwrap()).unwrap_err();
            assert_eq!(refused.to_string(), "the numbers of the purges do not count up");
        }
        let later = r#"{"version":2,"other":0}"#;
        assert!(PurgeRecord::parse(later).unwrap_err().to_string().contains("version 2"));
    }

    #[test]
    fn a_target_is_all_or_a_key_or_a_beginning_or_a_tag() {
        let tags = ["a".to_owned()];
        let key = "http://shop/x/y?z";
        let of = |text: &str| [Target::Key(text.to_owned()), Target::Prefix(text.to_owned())];
        for text in [key, "/x/y?z"] {
            assert!(of(text).iter().all(|target| target.matches(key, &tags)), "{text}");
        }
        for text in ["http://shop/", "/x", "/"] {
            assert_eq!(of(text).map(|target| target.matches(key, &tags)), [false, true], "{text}");
        }
        for text in ["http://other/x/y?z", "https://shop/x/y?z", "/y", "x"] {
            assert_eq!(of(text).map(|target| target.matches(key, &tags)), [false, false], "{text}");
        }
        assert!(Target::Everything.matches(key, &[]));
        assert!(Target::Tag("a".to_owned()).matches(key, &tags));
        assert!(!Target::Tag("b".to_owned()).matches(key, &tags));
        let redis = [Target::RedisKey(key.to_owned()), Target::RedisPrefix("http".to_owned())];
        assert!(!redis.iter().any(|target| target.matches(key, &tags)), "a response is no key of Redis");
    }

    #[test]
    fn what_is_written_becomes_targets_as_they_stand_in_keys() {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let keys = owned(&[
            "HTTP://Shop:80/A?B",
            "https://shop:443/",
            "https://shop:80/a",
            "/A://B:80/",
            "http://Shop:80",
            "https://shop?b",
            "/über uns?q=a%20b",
        ]);
        let prefixes = owned(&["http://Shop:80", "http://Shop:80?a", "/a"]);
        let tags = owned(&["T"]);
        let (redis_keys, redis_prefixes) = (owned(&["/A#b"]), owned(&["user:"]));
        let written = Written {
            keys: &keys,
            prefixes: &prefixes,
            tags: &tags,
            redis_keys: &redis_keys,
            redis_prefixes: &redis_prefixes,
            everything: false,
        };
        let redis = [Target::RedisKey("/A#b".to_owned()), Target::RedisPrefix("user:".to_owned())];
        let key = |text: &str| Target::Key(text.to_owned());
        let prefix = |text: &str| Target::Prefix(text.to_owned());
        let expected = [
            key("http://shop/A?B"),
            key("https://shop/"),
            key("https://shop:80/a"),
            key("/A://B:80/"),
            key("http://shop/"),
            key("https://shop/?b"),
            key("/%C3%BCber%20uns?q=a%20b"),
            prefix("http://shop:80"),
            prefix("http://shop/?a"),
            prefix("/a"),
            Target::Tag("T".to_owned()),
        ];
        assert_eq!(written.targets().unwrap(), [&expected[..], &redis].concat());
        // Keys of Redis beside all may be to be deleted.
        let all = Written { everything: true, ..written }.targets().unwrap();
        assert_eq!(all, [&[Target::Everything][..], &redis].concat());
    }

    #[test]
    fn a_tier_that_is_off_is_missed_by_what_names_it_alone() {
        let (url, redis) = (Target::Prefix("/".to_owned()), Target::RedisPrefix("user:".to_owned()));
        let (http, application) = (Some("cache.http"), Some("cache.application"));
        let missing = |http, application, targets: &[&Target]| {
            let targets: Vec<_> = targets.iter().map(|&target| target.clone()).collect();
            Tiers { http, application }.missing(&targets)
        };
        for on in [(true, true), (true, false), (false, true), (false, false)] {
            assert_eq!(missing(on.0, on.1, &[&Target::Everything]), None, "{on:?}");
        }
        assert_eq!(missing(true, true, &[&url, &redis]), None);
        assert_eq!(missing(true, false, &[&url, &redis]), application);
        assert_eq!(missing(false, true, &[&url, &redis]), http);
        assert_eq!((missing(true, false, &[&url]), missing(false, true, &[&redis])), (None, None));
        assert_eq!((missing(false, false, &[&url]), missing(false, false, &[&redis])), (None, application));
    }

    #[test]
    fn what_is_new_in_a_record_is_what_came_after_or_anything_where_that_is_not_known() {
        let redis = |key: &str| Target::RedisKey(key.to_owned());
        let of = |epoch, key| Purge { targets: vec![redis(key)], ..purge(epoch) };
        let record =
            PurgeRecord { version: VERSION, begun: 0, forgotten: 3, purges: vec![of(5, "a"), of(7, "b")] };
        assert_eq!(record.since(3), [redis("a"), redis("b")]);
        assert_eq!(record.since(5), [redis("b")]);
        assert!(record.since(7).is_empty() && record.since(9).is_empty());
        for unknown in [0, 2, 4, 6] {
            assert_eq!(record.since(unknown), [Target::Everything], "{unknown}");
        }
    }

    #[test]
    fn what_names_nothing_or_no_url_is_refused() {
        let refused = |written: Written<'_>| written.targets().unwrap_err().to_string();
        assert_eq!(refused(Written::default()), "it names nothing to purge");
        for wrong in ["a/b", "", "ftp://shop/", "http:/shop"] {
            let keys = [wrong.to_owned()];
            assert!(refused(Written { keys: &keys, ..Written::default() }).contains("is no URL"), "{wrong}");
        }
        let fragment = ["/a#b".to_owned()];
        for written in [
            Written { keys: &fragment, ..Written::default() },
            Written { prefixes: &fragment, ..Written::default() },
        ] {
            assert!(refused(written).contains("leave it out"), "{written:?}");
        }
    }
}
