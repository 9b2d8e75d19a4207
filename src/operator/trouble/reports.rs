//! What Events say of objects: of each object the newest one. PURE.

use std::collections::{HashMap, HashSet, VecDeque};

use kube::{ResourceExt, runtime::watcher};

use crate::operator::seen::SeenEvent;

/// So many Events about objects that are not known are kept, for those that become known a
/// moment later. The reporter repeats what lasts, so that what falls out comes back.
const STRANGERS: usize = 64;

/// The newest Event about each object, by the object's identity, of one watch.
#[derive(Debug, Default)]
pub(super) struct Reports {
    present: HashMap<String, Report>,
    /// A list that is not complete yet: until then, what was known before counts.
    listing: Option<HashMap<String, Report>>,
    strangers: VecDeque<(String, Report)>,
}

/// What an Event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// The Event's name.
    event: String,
    pub(super) message: String,
    /// When it last happened, in seconds since 1970.
    pub(super) at: i64,
}

impl Reports {
    /// The newest report about the object with this `uid`.
    pub(super) fn of(&self, uid: &str) -> Option<&Report> {
        self.present.get(uid)
    }

    /// The objects about which an event of the watch may change what is known.
    pub(super) fn concerned(&self, event: &watcher::Event<SeenEvent>) -> HashSet<String> {
        match event {
            watcher::Event::Apply(seen) | watcher::Event::Delete(seen) => {
                seen.involved_object.uid.iter().cloned().collect()
            }
            watcher::Event::InitDone => {
                self.present.keys().chain(self.listing.iter().flat_map(HashMap::keys)).cloned().collect()
            }
            watcher::Event::Init | watcher::Event::InitApply(_) => HashSet::new(),
        }
    }

    /// Takes in an event of the watch.
    pub(super) fn observe(&mut self, event: &watcher::Event<SeenEvent>, is_known: impl FnOnce(&str) -> bool) {
        match event {
            watcher::Event::Apply(seen) => self.take(seen, is_known, false),
            watcher::Event::InitApply(seen) => self.take(seen, is_known, true),
            // Events expire after an hour; so does what they say.
            watcher::Event::Delete(seen) => {
                let is_it = |uid: &str, report: &Report| {
                    Some(uid) == seen.involved_object.uid.as_deref() && report.event == seen.name_any()
                };
                self.present.retain(|uid, report| !is_it(uid, report));
                self.strangers.retain(|(uid, report)| !is_it(uid, report));
            }
            watcher::Event::Init => {
                self.listing = Some(HashMap::new());
                self.strangers.clear();
            }
            watcher::Event::InitDone => self.present = self.listing.take().unwrap_or_default(),
        }
    }

    fn take(&mut self, seen: &SeenEvent, is_known: impl FnOnce(&str) -> bool, of_a_list: bool) {
        let Some(uid) = seen.involved_object.uid.clone() else { return };
        let report = Report { event: seen.name_any(), message: seen.message.clone(), at: at(seen) };
        if !is_known(&uid) {
            self.strangers.retain(|(stranger, known)| *stranger != uid || known.event != report.event);
            self.strangers.push_back((uid, report));
            if self.strangers.len() > STRANGERS {
                self.strangers.pop_front();
            }
            return;
        }
        keep(if of_a_list { self.listing.get_or_insert_default() } else { &mut self.present }, uid, report);
    }

    /// Objects have become known.
    pub(super) fn claim(&mut self, is_known: impl Fn(&str) -> bool) {
        if !self.strangers.iter().any(|(uid, _)| is_known(uid)) {
            return;
        }
        for (uid, report) in std::mem::take(&mut self.strangers) {
            if is_known(&uid) {
                if let Some(listing) = &mut self.listing {
                    keep(listing, uid.clone(), report.clone());
                }
                keep(&mut self.present, uid, report);
            } else {
                self.strangers.push_back((uid, report));
            }
        }
    }

    /// What was said of an object is over.
    pub(super) fn forget(&mut self, uid: &str) {
        self.present.remove(uid);
        if let Some(listing) = &mut self.listing {
            listing.remove(uid);
        }
    }
}

/// Keeps the newer of two.
fn keep(all: &mut HashMap<String, Report>, uid: String, report: Report) {
    if all.get(&uid).is_none_or(|known| known.at <= report.at) {
        all.insert(uid, report);
    }
}

fn at(event: &SeenEvent) -> i64 {
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    let newer_form = event.event_time.as_ref().map(|time| time.0);
    last.or(newer_form).map(jiff::Timestamp::as_second).unwrap_or_default()
}
