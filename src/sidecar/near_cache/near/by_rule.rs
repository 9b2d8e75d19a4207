//! Hits and misses by the prefix of their rule. A prefix has a number of its own for as long as it is remembered, so that
//! other settings move no figure from one prefix to another, and one that comes back goes on where it was.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::figures::Count;
use crate::{settings::NearCache, sidecar::near_cache::rules::Rules};

/// So many numbers there are: four times as many as a CachedService may have rules.
const NUMBERS: usize = 256;
/// That of the keys for which no rule holds.
pub const NO_RULE: u16 = 0;

/// Of the keys of a rule.
#[derive(Debug, Default)]
pub struct ByRule {
    /// Reads that were answered from memory.
    pub hits: Count,
    /// Reads that were not, and may be the next time.
    pub misses: Count,
}

/// What there is to tell of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfRule {
    /// Its prefix; empty where no rule holds.
    pub prefix: String,
    /// Reads that were answered from memory.
    pub hits: u64,
    /// Reads that were not, and may be the next time.
    pub misses: u64,
}

/// Hits and misses of all rules.
#[derive(Debug)]
pub struct ByPrefix {
    counts: Box<[ByRule]>,
    prefixes: Mutex<Prefixes>,
}

#[derive(Debug, Default)]
struct Prefixes {
    /// Which prefix has which number: the first has that behind [`NO_RULE`].
    known: Vec<Known>,
    /// How often there were other settings.
    settings: u64,
    /// What was counted of prefixes that are not remembered any more.
    forgotten: (u64, u64),
}

#[derive(Debug)]
struct Known {
    prefix: Box<str>,
    /// The last settings that had it.
    settings: u64,
}

impl Default for ByPrefix {
    fn default() -> Self {
        Self { counts: (0..NUMBERS).map(|_| ByRule::default()).collect(), prefixes: Mutex::default() }
    }
}

impl ByPrefix {
    /// That of the rule with this number.
    #[must_use]
    pub fn of(&self, number: u16) -> Option<&ByRule> {
        self.counts.get(usize::from(number))
    }

    /// Of all rules that there were.
    #[must_use]
    pub fn sum(&self) -> (u64, u64) {
        let prefixes = self.prefixes.lock();
        let add = |(hits, misses), rule: &ByRule| (hits + rule.hits.get(), misses + rule.misses.get());
        self.counts.iter().fold(prefixes.forgotten, add)
    }

    /// Of each rule of the present settings, and where none holds.
    #[must_use]
    pub fn told(&self) -> Vec<OfRule> {
        let prefixes = self.prefixes.lock();
        let present =
            prefixes.known.iter().map(|known| (&*known.prefix, known.settings == prefixes.settings));
        let told = std::iter::once(("", true)).chain(present).zip(&*self.counts);
        let told = told.filter(|((_, is_present), _)| *is_present).map(|((prefix, _), rule)| OfRule {
            prefix: prefix.to_owned(),
            hits: rule.hits.get(),
            misses: rule.misses.get(),
        });
        told.collect()
    }

    /// The rules of other settings, each with the number of its prefix.
    #[must_use]
    pub fn rules(&self, settings: &NearCache) -> Rules {
        let numbers = self.numbers(settings.rules.iter().map(|rule| rule.prefix.as_str()));
        Rules::of(settings).numbered(|prefix| numbers.get(prefix).copied().unwrap_or(NO_RULE), NO_RULE)
    }

    /// The numbers of these prefixes, which are those of the present settings from here on. More than there are numbers
    /// for are counted where no rule holds.
    fn numbers<'a>(&self, present: impl Iterator<Item = &'a str> + Clone) -> HashMap<&'a [u8], u16> {
        let mut guard = self.prefixes.lock();
        let prefixes = &mut *guard;
        prefixes.settings += 1;
        for known in &mut prefixes.known {
            if present.clone().any(|prefix| *prefix == *known.prefix) {
                known.settings = prefixes.settings;
            }
        }
        present.filter_map(|prefix| Some((prefix.as_bytes(), self.number(prefixes, prefix)?))).collect()
    }

    fn number(&self, prefixes: &mut Prefixes, prefix: &str) -> Option<u16> {
        let Prefixes { known, settings, forgotten } = prefixes;
        let place = known.iter().position(|known| *known.prefix == *prefix).or_else(|| {
            let new = Known { prefix: prefix.into(), settings: *settings };
            if known.len() + 1 < NUMBERS {
                known.push(new);
                return Some(known.len() - 1);
            }
            // In the place of that which is gone for longest.
            let places = known.iter_mut().enumerate();
            let (place, gone) = places.min_by_key(|(_, known)| known.settings)?;
            if gone.settings == *settings {
                return None;
            }
            *gone = new;
            let counted = self.counts.get(place + 1)?;
            forgotten.0 += counted.hits.begin_anew();
            forgotten.1 += counted.misses.begin_anew();
            Some(place)
        })?;
        u16::try_from(place + 1).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(of: &ByPrefix, prefixes: &[&str], prefix: &str) -> u16 {
        of.numbers(prefixes.iter().copied()).get(prefix.as_bytes()).copied().unwrap_or(NO_RULE)
    }

    fn hits(of: &ByPrefix) -> Vec<(String, u64)> {
        of.told().into_iter().map(|rule| (rule.prefix, rule.hits)).collect()
    }

    #[test]
    fn a_prefix_keeps_its_figures_whatever_rules_come_and_go() {
        let figures = ByPrefix::default();
        let a = number(&figures, &["a:", "b:"], "a:");
        let b = number(&figures, &["a:", "b:"], "b:");
        figures.of(a).unwrap().hits.add();
        figures.of(NO_RULE).unwrap().hits.add();
        assert_eq!(number(&figures, &["longer:", "b:"], "b:"), b);
        figures.of(b).unwrap().hits.add();
        // Of a reply that was stored before.
        figures.of(a).unwrap().hits.add();
        let told = [("", 1), ("b:", 1), ("longer:", 0)];
        assert_eq!(hits(&figures), told.map(|(prefix, hits)| (prefix.to_owned(), hits)));
        assert_eq!(figures.sum().0, 4, "what is gone counts on");
        assert_eq!(number(&figures, &["a:"], "a:"), a);
        assert_eq!(hits(&figures), [(String::new(), 1), ("a:".to_owned(), 2)]);
    }

    #[test]
    fn however_many_prefixes_come_and_go_no_figure_goes_to_another_and_the_sum_never_back() {
        let figures = ByPrefix::default();
        let stays = number(&figures, &["stays:"], "stays:");
        for count in 1..=1000 {
            let new = format!("{count}:");
            let number = number(&figures, &["stays:", &new], &new);
            assert!(number != stays && number != NO_RULE);
            let rule = figures.of(number).unwrap();
            assert_eq!((rule.hits.get(), rule.misses.get()), (0, 0), "{new}");
            rule.hits.add();
            rule.misses.add();
            figures.of(stays).unwrap().hits.add();
            assert_eq!(figures.sum(), (2 * count, count));
            assert_eq!(hits(&figures).len(), 3);
        }
        assert_eq!(number(&figures, &["stays:"], "stays:"), stays);
    }

    #[test]
    fn rules_without_a_number_are_counted_where_no_rule_holds() {
        let figures = ByPrefix::default();
        let many: Vec<String> = (0..NUMBERS + 10).map(|number| format!("{number}:")).collect();
        let numbers = figures.numbers(many.iter().map(String::as_str));
        assert_eq!(numbers.len(), NUMBERS - 1);
        assert_eq!(figures.told().len(), NUMBERS);
    }
}
