//! What is counted of the near-cache. Without one all is 0, so that what is looked for is there.

use std::{fmt, sync::Arc};

use prometheus_client::metrics::MetricType;

use super::{Families, number};
use crate::sidecar::{
    breaker::State,
    near_cache::{
        near::{by_rule::OfRule, figures::Count},
        pool::figures::Lines,
        server::Relay,
        tracking,
    },
};

/// What there is to tell.
#[derive(Default)]
struct Told {
    reads: [u64; 2],
    passed: [u64; 3],
    rules: Vec<OfRule>,
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
    tracking: [u64; 4],
    breaker: u64,
    leases: u64,
    waits: [u64; 4],
    waiting: u64,
    lines: Lines,
    pins: [u64; 2],
    pool_waits: u64,
    refused: [u64; 2],
}

impl Told {
    fn of(relay: &Relay) -> Self {
        let (near, reach) = (relay.near(), relay.reach());
        let (figures, store) = (near.figures(), near.store());
        let (pool, pins) = (relay.pool(), relay.pins());
        let (hits, misses) = figures.reads();
        let (leases, ends) = (near.leases(), &near.leases().ends);
        let passed = &figures.passed;
        let count = |number: usize| number as u64;
        Self {
            reads: [hits, misses],
            passed: [&passed.rule, &passed.untracked, &passed.large].map(Count::get),
            rules: figures.by_prefix.told(),
            replies: [figures.stored.get(), figures.refused.get()],
            changed: [figures.pushes.get(), figures.flushes.get()],
            lost: figures.lost.get(),
            stale: figures.stale.get(),
            lasting: figures.lasting.get(),
            bytes: [store.bytes(), store.limit()],
            keys: count(store.keys()),
            evictions: store.evictions(),
            clients: count(relay.clients()),
            connections: [pool.count(), pins.used(), near.connections()].map(count),
            tracking: near.tracking().map(|(_, number)| number),
            breaker: number(match reach.state() {
                State::Closed if reach.is_off() => State::Open,
                state => state,
            }),
            leases: leases.led.get(),
            waits: [&ends.written, &ends.led, &ends.time, &ends.given_up].map(Count::get),
            waiting: count(leases.waits()),
            lines: pool.told(),
            pins: [pins.used(), pins.spares()].map(count),
            pool_waits: pool.figures().waits.get(),
            refused: [pool.figures().refused.get(), pins.refused.get()],
        }
    }
}

pub(super) fn encode(families: &mut Families, relay: Option<&Arc<Relay>>) -> fmt::Result {
    let told = relay.map_or_else(Told::default, |relay| Told::of(relay));
    reads(families, &told)?;
    memory(families, &told)?;
    connections(families, &told)
}

/// Counts with the names of what they are of, in one label.
fn labelled<const N: usize>(
    label: &'static str,
    names: [&'static str; N],
    counts: [u64; N],
) -> impl Iterator<Item = ([(&'static str, &'static str); 1], u64)> {
    names.into_iter().zip(counts).map(move |(name, count)| ([(label, name)], count))
}

fn reads(families: &mut Families, told: &Told) -> fmt::Result {
    families.counters(
        ("near_reads", "Reads of Redis that memory may answer, by whether it did"),
        labelled("result", ["hit", "miss"], told.reads),
    )?;
    let none = [OfRule::default()];
    // That of no rule is always there.
    let rules = if told.rules.is_empty() { &none } else { &told.rules[..] };
    families.counters(
        ("near_rule_reads", "The same by the prefix of the rule that holds; empty where none does"),
        rules.iter().flat_map(|rule| {
            [("hit", rule.hits), ("miss", rule.misses)]
                .map(|(result, count)| ([("prefix", &*rule.prefix), ("result", result)], count))
        }),
    )?;
    families.counters(
        ("near_passed", "Reads that memory may answer and that went past it, by why"),
        labelled("reason", ["rule", "untracked", "large"], told.passed),
    )?;
    families.counters(
        ("near_replies", "Replies of Redis for memory: stored, or refused as they may be old or do not fit"),
        labelled("result", ["stored", "refused"], told.replies),
    )?;
    families.counters(
        ("near_invalidations", "What Redis has told to have changed: a key, or all"),
        labelled("target", ["key", "all"], told.changed),
    )?;
    families.counter(
        ("near_stale_reads", "Reads answered with what may have changed, as Redis was not reached"),
        told.stale,
    )?;
    families.counter(("near_ttls_added", "Changes that were given the TTL of a rule"), told.lasting)
}

fn memory(families: &mut Families, told: &Told) -> fmt::Result {
    families.bytes(
        ("near_memory", "What the replies in memory take, and what they may take"),
        MetricType::Gauge,
        labelled("kind", ["used", "limit"], told.bytes),
    )?;
    families.gauge(("near_keys", "Keys of which something is in memory"), told.keys)?;
    families.counter(("near_evictions", "Replies that went from memory for lack of room"), told.evictions)
}

fn connections(families: &mut Families, told: &Told) -> fmt::Result {
    families
        .counter(("near_streams_lost", "Connections that were lost with what they covered"), told.lost)?;
    families.gauge(("near_clients", "Connections of the application"), told.clients)?;
    families.gauges(
        ("near_connections", "Connections to Redis, by what they are for"),
        labelled("use", ["shared", "pinned", "tracking"], told.connections),
    )?;
    families.gauges(
        ("near_tracking", "Users and databases, by whether Redis tells what changes of what they read"),
        labelled("state", tracking::STATES, told.tracking),
    )?;
    let lines = told.lines;
    let [pinned, spare] = told.pins;
    families.gauges(
        ("near_pool_connections", "Connections for commands, by what they do"),
        labelled(
            "state",
            ["used", "idle", "opening", "pinned", "spare"],
            [lines.used as u64, lines.idle as u64, lines.opening as u64, pinned, spare],
        ),
    )?;
    families.gauges(
        ("near_pool_limit", "How many connections there may be at most"),
        labelled("kind", ["shared", "pinned"], [lines.most, lines.most_pinned].map(u64::from)),
    )?;
    families.counter(
        ("near_pool_waits", "Commands that have waited until a connection was there"),
        told.pool_waits,
    )?;
    families.counters(
        ("near_pool_refusals", "Connections that were not given, as all that may be were in use"),
        labelled("kind", ["shared", "pinned"], told.refused),
    )?;
    families.gauge(
        ("near_breaker", "The breaker of the near-cache's Redis: 0 closed, 1 half-open, 2 open"),
        told.breaker,
    )?;
    encode_single_flights(families, told)
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
