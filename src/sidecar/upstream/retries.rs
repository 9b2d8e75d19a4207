//! Whether a request is sent once more. PURE.

use std::time::Duration;

use http::{Method, StatusCode};

use super::fault::Fault;

/// A request that was sent is repeated so often at most.
pub const MOST: u32 = 2;

/// What is known of a request that may be repeated.
#[derive(Clone, Copy, Debug)]
pub struct Past {
    /// Whether it does the same when it is done twice, and is not a connection of another protocol.
    pub is_repeatable: bool,
    /// Whether its body is there to be sent again: there is none, or nothing of it was read.
    pub has_body_still: bool,
    /// How often it was repeated after it was sent.
    pub repeated: u32,
    /// To how many replicas it went in vain, without being sent.
    pub unsent: usize,
    /// How many replicas there are.
    pub replicas: usize,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Its failure is told.
    GiveUp,
    /// It is sent to another: nobody has seen it yet, so it costs no application anything.
    Again,
    /// It is sent to another, if the budget allows it.
    WithinBudget,
}

/// What is done after a failure.
#[must_use]
pub fn after(fault: &Fault, past: &Past) -> Next {
    if !past.has_body_still {
        return Next::GiveUp;
    }
    match fault {
        // Any method: nothing of it was written (RFC 9110 §9.2.2).
        Fault::Refused | Fault::NoConnection(_) | Fault::Unsent
            if past.unsent <= past.replicas.max(MOST as usize) =>
        {
            Next::Again
        }
        // It may have been done, which is no harm to do again (RFC 9110 §9.2.2, RFC 9112 §9.3.1).
        Fault::Broken { .. } if past.is_repeatable && past.repeated < MOST => Next::WithinBudget,
        _ => Next::GiveUp,
    }
}

/// Whether a method does the same when it is done twice (RFC 9110 §9.2.2).
#[must_use]
pub fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE].contains(method)
}

/// Whether an answer tells more of the replica than of the request, so that another that works on it may have a
/// better one: a failure of this one or of what it asks (RFC 9110 §15.6.1, §15.6.3 to §15.6.5), or, as 409 and
/// 429, that somebody else asks at the same time, which may be the sidecar itself by its other try. The rest is as
/// true of all replicas, such as 501 or 505.
#[must_use]
pub fn is_poor(status: StatusCode) -> bool {
    matches!(status.as_u16(), 409 | 429 | 500 | 502..=504)
}

/// How long to wait before the same replica is asked again: it may be at its start.
#[must_use]
pub fn pause(tries: usize) -> Duration {
    let doublings = u32::try_from(tries.saturating_sub(1)).unwrap_or(u32::MAX).min(4);
    Duration::from_millis(25) * 2_u32.pow(doublings)
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    const GET: Past = Past { is_repeatable: true, has_body_still: true, repeated: 0, unsent: 1, replicas: 3 };
    const POST: Past = Past { is_repeatable: false, ..GET };

    fn unreachable() -> Fault {
        Fault::NoConnection(Error::from(ErrorKind::TimedOut))
    }

    #[test]
    fn what_nobody_has_seen_is_sent_to_another_whatever_it_is() {
        for fault in [Fault::Refused, Fault::Unsent, unreachable()] {
            assert_eq!(after(&fault, &POST), Next::Again);
            assert_eq!(after(&fault, &Past { has_body_still: false, ..POST }), Next::GiveUp);
            assert_eq!(after(&fault, &Past { unsent: 3, ..POST }), Next::Again);
            assert_eq!(after(&fault, &Past { unsent: 4, ..POST }), Next::GiveUp, "each had it once");
            assert_eq!(after(&fault, &Past { unsent: 2, replicas: 1, ..POST }), Next::Again);
            assert_eq!(after(&fault, &Past { unsent: 3, replicas: 1, ..POST }), Next::GiveUp);
        }
    }

    #[test]
    fn what_is_given_up_is_given_up_whatever_it_is() {
        for fault in [Fault::TimedOut, Fault::Full] {
            assert_eq!(after(&fault, &GET), Next::GiveUp);
        }
    }

    #[tokio::test]
    async fn what_may_have_been_done_is_repeated_twice_if_that_does_no_harm() {
        let broken = Fault::Broken { error: an_error().await, was_reused: false };
        assert_eq!(after(&broken, &GET), Next::WithinBudget);
        assert_eq!(after(&broken, &Past { repeated: 1, ..GET }), Next::WithinBudget);
        assert_eq!(after(&broken, &Past { repeated: 2, ..GET }), Next::GiveUp);
        assert_eq!(after(&broken, &POST), Next::GiveUp);
        assert_eq!(after(&broken, &Past { has_body_still: false, ..GET }), Next::GiveUp);
        assert_eq!(after(&Fault::Malformed(an_error().await), &GET), Next::GiveUp);
    }

    /// Of a connection that ends at once; there is no other way to make one.
    async fn an_error() -> hyper::Error {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(tokio_test_io()))
                .await
                .expect("a handshake");
        tokio::spawn(connection);
        let request = http::Request::new(http_body_util::Empty::<bytes::Bytes>::new());
        sender.send_request(request).await.expect_err("it has ended")
    }

    fn tokio_test_io() -> tokio::io::DuplexStream {
        tokio::io::duplex(1).0
    }

    #[test]
    fn what_is_true_of_all_replicas_is_an_answer() {
        let poor: Vec<u16> =
            (100..600).filter(|status| is_poor(StatusCode::from_u16(*status).expect("a status"))).collect();
        assert_eq!(poor, [409, 429, 500, 502, 503, 504]);
    }

    #[test]
    fn the_safe_methods_and_put_and_delete_are_idempotent() {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE]
        {
            assert!(is_idempotent(&method));
        }
        for method in [Method::POST, Method::PATCH, Method::CONNECT] {
            assert!(!is_idempotent(&method));
        }
    }
}
