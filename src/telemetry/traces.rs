//! Traces: what each reconcile did and for how long each of its requests took,
//! sent to an OpenTelemetry collector by OTLP (HTTP with protobuf).
//!
//! ```text
//! spans ─▶ layer ─▶ queue ─▶ thread of the exporter ─▶ Collector ─▶ POST /v1/traces
//! ```
//!
//! Off unless an endpoint is configured. A span that ends is put into a queue of
//! bounded size, or dropped where that is full: a collector that is slow or gone
//! holds up nobody.
//!
//! The settings are the environment variables of OpenTelemetry.
//! Source: OpenTelemetry specification, "Environment Variable Specification" and
//! "OpenTelemetry Protocol Exporter".

mod collector;
mod spans;

use std::{env, time::Duration};

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{
    ExporterBuildError, OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_PROTOCOL,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_PROTOCOL, Protocol, SpanExporter,
    WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use thiserror::Error;
use tokio::runtime::Handle;
use tracing::{Level, Subscriber};
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

use collector::{Collector, Reporting};
pub use spans::{reconcile_ended, reconcile_span, request_ended, request_span};

/// The name of the service where `OTEL_SERVICE_NAME` gives none.
const SERVICE: &str = "cachedservice-operator";
const SDK_DISABLED: &str = "OTEL_SDK_DISABLED";
const TRACES_SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const TRACES_SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";
/// The one protocol that is spoken.
const PROTOCOL: &str = "http/protobuf";

/// How long the end of the process waits for the last spans to be sent.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// Why traces cannot be set up.
#[derive(Debug, Error)]
pub enum TraceError {
    /// The endpoint or a header cannot be read.
    #[error("traces cannot be set up: {0}. Write an endpoint like http://collector.example:4318, or none")]
    Exporter(#[from] ExporterBuildError),
    /// A protocol that this program does not speak.
    #[error("{variable} is {protocol:?}: only {PROTOCOL} is spoken, mostly on port 4318")]
    Protocol {
        /// Where it stands.
        variable: &'static str,
        /// What stands there.
        protocol: String,
    },
    /// A sampler that does not exist.
    #[error(
        "{TRACES_SAMPLER} is {0:?}: write always_on, always_off or traceidratio, or one of these after parentbased_"
    )]
    Sampler(String),
    /// A share of traces that is none.
    #[error("{TRACES_SAMPLER_ARG} is {0:?}: write the share of traces to keep, from 0 to 1, for example 0.1")]
    Ratio(String),
}

/// Sends the spans of this process to a collector.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// As the environment says; `None` where it names no collector. Requests run
    /// on `runtime`.
    ///
    /// # Errors
    ///
    /// When a variable has a value that would be ignored otherwise.
    pub fn from_environment(runtime: &Handle) -> Result<Option<Self>, TraceError> {
        let variable = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
        let Some(sampler) = sampler(&variable)? else { return Ok(None) };
        let collector = Collector::new(runtime.clone());
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(collector::TIMEOUT)
            .with_http_client(collector.clone())
            .build()?;
        let mut resource = Resource::builder();
        // The builder reads the variable, but has another name where there is none.
        if variable("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name(SERVICE);
        }
        let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.with_attribute(version).build())
            .with_sampler(sampler)
            .with_batch_exporter(Reporting::new(exporter, collector))
            .build();
        Ok(Some(Self { provider }))
    }

    /// Takes up the spans of this crate, and what is logged within them.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer(SERVICE))
            .with_context_activation(false)
            .with_location(false)
            .with_target(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(Targets::new().with_target(env!("CARGO_PKG_NAME"), Level::DEBUG))
    }

    /// Sends what waits, for three seconds at most, and ends.
    pub async fn end(self) {
        // It blocks until the thread of the exporter is done or the time is over;
        // what could not be sent has been told by then.
        let flushed =
            tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(FLUSH_LIMIT)).await;
        if !matches!(flushed, Ok(Ok(()))) {
            tracing::debug!(?flushed, "the last spans were not sent");
        }
    }
}

/// Which traces are kept, from the value of each variable; `None` if there is to be no trace at all.
fn sampler(variable: &impl Fn(&str) -> Option<String>) -> Result<Option<Sampler>, TraceError> {
    let endpoints = [OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT];
    let disabled = variable(SDK_DISABLED).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if disabled || !endpoints.iter().any(|name| variable(name).is_some()) {
        return Ok(None);
    }
    for name in [OTEL_EXPORTER_OTLP_TRACES_PROTOCOL, OTEL_EXPORTER_OTLP_PROTOCOL] {
        if let Some(protocol) = variable(name).filter(|protocol| protocol != PROTOCOL) {
            return Err(TraceError::Protocol { variable: name, protocol });
        }
    }
    // Nobody calls the operator, so every trace begins here: there is no parent to follow.
    let kind = variable(TRACES_SAMPLER).unwrap_or_else(|| "always_on".to_owned());
    Ok(Some(match kind.strip_prefix("parentbased_").unwrap_or(&kind) {
        "always_on" => Sampler::AlwaysOn,
        "always_off" => Sampler::AlwaysOff,
        "traceidratio" => Sampler::TraceIdRatioBased(match variable(TRACES_SAMPLER_ARG) {
            None => 1.0,
            Some(text) => text
                .parse()
                .ok()
                .filter(|ratio| (0.0..=1.0).contains(ratio))
                .ok_or(TraceError::Ratio(text))?,
        }),
        _ => return Err(TraceError::Sampler(kind)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDPOINT: (&str, &str) = (OTEL_EXPORTER_OTLP_ENDPOINT, "http://collector:4318");

    /// How the sampler is called that these variables give.
    fn sampled(variables: &[(&str, &str)]) -> String {
        let variable =
            |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
        match sampler(&variable) {
            Ok(None) => "off".to_owned(),
            Ok(Some(sampler)) => format!("{sampler:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn traces_are_off_unless_an_endpoint_is_named() {
        assert_eq!(sampled(&[]), "off");
        assert_eq!(sampled(&[("OTEL_SERVICE_NAME", "shop"), (TRACES_SAMPLER, "nonsense")]), "off");
        assert_eq!(sampled(&[ENDPOINT]), "AlwaysOn");
        assert_eq!(sampled(&[(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, "http://collector:4318")]), "AlwaysOn");
    }

    #[test]
    fn the_switch_of_all_of_opentelemetry_is_honoured() {
        assert_eq!(sampled(&[ENDPOINT, (SDK_DISABLED, "TRUE")]), "off");
        assert_eq!(sampled(&[ENDPOINT, (SDK_DISABLED, "false")]), "AlwaysOn");
    }

    #[test]
    fn the_sampler_is_that_of_the_environment() {
        let ratio = (TRACES_SAMPLER_ARG, "0.25");
        assert_eq!(sampled(&[ENDPOINT, (TRACES_SAMPLER, "always_off")]), "AlwaysOff");
        for kind in ["traceidratio", "parentbased_traceidratio"] {
            assert_eq!(sampled(&[ENDPOINT, (TRACES_SAMPLER, kind), ratio]), "TraceIdRatioBased(0.25)");
            assert_eq!(sampled(&[ENDPOINT, (TRACES_SAMPLER, kind)]), "TraceIdRatioBased(1.0)");
        }
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_with_what_to_write() {
        let refusals = [
            ((TRACES_SAMPLER, "jaeger_remote"), "write always_on"),
            ((OTEL_EXPORTER_OTLP_PROTOCOL, "grpc"), "only http/protobuf is spoken"),
            ((OTEL_EXPORTER_OTLP_TRACES_PROTOCOL, "http/json"), "only http/protobuf is spoken"),
        ];
        for (variable, words) in refusals {
            let said = sampled(&[ENDPOINT, variable]);
            assert!(said.contains(variable.0) && said.contains(variable.1) && said.contains(words), "{said}");
        }
        for ratio in ["1.5", "-0.1", "NaN", "a tenth"] {
            let said = sampled(&[ENDPOINT, (TRACES_SAMPLER, "traceidratio"), (TRACES_SAMPLER_ARG, ratio)]);
            assert!(said.contains("from 0 to 1"), "{said}");
        }
    }
}
