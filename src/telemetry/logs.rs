//! Logs on stderr, as text for people or as JSON for collectors.

use std::io::IsTerminal;

use clap::ValueEnum;
use thiserror::Error;
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use super::traces::Traces;

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of text for each event; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object for each event.
    Json,
}

/// Why the logs cannot be set up.
#[derive(Debug, Error)]
pub enum LogError {
    /// The filter cannot be read, or would silence everything by mistake.
    #[error(
        "the log filter {filter:?} is not valid: {reason}. Write a level (off, error, warn, info, debug \
         or trace), or levels by target, for example: info,cachedservice=debug,kube=warn"
    )]
    Filter {
        /// The filter as given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something has set up the logs of this process before.
    #[error("the logs of this process are set up already: call init_logs once, before anything else: {0}")]
    AlreadySet(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Sends the logs of this process to stderr, and its spans to a collector, if
/// there is one.
///
/// `filter` has the syntax of [`EnvFilter`]: a level, or `target=level` pairs
/// separated by commas. It is for the logs alone.
///
/// # Errors
///
/// [`LogError::Filter`] if the filter is not valid, [`LogError::AlreadySet`]
/// on a second call.
pub fn init_logs(format: LogFormat, filter: &str, traces: Option<&Traces>) -> Result<(), LogError> {
    subscriber(format, filter, traces)?.try_init().map_err(|error| LogError::AlreadySet(error.into()))
}

fn subscriber(
    format: LogFormat,
    filter: &str,
    traces: Option<&Traces>,
) -> Result<impl Subscriber + Send + Sync + 'static, LogError> {
    let filter = parse(filter)?;
    let logs = fmt::layer().with_writer(std::io::stderr);
    let logs = match format {
        LogFormat::Text => logs.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => logs.json().flatten_event(true).with_span_list(false).boxed(),
    };
    Ok(Registry::default().with(traces.map(Traces::layer)).with(logs.with_filter(filter)))
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    let invalid = |reason: String| LogError::Filter { filter: filter.to_owned(), reason };
    if filter.trim().is_empty() {
        return Err(invalid("it is empty".to_owned()));
    }
    // A lone word that is no level is a target to EnvFilter: with "warning"
    // or "inof" it would accept the typo and log nothing at all.
    if filter.chars().all(char::is_alphanumeric) && filter.parse::<LevelFilter>().is_err() {
        return Err(invalid(format!("{filter} is not a level")));
    }
    EnvFilter::builder().parse(filter).map_err(|error| invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::traces::{reconcile_span, request_span};

    #[test]
    fn levels_and_levels_by_target_are_filters() {
        for filter in ["info", "INFO", "off", "info,kube=debug", "cachedservice::operator=trace"] {
            assert!(parse(filter).is_ok(), "{filter}");
        }
    }

    #[test]
    fn an_invalid_filter_is_answered_with_a_valid_example() {
        for filter in ["", " ", "warning", "kube=loud", "info,kube=="] {
            let message = parse(filter).map_or_else(|error| error.to_string(), |_| String::new());
            assert!(message.contains(&format!("{filter:?}")), "{filter:?}: {message:?}");
            let example = message.rsplit("for example: ").next().unwrap_or_default();
            assert!(parse(example).is_ok(), "the example itself is valid: {example:?}");
        }
    }

    #[test]
    fn a_second_set_up_says_so() {
        assert!(init_logs(LogFormat::Json, "off", None).is_ok());
        assert!(matches!(init_logs(LogFormat::Text, "off", None), Err(LogError::AlreadySet(_))));
    }

    #[test]
    fn without_a_collector_nothing_is_recorded_that_is_not_logged() {
        for (filter, reconciles, requests) in [("info", true, false), ("warn", false, false)] {
            let subscriber = subscriber(LogFormat::Text, filter, None).expect("the filter is valid");
            tracing::subscriber::with_default(subscriber, || {
                let reconcile = reconcile_span(Some("default"), "shop");
                assert_eq!(!reconcile.is_disabled(), reconciles, "{filter}");
                let request = reconcile.in_scope(|| request_span("apply", "deployments"));
                assert_eq!(!request.is_disabled(), requests, "{filter}");
            });
        }
    }
}
