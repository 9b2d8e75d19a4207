//! What the sidecar has loaded, and what keeps it from being ready.

use parking_lot::Mutex;

/// What the sidecar has loaded.
#[derive(Debug, Default)]
pub struct Health(Mutex<Loaded>);

/// What was loaded so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// A digest of the settings that hold.
    pub settings: String,
    /// Why those of the file do not, if it has others.
    pub settings_refused: Option<String>,
    /// Requests come in.
    pub serving: bool,
    /// The record of purges was read, or is not there.
    pub purges: bool,
    /// Why the record of the file was not taken.
    pub purges_refused: Option<String>,
}

impl Health {
    /// Nothing is loaded.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// These settings hold.
    pub fn settings_loaded(&self, digest: String) {
        let mut loaded = self.0.lock();
        loaded.settings = digest;
        loaded.settings_refused = None;
    }

    /// Those before hold on, as others were refused. Whether that is news.
    pub fn settings_refused(&self, why: &str) -> bool {
        let mut loaded = self.0.lock();
        let is_news = loaded.settings_refused.as_deref() != Some(why);
        loaded.settings_refused = Some(why.to_owned());
        is_news
    }

    /// Requests come in.
    pub fn serving(&self) {
        self.0.lock().serving = true;
    }

    /// All purges of a record are known.
    pub fn purges_read(&self) {
        let mut loaded = self.0.lock();
        loaded.purges = true;
        loaded.purges_refused = None;
    }

    /// The record cannot be read. Whether that is news.
    pub fn purges_refused(&self, why: &str) -> bool {
        let mut loaded = self.0.lock();
        let is_news = loaded.purges_refused.as_deref() != Some(why);
        loaded.purges_refused = Some(why.to_owned());
        is_news
    }

    /// What was loaded so far.
    #[must_use]
    pub fn loaded(&self) -> Loaded {
        self.0.lock().clone()
    }
}

impl Loaded {
    /// What keeps it from being ready.
    #[must_use]
    pub fn unready(&self) -> Option<String> {
        if self.settings.is_empty() {
            return Some("the settings are not loaded yet".to_owned());
        }
        if !self.purges {
            // What another replica has stored may have been purged.
            let why = self.purges_refused.as_deref().unwrap_or("not yet");
            return Some(format!("the record of purges is not read: {why}"));
        }
        (!self.serving).then(|| "no requests come in yet".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_when_all_is_loaded_and_stays_so_with_a_wrong_file() {
        let health = Health::new();
        let unready = || health.loaded().unready().unwrap_or_default();
        assert!(unready().contains("settings"));
        health.settings_loaded("d".to_owned());
        assert!(unready().ends_with("not yet"));
        assert!(health.purges_refused("no JSON") && !health.purges_refused("no JSON"));
        assert!(unready().ends_with("no JSON"));
        health.purges_read();
        assert!(unready().contains("no requests"));
        health.serving();
        assert_eq!(health.loaded().unready(), None);
        assert!(health.settings_refused("wrong") && !health.settings_refused("wrong"));
        health.purges_refused("wrong");
        assert_eq!(health.loaded().unready(), None);
    }
}
