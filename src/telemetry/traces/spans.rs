//! The spans, in the words of the metrics: what others see of a reconcile and
//! of a request.

use std::fmt::Display;

use opentelemetry::trace::Status;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// One reconcile of one CachedService.
#[must_use]
pub fn reconcile_span(namespace: Option<&str>, name: &str) -> Span {
    tracing::info_span!("reconcile", namespace, name)
}

/// The reconcile of the current span has ended: which try in a row it was, and
/// the class of its error, or `ok`. Tells the trace alone, the log says it in
/// words of its own.
pub fn reconcile_ended(attempt: u32, result: &'static str, failure: Option<&dyn Display>) {
    let span = Span::current();
    span.set_attribute("attempt", i64::from(attempt));
    span.set_attribute("result", result);
    if let Some(failure) = failure {
        span.set_status(Status::error(failure.to_string()));
    }
}

/// One request to the API server, as a part of the current span. None, where
/// there is no such span: a watch, a list or a look at the Lease is no part of a
/// reconcile.
#[must_use]
pub fn request_span(verb: &'static str, resource: &str) -> Span {
    if Span::current().is_none() {
        return Span::none();
    }
    let name = format_args!("{verb} {resource}");
    tracing::debug_span!("request", otel.name = %name, otel.kind = "client", verb, resource)
}

/// A request was answered: with a status of HTTP, or with a word where there was none.
pub fn request_ended(span: &Span, code: &str) {
    span.set_attribute("code", code.to_owned());
    if !code.starts_with(['1', '2', '3']) {
        span.set_status(Status::error(code.to_owned()));
    }
}
