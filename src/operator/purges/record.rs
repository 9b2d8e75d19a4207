//! The record of a service's purges, and what a new one is called. PURE.

use std::collections::BTreeMap;

use crate::{
    api::CachePurgeSpec,
    settings::purges::{Force, Purge, PurgeRecord, VERSION, Written},
};

/// So many purges are kept. Those before them count as forgotten: what a replica or Redis holds from a
/// time before the last forgotten one is not given. So they are kept while there is room, whatever their age.
const MOST: usize = 512;
/// So many bytes they take as JSON: half of what a ConfigMap holds, and of what a sidecar takes at once.
const LARGEST: usize = 512 << 10;

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

/// The record where none is. Up to `greatest`, the greatest number that a purge of the service was told
/// with, nothing is known any more.
#[must_use]
pub fn begun(greatest: u64) -> PurgeRecord {
    PurgeRecord { version: VERSION, forgotten: greatest, purges: Vec::new() }
}

/// The record that stands in a ConfigMap.
///
/// What cannot be read may have held any purge: up to `now`, in milliseconds of Unix time, as numbers
/// are made of it, all counts as forgotten.
#[must_use]
pub fn read(text: Option<&str>, greatest: u64, now: u64) -> PurgeRecord {
    match text.map(PurgeRecord::parse) {
        None => begun(greatest),
        Some(Ok(record)) => record,
        Some(Err(_)) => begun(greatest.max(now)),
    }
}

/// Takes orders into a record: each once, whoever was at it before.
///
/// Numbers count up from the last and from `greatest`, which replicas may have seen, also where the
/// clock was set back or an earlier record was put in place.
#[must_use]
pub fn with_orders(mut record: PurgeRecord, orders: &[Order<'_>], greatest: u64, now: u64) -> Recorded {
    let mut epochs = BTreeMap::new();
    let mut is_new = false;
    for order in orders {
        let last = record.last();
        let recorded = record.purges.iter().find(|purge| purge.id == order.uid).map(|purge| purge.epoch);
        // It was there; since it is not any more, all of its time counts as forgotten.
        let was_recorded = order.epoch.filter(|epoch| *epoch <= last);
        let epoch = recorded.or(was_recorded).unwrap_or_else(|| {
            is_new = true;
            let epoch = now.max(last + 1).max(greatest + 1);
            record.purges.push(purge(order, epoch));
            epoch
        });
        epochs.insert(order.uid.to_owned(), epoch);
    }
    trim(&mut record);
    Recorded { record, epochs, is_new }
}

fn purge(order: &Order<'_>, epoch: u64) -> Purge {
    let CachePurgeSpec {
        service_name: _,
        keys,
        prefixes,
        tags,
        everything,
        soft,
        ttl_seconds_after_finished: _,
    } = order.spec;
    let written = Written { keys, prefixes, tags, everything: *everything };
    // The API server lets nothing else through.
    let targets = written.targets().unwrap_or_default();
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
    use crate::settings::purges::Target;

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

    #[test]
    fn two_at_once_have_different_numbers_and_each_is_taken_once() {
        let spec = spec(&["t"]);
        let orders = [order("a", &spec), order("b", &spec)];
        let first = with_orders(begun(0), &orders, 0, NOW);
        assert_eq!((numbers(&first), first.is_new), (vec![("a", 1000), ("b", 1001)], true));
        // As after a crash before the status was written.
        let again = with_orders(first.record.clone(), &orders, 0, NOW + 5);
        assert_eq!((&again.record, again.is_new), (&first.record, false));
        assert_eq!(again.epochs, [("a".to_owned(), 1000), ("b".to_owned(), 1001)].into());
    }

    #[test]
    fn numbers_count_up_though_the_clock_goes_back_and_an_old_record_comes_back() {
        let spec = spec(&["t"]);
        let record = with_orders(begun(0), &[order("a", &spec)], 0, NOW).record;
        assert_eq!(with_orders(record.clone(), &[order("b", &spec)], 0, 1).epochs["b"], NOW + 1);
        assert_eq!(with_orders(record, &[order("b", &spec)], 5000, NOW).epochs["b"], 5001);
    }

    #[test]
    fn a_new_record_forgets_what_was_told_before() {
        let spec = spec(&["t"]);
        assert_eq!(read(None, 70, NOW), begun(70));
        assert_eq!(read(Some("{"), 70, NOW), begun(NOW), "it may have held anything");
        let text = serde_json::to_string(&begun(3)).unwrap();
        assert_eq!(read(Some(&text), 70, NOW), begun(3));
        // What is not complete yet and went with the record is in what counts as forgotten.
        let lost = Order { uid: "a", spec: &spec, epoch: Some(70) };
        let recorded = with_orders(begun(70), &[lost], 70, NOW);
        assert_eq!((recorded.epochs["a"], recorded.is_new), (70, false));
        // It is not in a record from before it.
        let recorded = with_orders(begun(3), &[lost], 70, NOW);
        assert_eq!((recorded.epochs["a"], recorded.is_new), (NOW, true));
    }

    #[test]
    fn what_is_ordered_is_what_is_recorded() {
        let spec = CachePurgeSpec {
            keys: vec!["HTTP://Shop/a".to_owned()],
            prefixes: vec!["/b".to_owned()],
            soft: true,
            ..spec(&["t"])
        };
        let purge = &with_orders(begun(0), &[order("a", &spec)], 0, NOW).record.purges[0];
        let targets = [
            Target::Key("http://shop/a".to_owned()),
            Target::Prefix("/b".to_owned()),
            Target::Tag("t".to_owned()),
        ];
        assert_eq!((purge.targets.as_slice(), purge.force), (&targets[..], Force::Soft));
    }

    #[test]
    fn the_oldest_go_where_there_are_too_many_or_they_are_too_large() {
        let small = spec(&["t"]);
        let uids: Vec<String> = (0..=MOST).map(|number| number.to_string()).collect();
        let orders: Vec<_> = uids.iter().map(|uid| order(uid, &small)).collect();
        let many = with_orders(begun(0), &orders, 0, NOW);
        assert_eq!((many.record.purges.len(), many.record.forgotten), (MOST, NOW));
        assert_eq!(many.epochs["0"], NOW, "it is told though it is forgotten already");
        assert!(PurgeRecord::parse(&serde_json::to_string(&many.record).unwrap()).is_ok());
        let again = with_orders(many.record.clone(), &[Order { epoch: Some(NOW), ..orders[0] }], NOW, NOW);
        assert_eq!((again.record, again.is_new), (many.record, false), "and does not come again");

        let long = "x".repeat(2048);
        let large = spec(&vec![long.as_str(); 100]);
        let large: Vec<_> = ["a", "b", "c"].iter().map(|uid| order(uid, &large)).collect();
        let kept = with_orders(begun(0), &large, 0, NOW).record;
        assert_eq!((kept.purges.len(), kept.forgotten), (2, NOW));
        assert!(serde_json::to_string(&kept).unwrap().len() < LARGEST + 100);
    }
}
