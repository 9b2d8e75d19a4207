//! Why a request has no answer.

use std::io::{self, ErrorKind};

use http::StatusCode;
use thiserror::Error;

use super::body::BrokenOff;

/// Why a request has no answer.
#[derive(Debug, Error)]
pub enum Fault {
    /// Nobody listens at the port.
    #[error("the connection was refused")]
    Refused,
    /// There is no connection for another reason.
    #[error("no connection: {0}")]
    NoConnection(io::Error),
    /// The connection ended before anything of the request was written.
    #[error("the connection ended before the request")]
    Unsent,
    /// The connection ended after the request or a part of it, and before an answer.
    #[error("the connection ended before the answer: {error}")]
    Broken {
        /// As it was seen.
        error: hyper::Error,
        /// Whether it had been used before: then it may have ended by its age.
        was_reused: bool,
    },
    /// What came is no HTTP.
    #[error("the answer is no HTTP: {0}")]
    Malformed(hyper::Error),
    /// A connection of HTTP/2 on which nothing was ever answered.
    #[error("no answer in HTTP/2: {0}")]
    NoHttp2(hyper::Error),
    /// Nothing came in time.
    #[error("no answer in time")]
    TimedOut,
    /// A check was answered by this status.
    #[error("it says {0} of itself")]
    Unwell(StatusCode),
    /// The client did not send its request to the end.
    #[error("the request broke off: {0}")]
    Client(hyper::Error),
    /// The client did not go on with its request.
    #[error("the request does not come on")]
    Stalled,
    /// All replicas have as many requests as they may.
    #[error("too many requests at once")]
    Full,
}

impl Fault {
    /// Of the attempt to connect.
    #[must_use]
    pub fn of_connecting(error: io::Error) -> Self {
        if error.kind() == ErrorKind::ConnectionRefused { Self::Refused } else { Self::NoConnection(error) }
    }

    /// Of a request of which something was sent.
    #[must_use]
    pub fn of_sending(error: hyper::Error, was_reused: bool) -> Self {
        let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<BrokenOff>());
        if matches!(cause, Some(BrokenOff::Stalled)) {
            Self::Stalled
        } else if error.is_user() {
            Self::Client(error)
        } else if error.is_parse() {
            Self::Malformed(error)
        } else {
            Self::Broken { error, was_reused }
        }
    }

    /// Whether the application can have seen something of the request.
    #[must_use]
    pub fn was_sent(&self) -> bool {
        !matches!(self, Self::Refused | Self::NoConnection(_) | Self::Unsent)
    }

    /// Whether it says something about the replica.
    #[must_use]
    pub fn is_of_replica(&self) -> bool {
        match self {
            Self::Refused | Self::Unsent | Self::Malformed(_) | Self::TimedOut | Self::Unwell(_) => true,
            Self::Broken { was_reused, .. } => !was_reused,
            // No port or file descriptor is left here.
            Self::NoConnection(error) => !matches!(error.raw_os_error(), Some(23 | 24 | 99)),
            // An application of HTTP/1 alone is as well as before a client asked it for HTTP/2.
            Self::NoHttp2(_) | Self::Client(_) | Self::Stalled | Self::Full => false,
        }
    }

    /// What a client is told (RFC 9110 §15.6).
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Self::Full => StatusCode::SERVICE_UNAVAILABLE,
            Self::Client(_) => StatusCode::BAD_REQUEST,
            Self::Stalled => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    /// The same in words.
    #[must_use]
    pub fn words(&self) -> &'static str {
        match self {
            Self::TimedOut => "the application does not answer in time",
            Self::Full => "the application has as many requests as it may",
            Self::Client(_) => "the request broke off",
            Self::Stalled => "the body of the request does not come on",
            Self::NoHttp2(_) => "the application does not answer in HTTP/2, as gRPC needs it",
            Self::Malformed(_) => "the application does not answer in HTTP",
            _ => "the application does not answer",
        }
    }
}
