//! Which responses are used most here, counted as roughly as a replica that begins needs it.
//!
//! A hit takes no longer for it: the first of a period are all counted, and after that one of sixteen, without
//! waiting for anybody.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;

use crate::sidecar::cache::{SecondaryKey, key::Key};

/// So many responses are told of at once.
pub const TOLD: usize = 512;
/// So many are counted. With more, those that were used least go.
const COUNTED: usize = 4 * TOLD;
/// So many uses are all counted.
const ALL: u64 = 4096;
/// Of those after that, one of so many.
const OF: u64 = 16;
/// 2^64 divided by the golden ratio: its multiples are spread evenly, whatever comes round in which period.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
/// What is longer, with the fields that it varies by, is not told of: so all that is counted takes a few megabytes.
const LONGEST: usize = 1024;

/// Uses since they were taken last.
#[derive(Default)]
pub struct Uses {
    seen: AtomicU64,
    counted: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    by_key: HashMap<Key, Vec<(SecondaryKey, u64)>>,
    responses: usize,
}

impl Uses {
    /// A response was used.
    pub fn note(&self, key: &Key, secondary: &SecondaryKey) {
        // Both are as long as a client makes them.
        if key.as_str().len() + secondary.size() > LONGEST {
            return;
        }
        let seen = self.seen.fetch_add(1, Ordering::Relaxed);
        let weight = if seen < ALL {
            1
        } else if seen.wrapping_mul(GOLDEN) < u64::MAX / OF {
            OF
        } else {
            return;
        };
        // Where another is at it, this one goes uncounted.
        let Some(mut counted) = self.counted.try_lock() else { return };
        counted.add(key, secondary, weight);
    }

    /// Those that were used most since the last time, and how often.
    pub fn take(&self) -> Vec<(Key, SecondaryKey, u64)> {
        let counted = std::mem::take(&mut *self.counted.lock());
        self.seen.store(0, Ordering::Relaxed);
        let mut all = Vec::with_capacity(counted.responses);
        for (key, variants) in counted.by_key {
            all.extend(variants.into_iter().map(|(secondary, count)| (key.clone(), secondary, count)));
        }
        all.sort_unstable_by_key(|(_, _, count)| std::cmp::Reverse(*count));
        all.truncate(TOLD);
        all
    }
}

impl Counted {
    fn add(&mut self, key: &Key, secondary: &SecondaryKey, weight: u64) {
        if let Some(variants) = self.by_key.get_mut(key) {
            if let Some((_, count)) = variants.iter_mut().find(|(other, _)| other == secondary) {
                *count += weight;
            } else {
                variants.push((secondary.clone(), weight));
                self.responses += 1;
            }
        } else {
            self.by_key.insert(key.clone(), vec![(secondary.clone(), weight)]);
            self.responses += 1;
        }
        if self.responses > COUNTED {
            self.drop_least();
        }
    }

    /// Leaves the half that is used most.
    fn drop_least(&mut self) {
        let mut counts: Vec<u64> = self.by_key.values().flatten().map(|(_, count)| *count).collect();
        let middle = counts.len() / 2;
        let (_, &mut limit, _) = counts.select_nth_unstable(middle);
        // Of those with just the limit, as many as there is room for.
        let more = counts.iter().filter(|count| **count > limit).count();
        let mut room = middle.saturating_sub(more);
        self.by_key.retain(|_, variants| {
            variants.retain(|(_, count)| {
                let has_room = *count == limit && room > 0;
                room -= usize::from(has_room);
                *count > limit || has_room
            });
            !variants.is_empty()
        });
        self.responses = self.by_key.values().map(Vec::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::tests::headers;

    fn key(number: usize) -> Key {
        Key::told(format!("http://shop/{number}"))
    }

    fn plain() -> SecondaryKey {
        SecondaryKey::default()
    }

    #[test]
    fn what_is_used_most_is_told_first_each_variant_by_itself_and_once() {
        let uses = Uses::default();
        let names = crate::sidecar::cache::selection::varies_by(&headers(&[("vary", "accept")]));
        let [text, json] = ["text/plain", "application/json"]
            .map(|kind| SecondaryKey::of(&names, &headers(&[("accept", kind)])));
        for (secondary, count) in [(&text, 2), (&json, 3)] {
            for _ in 0..count {
                uses.note(&key(0), secondary);
            }
        }
        uses.note(&key(1), &plain());
        assert_eq!(uses.take(), [(key(0), json, 3), (key(0), text, 2), (key(1), plain(), 1)]);
        assert_eq!(uses.take(), []);
    }

    #[test]
    fn what_is_used_often_is_not_lost_among_what_is_used_once() {
        let uses = Uses::default();
        for number in 0..100 * COUNTED {
            uses.note(&key(1000 + number), &plain());
            if number % 50 == 0 {
                uses.note(&key(number / 50 % 20), &plain());
            }
        }
        assert!(uses.counted.lock().responses <= COUNTED);
        let told = uses.take();
        assert_eq!(told.len(), TOLD);
        for number in 0..20 {
            assert!(
                told[..20].iter().any(|(found, _, _)| *found == key(number)),
                "{number}: {:?}",
                &told[..20]
            );
        }
    }

    #[test]
    fn what_comes_round_in_a_fixed_order_is_counted_evenly() {
        let uses = Uses::default();
        let turns = 20_000;
        for number in 0..16 * turns {
            uses.note(&key(number % 16), &plain());
        }
        for (key, _, count) in uses.take() {
            let share = count as f64 / turns as f64;
            assert!((0.9..1.1).contains(&share), "{key}: {share}");
        }
    }

    #[test]
    fn what_is_as_long_as_an_attacker_makes_it_is_not_kept_be_it_the_key_or_a_field_it_varies_by() {
        let uses = Uses::default();
        uses.note(&Key::told("x".repeat(LONGEST + 1)), &plain());
        let names = crate::sidecar::cache::selection::varies_by(&headers(&[("vary", "accept")]));
        let of = |value: &str| {
            let request = [(http::header::ACCEPT, value.parse().unwrap())].into_iter().collect();
            SecondaryKey::of(&names, &request)
        };
        for number in 0..2 * TOLD {
            let long = of(&format!("{number}{}", "x".repeat(30 << 10)));
            uses.note(&key(0), &long);
            uses.note(&key(number), &long);
        }
        assert!(uses.take().is_empty());
        // Together they count, as together they are kept.
        let half = "x".repeat(LONGEST / 2);
        uses.note(&Key::told(half.clone()), &of(&half));
        assert!(uses.take().is_empty());
        uses.note(&key(0), &of(&half));
        assert_eq!(uses.take().len(), 1);
    }
}
