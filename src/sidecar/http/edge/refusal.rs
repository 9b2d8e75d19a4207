//! Requests that are refused before anything is done with them.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};

use super::super::body::Body;

/// Why a request is refused, in one line for whoever sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the answer.
    pub status: StatusCode,
    /// The line.
    pub reason: &'static str,
}

impl Refusal {
    /// With 400: what it means is not clear, or it is forbidden.
    #[must_use]
    pub const fn bad(reason: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, reason }
    }

    /// With another status.
    #[must_use]
    pub const fn with(status: StatusCode, reason: &'static str) -> Self {
        Self { status, reason }
    }

    /// The answer.
    #[must_use]
    pub fn answer(self) -> Response<Body> {
        let mut response = Response::new(Body::from(Bytes::from_static(self.reason.as_bytes())));
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        response
    }
}
