//! What of the bytes of a client may go on to hyper. PURE.

use http::StatusCode;

use super::{
    framing::Body,
    head::{self, Head},
    limits::HEAD,
    refusal::Refusal,
};

/// What an HTTP/2 connection begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection, as far as it has been read.
#[derive(Debug)]
pub struct Scan {
    state: State,
    /// Bytes of the head that comes which were looked at.
    searched: usize,
    /// How many heads have passed.
    heads: usize,
    /// An empty line has passed since the last of them.
    has_empty_line: bool,
}

/// What comes next.
#[derive(Debug)]
pub enum State {
    /// A request, or the rest of its head.
    Head,
    /// The rest of a body.
    Body {
        /// How it ends.
        body: Body,
        /// Whether its request asked for another protocol.
        asks_upgrade: bool,
    },
    /// Nothing: what comes depends on whether the other protocol is granted.
    Undecided,
    /// Another protocol, or HTTP/2.
    Opaque,
    /// Nothing any more.
    Refused {
        /// Why.
        refusal: Refusal,
        /// Whether the head of its request has gone on.
        is_in_body: bool,
    },
}

impl Default for Scan {
    fn default() -> Self {
        Self { state: State::Head, searched: 0, heads: 0, has_empty_line: false }
    }
}

impl Scan {
    /// What comes next.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Whether nothing has come since the end of the last request.
    #[must_use]
    pub fn is_between(&self) -> bool {
        matches!(self.state, State::Head) && !self.has_empty_line
    }

    /// How many heads have passed.
    #[must_use]
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// The request that asked for another protocol has been answered.
    pub fn decide(&mut self, is_granted: bool) {
        if matches!(self.state, State::Undecided) {
            self.state = if is_granted { State::Opaque } else { State::Head };
        }
    }

    /// Nothing more is read, as the next request is refused.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.state = State::Refused { refusal, is_in_body: false };
    }

    /// How many of these bytes may go on. The rest is to be shown again, with what comes after it.
    pub fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let taken = match &mut self.state {
                State::Head => self.head(rest),
                State::Body { body, asks_upgrade } => match body.take(rest) {
                    Ok(taken) => {
                        if body.is_over() {
                            self.state = if *asks_upgrade { State::Undecided } else { State::Head };
                        }
                        taken
                    }
                    Err(refusal) => {
                        self.state = State::Refused { refusal, is_in_body: true };
                        0
                    }
                },
                State::Opaque => rest.len(),
                State::Undecided | State::Refused { .. } => 0,
            };
            if taken == 0 {
                break;
            }
            at += taken;
        }
        at
    }

    /// The head at the beginning of the bytes, if it is whole.
    fn head(&mut self, bytes: &[u8]) -> usize {
        // After an empty line it is in the hands of who serves HTTP/1.
        let is_first = self.heads == 0 && !self.has_empty_line;
        if is_first && bytes.starts_with(PREFACE) {
            self.state = State::Opaque;
            return bytes.len();
        }
        if is_first && PREFACE.starts_with(bytes) {
            return 0;
        }
        // RFC 9112 §2.2: one, as old clients send it after a body.
        if !self.has_empty_line && bytes.starts_with(b"\r\n") {
            self.has_empty_line = true;
            return 2;
        }
        let end = head::end(bytes, self.searched);
        if end.unwrap_or(bytes.len()) > HEAD {
            self.refuse(Refusal::with(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "the head of the request is too large",
            ));
            return 0;
        }
        let Some(end) = end else {
            self.searched = bytes.len();
            return 0;
        };
        self.searched = 0;
        self.has_empty_line = false;
        match bytes.get(..end).map_or(Err(Refusal::bad("")), head::read) {
            Ok(Head { body, asks_upgrade }) => {
                self.heads += 1;
                self.state = match (body.is_over(), asks_upgrade) {
                    (true, true) => State::Undecided,
                    (true, false) => State::Head,
                    (false, asks_upgrade) => State::Body { body, asks_upgrade },
                };
                end
            }
            Err(refusal) => {
                self.refuse(refusal);
                0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    fn passed(scan: &mut Scan, bytes: &str) -> usize {
        scan.pass(bytes.as_bytes())
    }

    #[test]
    fn whole_requests_pass_and_the_beginning_of_one_waits() {
        let mut scan = Scan::default();
        let post = "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
        let all = format!("{GET}{post}{GET}GET /");
        assert_eq!(passed(&mut scan, &all), all.len() - 5);
        assert!(matches!(scan.state(), State::Head));
        assert_eq!(passed(&mut scan, "GET / HTTP/1.1\r\n\r"), 0);
        assert_eq!(passed(&mut scan, "GET / HTTP/1.1\r\n\r\n"), 18);
    }

    #[test]
    fn a_bad_request_passes_nothing_and_ends_it() {
        let mut scan = Scan::default();
        let all = format!("{GET}GET / HTTP/1.1\r\n X: folded\r\n\r\n{GET}");
        assert_eq!(passed(&mut scan, &all), GET.len());
        assert!(matches!(scan.state(), State::Refused { .. }));
        assert_eq!(passed(&mut scan, GET), 0);
        let mut scan = Scan::default();
        assert_eq!(passed(&mut scan, &"a".repeat(HEAD)), 0);
        assert!(matches!(scan.state(), State::Head));
        passed(&mut scan, &"a".repeat(HEAD + 1));
        assert!(matches!(scan.state(), State::Refused { refusal, .. } if refusal.status == 431));
    }

    #[test]
    fn what_follows_an_upgrade_waits_until_it_is_granted_or_not() {
        let upgrade = "GET / HTTP/1.1\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx";
        for (is_granted, after) in [(true, 5), (false, 0)] {
            let mut scan = Scan::default();
            assert_eq!(passed(&mut scan, &format!("{upgrade}bytes")), upgrade.len());
            assert_eq!(passed(&mut scan, "bytes"), 0);
            scan.decide(is_granted);
            assert_eq!(passed(&mut scan, "bytes"), after, "{is_granted}");
        }
        // 1.0 has none (RFC 9110 §7.8).
        let old = "GET / HTTP/1.0\r\nUpgrade: websocket\r\n\r\n";
        assert_eq!(passed(&mut Scan::default(), &format!("{old}{GET}")), old.len() + GET.len());
    }

    #[test]
    fn http_2_passes_if_a_connection_begins_with_it() {
        let preface = std::str::from_utf8(PREFACE).unwrap();
        let mut scan = Scan::default();
        assert_eq!(passed(&mut scan, &preface[..20]), 0);
        assert_eq!(passed(&mut scan, &format!("{preface}\0\0")), 26);
        assert!(matches!(scan.state(), State::Opaque));
        // Who serves it is the one of the version that its first byte was of.
        for before in [GET, "\r\n"] {
            let mut scan = Scan::default();
            assert_eq!(passed(&mut scan, &format!("{before}{preface}")), before.len());
            assert!(matches!(scan.state(), State::Refused { .. }), "{before:?}");
        }
    }
}
