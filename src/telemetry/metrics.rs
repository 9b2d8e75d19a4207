//! The metrics of the operator, one registry for the process.
//!
//! Every label takes its values from a fixed set, so that the number of time
//! series does not grow with the number of CachedServices.

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

use super::process::Process;

/// The error classes, so that each has a series from the start: a rate over a
/// counter that appears with its first error misses that error.
const ERROR_CLASSES: [&str; 6] = ["Invalid", "Waiting", "Foreign", "Denied", "Transient", "Bug"];

/// A reconcile is some milliseconds when nothing changed, seconds when the API
/// server is slow.
fn reconcile_seconds() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0])
}

/// Up to the time-out of a request (30 s).
fn request_seconds() -> Histogram {
    Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0])
}

/// The metrics of the process. A clone counts into the same series.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Families>);

#[derive(Debug)]
struct Families {
    registry: Registry,
    reconcile_duration: Family<ReconcileLabels, Histogram>,
    reconcile_errors: Family<ErrorLabels, Counter>,
    queue_depth: Gauge,
    watches_interrupted: Gauge,
    references_followed: Gauge,
    purge_oldest: Gauge,
    in_flight: Gauge,
    resources: Gauge,
    conditions: Family<ConditionLabels, Gauge>,
    leader: Gauge,
    child_writes: Family<ChildLabels, Counter>,
    api_requests: Family<RequestLabels, Counter>,
    api_request_duration: Family<VerbLabels, Histogram>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReconcileLabels {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ErrorLabels {
    class: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ConditionLabels {
    r#type: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ChildLabels {
    kind: &'static str,
    act: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    verb: &'static str,
    resource: String,
    code: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct VerbLabels {
    verb: &'static str,
}

/// What a write did to a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildAct {
    /// It did not exist before.
    Create,
    /// Fields of it were set or given up.
    Configure,
    /// It was removed.
    Delete,
}

impl ChildAct {
    const fn label(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Configure => "configure",
            Self::Delete => "delete",
        }
    }
}

/// One reconcile under way; counts it out when dropped, also when the
/// reconcile is cancelled.
#[derive(Debug)]
#[must_use = "the reconcile counts as under way until this is dropped"]
pub struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(env!("CARGO_PKG_VERSION"))
    }
}

impl Metrics {
    /// An empty set of metrics for a process of this version.
    #[must_use]
    pub fn new(version: &'static str) -> Self {
        let mut registry = Registry::default();
        registry.register(
            "cachedservice_build",
            "The version of this process",
            Info::new([("version", version)]),
        );
        registry.register_collector(Box::new(Process));
        let families = Families {
            reconcile_duration: Family::new_with_constructor(reconcile_seconds),
            reconcile_errors: Family::default(),
            queue_depth: Gauge::default(),
            watches_interrupted: Gauge::default(),
            references_followed: Gauge::default(),
            purge_oldest: Gauge::default(),
            in_flight: Gauge::default(),
            resources: Gauge::default(),
            conditions: Family::default(),
            leader: Gauge::default(),
            child_writes: Family::default(),
            api_requests: Family::default(),
            api_request_duration: Family::new_with_constructor(request_seconds),
            registry,
        };
        Self(Arc::new(families.registered()))
    }

    /// One reconcile ended after `elapsed`, with an error of the given class
    /// (`Invalid`, `Waiting`, `Foreign`, `Denied`, `Transient` or `Bug`) if it
    /// failed.
    pub fn reconciled(&self, elapsed: Duration, outcome: Result<(), &'static str>) {
        let result = if outcome.is_ok() { "ok" } else { "error" };
        self.0.reconcile_duration.get_or_create(&ReconcileLabels { result }).observe(elapsed.as_secs_f64());
        if let Err(class) = outcome {
            self.0.reconcile_errors.get_or_create(&ErrorLabels { class }).inc();
        }
    }

    /// Counts a reconcile as under way until the answer is dropped.
    pub fn reconcile_started(&self) -> InFlight {
        self.0.in_flight.inc();
        InFlight(self.0.in_flight.clone())
    }

    /// Sets the number of CachedServices that wait for a reconcile.
    pub fn set_queue_depth(&self, depth: usize) {
        self.0.queue_depth.set(count(depth));
    }

    /// So many watches fail and do not come back.
    pub fn set_watches_interrupted(&self, watches: usize) {
        self.0.watches_interrupted.set(count(watches));
    }

    /// The age of the oldest purge that is not complete.
    pub fn set_oldest_purge(&self, age: Duration) {
        self.0.purge_oldest.set(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
    }

    /// So many ConfigMaps and Secrets that applications refer to are followed.
    pub fn set_references_followed(&self, references: usize) {
        self.0.references_followed.set(count(references));
    }

    /// Sets the number of CachedServices that the operator sees.
    pub fn set_resources(&self, resources: usize) {
        self.0.resources.set(count(resources));
    }

    /// Sets the number of CachedServices whose condition of this type has this
    /// status (`True`, `False` or `Unknown`).
    pub fn set_conditions(&self, r#type: &'static str, status: &'static str, resources: usize) {
        self.0.conditions.get_or_create(&ConditionLabels { r#type, status }).set(count(resources));
    }

    /// Sets whether this process leads.
    pub fn set_leader(&self, leads: bool) {
        self.0.leader.set(i64::from(leads));
    }

    /// A child of this kind (`Deployment`, `Service`, …) was written.
    pub fn child_written(&self, kind: &'static str, act: ChildAct) {
        self.0.child_writes.get_or_create(&ChildLabels { kind, act: act.label() }).inc();
    }

    /// One request to the API server ended. `code` is the HTTP status, or a
    /// word when there was no answer.
    pub fn api_request(&self, verb: &'static str, resource: &str, code: &str) {
        let labels = RequestLabels { verb, resource: resource.to_owned(), code: code.to_owned() };
        self.0.api_requests.get_or_create(&labels).inc();
    }

    /// One request to the API server took `elapsed` until the head of its
    /// answer.
    pub fn api_request_took(&self, verb: &'static str, elapsed: Duration) {
        self.0.api_request_duration.get_or_create(&VerbLabels { verb }).observe(elapsed.as_secs_f64());
    }

    /// All metrics in the text format of OpenMetrics 1.0.
    ///
    /// # Errors
    ///
    /// As the encoder of `prometheus-client`.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut exposition = String::new();
        text::encode(&mut exposition, &self.0.registry)?;
        Ok(exposition)
    }
}

impl Families {
    /// The names stand here without the suffixes (`_total`, the unit) that
    /// `prometheus-client` appends.
    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        registry.register_with_unit(
            "cachedservice_reconcile_duration",
            "Time to reconcile one CachedService",
            Unit::Seconds,
            self.reconcile_duration.clone(),
        );
        registry.register(
            "cachedservice_reconcile_errors",
            "Reconciles that ended with an error, by class",
            self.reconcile_errors.clone(),
        );
        registry.register(
            "cachedservice_queue_depth",
            "CachedServices that wait for a reconcile",
            self.queue_depth.clone(),
        );
        registry.register(
            "cachedservice_watches_interrupted",
            "Watches that fail and do not come back",
            self.watches_interrupted.clone(),
        );
        registry.register(
            "cachedservice_references_followed",
            "ConfigMaps and Secrets that are followed for applications",
            self.references_followed.clone(),
        );
        registry.register_with_unit(
            "cachedservice_purge_oldest_open",
            "How long ago the oldest purge was ordered that is not complete; 0 without one",
            Unit::Seconds,
            self.purge_oldest.clone(),
        );
        registry.register(
            "cachedservice_reconciles_in_flight",
            "Reconciles under way",
            self.in_flight.clone(),
        );
        registry.register(
            "cachedservice_resources",
            "CachedServices that the operator sees",
            self.resources.clone(),
        );
        registry.register(
            "cachedservice_conditions",
            "CachedServices by condition and its status",
            self.conditions.clone(),
        );
        registry.register(
            "cachedservice_leader",
            "1 if this process holds the lease, 0 if it stands by",
            self.leader.clone(),
        );
        registry.register(
            "cachedservice_child_writes",
            "Writes to the children of CachedServices, by kind and act",
            self.child_writes.clone(),
        );
        registry.register(
            "cachedservice_api_requests",
            "Requests to the API server, by verb, resource and HTTP status (or fenced, timeout, error, cancelled)",
            self.api_requests.clone(),
        );
        registry.register_with_unit(
            "cachedservice_api_request_duration",
            "Time to the head of the API server's answer, by verb, watches excluded",
            Unit::Seconds,
            self.api_request_duration.clone(),
        );
        for class in ERROR_CLASSES {
            drop(self.reconcile_errors.get_or_create(&ErrorLabels { class }));
        }
        for result in ["ok", "error"] {
            drop(self.reconcile_duration.get_or_create(&ReconcileLabels { result }));
        }
        self
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(metrics: &Metrics, line: &str) {
        let exposition = metrics.encode().unwrap_or_default();
        assert!(exposition.lines().any(|found| found == line), "no line {line:?} in:\n{exposition}");
    }

    #[test]
    fn every_series_bears_its_documented_name() {
        let metrics = Metrics::new("1.2.3");
        metrics.reconciled(Duration::from_millis(20), Ok(()));
        metrics.reconciled(Duration::from_millis(20), Err("Denied"));
        metrics.set_queue_depth(3);
        metrics.set_resources(7);
        metrics.set_conditions("Ready", "False", 2);
        metrics.set_leader(true);
        metrics.child_written("Deployment", ChildAct::Configure);
        metrics.api_request("apply", "cachedservices/status", "409");
        metrics.api_request_took("apply", Duration::from_millis(2));

        has(&metrics, r#"cachedservice_build_info{version="1.2.3"} 1"#);
        has(&metrics, r#"cachedservice_reconcile_duration_seconds_bucket{le="0.025",result="ok"} 1"#);
        has(&metrics, r#"cachedservice_reconcile_duration_seconds_count{result="error"} 1"#);
        has(&metrics, r#"cachedservice_reconcile_errors_total{class="Denied"} 1"#);
        has(&metrics, "cachedservice_queue_depth 3");
        has(&metrics, "cachedservice_resources 7");
        has(&metrics, r#"cachedservice_conditions{type="Ready",status="False"} 2"#);
        has(&metrics, "cachedservice_leader 1");
        has(&metrics, r#"cachedservice_child_writes_total{kind="Deployment",act="configure"} 1"#);
        has(
            &metrics,
            r#"cachedservice_api_requests_total{verb="apply",resource="cachedservices/status",code="409"} 1"#,
        );
        has(&metrics, r#"cachedservice_api_request_duration_seconds_count{verb="apply"} 1"#);
        has(&metrics, "# EOF");
    }

    #[test]
    fn an_error_class_has_a_series_before_its_first_error() {
        has(&Metrics::default(), r#"cachedservice_reconcile_errors_total{class="Bug"} 0"#);
    }

    #[test]
    fn a_reconcile_counts_as_under_way_until_its_guard_is_dropped() {
        let metrics = Metrics::default();
        let first = metrics.reconcile_started();
        let second = metrics.reconcile_started();
        has(&metrics, "cachedservice_reconciles_in_flight 2");
        drop(first);
        has(&metrics, "cachedservice_reconciles_in_flight 1");
        drop(second);
        has(&metrics, "cachedservice_reconciles_in_flight 0");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_process_reports_memory_and_cpu_time() {
        let exposition = Metrics::default().encode().unwrap_or_default();
        for name in ["process_resident_memory_bytes ", "process_cpu_seconds_total "] {
            let value = exposition.lines().find_map(|line| line.strip_prefix(name));
            assert!(value.is_some_and(|value| value.parse::<f64>().is_ok()), "{name}{value:?}");
        }
    }
}
