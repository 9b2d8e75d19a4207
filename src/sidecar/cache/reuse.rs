//! Whether a stored response answers a request (RFC 9111 §4). PURE.

use std::time::Duration;

use super::{RequestDirectives, ResponseDirectives};
use crate::settings::Rule;

/// What the rule for a request says of responses that are not fresh any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByRule {
    /// It counts also where the response says something else.
    overrides: bool,
    while_revalidated: Option<Duration>,
    if_error: Option<Duration>,
}

impl ByRule {
    /// Without a rule, nothing.
    #[must_use]
    pub fn of(rule: Option<&Rule>) -> Self {
        let seconds = |seconds: Option<u64>| seconds.map(Duration::from_secs);
        rule.map_or_else(Self::default, |rule| Self {
            overrides: rule.overrides,
            while_revalidated: seconds(rule.stale_while_revalidate),
            if_error: seconds(rule.stale_if_error),
        })
    }

    /// For how long a response is of use at most after it was fresh, to those whom this rule is for.
    #[must_use]
    pub fn longest_stale(self, directives: &ResponseDirectives) -> Duration {
        let while_revalidated = self.or(self.while_revalidated, directives.stale_while_revalidate);
        while_revalidated.max(self.or(self.if_error, directives.stale_if_error)).unwrap_or_default()
    }

    fn or(self, by_rule: Option<Duration>, by_response: Option<Duration>) -> Option<Duration> {
        if self.overrides { by_rule.or(by_response) } else { by_response.or(by_rule) }
    }
}

/// What has been stale for longer does not answer where the origin cannot be reached: who gets it
/// would rather know. The standard has no limit (RFC 9111 §4.2.4).
pub const LONGEST_STALE: Duration = Duration::from_hours(24);

/// A stored response at the time of a request.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// How long it is fresh.
    pub lifetime: Duration,
    /// How old it is.
    pub age: Duration,
    /// What it asks of caches.
    pub directives: &'a ResponseDirectives,
    /// What the rule for the request says.
    pub rule: ByRule,
    /// A soft purge has asked for it to be validated.
    pub is_purged_softly: bool,
}

/// What a stored response is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// It answers the request.
    Fresh,
    /// It answers the request, and is asked for anew meanwhile (RFC 5861 §3).
    WhileRevalidated,
    /// The origin is asked first; if it fails, the stored response answers (RFC 5861 §4).
    IfError,
    /// The origin is asked first; if it cannot be reached, the stored response answers. That needs no
    /// permission, but can be forbidden (§4.2.4), and limited by `stale-if-error`.
    IfUnreachable,
    /// The origin is asked first.
    Validate,
}

impl Stored<'_> {
    /// What it is good for, for a request that asks for nothing of caches.
    #[must_use]
    pub fn reuse(&self) -> Reuse {
        let is_fresh = self.age < self.lifetime && !self.is_purged_softly;
        if self.directives.no_cache && !self.rule.overrides {
            return Reuse::Validate;
        }
        if is_fresh {
            return Reuse::Fresh;
        }
        let since = self.stale_since();
        let is_within = |time: Option<Duration>| time.is_some_and(|time| since < time);
        // Both extensions say that it may be stale, and the directives that it may not (§4.2.4).
        let may_not = self.directives.must_revalidate || self.directives.proxy_revalidate;
        let (rule, response) = (self.rule, self.directives);
        if may_not && !rule.overrides {
            Reuse::Validate
        } else if is_within(rule.or(rule.while_revalidated, response.stale_while_revalidate)) {
            Reuse::WhileRevalidated
        } else if is_within(rule.or(rule.if_error, response.stale_if_error)) {
            Reuse::IfError
        } else if (rule.overrides || !response.forbid_stale())
            && rule.or(rule.if_error, response.stale_if_error).is_none()
            && is_within(Some(LONGEST_STALE))
        {
            Reuse::IfUnreachable
        } else {
            Reuse::Validate
        }
    }

    /// The same for a request of which the directives are followed (§5.2.1).
    #[must_use]
    pub fn reuse_for(&self, request: &RequestDirectives) -> Reuse {
        let is_too_old = request.max_age.is_some_and(|most| self.age > most);
        let is_too_near_its_end =
            request.min_fresh.is_some_and(|least| self.lifetime < self.age.saturating_add(least));
        if request.no_cache || is_too_old || is_too_near_its_end {
            return match self.reuse() {
                Reuse::IfError => Reuse::IfError,
                // Whoever asks for more than what is stored gets no less for an origin that is gone.
                _ => Reuse::Validate,
            };
        }
        match self.reuse() {
            Reuse::Validate | Reuse::IfError | Reuse::IfUnreachable
                if !self.directives.forbid_stale()
                    && !self.is_purged_softly
                    && request.max_stale.is_some_and(|most| self.stale_since() <= most) =>
            {
                Reuse::Fresh
            }
            reuse => reuse,
        }
    }

    /// How long it has not been fresh any more.
    fn stale_since(&self) -> Duration {
        self.age.saturating_sub(self.lifetime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn at(age: u64, directives: &ResponseDirectives) -> Stored<'_> {
        let rule = ByRule::default();
        Stored { lifetime: seconds(60), age: seconds(age), directives, rule, is_purged_softly: false }
    }

    #[test]
    fn what_is_fresh_answers_until_its_last_second() {
        let plain = ResponseDirectives::default();
        assert_eq!(at(59, &plain).reuse(), Reuse::Fresh);
        assert_eq!(at(60, &plain).reuse(), Reuse::IfUnreachable);
        let no_cache = ResponseDirectives { no_cache: true, ..plain };
        assert_eq!(at(0, &no_cache).reuse(), Reuse::Validate);
    }

    #[test]
    fn what_is_stale_answers_as_far_as_it_says_so() {
        let stale = ResponseDirectives {
            stale_while_revalidate: Some(seconds(10)),
            stale_if_error: Some(seconds(20)),
            ..ResponseDirectives::default()
        };
        let reuse = |age| at(age, &stale).reuse();
        assert_eq!(
            [reuse(69), reuse(70), reuse(79), reuse(80)],
            [Reuse::WhileRevalidated, Reuse::IfError, Reuse::IfError, Reuse::Validate]
        );
        let strict = ResponseDirectives { must_revalidate: true, ..stale };
        assert_eq!(at(61, &strict).reuse(), Reuse::Validate);
    }

    #[test]
    fn what_is_stale_answers_for_an_origin_that_is_gone_unless_it_says_not_to() {
        let plain = ResponseDirectives::default();
        let day = LONGEST_STALE.as_secs();
        assert_eq!(at(60 + day - 1, &plain).reuse(), Reuse::IfUnreachable);
        assert_eq!(at(60 + day, &plain).reuse(), Reuse::Validate);
        for forbidding in [
            ResponseDirectives { must_revalidate: true, ..plain.clone() },
            ResponseDirectives { proxy_revalidate: true, ..plain.clone() },
            ResponseDirectives { s_maxage: Some(seconds(60)), ..plain.clone() },
            ResponseDirectives { no_cache: true, ..plain.clone() },
        ] {
            assert_eq!(at(60, &forbidding).reuse(), Reuse::Validate, "{forbidding:?}");
        }
    }

    #[test]
    fn a_rule_says_how_long_where_the_response_does_not() {
        let rule = Rule { stale_while_revalidate: Some(10), stale_if_error: Some(20), ..Rule::default() };
        let by = |rule: &Rule, response: ResponseDirectives, age| {
            Stored { rule: ByRule::of(Some(rule)), ..at(age, &response) }.reuse()
        };
        let plain = ResponseDirectives::default();
        assert_eq!(
            [69, 70, 80].map(|age| by(&rule, plain.clone(), age)),
            [Reuse::WhileRevalidated, Reuse::IfError, Reuse::Validate]
        );
        let told = ResponseDirectives { stale_while_revalidate: Some(seconds(1)), ..plain.clone() };
        assert_eq!(by(&rule, told.clone(), 61), Reuse::IfError);
        let strict = ResponseDirectives { must_revalidate: true, no_cache: true, ..told };
        assert_eq!(by(&rule, strict.clone(), 1), Reuse::Validate);
        let overrides = Rule { overrides: true, ..rule };
        assert_eq!(by(&overrides, strict.clone(), 1), Reuse::Fresh);
        assert_eq!(by(&overrides, strict, 69), Reuse::WhileRevalidated);
    }

    #[test]
    fn a_soft_purge_makes_it_stale() {
        let stale =
            ResponseDirectives { stale_while_revalidate: Some(seconds(10)), ..ResponseDirectives::default() };
        let purged = Stored { is_purged_softly: true, ..at(1, &stale) };
        assert_eq!(purged.reuse(), Reuse::WhileRevalidated);
        let plain = ResponseDirectives::default();
        assert_eq!(Stored { is_purged_softly: true, ..at(1, &plain) }.reuse(), Reuse::IfUnreachable);
    }

    #[test]
    fn a_request_may_ask_for_more_and_for_less() {
        let plain = ResponseDirectives::default();
        let for_request = |age, request: RequestDirectives| at(age, &plain).reuse_for(&request);
        let none = RequestDirectives::default();
        let max_age = |age| RequestDirectives { max_age: Some(seconds(age)), ..none.clone() };
        assert_eq!(for_request(10, max_age(10)), Reuse::Fresh);
        assert_eq!(for_request(11, max_age(10)), Reuse::Validate);
        let min_fresh = RequestDirectives { min_fresh: Some(seconds(10)), ..none.clone() };
        assert_eq!(for_request(50, min_fresh.clone()), Reuse::Fresh);
        assert_eq!(for_request(51, min_fresh), Reuse::Validate);
        let fresh =
            RequestDirectives { min_fresh: Some(seconds(0)), max_stale: Some(seconds(99)), ..none.clone() };
        assert_eq!(for_request(61, fresh), Reuse::Validate);
        let max_stale = RequestDirectives { max_stale: Some(seconds(10)), ..none.clone() };
        assert_eq!(for_request(70, max_stale.clone()), Reuse::Fresh);
        assert_eq!(for_request(71, max_stale.clone()), Reuse::IfUnreachable);
        let strict = ResponseDirectives { must_revalidate: true, ..ResponseDirectives::default() };
        assert_eq!(at(70, &strict).reuse_for(&max_stale), Reuse::Validate);
        let no_cache = RequestDirectives { no_cache: true, ..none };
        assert_eq!(for_request(0, no_cache), Reuse::Validate);
    }
}
