//! What the operator tells a sidecar, in one file (JSON): the operator writes it, the sidecar reads it,
//! and this module knows neither of them.
//!
//! A sidecar of an earlier release goes on in pods that run, and starts again in them, so that a later
//! operator must not write what keeps it from that:
//!
//! * A field that a later release brings is written only where it is not its default, so that nobody sees it
//!   who does not use it. A sidecar that does not know it goes by the rest, and tells of it in its log
//!   and its status. A rule of the cache with such a field may be meant for fewer requests than
//!   are seen here: it keeps all of them from the cache.
//! * A field that is known gets no other meaning, and no new values: these come as a new field.
//! * Where that is not enough, the file gets another version. A sidecar refuses one that it does not know, and
//!   keeps what it has; one that starts does not come up. So an operator writes it only once all pods
//!   have a sidecar that reads it.

pub mod balancing;
pub mod deletions;
pub mod memory;
pub mod near_cache;
pub mod purges;
mod reading;

use std::{fmt::Write, time::Duration};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

pub use balancing::Balancing;
pub use near_cache::NearCache;
pub use reading::Read;

/// The version of the file that this release writes and reads.
pub const VERSION: u32 = 1;

/// The environment variable with the name of a sidecar's own pod.
pub const POD_NAME: &str = "POD_NAME";
/// The environment variable with the UID of a sidecar's own pod.
pub const POD_UID: &str = "POD_UID";

/// All settings of a sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// The version of the file.
    pub version: u32,
    /// The port on the pod's address where requests come in.
    pub http_port: u16,
    /// The port of health, metrics and purges.
    pub admin_port: u16,
    /// The port of the application, on the same pod.
    pub app_port: u16,
    /// How long requests still come in once the pod is on its way out, in seconds.
    #[serde(default)]
    pub drain_seconds: u64,
    /// The file with the token that purges ask for; without it there are none from outside the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<String>,
    /// The file with the record of purges, see [`purges`]; it need not be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purges_file: Option<String>,
    /// The file in which the sidecar keeps the record that it was handed, and which outlives a restart of
    /// its container: the kubelet brings `purges_file` up to a minute or two later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purges_copy: Option<String>,
    /// The Redis that the replicas share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<Redis>,
    /// The cache of HTTP responses; without it requests are passed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCache>,
    /// What the application asks its Redis, answered from memory; without it there is nothing for it to ask here. It
    /// needs `redis`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<NearCache>,
    /// Which replicas are asked; without it the application of the pod alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balancing: Option<Balancing>,
    /// How soon the application has to begin to answer, in milliseconds; 30 seconds if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_ms: Option<u64>,
    /// Whether each request is written down on stdout.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub access_log: bool,
}

/// The Redis that the replicas share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Redis {
    /// The file with its URL, which has the password. It is read again for each connection.
    pub url_file: String,
    /// What every key of this service begins with: in one Redis there may be several services.
    pub key_prefix: String,
    /// The channel on which the application publishes purges. It knows it by the name of the service, and
    /// does not know the prefix.
    pub channel: String,
}

/// The cache of HTTP responses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpCache {
    /// How much memory the stored responses of a replica take at most, in bytes.
    pub memory: u64,
    /// A larger response is not stored, in bytes of its body.
    pub max_object: u64,
    /// What holds for which requests; the first that matches counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

/// What holds for some requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Paths without their query; `*` stands for any text. None: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Methods of the request. None: both that a cache can answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<RuleMethod>,
    /// Fields of the request, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderMatch>,
    /// These requests go past the cache.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bypass: bool,
    /// How long a response is fresh that does not say so itself, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u64>,
    /// Whether `ttl` also counts where the response says something else, or forbids to store it. Not where
    /// the request has an `Authorization`; and a `Set-Cookie` is given to the first alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overrides: bool,
    /// How long after it was fresh a response is used while it is asked for anew, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_while_revalidate: Option<u64>,
    /// How long after it was fresh a response is used where the application fails, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_if_error: Option<u64>,
    /// The cookies that responses may depend on; the others are taken out of the request. None: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookies: Option<Vec<String>>,
    /// Query parameters that change nothing; `*` at the end stands for all that begin so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored_query: Vec<String>,
    /// Tags of the responses, beside their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// A method of requests that a cache can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RuleMethod {
    /// GET.
    Get,
    /// HEAD, which is answered with what is stored of a GET.
    Head,
}

/// A field that a request has to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeaderMatch {
    /// Its name.
    pub name: String,
    /// Its value; any, if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// Why settings are not taken.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// No JSON, or not of this form.
    #[error("it cannot be read: {0}")]
    Form(#[from] serde_json::Error),
    /// Of another release.
    #[error("it is of version {found}, and this sidecar reads version {read}")]
    Version {
        /// Of the file.
        found: u32,
        /// Of this release.
        read: u32,
    },
    /// They contradict themselves.
    #[error("{0}")]
    Wrong(String),
    /// Fields of another release.
    #[error("these fields are not known: {}", .0.join(", "))]
    Unknown(Vec<String>),
}

/// A short name for the text of a file, by which it is told which of them a sidecar has loaded: the first 64
/// bits of its SHA-256, as 16 hexadecimal digits.
#[must_use]
pub fn digest(text: &str) -> String {
    Sha256::digest(text).iter().take(8).fold(String::new(), |mut digits, byte| {
        // Writing into a String cannot fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// Whether a file is of the version that is read here. Of another the rest may have another form.
fn of_version(text: &str, read: u32) -> Result<(), SettingsError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let Versioned { version: found } = serde_json::from_str(text)?;
    if found == read { Ok(()) } else { Err(SettingsError::Version { found, read }) }
}

impl Settings {
    fn check(&self) -> Result<(), SettingsError> {
        let ports = [self.http_port, self.admin_port, self.app_port];
        let is_distinct = ports[0] != ports[1] && ports[0] != ports[2] && ports[1] != ports[2];
        if !is_distinct || ports.contains(&0) {
            return Err(SettingsError::Wrong(format!(
                "httpPort, adminPort and appPort have to be three ports, and are {ports:?}"
            )));
        }
        if let Some(application) = &self.application {
            if application.port == 0 || ports.contains(&application.port) {
                return Err(SettingsError::Wrong(format!(
                    "application.port is {} and has to be another than {ports:?}",
                    application.port
                )));
            }
            if self.redis.is_none() {
                return Err(SettingsError::Wrong("application needs redis, which it asks".to_owned()));
            }
            application.check()?;
        }
        if let Some(http) = &self.http
            && (http.max_object == 0 || http.max_object > http.memory)
        {
            return Err(SettingsError::Wrong(format!(
                "http.maxObject is {} and has to be from 1 to http.memory, which is {}",
                http.max_object, http.memory
            )));
        }
        if self.first_byte_ms == Some(0) {
            return Err(SettingsError::Wrong("firstByteMs has to be 1 or more".to_owned()));
        }
        self.balancing.as_ref().map_or(Ok(()), Balancing::check)
    }

    /// The file's text.
    ///
    /// # Errors
    /// None that is known: everything in it can be written as JSON.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }
}

impl Rule {
    /// How long a response is fresh, if the rule says so.
    #[must_use]
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl.map(Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let rule = Rule { paths: vec!["/static/*".to_owned()], ttl: Some(86_400), ..Rule::default() };
        let http = HttpCache { memory: 64 << 20, max_object: 1 << 20, rules: vec![rule] };
        Settings {
            version: VERSION,
            http_port: 8000,
            admin_port: 9000,
            app_port: 8080,
            drain_seconds: 5,
            token_file: None,
            purges_file: None,
            purges_copy: None,
            redis: None,
            http: Some(http),
            application: None,
            balancing: None,
            first_byte_ms: None,
            access_log: false,
        }
    }

    fn redis() -> Redis {
        Redis { url_file: "/u".to_owned(), key_prefix: "p:".to_owned(), channel: "c".to_owned() }
    }

    fn near_cache() -> NearCache {
        NearCache {
            port: 6379,
            memory: 64 << 20,
            ttl_ms: 60_000,
            max_value: 1 << 20,
            when_redis_fails: near_cache::WhenRedisFails::default(),
            pool: near_cache::Pool::default(),
            rules: Vec::new(),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = settings().to_json().unwrap();
        assert_eq!(Settings::parse(&text).unwrap(), settings());
        assert!(!text.contains("bypass"), "what is not set is not written: {text}");
    }

    #[test]
    fn what_is_of_another_version_is_refused() {
        let text = settings().to_json().unwrap();
        let other = text.replace("\"version\": 1", "\"version\": 2, \"new\": true");
        assert_eq!(
            Settings::parse(&other).unwrap_err().to_string(),
            "it is of version 2, and this sidecar reads version 1"
        );
        assert!(Settings::parse("{").is_err());
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let refused = |change: fn(&mut Settings)| {
            let mut wrong = settings();
            change(&mut wrong);
            Settings::parse(&wrong.to_json().unwrap()).unwrap_err().to_string()
        };
        assert!(refused(|settings| settings.app_port = 8000).contains("three ports"));
        assert!(refused(|settings| settings.admin_port = 0).contains("three ports"));
        assert!(refused(|settings| settings.http.as_mut().unwrap().memory = 1).contains("http.maxObject"));
        let alone = refused(|settings| settings.application = Some(near_cache()));
        assert!(alone.contains("needs redis"), "{alone}");
        let taken = refused(|settings| {
            settings.redis = Some(redis());
            settings.application = Some(NearCache { port: 9000, ..near_cache() });
        });
        assert!(taken.contains("application.port"), "{taken}");
        let wrong = refused(|settings| {
            settings.redis = Some(redis());
            settings.application = Some(NearCache { ttl_ms: 0, ..near_cache() });
        });
        assert!(wrong.contains("ttlMs"), "{wrong}");
    }

    #[test]
    fn what_runs_takes_other_rules_of_the_near_cache_but_neither_begins_nor_ends_one() {
        let with =
            |application: Option<NearCache>| Settings { redis: Some(redis()), application, ..settings() };
        let reloaded = |from: Option<NearCache>, to: Option<NearCache>| {
            with(from).reloaded(&with(to).to_json().unwrap()).map(|read| read.settings.application)
        };
        let other = NearCache { ttl_ms: 5, memory: 1 << 20, ..near_cache() };
        assert_eq!(reloaded(Some(near_cache()), Some(other.clone())).unwrap(), Some(other));
        let moved = NearCache { port: 6380, ..near_cache() };
        for (from, to) in
            [(Some(near_cache()), None), (None, Some(near_cache())), (Some(near_cache()), Some(moved))]
        {
            let refused = reloaded(from, to).unwrap_err().to_string();
            assert!(refused.starts_with("application.port"), "{refused}");
        }
    }

    #[test]
    fn what_runs_takes_other_rules_and_no_other_ports() {
        let other = |change: fn(&mut Settings)| {
            let mut other = settings();
            change(&mut other);
            settings().reloaded(&other.to_json().unwrap()).map(|read| read.settings)
        };
        let changed = other(|settings| settings.http.as_mut().unwrap().memory = 1 << 20).unwrap();
        assert_eq!(changed.http.unwrap().memory, 1 << 20);
        assert!(other(|settings| settings.http = None).is_ok());
        let without = Settings { http: None, ..settings() };
        let begun = without.reloaded(&settings().to_json().unwrap()).unwrap_err().to_string();
        assert!(begun.starts_with("http cannot change"), "{begun}");
        for (field, refused) in [
            ("httpPort", other(|settings| settings.http_port = 8001)),
            ("adminPort", other(|settings| settings.admin_port = 9001)),
            ("appPort", other(|settings| settings.app_port = 8081)),
            ("tokenFile", other(|settings| settings.token_file = Some("/t".to_owned()))),
        ] {
            assert!(refused.unwrap_err().to_string().starts_with(field));
        }
        assert!(other(|settings| settings.app_port = 0).unwrap_err().to_string().contains("three ports"));
    }
}
