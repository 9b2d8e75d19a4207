//! The head of an HTTP/1 request as it comes over the wire (RFC 9112). PURE.
//!
//! hyper reads requests leniently, as a server may: of a Content-Length beside a Transfer-Encoding it
//! drops one and goes on, it takes a bare LF for the end of a line, and cuts off a fragment. A proxy
//! before the pod may read the same bytes in another way, and what one takes for a body is a request to the
//! other (request smuggling). So what can be read in two ways is refused here, before hyper sees it;
//! what passes is read in the same way by both.

use http::StatusCode;

use super::{
    framing::Body,
    limits::{BODY, FIELDS, TARGET},
    refusal::Refusal,
};

/// A head that is in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// What comes after it.
    pub body: Body,
    /// It asks for another protocol: what comes after its body is a request only if that is denied.
    pub asks_upgrade: bool,
}

/// How far the head in these bytes goes, with the empty line at its end. `searched` were looked at before.
#[must_use]
pub fn end(bytes: &[u8], searched: usize) -> Option<usize> {
    let start = searched.saturating_sub(3);
    let found = bytes.get(start..)?.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(start + found + 4)
}

/// Reads a head that is complete, up to the empty line at its end.
///
/// # Errors
/// Why it is refused.
pub fn read(head: &[u8]) -> Result<Head, Refusal> {
    let lines = head.strip_suffix(b"\r\n\r\n").ok_or(Refusal::bad("the head has no end"))?;
    let mut lines = Lines(Some(lines));
    let is_1_1 = request_line(lines.next().unwrap_or_default())?;
    let mut seen = Seen::default();
    let mut fields = 0;
    for line in lines {
        fields += 1;
        if fields > FIELDS {
            return Err(too_many());
        }
        let (name, value) = field(line)?;
        seen.note(name, value, is_1_1)?;
    }
    Ok(Head { body: seen.body()?, asks_upgrade: seen.upgrade && is_1_1 })
}

/// More fields than are taken.
#[must_use]
pub const fn too_many() -> Refusal {
    Refusal::with(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the request has too many fields")
}

/// The lines between CR LF. A CR or LF alone stays in its line, where neither may be (RFC 9112 §2.2).
struct Lines<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.0?;
        // One pass over single bytes: this is done for each request.
        let end = rest.iter().position(|byte| *byte == b'\r');
        match end {
            Some(at) if rest.get(at + 1) == Some(&b'\n') => {
                self.0 = rest.get(at + 2..);
                rest.get(..at)
            }
            // A bare CR: all the rest is one line, which is refused for it.
            _ => {
                self.0 = None;
                Some(rest)
            }
        }
    }
}

/// `method SP target SP version`, and nothing else (RFC 9112 §3); whether the version is 1.1.
fn request_line(line: &[u8]) -> Result<bool, Refusal> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::bad("the request line has to be: method, target, version"));
    };
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return Err(Refusal::bad("the method is no token"));
    }
    if target.len() > TARGET {
        return Err(Refusal::with(StatusCode::URI_TOO_LONG, "the target is too long"));
    }
    if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Err(Refusal::bad("the target has a character that has to be percent-encoded"));
    }
    if target.contains(&b'#') {
        // RFC 9112 §3.2: a target has no fragment; one that cuts it off sees another path.
        return Err(Refusal::bad("the target has a fragment"));
    }
    match version {
        b"HTTP/1.1" => Ok(true),
        b"HTTP/1.0" => Ok(false),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(Refusal::with(
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            "of HTTP, 1.0, 1.1 and 2 are spoken here",
        )),
        _ => Err(Refusal::bad("the version is none of HTTP")),
    }
}

/// `name: value` (RFC 9112 §5).
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        // §5.2.
        return Err(Refusal::bad("a field is folded over several lines"));
    }
    let colon = line.iter().position(|byte| !is_token(*byte)).filter(|at| *at > 0);
    let Some((name, [b':', value @ ..])) = colon.and_then(|at| line.split_at_checked(at)) else {
        // A space before the colon most of all (§5.1).
        return Err(Refusal::bad("the name of a field is no token with a colon after it"));
    };
    if !value.iter().all(|byte| is_of_value(*byte)) {
        // RFC 9110 §5.5.
        return Err(Refusal::bad("a field has a control character"));
    }
    Ok((name, value.trim_ascii()))
}

/// What says how long the body is (RFC 9112 §6).
#[derive(Default)]
struct Seen {
    length: Option<u64>,
    is_chunked: bool,
    upgrade: bool,
}

impl Seen {
    fn note(&mut self, name: &[u8], value: &[u8], is_1_1: bool) -> Result<(), Refusal> {
        // By their lengths, which few other names have.
        match name.len() {
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if self.length.is_some() {
                    return Err(Refusal::bad("there are several Content-Lengths"));
                }
                self.length = Some(length(value)?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if !is_1_1 {
                    // §6.1: its framing is faulty.
                    return Err(Refusal::bad("HTTP/1.0 has no Transfer-Encoding"));
                }
                if self.is_chunked {
                    return Err(Refusal::bad("there are several Transfer-Encodings"));
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::with(
                        StatusCode::NOT_IMPLEMENTED,
                        "of Transfer-Encodings only `chunked` is spoken here",
                    ));
                }
                self.is_chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn body(&self) -> Result<Body, Refusal> {
        match (self.length, self.is_chunked) {
            // §6.3, third rule.
            (Some(_), true) => Err(Refusal::bad("there are Content-Length and Transfer-Encoding")),
            (Some(length), false) if length > BODY => Err(too_large()),
            (Some(length), false) => Ok(Body::sized(length)),
            (None, true) => Ok(Body::chunked()),
            (None, false) => Ok(Body::sized(0)),
        }
    }
}

/// A larger body than is taken.
#[must_use]
pub const fn too_large() -> Refusal {
    Refusal::with(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large")
}

/// Digits alone: no sign, no list (RFC 9110 §8.6).
///
/// # Errors
/// When there is something else.
pub fn length(value: &[u8]) -> Result<u64, Refusal> {
    // Nineteen nines fit.
    let is_number = (1..=19).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(value).ok().filter(|_| is_number).and_then(|text| text.parse().ok());
    number.ok_or(Refusal::bad("the Content-Length is no number"))
}

/// Of a name of a method or field (RFC 9110 §5.6.2).
#[must_use]
pub const fn is_token(byte: u8) -> bool {
    matches!(byte,
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*'
            | b'+' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// Of the value of a field: no control character but a tab.
#[must_use]
pub const fn is_of_value(byte: u8) -> bool {
    byte == b'\t' || byte >= b' ' && byte != 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(lines: &str) -> Result<Head, Refusal> {
        read(format!("{lines}\r\n\r\n").as_bytes())
    }

    fn status(lines: &str) -> u16 {
        head(lines).map_or_else(|refusal| refusal.status.as_u16(), |_| 200)
    }

    #[test]
    fn the_length_of_a_body_is_told_in_one_way_or_not_at_all() {
        let body = |fields: &str| head(&format!("POST / HTTP/1.1\r\nHost: a{fields}")).map(|head| head.body);
        assert_eq!(body(""), Ok(Body::sized(0)));
        assert_eq!(body("\r\nContent-Length: 7"), Ok(Body::sized(7)));
        assert_eq!(body("\r\ntransfer-encoding:Chunked "), Ok(Body::chunked()));
    }

    #[test]
    fn what_is_read_in_two_ways_is_refused() {
        for (fields, expected) in [
            ("Content-Length: 1\r\nTransfer-Encoding: chunked", 400),
            ("Transfer-Encoding: chunked\r\nContent-Length: 1", 400),
            ("Content-Length: 1\r\nContent-Length: 1", 400),
            ("Content-Length: 1, 1", 400),
            ("Content-Length: +1", 400),
            ("Content-Length: -1", 400),
            ("Content-Length: 0x1", 400),
            ("Content-Length: 1 1", 400),
            ("Content-Length:", 400),
            ("Content-Length: 99999999999999999999", 400),
            ("Content-Length: 9999999999999999999", 413),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
            ("Transfer-Encoding: gzip, chunked", 501),
            ("Transfer-Encoding: chunked, identity", 501),
            ("Transfer-Encoding: xchunked", 501),
            ("Transfer-Encoding:\x0bchunked", 400),
            ("Transfer-Encoding : chunked", 400),
            ("Transfer-Encoding\t: chunked", 400),
            ("Transfer-Encoding", 400),
            ("X: a\r\n Transfer-Encoding: chunked", 400),
            ("X: a\nTransfer-Encoding: chunked", 400),
            ("X: a\rTransfer-Encoding: chunked", 400),
            ("X: a\0b", 400),
            ("X: a\x7fb", 400),
            (": a", 400),
            ("X(: a", 400),
            ("X\u{e9}: a", 400),
            ("X: \u{e9}", 200),
            ("X: a\tb", 200),
            ("X:", 200),
        ] {
            assert_eq!(status(&format!("POST / HTTP/1.1\r\n{fields}")), expected, "{fields:?}");
        }
        assert_eq!(status("POST / HTTP/1.0\r\nTransfer-Encoding: chunked"), 400);
    }

    #[test]
    fn a_request_line_has_three_parts_with_a_space_between() {
        for (line, expected) in [
            ("GET / HTTP/1.1", 200),
            ("GET http://shop/a?b HTTP/1.0", 200),
            ("OPTIONS * HTTP/1.1", 200),
            ("GET  / HTTP/1.1", 400),
            ("GET /\tHTTP/1.1", 400),
            (" GET / HTTP/1.1", 400),
            ("GET / HTTP/1.1 ", 400),
            ("GET /a b HTTP/1.1", 400),
            ("GET /", 400),
            ("GET / HTTP/1.2", 505),
            ("GET / HTTP/2.0", 505),
            ("GET / http/1.1", 400),
            ("GET / HTTP/1.1x", 400),
            ("G(T / HTTP/1.1", 400),
            ("GET /a#b HTTP/1.1", 400),
            ("GET /\u{e9} HTTP/1.1", 400),
            ("GET /\x01 HTTP/1.1", 400),
            ("GET /\x7f HTTP/1.1", 400),
            ("", 400),
        ] {
            assert_eq!(status(line), expected, "{line:?}");
        }
    }

    #[test]
    fn what_is_too_long_or_too_many_is_told() {
        assert_eq!(status(&format!("GET /{} HTTP/1.1", "a".repeat(TARGET))), 414);
        let fields = |count| format!("GET / HTTP/1.1{}", "\r\nX: a".repeat(count));
        assert_eq!([status(&fields(FIELDS)), status(&fields(FIELDS + 1))], [200, 431]);
    }

    #[test]
    fn the_end_is_found_however_the_bytes_come() {
        let bytes = b"GET / HTTP/1.1\r\nA: b\r\n\r\nrest";
        for searched in 0..bytes.len() - 4 {
            assert_eq!(end(bytes, searched), Some(24).filter(|_| searched <= 23), "{searched}");
        }
        assert_eq!(end(b"GET / HTTP/1.1\n\n", 0), None);
    }
}
