//! The record of a service's purges, and what a new one is called. PURE.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    api::CachePurgeSpec,
    settings::purges::{Force, Purge, PurgeRecord, Target, Tiers, Written},
};

/// So many purges are kept. Those before them count as forgotten: what a replica or Redis holds from a
/// time before the last forgotten one is not given. So they are kept while there is room, whatever their age.
const MOST: usize = 512;
/// So many bytes they take as JSON: half of what a ConfigMap holds, and of what a sidecar takes at once.
const LARGEST: usize = 512 << 10;
/// No number is greater: what says so is not believed. In milliseconds since 1970 it is far away, and it leaves
/// room to count up.
pub const GREATEST_NUMBER: u64 = 1 << 53;

/// A purge that is ordered and not complete.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// The UID of its object.
    pub uid: &'a str,
    /// What is wanted.
    pub spec: &'a CachePurgeSpec,
    /// The number that its status tells.
    pub epoch: Option<u64>,
}

/// A record with all that was ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The record.
    pub record: PurgeRecord,
    /// The number of each order, by UID.
    pub epochs: BTreeMap<String, u64>,
    /// Whether something was added.
    pub is_new: bool,
}

/// A record that stands in a ConfigMap, or that takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stands {
    /// The record.
    pub record: PurgeRecord,
    /// Whether it is begun anew, and so has to be written.
    pub is_begun: bool,
}

/// The record where none is. Whoever has made a service has begun one: that there is none does not
/// mean that there never was. It may have held any purge up to the greatest number that is `known`, from a
/// status or a replica, and up to `now`, in milliseconds of Unix time, as numbers are made of it: all
/// of them count as forgotten.
#[must_use]
pub fn begun(known: &BTreeSet<u64>, now: u64) -> PurgeRecord {
    PurgeRecord::begun(known.last().copied().unwrap_or_default().max(now))
}

/// The record that stands in a ConfigMap. One that cannot be read is as good as none, and so is one that does not
/// have what is `known`: an earlier one was put in place, or another was begun after a loss.
#[must_use]
pub fn read(text: Option<&str>, known: &BTreeSet<u64>, now: u64) -> Stands {
    match text.map(PurgeRecord::parse) {
        Some(Ok(record)) if knows_all(&record, known) => Stands { record, is_begun: false },
        Some(Ok(record)) => Stands { record: begun(known, now.max(record.last())), is_begun: true },
        None | Some(Err(_)) => Stands { record: begun(known, now), is_begun: true },
    }
}

/// Whether a record has all these numbers.
#[must_use]
pub fn knows_all<'a>(record: &PurgeRecord, numbers: impl IntoIterator<Item = &'a u64>) -> bool {
    numbers.into_iter().all(|number| record.knows(*number))
}

/// The purges of a record that are about a tier that is off, by UID, and its field.
#[must_use]
pub fn off(record: &PurgeRecord, tiers: Tiers) -> BTreeMap<String, &'static str> {
    let missing = |purge: &Purge| Some((purge.id.clone(), tiers.missing(&purge.targets)?));
    record.purges.iter().filter_map(missing).collect()
}

/// The number of an order in a record, if it is there.
#[must_use]
pub fn number(record: &PurgeRecord, uid: &str, told: Option<u64>) -> Option<u64> {
    let recorded = record.purges.iter().find(|purge| purge.id == uid).map(|purge| purge.epoch);
    // It was there, and there was no room any more: all of its time counts as forgotten. What was in a record
    // that is lost was not: replicas may have gone on from that one.
    let is_forgotten = |epoch: &u64| record.begun < *epoch && *epoch <= record.forgotten;
    recorded.or(told.filter(is_forgotten))
}

/// Takes orders into a record: each once, whoever was at it before.
///
/// Numbers count up from the last, also where the clock was set back.
#[must_use]
pub fn with_orders(mut record: PurgeRecord, orders: &[Order<'_>], now: u64) -> Recorded {
    let mut epochs = BTreeMap::new();
    let mut new = Vec::new();
    let mut last = record.last();
    for order in orders {
        // By what was there, and not by what came in for the orders before this.
        let epoch = number(&record, order.uid, order.epoch).unwrap_or_else(|| {
            last = now.max(last + 1);
            new.push(purge(order, last));
            last
        });
        epochs.insert(order.uid.to_owned(), epoch);
    }
    let is_new = !new.is_empty();
    record.purges.extend(new);
    trim(&mut record);
    Recorded { record, epochs, is_new }
}

fn purge(order: &Order<'_>, epoch: u64) -> Purge {
    let CachePurgeSpec {
        service_name: _,
        keys,
        prefixes,
        tags,
        application,
        everything,
        soft,
        ttl_seconds_after_finished: _,
    } = order.spec;
    let (redis_keys, redis_prefixes) = application
        .as_ref()
        .map(|application| (application.keys.as_slice(), application.prefixes.as_slice()))
        .unwrap_or_default();
    let written = Written { keys, prefixes, tags, redis_keys, redis_prefixes, everything: *everything };
    // The API server lets nothing else through; one of an earlier release may have. It is better to
    // purge too much.
    let targets = written.targets().unwrap_or_else(|_| vec![Target::Everything]);
    let force = if *soft { Force::Soft } else { Force::Hard };
    Purge { epoch, id: order.uid.to_owned(), force, targets }
}

/// Forgets the oldest until what is left has room.
fn trim(record: &mut PurgeRecord) {
    let sizes: Vec<usize> = record.purges.iter().map(size).collect();
    let mut bytes: usize = sizes.iter().sum();
    let mut gone = 0;
    while record.purges.len() - gone > MOST || bytes > LARGEST {
        let Some(size) = sizes.get(gone) else { break };
        bytes -= size;
        gone += 1;
    }
    if let Some(last) = record.purges.drain(..gone).next_back() {
        record.forgotten = last.epoch;
    }
}

fn size(purge: &Purge) -> usize {
    // It has no maps, and so can always be written.
    serde_json::to_string(purge).map_or(0, |text| text.len() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ApplicationPurge;

    const NOW: u64 = 1_000;

    fn spec(tags: &[&str]) -> CachePurgeSpec {
        CachePurgeSpec { tags: tags.iter().map(|&tag| tag.to_owned()).collect(), ..CachePurgeSpec::default() }
    }

    fn order<'a>(uid: &'a str, spec: &'a CachePurgeSpec) -> Order<'a> {
        Order { uid, spec, epoch: None }
    }

    fn numbers(recorded: &Recorded) -> Vec<(&str, u64)> {
        recorded.record.purges.iter().map(|purge| (purge.id.as_str(), purge.epoch)).collect()
    }

    fn known(numbers: &[u64]) -> BTreeSet<u64> {
        numbers.iter().copied().collect()
    }

    fn text(record: &PurgeRecord) -> String {
        serde_json::to_string(record).unwrap()
    }

    #[test]
    fn two_at_once_have_different_numbers_and_each_is_taken_once() {
        let spec = spec(&["t"]);
        let orders = [order("a", &spec), order("b", &spec)];
        let first = with_orders(PurgeRecord::empty(), &orders, NOW);
        assert_eq!((numbers(&first), first.is_new), (vec![("a", 1000), ("b", 1001)], true));
        // As after a crash before the status was written.
        let again = with_orders(first.record.clone(), &orders, NOW + 5);
        assert_eq!((&again.record, again.is_new), (&first.record, false));
        assert_eq!(again.epochs, [("a".to_owned(), 1000), ("b".to_owned(), 1001)].into());
    }

    #[test]
    fn numbers_count_up_though_the_clock_goes_back() {
        let spec = spec(&["t"]);
        let record = with_orders(PurgeRecord::empty(), &[order("a", &spec)], NOW).record;
        assert_eq!(with_orders(record, &[order("b", &spec)], 1).epochs["b"], NOW + 1);
    }

    #[test]
    fn a_record_that_is_lost_counts_as_one_that_held_any_purge_up_to_now() {
        assert_eq!(
            read(None, &known(&[70]), NOW),
            Stands { record: PurgeRecord::begun(NOW), is_begun: true }
        );
        assert_eq!(
            read(None, &known(&[70, 5000]), NOW).record,
            PurgeRecord::begun(5000),
            "the clock is behind"
        );
        assert_eq!(
            read(Some("{"), &known(&[70]), NOW).record,
            PurgeRecord::begun(NOW),
            "it may have held anything"
        );
    }

    #[test]
    fn a_record_without_what_is_known_is_another() {
        let spec = spec(&["t"]);
        let record = with_orders(PurgeRecord::begun(3), &[order("a", &spec), order("b", &spec)], NOW).record;
        let stands = |numbers: &[u64]| read(Some(&text(&record)), &known(numbers), 2 * NOW);
        assert_eq!(stands(&[2, 3, 1000, 1001]), Stands { record: record.clone(), is_begun: false });
        // From before it, or begun beside it: what else was in the one with them nobody knows.
        for (unknown, after) in [(1002, 2000), (500, 2000), (5000, 5000)] {
            assert_eq!(stands(&[3, unknown]), Stands { record: PurgeRecord::begun(after), is_begun: true });
        }
        let behind = read(Some(&text(&record)), &known(&[500]), 1);
        assert_eq!(behind.record, PurgeRecord::begun(1001), "no number is given twice");
    }

    #[test]
    fn what_was_in_a_record_that_is_lost_is_recorded_anew_and_has_to_be_acknowledged_anew() {
        let spec = spec(&["t"]);
        let lost = Order { epoch: Some(70), ..order("a", &spec) };
        let recorded = with_orders(PurgeRecord::begun(NOW), &[lost], NOW);
        assert_eq!((recorded.epochs["a"], recorded.is_new), (NOW + 1, true));
        // Also beside one that comes before it, which has a greater number than was told of it.
        let recorded = with_orders(PurgeRecord::begun(3), &[order("b", &spec), lost], NOW);
        assert_eq!(numbers(&recorded), [("b", NOW), ("a", NOW + 1)]);
    }

    #[test]
    fn what_is_ordered_is_what_is_recorded() {
        let spec = CachePurgeSpec {
            keys: vec!["HTTP://Shop/a".to_owned()],
            prefixes: vec!["/b".to_owned()],
            application: Some(ApplicationPurge {
                keys: vec!["user:1".to_owned()],
                prefixes: vec!["job:".to_owned()],
                ..ApplicationPurge::default()
            }),
            soft: true,
            ..spec(&["t"])
        };
        let recorded = with_orders(PurgeRecord::empty(), &[order("a", &spec)], NOW).record;
        let targets = [
            Target::Key("http://shop/a".to_owned()),
            Target::Prefix("/b".to_owned()),
            Target::Tag("t".to_owned()),
            Target::RedisKey("user:1".to_owned()),
            Target::RedisPrefix("job:".to_owned()),
        ];
        assert_eq!(
            (recorded.purges[0].targets.as_slice(), recorded.purges[0].force),
            (&targets[..], Force::Soft)
        );
        let odd = CachePurgeSpec { keys: vec!["/a#b".to_owned()], ..CachePurgeSpec::default() };
        let recorded = with_orders(PurgeRecord::empty(), &[order("a", &odd)], NOW).record;
        assert_eq!(recorded.purges[0].targets, [Target::Everything], "better too much than nothing");
    }

    #[test]
    fn what_is_about_a_tier_that_is_off_is_known_by_the_record() {
        let keys = ApplicationPurge { keys: vec!["a".to_owned()], ..ApplicationPurge::default() };
        let redis = CachePurgeSpec { application: Some(keys), ..CachePurgeSpec::default() };
        let tag = spec(&["t"]);
        let orders = [order("redis", &redis), order("tag", &tag)];
        let record = with_orders(PurgeRecord::empty(), &orders, NOW).record;
        let off =
            |http, application| off(&record, Tiers { http, application }).into_iter().collect::<Vec<_>>();
        assert_eq!(off(true, false), [("redis".to_owned(), "cache.application")]);
        assert_eq!(off(false, true), [("tag".to_owned(), "cache.http")]);
        assert!(off(true, true).is_empty());
    }

    #[test]
    fn the_oldest_go_where_there_are_too_many_or_they_are_too_large() {
        let small = spec(&["t"]);
        let uids: Vec<String> = (0..=MOST).map(|number| number.to_string()).collect();
        let orders: Vec<_> = uids.iter().map(|uid| order(uid, &small)).collect();
        let many = with_orders(PurgeRecord::begun(5), &orders, NOW);
        assert_eq!((many.record.purges.len(), many.record.forgotten, many.record.begun), (MOST, NOW, 5));
        assert_eq!(many.epochs["0"], NOW, "it is told though it is forgotten already");
        assert!(PurgeRecord::parse(&text(&many.record)).is_ok());
        let again = with_orders(many.record.clone(), &[Order { epoch: Some(NOW), ..orders[0] }], NOW);
        assert_eq!((again.record, again.is_new), (many.record, false), "and does not come again");

        let long = "x".repeat(2048);
        let large = spec(&vec![long.as_str(); 100]);
        let large: Vec<_> = ["a", "b", "c"].iter().map(|uid| order(uid, &large)).collect();
        let kept = with_orders(PurgeRecord::empty(), &large, NOW).record;
        assert_eq!((kept.purges.len(), kept.forgotten), (2, NOW));
        assert!(text(&kept).len() < LARGEST + 100);
    }
}
