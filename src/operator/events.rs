//! Kubernetes Events: what was done and what happened, for people to read.
//!
//! What is told once more is counted: the same type, reason and note about the
//! same object. Another note is another Event. (The recorder of kube leaves the
//! note out of the comparison, and counts up an Event that says something else.)
//!
//! Source: Kubernetes API reference, Event (events.k8s.io/v1).

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use super::{digest::digest, error::in_words};

/// Who reports, in every Event.
const CONTROLLER: &str = "cachedservice-operator";
/// For how long an Event is counted up after it was told last; then it is told anew. What
/// is remembered is bounded by what is told in this time.
const SERIES: Duration = Duration::from_mins(6);
/// How often what is older is looked for.
const SWEEP: Duration = Duration::from_mins(1);
/// Longest note, in bytes: the API takes 1 kB.
const LONGEST_NOTE: usize = 1000;
/// Longest name of a reporter, in bytes, that the API takes.
const LONGEST_INSTANCE: usize = 128;

/// How much an Event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// It went as it should.
    Normal,
    /// Somebody may have to act.
    Warning,
}

impl EventType {
    /// As the API spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// One thing to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// How much it matters.
    pub type_: EventType,
    /// For programs, and for the column REASON.
    pub reason: &'static str,
    /// What the operator did when it came up; kubectl does not show it.
    pub action: &'static str,
    /// For people.
    pub note: String,
}

/// Writes Events and counts repetitions.
pub struct Events {
    client: Client,
    instance: String,
    told: Mutex<Told>,
}

impl Events {
    /// Events of the replica `instance`.
    #[must_use]
    pub fn new(client: Client, instance: &str) -> Self {
        let instance = shortened(instance, LONGEST_INSTANCE).to_owned();
        Self { client, instance, told: Mutex::new(Told::new()) }
    }

    /// Tells `news` about an object. A failure is logged and changes nothing.
    pub async fn tell(&self, about: &ObjectReference, news: &News) {
        if let Err(error) = self.write(about, news).await {
            let (namespace, name) = (&about.namespace, &about.name);
            tracing::warn!(
                namespace,
                name,
                reason = news.reason,
                error = in_words(&error),
                "cannot write an Event"
            );
        }
    }

    async fn write(&self, about: &ObjectReference, news: &News) -> kube::Result<()> {
        let namespace = about.namespace.as_deref().unwrap_or("default");
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let note = shortened(&news.note, LONGEST_NOTE);
        let (name, uid) =
            (about.name.as_deref().unwrap_or_default(), about.uid.as_deref().unwrap_or_default());
        let key = digest([namespace, name, uid, news.type_.as_str(), news.reason, note]);

        let before = self.told.lock().find(&key, Instant::now());
        let now = MicroTime(Timestamp::now());
        if let Some(Series { event, count, .. }) = before {
            let count = count.saturating_add(1);
            let patch = json!({ "series": { "count": count, "lastObservedTime": now } });
            match api.patch(&event, &PatchParams::default(), &Patch::Merge(patch)).await {
                // Somebody has deleted it.
                Err(kube::Error::Api(answer)) if answer.code == 404 => {}
                counted => {
                    counted?;
                    self.told.lock().keep(key, event, count, Instant::now());
                    return Ok(());
                }
            }
        }
        let event = Event {
            metadata: ObjectMeta {
                // What client-go's recorder makes of it too.
                name: Some(format!("{name}.{:x}", now.0.as_nanosecond())),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            type_: Some(news.type_.as_str().to_owned()),
            reason: Some(news.reason.to_owned()),
            action: Some(news.action.to_owned()),
            note: Some(note.to_owned()),
            event_time: Some(now),
            regarding: Some(about.clone()),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        };
        api.create(&PostParams::default(), &event).await?;
        let event = event.metadata.name.unwrap_or_default();
        self.told.lock().keep(key, event, 1, Instant::now());
        Ok(())
    }
}

/// What was told a short time ago.
#[derive(Debug)]
struct Told {
    series: HashMap<String, Series>,
    swept: Instant,
}

/// An Event, and how often it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Series {
    event: String,
    count: i32,
    last: Instant,
}

impl Told {
    fn new() -> Self {
        Self { series: HashMap::new(), swept: Instant::now() }
    }

    /// The Event that is to be counted up, if there is one.
    fn find(&mut self, key: &str, now: Instant) -> Option<Series> {
        let is_over = |series: &Series| now.duration_since(series.last) >= SERIES;
        if now.duration_since(self.swept) >= SWEEP {
            self.series.retain(|_, series| !is_over(series));
            self.swept = now;
        }
        self.series.get(key).filter(|series| !is_over(series)).cloned()
    }

    fn keep(&mut self, key: String, event: String, count: i32, now: Instant) {
        self.series.insert(key, Series { event, count, last: now });
    }
}

/// As much of a text as fits into so many bytes.
fn shortened(text: &str, longest: usize) -> &str {
    let end = (0..=text.len().min(longest)).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_a_while_ago_is_told_anew_and_forgotten() {
        let mut told = Told::new();
        let start = Instant::now();
        told.keep("a".to_owned(), "a.1".to_owned(), 3, start);
        told.keep("b".to_owned(), "b.1".to_owned(), 1, start + SERIES / 2);
        let just_before = start + SERIES - Duration::from_secs(1);
        assert_eq!(told.find("a", just_before).map(|series| series.count), Some(3));
        assert_eq!(told.find("a", start + SERIES), None);
        assert_eq!(told.find("b", start + SERIES + SWEEP).map(|series| series.count), Some(1));
        assert_eq!(told.series.len(), 1, "{told:?}");
    }

    #[test]
    fn a_text_is_cut_between_two_characters() {
        assert_eq!(shortened("aé", 2), "a");
        assert_eq!(shortened("aé", 3), "aé");
    }
}
