//! What is counted, as Prometheus reads it.
//!
//! Every label takes its values from a fixed set, but for the addresses of the application's replicas: of
//! these there are few, and one that is gone takes its series along.

mod near_cache;

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::{MetricType, info::Info},
    registry::{Registry, Unit},
};

use super::{breaker::State, health::Health, http::Front, near_cache::server::Relay, upstream::replica};
use crate::telemetry::process::Process;

/// Of so many replicas of the application there are figures at most.
const REPLICAS: usize = 64;

/// All metrics of a sidecar in the text format of OpenMetrics 1.0; of a near-cache, if it has one.
///
/// # Errors
/// As the encoder of `prometheus-client`.
pub fn encode(front: &Arc<Front>, near: Option<&Arc<Relay>>, health: &Health) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("cachedservice_sidecar_build", "The version of this sidecar", version);
    registry.register_collector(Box::new(Process));
    let has_refused_settings = health.loaded().settings_refused.is_some();
    registry.register_collector(Box::new(Sidecar(front.clone(), near.cloned(), has_refused_settings)));
    let mut exposition = String::new();
    text::encode(&mut exposition, &registry)?;
    Ok(exposition)
}

/// What the front tells, and the near-cache, and whether settings were refused.
struct Sidecar(Arc<Front>, Option<Arc<Relay>>, bool);

impl fmt::Debug for Sidecar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sidecar")
    }
}

impl Collector for Sidecar {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut families = Families(encoder);
        families.gauge(
            ("settings_refused", "1 if the settings of the file are not taken, and those before hold on"),
            u64::from(self.2),
        )?;
        self.requests(&mut families)?;
        self.first_byte(&mut families)?;
        self.memory(&mut families)?;
        self.upstream(&mut families)?;
        self.redis(&mut families)?;
        near_cache::encode(&mut families, self.1.as_ref())
    }
}

/// One figure of a replica.
type Read = fn(&replica::Figures) -> u64;
/// A name without the prefix and the suffixes, and what it means.
type Named = (&'static str, &'static str);

impl Sidecar {
    fn requests(&self, families: &mut Families) -> fmt::Result {
        let figures = self.0.figures();
        families.counters(
            ("requests", "Requests of clients, by what came of them"),
            figures
                .requests()
                .map(|(made, count)| ([("result", made.result()), ("detail", made.detail())], count)),
        )?;
        families.counters(
            ("not_stored", "Responses of the application that were not stored, by why"),
            figures.all_not_stored().map(|(why, count)| ([("reason", why.as_str())], count)),
        )?;
        families.bytes(
            ("sent", "Bodies sent to clients, by where they came from"),
            MetricType::Counter,
            figures.all_sent().map(|(source, count)| ([("source", source.as_str())], count)),
        )?;
        families.gauge(("connections", "Clients that are connected"), figures.connections())?;
        families.counter(
            ("access_log_dropped", "Lines of the access log that nobody took in time"),
            self.0.access_log().dropped(),
        )
    }

    fn first_byte(&self, families: &mut Families) -> fmt::Result {
        let mut encoder = families.0.encode_descriptor(
            "cachedservice_sidecar_first_byte",
            "Time until an answer began, by result",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (side, histogram) in self.0.figures().first_byte() {
            let counted = histogram.counted();
            encoder.encode_family(&[("result", side.as_str())])?.encode_histogram::<NoLabelSet>(
                counted.sum,
                counted.count,
                &counted.buckets,
                None,
            )?;
        }
        Ok(())
    }

    fn memory(&self, families: &mut Families) -> fmt::Result {
        let memory = self.0.memory();
        families.bytes(
            ("memory", "What the stored responses take, and what they may take"),
            MetricType::Gauge,
            [([("kind", "used")], memory.bytes()), ([("kind", "limit")], memory.limit())],
        )?;
        families
            .gauge(("memory_entries", "URLs of which something is in memory"), memory.entries() as u64)?;
        families.counter(
            ("memory_evictions", "URLs that went from memory for lack of room, or did not fit"),
            memory.evictions(),
        )?;
        families.counters(
            ("purges", "Purges, by what they were of; a request that changes something is one of keys"),
            memory.purges().map(|(target, count)| ([("target", target)], count)),
        )
    }

    fn upstream(&self, families: &mut Families) -> fmt::Result {
        let origin = self.0.origin();
        let replicas: Vec<_> = origin
            .figures()
            .into_iter()
            .take(REPLICAS)
            .map(|figures| (figures.address.to_string(), figures))
            .collect();
        let counters: [(Named, Read); 3] = [
            (("upstream_requests", "Requests sent to a replica"), |figures| figures.requests),
            (("upstream_failures", "Those that failed: no answer, or 502, 503 or 504"), |figures| {
                figures.failures
            }),
            (("upstream_retries", "Those that another replica had before"), |figures| figures.retries),
        ];
        for (named, read) in counters {
            families.counters(
                named,
                replicas.iter().map(|(at, figures)| ([("replica", at.as_str())], read(figures))),
            )?;
        }
        let gauges: [(Named, Read); 3] = [
            (("upstream_in_flight", "Requests that a replica has now"), |figures| {
                u64::from(figures.in_flight)
            }),
            (("upstream_breaker", "The breaker of a replica: 0 closed, 1 half-open, 2 open"), |figures| {
                number(figures.breaker)
            }),
            (("upstream_healthy", "Whether the checks of a replica pass"), |figures| {
                u64::from(figures.is_healthy)
            }),
        ];
        for (named, read) in gauges {
            families.gauges(
                named,
                replicas.iter().map(|(at, figures)| ([("replica", at.as_str())], read(figures))),
            )?;
        }
        families.counter(
            ("upstream_retries_denied", "Requests that were not repeated, as too many had been"),
            origin.denied_retries(),
        )?;
        families.gauge(
            (
                "upstream_local_only",
                "1 if the application listens on localhost alone, where other pods cannot ask it",
            ),
            u64::from(origin.is_local_only()),
        )
    }

    /// Without a Redis all are 0, so that what is looked for is there.
    fn redis(&self, families: &mut Families) -> fmt::Result {
        use super::redis::Figures;
        let none = Figures::default();
        let shared = self.0.shared();
        let figures = shared.map_or(&none, |shared| shared.figures());
        let lookups = [
            ("hit", &figures.hits),
            ("miss", &figures.misses),
            ("purged", &figures.refused),
            ("unreadable", &figures.unreadable),
            ("skipped", &figures.skipped),
        ];
        families.counters(
            ("redis_lookups", "Lookups of responses in Redis, by what came of them"),
            lookups.map(|(result, counter)| ([("result", result)], Figures::of(counter))),
        )?;
        let failures = [("timeout", &figures.timeouts), ("error", &figures.errors)];
        families.counters(
            ("redis_failures", "Commands that Redis did not carry out, by why"),
            failures.map(|(reason, counter)| ([("reason", reason)], Figures::of(counter))),
        )?;
        let stored = [("stored", &figures.stored), ("dropped", &figures.dropped)];
        families.counters(
            ("redis_responses", "Responses for Redis: stored, or dropped as too many were on their way"),
            stored.map(|(result, counter)| ([("result", result)], Figures::of(counter))),
        )?;
        families.counter(
            ("redis_waits", "Requests that have waited for what another replica asks for"),
            Figures::of(&figures.waits),
        )?;
        families.counter(
            ("redis_misunderstood", "Messages on the application's channel that were not understood"),
            Figures::of(&figures.misunderstood),
        )?;
        let warmed = shared.and_then(|shared| shared.warmed());
        let (entries, bytes, took) =
            warmed.map_or_else(Default::default, |warmed| (warmed.entries, warmed.bytes, warmed.took));
        families
            .gauge(("warmed_entries", "Responses that were read from Redis before it was ready"), entries)?;
        families.bytes(("warmed", "What these take in memory"), MetricType::Gauge, [([], bytes)])?;
        families.seconds(("warming", "How long it took to read them"), took.as_secs_f64())?;
        families.gauge(
            ("redis_breaker", "The breaker of Redis: 0 closed, 1 half-open, 2 open"),
            shared.map_or(0, |shared| number(shared.breaker())),
        )
    }
}

/// A state as a graph shows it.
fn number(state: State) -> u64 {
    match state {
        State::Closed => 0,
        State::HalfOpen => 1,
        State::Open => 2,
    }
}

/// Families of series, one after the other.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn counter(&mut self, named: Named, value: u64) -> fmt::Result {
        self.counters(named, [([], value)])
    }

    fn counters<'l, const N: usize>(
        &mut self,
        named: Named,
        series: impl IntoIterator<Item = ([(&'l str, &'l str); N], u64)>,
    ) -> fmt::Result {
        self.family(named, None, MetricType::Counter, series)
    }

    fn gauge(&mut self, named: Named, value: u64) -> fmt::Result {
        self.gauges(named, [([], value)])
    }

    fn gauges<'l, const N: usize>(
        &mut self,
        named: Named,
        series: impl IntoIterator<Item = ([(&'l str, &'l str); N], u64)>,
    ) -> fmt::Result {
        self.family(named, None, MetricType::Gauge, series)
    }

    fn bytes<'l, const N: usize>(
        &mut self,
        named: Named,
        kind: MetricType,
        series: impl IntoIterator<Item = ([(&'l str, &'l str); N], u64)>,
    ) -> fmt::Result {
        self.family(named, Some(&Unit::Bytes), kind, series)
    }

    fn seconds(&mut self, (name, help): Named, value: f64) -> fmt::Result {
        let name = format!("cachedservice_sidecar_{name}");
        let kind = MetricType::Gauge;
        self.0.encode_descriptor(&name, help, Some(&Unit::Seconds), kind)?.encode_gauge(&value)
    }

    fn family<'l, const N: usize>(
        &mut self,
        (name, help): Named,
        unit: Option<&Unit>,
        kind: MetricType,
        series: impl IntoIterator<Item = ([(&'l str, &'l str); N], u64)>,
    ) -> fmt::Result {
        let name = format!("cachedservice_sidecar_{name}");
        let mut encoder = self.0.encode_descriptor(&name, help, unit, kind)?;
        for (labels, value) in series {
            if labels.is_empty() {
                one(&mut encoder, kind, value)?;
            } else {
                one(&mut encoder.encode_family(&labels)?, kind, value)?;
            }
        }
        Ok(())
    }
}

fn one(encoder: &mut MetricEncoder, kind: MetricType, value: u64) -> fmt::Result {
    match kind {
        MetricType::Counter => encoder.encode_counter::<NoLabelSet, u64, u64>(&value, None),
        _ => encoder.encode_gauge(&value),
    }
}
