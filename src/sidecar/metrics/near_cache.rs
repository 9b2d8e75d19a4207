//! What is counted of the near-cache. Without one all is 0, so that what is looked for is there.

use std::{fmt, sync::Arc};

use prometheus_client::metrics::MetricType;

use super::{Families, number};
use crate::sidecar::{
    breaker::State,
    near_cache::{near::figures::Count, server::Relay},
};

/// What there is to tell.
#[derive(Default)]
struct Told {
    reads: [u64; 2],
    replies: [u64; 2],
    changed: [u64; 2],
    lost: u64,
    stale: u64,
    lasting: u64,
    bytes: [u64; 2],
    keys: u64,
    evictions: u64,
    clients: u64,
    connections: [u64; 3],
    breaker: u64,
    leases: u64,
    waits: [u64; 4],
    waiting: u64,
}

impl Told {
    fn of(relay: &Relay) -> Self {
        let (near, reach) = (relay.near(), relay.reach());
        let (figures, store) = (near.figures(), near.store());
        let (hits, misses) = figures.reads();
        let (leases, ends) = (near.leases(), &near.leases().ends);
        let count = |number: usize| number as u64;
        Self {
            reads: [hits, misses],
            replies: [figures.stored.get(), figures.refused.get()],
            changed: [figures.pushes.get(), figures.flushes.get()],
            lost: figures.lost.get(),
            stale: figures.stale.get(),
            lasting: figures.lasting.get(),
            bytes: [store.bytes(), store.limit()],
            keys: count(store.keys()),
            evictions: store.evictions(),
            clients: count(relay.clients()),
            connections: [relay.pool().count(), relay.pins().used(), near.connections()].map(count),
            breaker: number(match reach.state() {
                State::Closed if reach.is_off() => State::Open,
                state => state,
            }),
            leases: leases.led.get(),
            waits: [&ends.written, &ends.led, &ends.time, &ends.given_up].map(Count::get),
            waiting: count(leases.waits()),
        }
    }
}

pub(super) fn encode(families: &mut Families, relay: Option<&Arc<Relay>>) -> fmt::Result {
    let told = relay.map_or_else(Told::default, |relay| Told::of(relay));
    let results = |names: [&'static str; 2], counts: [u64; 2]| {
        names.into_iter().zip(counts).map(|(name, count)| ([("result", name)], count))
    };
    families.counters(
        ("near_reads", "Reads of Redis that memory may answer, by whether it did"),
        results(["hit", "miss"], told.reads),
    )?;
    families.counters(
        ("near_replies", "Replies of Redis for memory: stored, or refused as they may be old or do not fit"),
        results(["stored", "refused"], told.replies),
    )?;
    families.counters(
        ("near_invalidations", "What Redis has told to have changed: a key, or all"),
        results(["key", "all"], told.changed).map(|([(_, target)], count)| ([("target", target)], count)),
    )?;
    families
        .counter(("near_streams_lost", "Connections that were lost with what they covered"), told.lost)?;
    families.counter(
        ("near_stale_reads", "Reads answered with what may have changed, as Redis was not reached"),
        told.stale,
    )?;
    families.counter(("near_ttls_added", "Changes that were given the TTL of a rule"), told.lasting)?;
    families.bytes(
        ("near_memory", "What the replies in memory take, and what they may take"),
        MetricType::Gauge,
        ["used", "limit"].into_iter().zip(told.bytes).map(|(kind, bytes)| ([("kind", kind)], bytes)),
    )?;
    families.gauge(("near_keys", "Keys of which something is in memory"), told.keys)?;
    families.counter(("near_evictions", "Replies that went from memory for lack of room"), told.evictions)?;
    families.gauge(("near_clients", "Connections of the application"), told.clients)?;
    families.gauges(
        ("near_connections", "Connections to Redis, by what they are for"),
        ["shared", "pinned", "tracking"]
            .into_iter()
            .zip(told.connections)
            .map(|(use_of, count)| ([("use", use_of)], count)),
    )?;
    families.gauge(
        ("near_breaker", "The breaker of the near-cache's Redis: 0 closed, 1 half-open, 2 open"),
        told.breaker,
    )?;
    encode_single_flights(families, &told)
}

fn encode_single_flights(families: &mut Families, told: &Told) -> fmt::Result {
    families.counter(
        ("near_leases", "Misses that were told to the one of all who asked that led"),
        told.leases,
    )?;
    families.counters(
        ("near_waits", "Misses that waited for the one that led, by how the wait has ended"),
        ["written", "led", "time", "given_up"]
            .into_iter()
            .zip(told.waits)
            .map(|(end, count)| ([("end", end)], count)),
    )?;
    families.gauge(("near_waiting", "Misses that wait at present, or are about to lead"), told.waiting)
}
