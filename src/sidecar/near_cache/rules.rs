//! Which rule of the settings holds for a key. PURE.

use std::time::Duration;

use crate::settings::{
    NearCache,
    near_cache::{SingleFlight, WhenRedisFails},
};

/// What holds for a key, or for several together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// By which number it is counted: its place among the rules, behind the last of which stands what holds where no rule
    /// does, or what [`Rules::numbered`] says. Of several keys, that of the first.
    pub number: u16,
    /// Nothing of the key is stored.
    pub is_off: bool,
    /// How long it is answered from memory at most.
    pub ttl: Duration,
    /// The largest reply that is stored, in bytes.
    pub max_value: u64,
    /// The TTL in milliseconds that a `SET` without one is given. Of several keys, that of the first.
    pub added_ttl: Option<u64>,
    /// What is told while Redis does not answer.
    pub when_redis_fails: WhenRedisFails,
    /// Of all who miss the key, one is told so. Not of several keys together.
    pub single_flight: Option<SingleFlight>,
}

/// The rules of the settings.
#[derive(Clone, Debug)]
pub struct Rules {
    /// From the longest prefix to the shortest.
    rules: Vec<(Box<[u8]>, Held)>,
    otherwise: Held,
}

impl Rules {
    /// Those of the settings, which have them in their order.
    #[must_use]
    pub fn of(settings: &NearCache) -> Self {
        let number = |at: usize| u16::try_from(at).unwrap_or(u16::MAX);
        let otherwise = Held {
            number: number(settings.rules.len()),
            is_off: false,
            ttl: settings.ttl(),
            max_value: settings.max_value,
            added_ttl: None,
            when_redis_fails: settings.when_redis_fails,
            single_flight: None,
        };
        let held = |(at, rule): (usize, &crate::settings::near_cache::Rule)| {
            let held = Held {
                number: number(at),
                is_off: rule.off,
                ttl: rule.ttl().unwrap_or(otherwise.ttl),
                max_value: rule.max_value.unwrap_or(otherwise.max_value),
                added_ttl: rule.add_ttl_ms,
                when_redis_fails: rule.when_redis_fails.unwrap_or(otherwise.when_redis_fails),
                single_flight: rule.single_flight,
            };
            (rule.prefix.as_bytes().into(), held)
        };
        let mut rules: Vec<_> = settings.rules.iter().enumerate().map(held).collect();
        rules.sort_by_key(|(prefix, _): &(Box<[u8]>, Held)| std::cmp::Reverse(prefix.len()));
        Self { rules, otherwise }
    }

    /// The same with the numbers that prefixes have elsewhere.
    #[must_use]
    pub fn numbered(mut self, number: impl Fn(&[u8]) -> u16, otherwise: u16) -> Self {
        for (prefix, held) in &mut self.rules {
            held.number = number(prefix);
        }
        self.otherwise.number = otherwise;
        self
    }

    /// What holds for a key: the rule with the longest prefix that it begins with.
    #[must_use]
    pub fn held(&self, key: &[u8]) -> Held {
        let rule = self.rules.iter().find(|(prefix, _)| key.starts_with(prefix));
        rule.map_or(self.otherwise, |(_, held)| *held)
    }

    /// What holds for a reply about all of these keys: nothing that the rule of any of them forbids.
    #[must_use]
    pub fn held_together<'a>(&self, keys: impl IntoIterator<Item = &'a [u8]>) -> Held {
        let together = keys.into_iter().map(|key| self.held(key)).reduce(|one, other| Held {
            number: one.number,
            is_off: one.is_off || other.is_off,
            ttl: one.ttl.min(other.ttl),
            max_value: one.max_value.min(other.max_value),
            added_ttl: one.added_ttl,
            when_redis_fails: one.when_redis_fails.and(other.when_redis_fails),
            single_flight: None,
        });
        together.unwrap_or(self.otherwise)
    }

    /// Whether any of them has it that of all who miss a key one is told so.
    #[must_use]
    pub fn have_single_flights(&self) -> bool {
        self.rules.iter().any(|(_, held)| held.single_flight.is_some())
    }

    /// How many numbers there are, that of no rule with them.
    #[must_use]
    pub fn count(&self) -> usize {
        self.rules.len() + 1
    }

    /// The longest time for which anything is stored.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.rules.iter().map(|(_, held)| held.ttl).fold(self.otherwise.ttl, Duration::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::near_cache::{Pool, Rule};

    fn rules() -> Rules {
        let rule = |prefix: &str, ttl_ms, max_value| Rule {
            prefix: prefix.to_owned(),
            ttl_ms,
            max_value,
            ..Rule::default()
        };
        let mut rules = vec![
            rule("user:", Some(5000), None),
            rule("user:session:", None, Some(64)),
            Rule {
                off: true,
                add_ttl_ms: Some(7000),
                when_redis_fails: Some(WhenRedisFails::Error),
                ..rule("tmp:", None, None)
            },
        ];
        Rule::sort(&mut rules);
        Rules::of(&NearCache {
            port: 6379,
            memory: 1 << 20,
            ttl_ms: 60_000,
            max_value: 1000,
            when_redis_fails: WhenRedisFails::StaleOrMiss,
            pool: Pool::default(),
            rules,
        })
    }

    fn held(rules: &Rules, key: &str) -> (bool, u128, u64) {
        let held = rules.held(key.as_bytes());
        (held.is_off, held.ttl.as_millis(), held.max_value)
    }

    #[test]
    fn the_longest_prefix_holds_and_what_it_does_not_say_is_that_of_all() {
        let rules = rules();
        assert_eq!(held(&rules, "user:1"), (false, 5000, 1000));
        assert_eq!(held(&rules, "user:session:1"), (false, 60_000, 64));
        assert_eq!(held(&rules, "tmp:1"), (true, 60_000, 1000));
        assert_eq!(held(&rules, "user"), (false, 60_000, 1000));
        assert_eq!(rules.held(b"").number, 3);
        let beside = |key: &[u8]| (rules.held(key).added_ttl, rules.held(key).when_redis_fails);
        assert_eq!(beside(b"tmp:1"), (Some(7000), WhenRedisFails::Error));
        assert_eq!(beside(b"user:1"), (None, WhenRedisFails::StaleOrMiss));
        assert_eq!((rules.count(), rules.longest()), (4, Duration::from_secs(60)));
    }

    #[test]
    fn for_several_keys_the_strictest_of_all_holds() {
        let rules = rules();
        let together = rules.held_together([&b"user:1"[..], b"user:session:1", b"a"]);
        assert_eq!((together.is_off, together.ttl, together.max_value), (false, Duration::from_secs(5), 64));
        let together = rules.held_together([&b"a"[..], b"tmp:1"]);
        assert_eq!((together.is_off, together.when_redis_fails), (true, WhenRedisFails::Error));
        assert_eq!(rules.held_together([]), rules.held(b""));
    }
}
