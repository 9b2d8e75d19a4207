//! The record of purges: which of them a replica has to know, also one that starts later.
//!
//! The operator writes it, numbers the purges, and hands it to each replica; a replica that starts
//! reads it from a file. A replica that has taken it up to a number acknowledges the number.

use serde::{Deserialize, Serialize};

use super::SettingsError;

/// The version of the record that this release writes and reads.
pub const VERSION: u32 = 1;

/// The purges of a service, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PurgeRecord {
    /// The version of the record.
    pub version: u32,
    /// Up to this number purges are not in the record any more: what was asked for before them is not given.
    pub forgotten: u64,
    /// Those after it, by rising numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub purges: Vec<Purge>,
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
        Self { version: VERSION, forgotten: 0, purges: Vec::new() }
    }

    /// Reads and checks a record.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        super::of_version(text, VERSION)?;
        let record: Self = serde_json::from_str(text)?;
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
        if self.everything {
            return Ok(vec![Target::Everything]);
        }
        let keys = self.keys.iter().map(|url| Target::Key(normal(url)));
        let prefixes = self.prefixes.iter().map(|url| Target::Prefix(normal(url)));
        let tags = self.tags.iter().map(|tag| Target::Tag(tag.clone()));
        let targets: Vec<_> = keys.chain(prefixes).chain(tags).collect();
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

/// Scheme and host are the same in any case of their letters, and with the port of the scheme
/// (RFC 9110 §4.2.3).
fn normal(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://").filter(|_| !url.starts_with('/')) else {
        return url.to_owned();
    };
    let scheme = scheme.to_ascii_lowercase();
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let port = if scheme == "https" { ":443" } else { ":80" };
    let host = host.to_ascii_lowercase();
    // What begins so need not end here.
    let host = host.strip_suffix(port).filter(|_| !path.is_empty()).unwrap_or(&host);
    format!("{scheme}://{host}{path}")
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
        }
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
        let record = PurgeRecord { version: VERSION, forgotten: 3, purges: vec![purge(4), purge(7)] };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(
            text,
            r#"{"version":1,"forgotten":3,"purges":[{"epoch":4,"id":"u","force":"soft","targets":[{"tag":"a"}]},{"epoch":7,"id":"u","force":"soft","targets":[{"tag":"a"}]}]}"#
        );
        assert_eq!(PurgeRecord::parse(&text).unwrap(), record);
        assert_eq!((record.last(), PurgeRecord::empty().last()), (7, 0));
    }

    #[test]
    fn numbers_that_do_not_count_up_are_refused() {
        for (forgotten, purges) in [(4, vec![purge(4)]), (0, vec![purge(2), purge(2)]), (0, vec![purge(0)])] {
            let record = PurgeRecord { version: VERSION, forgotten, purges };
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
    }

    #[test]
    fn what_is_written_becomes_targets_as_they_stand_in_keys() {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let keys = owned(&["HTTP://Shop:80/A?B", "https://shop:443/", "https://shop:80/a", "/A://B:80/"]);
        let prefixes = owned(&["http://Shop:80", "/a"]);
        let tags = owned(&["T"]);
        let written = Written { keys: &keys, prefixes: &prefixes, tags: &tags, everything: false };
        let key = |text: &str| Target::Key(text.to_owned());
        let prefix = |text: &str| Target::Prefix(text.to_owned());
        let expected = [
            key("http://shop/A?B"),
            key("https://shop/"),
            key("https://shop:80/a"),
            key("/A://B:80/"),
            prefix("http://shop:80"),
            prefix("/a"),
            Target::Tag("T".to_owned()),
        ];
        assert_eq!(written.targets().unwrap(), expected);
        assert_eq!(Written { everything: true, ..written }.targets().unwrap(), [Target::Everything]);
    }

    #[test]
    fn what_names_nothing_or_no_url_is_refused() {
        let refused = |written: Written<'_>| written.targets().unwrap_err().to_string();
        assert_eq!(refused(Written::default()), "it names nothing to purge");
        for wrong in ["a/b", "", "ftp://shop/", "http:/shop"] {
            let keys = [wrong.to_owned()];
            assert!(refused(Written { keys: &keys, ..Written::default() }).contains("is no URL"), "{wrong}");
        }
    }
}
