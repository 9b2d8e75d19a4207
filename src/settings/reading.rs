//! Reads a file of settings, also one that a later release has written.

use super::{Settings, SettingsError, VERSION, of_version};

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// What it says.
    pub settings: Settings,
    /// Fields in it that are not known here.
    pub unknown: Vec<String>,
}

impl Settings {
    /// Reads and checks a file of this release.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let Read { settings, unknown } = Self::read(text)?;
        if unknown.is_empty() { Ok(settings) } else { Err(SettingsError::Unknown(unknown)) }
    }

    /// Reads and checks a file. What a later release has put into it is left out, and told.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn read(text: &str) -> Result<Read, SettingsError> {
        of_version(text, VERSION)?;
        let mut unknown = Vec::new();
        let mut reader = serde_json::Deserializer::from_str(text);
        let mut settings: Self = serde_ignored::deserialize(&mut reader, |path| {
            // `?` stands for what may be absent, which is nobody's matter.
            let path: Vec<_> =
                path.to_string().split('.').filter(|part| *part != "?").map(str::to_owned).collect();
            unknown.push(path);
        })?;
        reader.end()?;
        for path in &unknown {
            settings.leave_out(path);
        }
        settings.check()?;
        Ok(Read { settings, unknown: unknown.into_iter().map(|path| path.join(".")).collect() })
    }

    /// Reads and checks a file that takes the place of this one, while what goes by it runs.
    ///
    /// # Errors
    /// What is wrong with it, also where it changes what only a new pod can change.
    pub fn reloaded(&self, text: &str) -> Result<Read, SettingsError> {
        let read = Self::read(text)?;
        let settings = &read.settings;
        let fixed = [
            ("httpPort", self.http_port == settings.http_port),
            ("adminPort", self.admin_port == settings.admin_port),
            ("appPort", self.app_port == settings.app_port),
            ("tokenFile", self.token_file == settings.token_file),
            ("purgesFile", self.purges_file == settings.purges_file),
            ("purgesCopy", self.purges_copy == settings.purges_copy),
            ("redis", self.redis == settings.redis),
            // What the replicas share is followed from the start.
            ("http", self.http.is_some() || settings.http.is_none()),
            // The application of a pod that runs looks for Redis where it was told to when it started.
            ("application.port", self.near_cache_port() == settings.near_cache_port()),
        ];
        match fixed.into_iter().find(|(_, is_same)| !is_same) {
            None => Ok(read),
            Some((field, _)) => Err(SettingsError::Wrong(format!(
                "{field} cannot change while this pod runs, a new one takes it"
            ))),
        }
    }

    fn near_cache_port(&self) -> Option<u16> {
        self.application.as_ref().map(|application| application.port)
    }

    /// Goes without a field that is not known. In a rule it may say which requests or keys it is not for: what is seen
    /// of the rule matches those and more, so that none of them is answered from a cache.
    fn leave_out(&mut self, path: &[String]) {
        let [tier, rules, at, ..] = path else { return };
        let Ok(at) = at.parse::<usize>() else { return };
        match (tier.as_str(), rules.as_str()) {
            ("http", "rules") => {
                if let Some(rule) = self.http.as_mut().and_then(|http| http.rules.get_mut(at)) {
                    rule.bypass = true;
                }
            }
            ("application", "rules") => {
                let rules = self.application.as_mut().map(|application| &mut application.rules);
                if let Some(rule) = rules.and_then(|rules| rules.get_mut(at)) {
                    rule.off = true;
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn file() -> Value {
        json!({
            "version": 1, "httpPort": 8000, "adminPort": 9000, "appPort": 8080,
            "http": {
                "memory": 4096,
                "maxObject": 1024,
                "rules": [
                    { "paths": ["/a"], "ttl": 60, "headers": [{ "name": "x-a" }] },
                    { "paths": ["/b"], "ttl": 60, "headers": [{ "name": "x-b" }] },
                ],
            },
            "balancing": { "peersHost": "peers" },
        })
    }

    fn read(file: &Value) -> Read {
        Settings::read(&file.to_string()).unwrap()
    }

    #[test]
    fn what_a_later_release_has_added_is_left_out_and_told() {
        let known = read(&file());
        assert!(known.unknown.is_empty());
        let mut later = file();
        later["new"] = json!({ "a": [1] });
        later["http"]["compression"] = json!("zstd");
        later["balancing"]["breaker"] = json!({ "openMs": 5000, "slow": 1 });
        let Read { settings, unknown } = read(&later);
        // In the order in which they stand there, which is that of the alphabet here.
        assert_eq!(unknown, ["balancing.breaker.slow", "http.compression", "new"]);
        assert_eq!(settings.http, known.settings.http);
        assert_eq!(settings.http_port, known.settings.http_port);
        let reloaded = known.settings.reloaded(&later.to_string()).unwrap();
        assert_eq!((reloaded.settings, reloaded.unknown), (settings, unknown));
    }

    #[test]
    fn a_rule_that_may_be_meant_for_fewer_requests_caches_none_of_them() {
        for (path, field) in [("/http/rules/1", "hosts"), ("/http/rules/1/headers/0", "not")] {
            let mut later = file();
            later.pointer_mut(path).unwrap()[field] = json!(["x"]);
            let Read { settings, unknown } = read(&later);
            assert_eq!(unknown.len(), 1, "{unknown:?}");
            let bypassed: Vec<bool> = settings.http.unwrap().rules.iter().map(|rule| rule.bypass).collect();
            assert_eq!(bypassed, [false, true], "{unknown:?}");
        }
    }

    #[test]
    fn a_rule_of_the_near_cache_that_may_be_meant_for_fewer_keys_stores_none_of_them() {
        let mut later = file();
        later["redis"] = json!({ "urlFile": "/u", "keyPrefix": "p:", "channel": "c" });
        later["application"] = json!({
            "port": 6379, "memory": 4096, "ttlMs": 1000, "maxValue": 1024, "new": 1,
            "rules": [{ "prefix": "user:", "ttlMs": 5 }, { "prefix": "b:", "types": ["hash"] }],
        });
        let Read { settings, unknown } = read(&later);
        assert_eq!(unknown, ["application.new", "application.rules.1.types"]);
        let off: Vec<bool> = settings.application.unwrap().rules.iter().map(|rule| rule.off).collect();
        assert_eq!(off, [false, true]);
    }

    #[test]
    fn what_this_release_writes_it_knows_whole() {
        let mut later = file();
        later["new"] = json!(1);
        let refused = Settings::parse(&later.to_string()).unwrap_err().to_string();
        assert_eq!(refused, "these fields are not known: new");
        assert!(Settings::parse(&file().to_string()).is_ok());
        assert!(Settings::read(&format!("{}{{", file())).is_err(), "more than one file");
    }
}
