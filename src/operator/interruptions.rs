//! Watches that fail and do not come back: what they showed last is old, and the
//! status says so.

use std::{collections::BTreeMap, time::Duration};

use kube::runtime::{utils::Backoff, watcher};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::error::in_words;
use crate::telemetry::Metrics;

/// Longest pause between two tries of a watch.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// How long a watch may fail before it is told.
const PATIENCE: Duration = Duration::from_secs(45);

/// The watches that fail at present, by what they watch.
#[derive(Default)]
pub struct Interruptions {
    metrics: Metrics,
    present: Mutex<BTreeMap<String, Interruption>>,
}

/// How long after its last failure a watch counts as working. That it works shows in nothing
/// while nothing happens; that it does not, in a failure after each pause and a time-out at most.
const RECOVERY: Duration = Duration::from_mins(1);
/// How often it is looked whether a watch counts as working again.
pub const RECHECK: Duration = LONGEST_PAUSE;

/// The pauses between the tries of a watch: from 0.8 s on doubled, up to 20 s, each up to a
/// quarter shorter by chance. kube's own come up to a minute, too rarely to tell a watch that
/// fails from one that has nothing to say.
#[derive(Debug, Default)]
pub struct Pauses {
    tries: u32,
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = Duration::from_millis(800).saturating_mul(1 << self.tries.min(10)).min(LONGEST_PAUSE);
        self.tries = self.tries.saturating_add(1);
        Some(pause.mul_f64(rand::random_range(0.75..=1.0)))
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        self.tries = 0;
    }
}

#[derive(Debug)]
struct Interruption {
    since: Instant,
    last: Instant,
    words: String,
    is_told: bool,
}

impl Interruption {
    fn is_present(&self) -> bool {
        self.is_told && self.last.elapsed() < RECOVERY
    }
}

impl Interruptions {
    /// All watches work.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self { metrics, present: Mutex::default() }
    }

    /// A try to watch a kind failed. Whether that is to be told from now on.
    pub fn failed(&self, kind: &str, error: &watcher::Error) -> bool {
        let now = Instant::now();
        let mut all = self.present.lock();
        all.retain(|_, interruption| interruption.last.elapsed() < RECOVERY);
        let is_second = all.contains_key(kind);
        let known = all.entry(kind.to_owned()).or_insert_with(|| Interruption {
            since: now,
            last: now,
            words: String::new(),
            is_told: false,
        });
        known.last = now;
        known.words = cause(error);
        // A right that is missing does not come back by itself.
        let lasts = now.duration_since(known.since) >= PATIENCE || (is_second && is_forbidden(error));
        let is_news = lasts && !known.is_told;
        known.is_told |= lasts;
        self.count(&all);
        is_news
    }

    /// A watch works. Whether the contrary had been told.
    pub fn recovered(&self, kind: &str) -> bool {
        let mut all = self.present.lock();
        let was_told = all.remove(kind).is_some_and(|interruption| interruption.is_present());
        if was_told {
            self.count(&all);
        }
        was_told
    }

    /// Counts anew: of a watch that came back in silence there is no other sign.
    pub fn recount(&self) {
        self.count(&self.present.lock());
    }

    fn count(&self, all: &BTreeMap<String, Interruption>) {
        let told = all.values().filter(|interruption| interruption.is_present());
        self.metrics.set_watches_interrupted(told.count());
    }

    /// What is to be told.
    #[must_use]
    pub fn in_words(&self) -> Option<String> {
        let all = self.present.lock();
        self.count(&all);
        let told = all.iter().filter(|(_, interruption)| interruption.is_present());
        let told: Vec<String> =
            told.map(|(kind, interruption)| format!("{kind}: {}", interruption.words)).collect();
        (!told.is_empty()).then(|| {
            format!("the operator cannot watch, and what is said here may be old: {}", told.join("; "))
        })
    }
}

/// What the API server said, or why it said nothing.
pub(super) fn cause(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => in_words(error),
        watcher::Error::WatchError(status) => status.message.clone(),
        other @ watcher::Error::NoResourceVersion => other.to_string(),
    }
}

/// Whether the API server does not know what is watched.
pub(super) fn is_missing(error: &watcher::Error) -> bool {
    code(error) == Some(404)
}

/// Whether the operator may not watch it.
pub(super) fn is_forbidden(error: &watcher::Error) -> bool {
    code(error) == Some(403)
}

fn code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn answer(code: u16) -> watcher::Error {
        let status = Status { code, message: "words".to_owned(), ..Status::default() };
        watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_comes_back_soon_is_not_told() {
        let interruptions = Interruptions::default();
        for _ in 0..4 {
            assert!(!interruptions.failed("Pod", &answer(503)));
            tokio::time::advance(Duration::from_secs(10)).await;
        }
        assert_eq!(interruptions.in_words(), None);
        assert!(!interruptions.recovered("Pod"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_stays_away_is_told_once_and_until_it_is_back() {
        let interruptions = Interruptions::default();
        interruptions.failed("Pod", &answer(503));
        tokio::time::advance(PATIENCE / 2).await;
        interruptions.failed("Pod", &answer(503));
        tokio::time::advance(PATIENCE / 2).await;
        assert!(interruptions.failed("Pod", &answer(503)));
        assert!(!interruptions.failed("Pod", &answer(503)));
        assert!(interruptions.in_words().is_some_and(|words| words.ends_with("Pod: words")));
        assert!(interruptions.recovered("Pod"));
        assert_eq!(interruptions.in_words(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_fails_after_each_pause_stays_told() {
        let interruptions = Interruptions::default();
        interruptions.failed("Pod", &answer(403));
        interruptions.failed("Pod", &answer(403));
        for pause in Pauses::default().take(20) {
            // The try itself may take as long as a request may.
            tokio::time::advance(pause + Duration::from_secs(30)).await;
            assert!(interruptions.in_words().is_some(), "{pause:?}");
            assert!(!interruptions.failed("Pod", &answer(403)), "told once");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_does_not_fail_again_has_come_back() {
        let interruptions = Interruptions::default();
        interruptions.failed("Pod", &answer(403));
        interruptions.failed("Pod", &answer(403));
        tokio::time::advance(RECOVERY).await;
        assert_eq!(interruptions.in_words(), None);
        assert!(!interruptions.failed("Pod", &answer(403)), "the first of a new interruption");
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_that_is_missing_is_told_with_the_second_refusal() {
        let interruptions = Interruptions::default();
        assert!(!interruptions.failed("Pod", &answer(403)));
        assert!(interruptions.failed("Pod", &answer(403)));
    }
}
