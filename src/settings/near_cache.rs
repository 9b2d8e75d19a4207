//! The near-cache: what the application asks its Redis is answered from the memory of its own pod, where that may be.

mod single_flight;

use std::{cmp::Reverse, time::Duration};

use serde::{Deserialize, Serialize};

pub use self::single_flight::SingleFlight;
use super::SettingsError;

/// What the application asks its Redis, in memory. It asks the sidecar on 127.0.0.1, which asks the
/// [`Redis`](super::Redis) of the same file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NearCache {
    /// The port on 127.0.0.1 on which the application finds what it takes for Redis.
    pub port: u16,
    /// How much memory the stored values of a replica take at most, with their keys, in bytes.
    pub memory: u64,
    /// How long a value is answered from memory at most, in milliseconds; not longer than it lives in Redis.
    pub ttl_ms: u64,
    /// A larger value is passed on and not stored, in bytes of Redis' reply.
    pub max_value: u64,
    /// What the application is told while Redis does not answer.
    #[serde(default, skip_serializing_if = "WhenRedisFails::is_default")]
    pub when_redis_fails: WhenRedisFails,
    /// The connections to Redis.
    #[serde(default, skip_serializing_if = "Pool::is_default")]
    pub pool: Pool,
    /// What holds for which keys: of the rules whose prefix a key begins with, that of the longest. They stand from the
    /// longest prefix to the shortest, so that it is the first that matches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

/// What the application is told while Redis does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WhenRedisFails {
    /// An error, at once.
    #[default]
    Error,
    /// For what is read, that there is nothing; for all else an error.
    Miss,
    /// For what is read, what memory holds, though it may have changed since; for all else an error.
    StaleOrError,
    /// For what is read, what memory holds, or that there is nothing; for all else an error.
    StaleOrMiss,
}

/// The connections to Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pool {
    /// So many at most, for all users and databases together.
    pub max: u32,
    /// So many stay though nothing is asked, for the service's own user and its database.
    pub min: u32,
    /// Others end when nothing was asked on them for so long, in milliseconds.
    pub idle_timeout_ms: u64,
    /// How long it may take until one is there, in milliseconds.
    pub connect_timeout_ms: u64,
    /// So many at most that each are one client's alone: transactions, blocking commands, subscriptions. They do not
    /// count in `max`.
    pub max_pinned: u32,
}

/// What holds for the keys of a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// What the keys begin with, to the byte.
    pub prefix: String,
    /// Nothing of these keys is stored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub off: bool,
    /// In place of [`NearCache::ttl_ms`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// In place of [`NearCache::max_value`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_value: Option<u64>,
    /// The TTL in milliseconds that a `SET` without one is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_ttl_ms: Option<u64>,
    /// In place of [`NearCache::when_redis_fails`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_redis_fails: Option<WhenRedisFails>,
    /// Of all who miss one of these keys, one is told so, and the others wait for what it writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub single_flight: Option<SingleFlight>,
}

impl Default for Pool {
    fn default() -> Self {
        Self { max: 20, min: 5, idle_timeout_ms: 30_000, connect_timeout_ms: 5000, max_pinned: 100 }
    }
}

impl WhenRedisFails {
    // The form that serde wants.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether what memory holds is told, though it may have changed.
    #[must_use]
    pub fn gives_stale(self) -> bool {
        matches!(self, Self::StaleOrError | Self::StaleOrMiss)
    }

    /// Whether it is told that there is nothing.
    #[must_use]
    pub fn says_nothing(self) -> bool {
        matches!(self, Self::Miss | Self::StaleOrMiss)
    }

    /// What both allow.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let gives_stale = self.gives_stale() && other.gives_stale();
        match (gives_stale, self.says_nothing() && other.says_nothing()) {
            (false, false) => Self::Error,
            (false, true) => Self::Miss,
            (true, false) => Self::StaleOrError,
            (true, true) => Self::StaleOrMiss,
        }
    }
}

impl Pool {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// How long nothing is asked on a connection until it ends.
    #[must_use]
    pub fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    /// How long it may take until one is there.
    #[must_use]
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }
}

impl Rule {
    /// How long a value of these keys is answered from memory, if the rule says so.
    #[must_use]
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl_ms.map(Duration::from_millis)
    }

    /// Puts rules into the order that they have in a file.
    pub fn sort(rules: &mut [Self]) {
        rules.sort_by(|one, other| one.place().cmp(&other.place()));
    }

    fn place(&self) -> (Reverse<usize>, &str) {
        (Reverse(self.prefix.len()), &self.prefix)
    }
}

impl NearCache {
    /// How long a value is answered from memory where no rule says so.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl_ms)
    }

    /// The largest value that is stored, by whichever rule.
    #[must_use]
    pub fn largest_value(&self) -> u64 {
        self.rules.iter().filter_map(|rule| rule.max_value).fold(self.max_value, u64::max)
    }

    /// Whether it can be done as it stands.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), SettingsError> {
        let wrong = |words: String| Err(SettingsError::Wrong(words));
        let of_rule = |rule: &Rule| rule.ttl_ms == Some(0) || rule.add_ttl_ms == Some(0);
        if self.ttl_ms == 0 || self.rules.iter().any(of_rule) {
            return wrong(
                "ttlMs of application, and ttlMs and addTtlMs of its rules, have to be 1 or more".to_owned(),
            );
        }
        let values = self.rules.iter().filter_map(|rule| rule.max_value).chain([self.max_value]);
        if let Some(size) = values.into_iter().find(|size| !(1..=self.memory).contains(size)) {
            return wrong(format!(
                "application.maxValue, also of a rule, is {size} and has to be from 1 to application.memory, which is {}",
                self.memory
            ));
        }
        let Pool { max, min, idle_timeout_ms, connect_timeout_ms, max_pinned } = self.pool;
        if max == 0 || max_pinned == 0 || idle_timeout_ms == 0 || connect_timeout_ms == 0 {
            return wrong("the numbers of application.pool but for min have to be 1 or more".to_owned());
        }
        if min > max {
            return wrong(format!("application.pool.min is {min} and has to be at most max, which is {max}"));
        }
        self.rules.iter().filter_map(|rule| rule.single_flight).try_for_each(SingleFlight::check)?;
        if self.rules.iter().any(|rule| rule.prefix.is_empty()) {
            return wrong("prefix of a rule of application has to be given".to_owned());
        }
        let mut pairs = self.rules.iter().zip(self.rules.iter().skip(1));
        if let Some((first, next)) = pairs.find(|(first, next)| first.place() >= next.place()) {
            return wrong(format!(
                "the rules of application stand from the longest prefix to the shortest, each once, and {:?} stands before {:?}",
                first.prefix, next.prefix
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(text: &str) -> Result<NearCache, String> {
        let near: NearCache = serde_json::from_str(text).map_err(|error| error.to_string())?;
        near.check().map_err(|error| error.to_string())?;
        Ok(near)
    }

    fn with(fields: &str) -> Result<NearCache, String> {
        parse(&format!(r#"{{"port": 6379, "memory": 4096, "ttlMs": 60000, "maxValue": 1024{fields}}}"#))
    }

    #[test]
    fn what_is_not_said_has_the_defaults_and_is_not_written() {
        let short = with("").unwrap();
        assert_eq!(short.when_redis_fails, WhenRedisFails::Error);
        assert_eq!((short.pool.max, short.pool.min, short.pool.max_pinned), (20, 5, 100));
        assert_eq!(short.pool.idle_timeout(), Duration::from_secs(30));
        assert_eq!(short.pool.connect_timeout(), Duration::from_secs(5));
        assert_eq!(short.ttl(), Duration::from_secs(60));
        let written = serde_json::to_value(&short).unwrap();
        assert_eq!(written, json!({ "port": 6379, "memory": 4096, "ttlMs": 60000, "maxValue": 1024 }));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let rules = vec![
            Rule { prefix: "user:".to_owned(), ttl_ms: Some(5000), max_value: Some(4096), ..Rule::default() },
            Rule {
                prefix: "hot:".to_owned(),
                single_flight: Some(SingleFlight { wait_ms: 1500, lease_ms: 1000 }),
                ..Rule::default()
            },
            Rule {
                prefix: "tmp:".to_owned(),
                off: true,
                add_ttl_ms: Some(1000),
                when_redis_fails: Some(WhenRedisFails::StaleOrError),
                ..Rule::default()
            },
        ];
        let pool = Pool { max: 8, ..Pool::default() };
        let near = NearCache { rules, pool, when_redis_fails: WhenRedisFails::Miss, ..with("").unwrap() };
        assert_eq!(parse(&serde_json::to_string(&near).unwrap()), Ok(near));
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for (wrong, words) in [
            (r#", "pool": {"max": 0}"#, "numbers of application.pool"),
            (r#", "pool": {"maxPinned": 0}"#, "numbers of application.pool"),
            (r#", "pool": {"max": 4}"#, "pool.min is 5"),
            (r#", "rules": [{"prefix": ""}]"#, "prefix"),
            (r#", "rules": [{"prefix": "a", "ttlMs": 0}]"#, "ttlMs"),
            (r#", "rules": [{"prefix": "a", "addTtlMs": 0}]"#, "addTtlMs"),
            (r#", "rules": [{"prefix": "a", "whenRedisFails": "Stale"}]"#, "Stale"),
            (r#", "rules": [{"prefix": "a", "maxValue": 4097}]"#, "maxValue"),
            (r#", "rules": [{"prefix": "a"}, {"prefix": "a"}]"#, "each once"),
            (r#", "rules": [{"prefix": "a"}, {"prefix": "a:"}]"#, "longest prefix"),
            (r#", "whenRedisFails": "Never""#, "Never"),
            (r#", "rules": [{"prefix": "a", "singleFlight": {"waitMs": 5, "leaseMs": 0}}]"#, "singleFlight"),
            (r#", "rules": [{"prefix": "a", "singleFlight": {"waitMs": 5, "leaseMs": 6}}]"#, "leaseMs is 6"),
        ] {
            assert!(with(wrong).unwrap_err().contains(words), "{wrong}");
        }
        assert!(parse(r#"{"port": 1, "memory": 1, "ttlMs": 1, "maxValue": 2}"#).is_err());
    }

    #[test]
    fn of_two_rules_what_both_allow_is_told_while_redis_fails() {
        use WhenRedisFails::{Error, Miss, StaleOrError, StaleOrMiss};
        for (one, other, both) in [
            (Error, StaleOrMiss, Error),
            (Miss, StaleOrMiss, Miss),
            (StaleOrError, StaleOrMiss, StaleOrError),
            (StaleOrMiss, StaleOrMiss, StaleOrMiss),
            (Miss, StaleOrError, Error),
        ] {
            assert_eq!((one.and(other), other.and(one)), (both, both));
        }
    }

    #[test]
    fn the_rule_of_the_longest_prefix_is_the_first_that_matches() {
        let mut rules: Vec<_> = ["a", "b:", "user:", "a:", "user:session:"]
            .map(|prefix| Rule { prefix: prefix.to_owned(), ..Rule::default() })
            .into();
        Rule::sort(&mut rules);
        let prefixes: Vec<_> = rules.iter().map(|rule| rule.prefix.as_str()).collect();
        assert_eq!(prefixes, ["user:session:", "user:", "a:", "b:", "a"]);
        assert!(NearCache { rules, ..with("").unwrap() }.check().is_ok());
    }
}
