//! What a response asks of caches, as small as it is kept with each stored response. PURE.

use std::time::Duration;

use super::ResponseDirectives;

/// The directives of a response: twenty bytes, of seventy-two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    flags: u8,
    times: [u32; 4],
}

/// In place of a time that is not there.
const NONE: u32 = u32::MAX;

impl Packed {
    /// Whole seconds, as they are written in a field, where a longer time is 2^31 seconds (RFC 9111 §1.2.2).
    #[must_use]
    pub fn of(directives: &ResponseDirectives) -> Self {
        // Taken apart without a rest, so that a new one does not compile until it is kept.
        let ResponseDirectives {
            is_targeted,
            no_store,
            no_cache,
            private,
            public,
            must_revalidate,
            proxy_revalidate,
            must_understand,
            max_age,
            s_maxage,
            stale_while_revalidate,
            stale_if_error,
        } = directives;
        let flags = [
            is_targeted,
            no_store,
            no_cache,
            private,
            public,
            must_revalidate,
            proxy_revalidate,
            must_understand,
        ];
        let seconds = |time: &Option<Duration>| {
            time.map_or(NONE, |time| u32::try_from(time.as_secs()).unwrap_or(NONE).min(NONE - 1))
        };
        Self {
            flags: flags.into_iter().fold(0, |byte, flag| byte << 1 | u8::from(*flag)),
            times: [max_age, s_maxage, stale_while_revalidate, stale_if_error].map(seconds),
        }
    }

    /// As they are read.
    #[must_use]
    pub fn directives(self) -> ResponseDirectives {
        let flag = |place: u8| self.flags >> (7 - place) & 1 == 1;
        let time = |seconds: u32| (seconds != NONE).then(|| Duration::from_secs(seconds.into()));
        let [max_age, s_maxage, stale_while_revalidate, stale_if_error] = self.times.map(time);
        ResponseDirectives {
            is_targeted: flag(0),
            no_store: flag(1),
            no_cache: flag(2),
            private: flag(3),
            public: flag(4),
            must_revalidate: flag(5),
            proxy_revalidate: flag(6),
            must_understand: flag(7),
            max_age,
            s_maxage,
            stale_while_revalidate,
            stale_if_error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::tests::headers;

    #[test]
    fn what_is_packed_is_what_was_read() {
        for line in [
            "",
            "no-store",
            "no-cache, private",
            "public, max-age=0",
            "must-revalidate, s-maxage=2147483648",
            "proxy-revalidate, must-understand",
            "max-age=1, stale-while-revalidate=2, stale-if-error=99999999999999999999",
        ] {
            for name in ["cache-control", "cdn-cache-control"] {
                let directives = ResponseDirectives::of(&headers(&[(name, line)]));
                assert_eq!(Packed::of(&directives).directives(), directives, "{name}: {line}");
            }
        }
    }
}
