//! What the sidecar has loaded, and what keeps it from being ready.

use tokio::sync::watch;

/// What the sidecar has loaded.
#[derive(Debug, Default)]
pub struct Health(watch::Sender<Loaded>);

/// What was loaded so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// A digest of the settings that hold.
    pub settings: String,
    /// Why those of the file do not, if it has others.
    pub settings_refused: Option<String>,
    /// Fields of the settings that hold, of a later release, by which this does not go.
    pub settings_unknown: Vec<String>,
    /// What of them holds to a lesser amount than they say, for what the container has.
    pub settings_reduced: Vec<String>,
    /// Requests come in.
    pub serving: bool,
    /// The record of purges was read, or is not there.
    pub purges: bool,
    /// Why the record of the file was not taken.
    pub purges_refused: Option<String>,
    /// The memory has what the other replicas use most, as far as that is to be had.
    pub warmed: bool,
}

impl Health {
    /// Nothing is loaded.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// These settings hold, but for fields that are not known here. Whether these are news.
    #[must_use]
    pub fn settings_loaded(&self, digest: String, unknown: Vec<String>) -> bool {
        let mut is_news = false;
        self.0.send_modify(|loaded| {
            is_news = !unknown.is_empty() && loaded.settings_unknown != unknown;
            loaded.settings = digest;
            loaded.settings_refused = None;
            loaded.settings_unknown = unknown;
        });
        is_news
    }

    /// Of those that hold, these amounts are less than they say. Whether that is news.
    #[must_use]
    pub fn settings_reduced(&self, reduced: Vec<String>) -> bool {
        self.0.send_if_modified(|loaded| {
            let is_other = loaded.settings_reduced != reduced;
            loaded.settings_reduced = reduced;
            is_other && !loaded.settings_reduced.is_empty()
        })
    }

    /// Those before hold on, as others were refused. Whether that is news.
    #[must_use]
    pub fn settings_refused(&self, why: &str) -> bool {
        self.0.send_if_modified(|loaded| replace(&mut loaded.settings_refused, why))
    }

    /// Requests come in.
    pub fn serving(&self) {
        self.0.send_modify(|loaded| loaded.serving = true);
    }

    /// All purges of a record are known.
    pub fn purges_read(&self) {
        self.0.send_modify(|loaded| {
            loaded.purges = true;
            loaded.purges_refused = None;
        });
    }

    /// Waits until they are.
    pub async fn until_purges_read(&self) {
        // It ends with the sender alone, which is here.
        let _ = self.0.subscribe().wait_for(|loaded| loaded.purges).await;
    }

    /// The memory has what it begins with.
    pub fn warmed(&self) {
        self.0.send_modify(|loaded| loaded.warmed = true);
    }

    /// The record cannot be read. Whether that is news.
    #[must_use]
    pub fn purges_refused(&self, why: &str) -> bool {
        self.0.send_if_modified(|loaded| replace(&mut loaded.purges_refused, why))
    }

    /// What was loaded so far.
    #[must_use]
    pub fn loaded(&self) -> Loaded {
        self.0.borrow().clone()
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
        if !self.serving {
            return Some("no requests come in yet".to_owned());
        }
        (!self.warmed).then(|| "what the other replicas use most is still read from Redis".to_owned())
    }
}

/// Puts other words in place. Whether they are news.
fn replace(words: &mut Option<String>, why: &str) -> bool {
    let is_news = words.as_deref() != Some(why);
    *words = Some(why.to_owned());
    is_news
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_when_all_is_loaded_and_stays_so_with_a_wrong_file() {
        let health = Health::new();
        let unready = || health.loaded().unready().unwrap_or_default();
        assert!(unready().contains("settings"));
        assert!(!health.settings_loaded("d".to_owned(), Vec::new()));
        let unknown = || vec!["new".to_owned()];
        assert!(health.settings_loaded("d".to_owned(), unknown()));
        assert!(!health.settings_loaded("d".to_owned(), unknown()));
        assert_eq!(health.loaded().settings_unknown, unknown());
        let reduced = || vec!["http.memory: 1 of 2".to_owned()];
        assert!(health.settings_reduced(reduced()) && !health.settings_reduced(reduced()));
        assert!(!health.settings_reduced(Vec::new()) && health.loaded().settings_reduced.is_empty());
        assert!(unready().ends_with("not yet"));
        assert!(health.purges_refused("no JSON") && !health.purges_refused("no JSON"));
        assert!(unready().ends_with("no JSON"));
        health.purges_read();
        assert!(unready().contains("no requests"));
        health.serving();
        assert!(unready().contains("Redis"));
        health.warmed();
        assert_eq!(health.loaded().unready(), None);
        assert!(health.settings_refused("wrong") && !health.settings_refused("wrong"));
        assert!(health.purges_refused("wrong"));
        assert_eq!(health.loaded().unready(), None);
    }
}
