//! What the memory of a sidecar's container is for: the operator asks for so much, and the sidecar takes no more
//! connections than fit. PURE.
//!
//! ```text
//!  limit = program + what is stored + bodies on their way + places
//! ```
//! A connection has a place, and a request of HTTP/2 has [`STREAM`] of them beside that of its connection. What each
//! takes at most is what stands in hyper where neither side goes on:
//!
//! ```text
//!  HTTP/1, 70 KiB measured: a buffer of 8 KiB for heads in each direction of both connections, tasks and states,
//!                           and of the body a piece of 8 KiB that is being read, one that is handed over, and one
//!                           that is being written
//!  HTTP/2, 135 KiB:         the same with 16 KiB of the answer that wait for the client's window, or 32 KiB of the
//!                           body that wait for the application
//! ```
//!
//! What a near-cache needs, with its own connections, counts as stored.

use super::{HttpCache, NearCache};

/// The program itself, with what Redis and the application are asked by.
pub const PROGRAM: u64 = 16 << 20;
/// Bodies on their way into the cache, from the application and from Redis, and out of it to clients that are slow; more
/// where one alone may be larger.
pub const BODIES: u64 = 8 << 20;
/// A connection at most: 70 KiB were measured where one side is slow, 25 where it is busy and 6 where nothing happens
/// (`tests/sidecar/crowd.rs`).
pub const CONNECTION: u64 = 80 << 10;
/// So many connections a request of HTTP/2 counts for.
pub const STREAM: u32 = 2;
/// So few are too few for any service.
pub const FEW: u64 = 48;
/// So many are held also where nothing limits the memory.
pub const MOST: u64 = 16_384;

/// Commands and replies on their way through the near-cache; more where one value alone takes more than a quarter.
pub const VALUES: u64 = 32 << 20;
/// So many connections of the application the near-cache takes.
pub const CLIENTS: u64 = 1024;
/// A connection of the near-cache, to the application or to Redis: what is read of it and not yet worked upon, and what
/// is not yet written. More of it counts among [`VALUES`].
pub const LINE: u64 = 16 << 10;

/// What the caches of a file take, in bytes, beside bodies on their way.
#[must_use]
pub fn caches(http: Option<&HttpCache>, application: Option<&NearCache>) -> u64 {
    let of_http = http.map_or(0, |http| http.memory);
    application.map_or(of_http, |application| {
        of_http.saturating_add(application.memory).saturating_add(beside_near_cache(application))
    })
}

/// What of a container of so many bytes a near-cache leaves to the HTTP front.
#[must_use]
pub fn for_http(limit: Option<u64>, application: Option<&NearCache>) -> Option<u64> {
    limit.map(|limit| limit.saturating_sub(caches(None, application)))
}

/// What of the memory of a near-cache fits into a container of so many bytes beside an HTTP cache: no less than it
/// `began` with there, and more as far as nothing else is to be there.
#[must_use]
pub fn near_fitting(limit: Option<u64>, http: Option<&HttpCache>, wanted: &NearCache, began: u64) -> u64 {
    let Some(limit) = limit else { return wanted.memory };
    let of_http = http.map_or(0, |http| http.memory);
    let beside = least_beside(http.map_or(0, |http| http.max_object));
    let taken = beside.saturating_add(of_http).saturating_add(beside_near_cache(wanted));
    wanted.memory.min(limit.saturating_sub(taken).max(began))
}

/// What commands and replies on their way through a near-cache take at most: half of it in, half of it out, and one
/// command alone a quarter.
#[must_use]
pub fn values(cache: &NearCache) -> u64 {
    cache.largest_value().saturating_mul(4).max(VALUES)
}

/// What a near-cache needs beside what it stores, in whole mebibytes.
fn beside_near_cache(cache: &NearCache) -> u64 {
    let connections = CLIENTS + u64::from(cache.pool.max) + u64::from(cache.pool.max_pinned);
    let needed = values(cache).saturating_add(connections * LINE);
    needed.div_ceil(1 << 20).saturating_mul(1 << 20)
}

/// What the least of all containers needs beside what it stores, in whole MiB for whole MiB of these.
#[must_use]
pub const fn least_beside(max_object: u64) -> u64 {
    let connections = (FEW * CONNECTION).next_multiple_of(1 << 20);
    PROGRAM.saturating_add(bodies(max_object)).saturating_add(connections)
}

const fn bodies(max_object: u64) -> u64 {
    if max_object > BODIES { max_object } else { BODIES }
}

/// How many connections there may be in a container of so many bytes, beside a cache of `stored`, of which one body
/// may have `max_object`.
#[must_use]
pub const fn connections(limit: Option<u64>, stored: u64, max_object: u64) -> u64 {
    let Some(limit) = limit else { return MOST };
    let beside = limit.saturating_sub(PROGRAM).saturating_sub(stored);
    let left = beside.saturating_sub(bodies(max_object)) / CONNECTION;
    if left < FEW {
        FEW
    } else if left > MOST {
        MOST
    } else {
        left
    }
}

/// What of a cache of `stored`, of which one body may have `max_object`, fits into a container of so many bytes
/// beside so many connections. What is stored comes first.
#[must_use]
pub fn fitting(limit: Option<u64>, connections: u64, stored: u64, max_object: u64) -> (u64, u64) {
    let Some(limit) = limit else { return (stored, max_object) };
    let room = limit.saturating_sub(PROGRAM).saturating_sub(connections.saturating_mul(CONNECTION));
    let stored = stored.min(room.saturating_sub(BODIES));
    (stored, max_object.min(stored).min(BODIES.max(room - stored)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_a_container_is_for_fits_into_it() {
        for stored in [0, 1 << 20, 64 << 20, 1 << 30] {
            for max_object in [0, 1 << 20, BODIES, 32 << 20] {
                for beside in [least_beside(max_object), 64 << 20, 256 << 20, 4 << 30] {
                    let limit = stored + beside;
                    let count = connections(Some(limit), stored, max_object);
                    let taken = PROGRAM + stored + bodies(max_object) + count * CONNECTION;
                    assert!(taken <= limit, "{taken} of {limit}");
                    assert!(count == MOST || taken + CONNECTION > limit, "{count} are too few in {limit}");
                }
            }
        }
    }

    #[test]
    fn what_a_container_was_made_for_fits_into_it_and_of_more_so_much_as_does() {
        for stored in [1 << 20, 64 << 20, 1 << 30] {
            for max_object in [1, 1 << 20, BODIES, 32 << 20].map(|most| most.min(stored)) {
                for beside in [least_beside(max_object), 64 << 20, 4 << 30] {
                    let limit = Some(stored + beside.max(least_beside(max_object)));
                    let count = connections(limit, stored, max_object);
                    assert_eq!(fitting(limit, count, stored, max_object), (stored, max_object));
                    assert_eq!(fitting(None, count, stored, max_object), (stored, max_object));
                    for (more, larger) in
                        [(stored * 4, max_object), (stored, stored), (stored * 4, stored * 4)]
                    {
                        let (stored, max_object) = fitting(limit, count, more, larger);
                        let taken = PROGRAM + stored + bodies(max_object) + count * CONNECTION;
                        assert!(Some(taken) <= limit, "{taken} of {limit:?}");
                        assert!(stored <= more && max_object <= larger.min(stored));
                    }
                }
            }
        }
        assert_eq!(fitting(Some(1 << 20), FEW, 64 << 20, 1 << 20), (0, 0));
    }

    #[test]
    fn a_near_cache_has_what_its_container_was_made_for_and_more_only_where_that_is_free() {
        let near = |memory: u64| -> NearCache {
            let text = format!(r#"{{"port": 6379, "memory": {memory}, "ttlMs": 1, "maxValue": 1048576}}"#);
            serde_json::from_str(&text).unwrap()
        };
        let http = |memory| HttpCache { memory, max_object: 1 << 20, rules: Vec::new() };
        let (small, large) = (64 << 20, 1 << 30);
        let least = Some(least_beside(1 << 20) + caches(Some(&http(small)), Some(&near(small))));
        assert_eq!(near_fitting(least, Some(&http(small)), &near(small), 0), small);
        assert_eq!(near_fitting(least, Some(&http(small)), &near(large), small), small);
        assert_eq!(near_fitting(least, Some(&http(large)), &near(small), small), small);
        assert_eq!(near_fitting(least, Some(&http(large)), &near(small), 0), 0);
        let more = least.map(|least| least + (7 << 20));
        assert_eq!(near_fitting(more, Some(&http(small)), &near(large), small), small + (7 << 20));
        assert_eq!(near_fitting(more, None, &near(large), small), 2 * small + (7 << 20));
        assert_eq!(near_fitting(None, Some(&http(large)), &near(large), 0), large);
    }

    #[test]
    fn a_near_cache_needs_room_for_its_connections_and_for_values_on_their_way() {
        let near = |fields: &str| -> NearCache {
            let text =
                format!(r#"{{"port": 6379, "memory": 67108864, "ttlMs": 1, "maxValue": 1048576{fields}}}"#);
            serde_json::from_str(&text).unwrap()
        };
        let http = HttpCache { memory: 3 << 20, max_object: 1 << 20, rules: Vec::new() };
        let plain = near("");
        assert_eq!(caches(None, None), 0);
        assert_eq!(caches(Some(&http), None), 3 << 20);
        assert_eq!(caches(None, Some(&plain)), (64 + 50) << 20);
        assert_eq!(caches(Some(&http), Some(&plain)), (3 + 64 + 50) << 20);
        let many = near(r#", "pool": {"max": 1000, "maxPinned": 10000}"#);
        assert_eq!(caches(None, Some(&many)), (64 + 220) << 20);
        let large = near(r#", "rules": [{"prefix": "a", "maxValue": 33554432}]"#);
        assert_eq!(caches(None, Some(&large)), (64 + 128 + 18) << 20);
    }

    #[test]
    fn a_large_body_leaves_room_for_fewer_connections_and_no_limit_for_the_most() {
        assert_eq!(connections(Some(128 << 20), 64 << 20, 1 << 20), 512);
        assert_eq!(connections(Some(128 << 20), 64 << 20, 24 << 20), 307);
        assert_eq!(connections(Some(64 << 20), 64 << 20, 64 << 20), FEW);
        assert_eq!(connections(None, 64 << 20, 1 << 20), MOST);
    }
}
