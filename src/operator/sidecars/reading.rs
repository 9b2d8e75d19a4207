//! What the sidecars of a CachedService tell, and what that comes to. PURE.

use serde::Deserialize;

/// What one sidecar tells of itself. What an older one does not tell is as if it were nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Reading {
    /// A digest of the settings that hold.
    pub settings: String,
    /// Why those of its file do not, if it has others.
    pub settings_refused: Option<String>,
    /// Requests that were answered from the cache, since it started.
    pub hits: u64,
    /// Those that might have been, and were answered by the application.
    pub misses: u64,
    /// Requests that the application was spared.
    pub saved_requests: u64,
    /// What it knows of the application's replicas.
    pub upstream: Upstream,
}

/// What a sidecar knows of the application's replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Upstream {
    /// The application of its pod listens on localhost alone.
    pub local_only: bool,
}

/// A sidecar that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The pod that it is in.
    pub pod: String,
    /// What it told, or why it did not.
    pub told: Result<Reading, String>,
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
    let figures = |asked: &[Asked]| {
        let sum = sum(asked);
        (sum.permille().map(|permille| permille / 2), two_digits(sum.saved))
    };
    let state = |asked: &Asked| {
        let told =
            asked.told.as_ref().map(|told| Reading { hits: 0, misses: 0, saved_requests: 0, ..told.clone() });
        (asked.pod.clone(), told.map_err(Clone::clone))
    };
    figures(before) != figures(now) || !before.iter().map(state).eq(now.iter().map(state))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(pod: &str, hits: u64, misses: u64, saved: u64) -> Asked {
        let reading = Reading { hits, misses, saved_requests: saved, ..Reading::default() };
        Asked { pod: pod.to_owned(), told: Ok(reading) }
    }

    #[test]
    fn what_is_read_is_what_a_sidecar_tells_and_more_is_passed_over() {
        let told = json!({
            "version": "9", "ready": true, "settings": "d", "settingsRefused": null, "hits": 3, "misses": 1,
            "hitRatio": 0.75, "savedRequests": 2, "upstream": { "replicas": 1, "localOnly": true, "x": [] },
        });
        let reading: Reading = serde_json::from_value(told).unwrap();
        let expected = Reading {
            settings: "d".to_owned(),
            settings_refused: None,
            hits: 3,
            misses: 1,
            saved_requests: 2,
            upstream: Upstream { local_only: true },
        };
        assert_eq!(reading, expected);
        assert_eq!(serde_json::from_value::<Reading>(json!({})).unwrap(), Reading::default());
    }

    #[test]
    fn the_ratio_is_of_all_requests_together_and_who_does_not_answer_counts_nothing() {
        let silent = Asked { pod: "c".to_owned(), told: Err("no answer".to_owned()) };
        let sum = sum(&[asked("a", 10, 0, 9), asked("b", 0, 30, 0), silent]);
        assert_eq!(sum, Sum { hits: 10, misses: 30, saved: 9 });
        assert_eq!(sum.permille(), Some(250));
        assert_eq!(Sum::default().permille(), None);
        assert_eq!(Sum { hits: u64::MAX, misses: u64::MAX, saved: 0 }.permille(), Some(500));
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
