//! What the sidecars of a CachedService tell, and what that comes to. PURE.

use serde::{Deserialize, Deserializer, de::IgnoredAny};

/// For so many rounds in a row that a sidecar does not answer, what it told last holds on.
pub const HOLDS: u32 = 2;
/// In so many rounds in a row others have to be missing until it is told; the second follows soon.
pub const APART: u32 = 3;

/// What one sidecar tells of itself. What an older one does not tell is as if it were nothing.
///
/// None of its words is kept: who answers at an address need not be a sidecar, and a status has readers who may
/// not ask it themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
// Each is a field of its own of what a sidecar answers.
#[allow(clippy::struct_excessive_bools)]
pub struct Reading {
    /// The name of its pod.
    pub pod: Option<String>,
    /// The identity of its pod.
    pub uid: Option<String>,
    /// A digest of the settings that hold.
    pub settings: String,
    /// Those of its file do not hold, as it does not take them.
    #[serde(deserialize_with = "is_told")]
    pub settings_refused: bool,
    /// Of those of its file it does not know some, and leaves them out.
    #[serde(deserialize_with = "is_told")]
    pub settings_unknown: bool,
    /// It has less memory than those of its file ask for, and goes by less.
    #[serde(deserialize_with = "is_told")]
    pub settings_reduced: bool,
    /// It does not take its record of purges.
    #[serde(deserialize_with = "is_told")]
    pub purges_refused: bool,
    /// Requests that were answered from the cache, since it started.
    pub hits: u64,
    /// Those that might have been, and were answered by the application.
    pub misses: u64,
    /// Requests that the application was spared.
    pub saved_requests: u64,
    /// What its near-cache has answered, if it has one.
    pub near_cache: Option<Answered>,
    /// What it knows of the application's replicas.
    pub upstream: Upstream,
}

/// What a near-cache has answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Answered {
    /// Reads that memory has answered, since it started.
    pub hits: u64,
    /// Those that it might have, and were answered by Redis.
    pub misses: u64,
}

/// What a sidecar knows of the application's replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Upstream {
    /// The application of its pod listens on localhost alone.
    pub local_only: bool,
    /// What came of its last look for those in other pods, if it tells.
    pub peers: Option<Peers>,
}

/// What a sidecar knows of those in other pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Peers {
    /// So many DNS names.
    pub named: u64,
    /// So many of them have proven that they are of this service, and may be asked.
    pub proven: u64,
    /// So many are on their way out.
    pub leaving: u64,
}

impl Peers {
    /// Some have not proven who they are.
    #[must_use]
    pub fn is_one_missing(self) -> bool {
        self.proven.saturating_add(self.leaving) < self.named
    }
}

fn is_told<'de, D: Deserializer<'de>>(words: D) -> Result<bool, D::Error> {
    Ok(Option::<IgnoredAny>::deserialize(words)?.is_some())
}

/// Whether who says that it is in this pod, if it says so, is in the pod of this name and identity. An address may
/// be that of another pod by now. Sidecars of earlier releases do not say it.
///
/// # Errors
/// When it is not, in words.
pub fn check_is_of(said: (Option<&str>, Option<&str>), name: &str, uid: &str) -> Result<(), String> {
    let is_another = match said {
        (_, Some(said)) => said != uid,
        (Some(said), None) => said != name,
        (None, None) => false,
    };
    if is_another { Err("another pod answers at its address".to_owned()) } else { Ok(()) }
}

/// A sidecar that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The pod that it is in.
    pub pod: String,
    /// What it told last, or why it has not for long.
    pub told: Result<Reading, String>,
    /// In so many rounds in a row it has not answered.
    pub missed: u32,
    /// In so many rounds in a row it did not tell that all others have proven who they are.
    pub apart: u32,
}

impl Asked {
    /// A sidecar that was asked in this round, after what is known of it from those before. One blip is none that
    /// anybody has to hear of.
    #[must_use]
    pub fn after(before: Option<&Self>, pod: String, told: Result<Reading, String>) -> Self {
        let (missed, apart) = before.map_or((0, 0), |before| (before.missed, before.apart));
        match told {
            Ok(reading) => {
                let are_all_there = reading.upstream.peers.is_some_and(|peers| !peers.is_one_missing());
                let apart = if are_all_there { 0 } else { apart.saturating_add(1) };
                Self { pod, told: Ok(reading), missed: 0, apart }
            }
            Err(why) => {
                let missed = missed.saturating_add(1);
                let last = before.and_then(|before| before.told.as_ref().ok());
                let told = last.filter(|_| missed <= HOLDS).cloned().ok_or(why);
                Self { pod, told, missed, apart }
            }
        }
    }

    /// Others have not proven who they are for the first time, which mostly passes at once.
    #[must_use]
    pub fn is_newly_apart(&self) -> bool {
        let peers = self.told.as_ref().ok().and_then(|told| told.upstream.peers);
        self.apart == 1 && self.missed == 0 && peers.is_some_and(Peers::is_one_missing)
    }
}

/// What several sidecars tell together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Requests that were answered from the cache.
    pub hits: u64,
    /// Those that might have been, and were answered by the application.
    pub misses: u64,
    /// Requests that the application was spared.
    pub saved: u64,
}

/// The sum of what was told.
#[must_use]
pub fn sum(asked: &[Asked]) -> Sum {
    let told = asked.iter().filter_map(|asked| asked.told.as_ref().ok());
    told.fold(Sum::default(), |sum, told| Sum {
        hits: sum.hits.saturating_add(told.hits),
        misses: sum.misses.saturating_add(told.misses),
        saved: sum.saved.saturating_add(told.saved_requests),
    })
}

/// The sum of what near-caches told, where one did: each read that one has answered Redis was spared.
#[must_use]
pub fn near_sum(asked: &[Asked]) -> Option<Sum> {
    let told = asked.iter().filter_map(|asked| asked.told.as_ref().ok()?.near_cache);
    told.fold(None, |sum, told| {
        let sum = sum.unwrap_or_default();
        let hits = sum.hits.saturating_add(told.hits);
        Some(Sum { hits, misses: sum.misses.saturating_add(told.misses), saved: hits })
    })
}

impl Sum {
    /// How many of a thousand requests that the cache might have answered it has; none where there were
    /// none.
    #[must_use]
    pub fn permille(&self) -> Option<u64> {
        let all = u128::from(self.hits) + u128::from(self.misses);
        let part = u128::from(self.hits) * 1000 + all / 2;
        u64::try_from(part.checked_div(all)?).ok()
    }
}

/// A number to two digits, downwards: no more than there is.
#[must_use]
pub fn two_digits(number: u64) -> u64 {
    let unit = 10_u64.pow(number.checked_ilog10().unwrap_or_default().saturating_sub(1));
    number / unit * unit
}

/// Whether something is new that a status could tell. Answers that differ in no more than a few requests are
/// not.
#[must_use]
pub fn is_news(before: &[Asked], now: &[Asked]) -> bool {
    let rounded = |sum: Sum| (sum.permille().map(|permille| permille / 2), two_digits(sum.saved));
    let figures = |asked: &[Asked]| (rounded(sum(asked)), near_sum(asked).map(rounded));
    let state = |asked: &Asked| {
        let told = asked.told.as_ref().map(|told| Reading {
            hits: 0,
            misses: 0,
            saved_requests: 0,
            near_cache: told.near_cache.map(|_| Answered::default()),
            ..told.clone()
        });
        (asked.pod.clone(), told.map_err(Clone::clone), asked.missed.min(HOLDS), asked.apart.min(APART))
    };
    figures(before) != figures(now) || !before.iter().map(state).eq(now.iter().map(state))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(pod: &str, hits: u64, misses: u64, saved: u64) -> Asked {
        let reading = Reading { hits, misses, saved_requests: saved, ..Reading::default() };
        Asked::after(None, pod.to_owned(), Ok(reading))
    }

    #[test]
    fn what_is_read_is_what_a_sidecar_tells_and_more_is_passed_over() {
        let told = json!({
            "version": "9", "ready": true, "settings": "d", "settingsRefused": null, "hits": 3, "misses": 1,
            "pod": "a", "uid": "u", "settingsUnknown": ["http.new"], "settingsReduced": ["http.memory: 1 of 2"], "purgesRefused": "SECRET",
            "hitRatio": 0.75, "savedRequests": 2, "nearCache": { "hits": 9, "misses": 2, "rules": [] }, "upstream": {
                "replicas": 1, "localOnly": true, "x": [],
                "peers": { "named": 3, "proven": 1, "leaving": 1, "trouble": "SECRET" },
            },
        });
        let reading: Reading = serde_json::from_value(told).unwrap();
        let expected = Reading {
            settings: "d".to_owned(),
            pod: Some("a".to_owned()),
            uid: Some("u".to_owned()),
            settings_refused: false,
            settings_unknown: true,
            settings_reduced: true,
            purges_refused: true,
            hits: 3,
            misses: 1,
            saved_requests: 2,
            near_cache: Some(Answered { hits: 9, misses: 2 }),
            upstream: Upstream { local_only: true, peers: Some(Peers { named: 3, proven: 1, leaving: 1 }) },
        };
        assert_eq!(reading, expected);
        assert!(!format!("{reading:?}").contains("SECRET"), "nothing of its words is kept");
        assert_eq!(serde_json::from_value::<Reading>(json!({})).unwrap(), Reading::default());
        assert_eq!(
            serde_json::from_value::<Reading>(json!({ "nearCache": null })).unwrap(),
            Reading::default()
        );
    }

    #[test]
    fn the_ratio_is_of_all_requests_together_and_who_does_not_answer_counts_nothing() {
        let silent = Asked::after(None, "c".to_owned(), Err("no answer".to_owned()));
        let sum = sum(&[asked("a", 10, 0, 9), asked("b", 0, 30, 0), silent]);
        assert_eq!(sum, Sum { hits: 10, misses: 30, saved: 9 });
        assert_eq!(sum.permille(), Some(250));
        assert_eq!(Sum::default().permille(), None);
        assert_eq!(Sum { hits: u64::MAX, misses: u64::MAX, saved: 0 }.permille(), Some(500));
    }

    fn near(pod: &str, hits: u64, misses: u64) -> Asked {
        let near_cache = Some(Answered { hits, misses });
        Asked::after(None, pod.to_owned(), Ok(Reading { near_cache, ..Reading::default() }))
    }

    #[test]
    fn of_near_caches_each_hit_is_a_read_saved_and_without_one_there_is_no_figure() {
        let together = near_sum(&[near("a", 10, 0), near("b", 0, 30), asked("c", 9, 9, 9)]).unwrap();
        assert_eq!((together, together.permille()), (Sum { hits: 10, misses: 30, saved: 10 }, Some(250)));
        assert_eq!(near_sum(&[near("a", 0, 0)]), Some(Sum::default()));
        assert_eq!(near_sum(&[asked("a", 9, 9, 9)]), None);
        let before = [near("a", 1000, 1000)];
        assert!(!is_news(&before, &[near("a", 1001, 1001)]));
        assert!(is_news(&before, &[near("a", 1100, 1100)]));
        assert!(is_news(&before, &[near("a", 1000, 1500)]));
        assert!(is_news(&[near("a", 0, 0)], &[asked("a", 0, 0, 0)]));
    }

    #[test]
    fn only_the_pod_itself_tells_of_itself_if_it_says_who_it_is() {
        let of = |pod, uid| check_is_of((pod, uid), "shop-a", "uid-a");
        for own in [(None, None), (Some("shop-a"), None), (Some("shop-a"), Some("uid-a"))] {
            assert_eq!(of(own.0, own.1), Ok(()), "{own:?}");
        }
        // Also one of the same name that came since.
        for another in [(Some("shop-b"), None), (Some("shop-a"), Some("uid-b")), (None, Some("uid-b"))] {
            assert!(of(another.0, another.1).is_err(), "{another:?}");
        }
    }

    #[test]
    fn what_a_sidecar_told_last_holds_for_two_rounds_without_an_answer() {
        let silent = |before: &Asked| Asked::after(Some(before), "a".to_owned(), Err("no answer".to_owned()));
        let first = asked("a", 1, 1, 1);
        let second = silent(&first);
        let third = silent(&second);
        assert_eq!((&second.told, &third.told), (&first.told, &first.told));
        assert_eq!((second.missed, third.missed), (1, 2));
        let fourth = silent(&third);
        assert_eq!((&fourth.told, fourth.missed), (&Err("no answer".to_owned()), 3));
        let back = Asked::after(Some(&fourth), "a".to_owned(), first.told.clone());
        assert_eq!((&back.told, back.missed), (&first.told, 0));
    }

    #[test]
    fn rounds_in_which_others_have_not_proven_who_they_are_are_counted() {
        let told =
            |peers| Ok(Reading { upstream: Upstream { peers, ..Upstream::default() }, ..Reading::default() });
        let next = |before: Option<&Asked>, peers| Asked::after(before, "a".to_owned(), told(peers));
        let missing = Some(Peers { named: 3, proven: 1, leaving: 1 });
        let first = next(None, missing);
        let second = next(Some(&first), missing);
        assert_eq!((first.apart, first.is_newly_apart()), (1, true));
        assert_eq!((second.apart, second.is_newly_apart()), (2, false));
        let all = next(Some(&second), Some(Peers { named: 3, proven: 2, leaving: 1 }));
        assert_eq!((all.apart, next(Some(&all), Some(Peers::default())).apart), (0, 0));
        let untold = next(Some(&second), None);
        assert_eq!((untold.apart, next(None, None).is_newly_apart()), (3, false));
    }

    #[test]
    fn a_number_is_told_with_two_digits() {
        for (number, told) in [(0, 0), (9, 9), (10, 10), (99, 99), (129, 120), (98_765, 98_000)] {
            assert_eq!(two_digits(number), told, "{number}");
        }
        assert_eq!(two_digits(u64::MAX), 18_000_000_000_000_000_000);
    }

    #[test]
    fn a_few_more_requests_of_many_are_no_news_and_a_state_is() {
        let before = [asked("a", 1000, 1000, 1000)];
        assert!(!is_news(&before, &[asked("a", 1001, 1001, 1001)]));
        assert!(is_news(&before, &[asked("a", 2000, 1000, 1000)]));
        assert!(is_news(&before, &[asked("a", 1000, 1000, 1100)]));
        assert!(is_news(&before, &[asked("b", 1000, 1000, 1000)]));
        let other = Reading { settings: "d".to_owned(), ..before[0].told.clone().unwrap() };
        assert!(is_news(&before, &[Asked { told: Ok(other), ..before[0].clone() }]));
        assert!(is_news(&before, &[Asked { told: Err("gone".to_owned()), ..before[0].clone() }]));
    }
}
