//! Where the body of an HTTP/1 request ends (RFC 9112 §6, §7). PURE.

use super::{
    head::{is_of_value, is_token, too_large},
    limits::{BODY, TRAILERS},
    refusal::Refusal,
};

/// A body, as far as it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body(State);

/// What has to come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes.
    Data(u64),
    /// Of a chunked body.
    Chunked { next: Next, taken: u64 },
}

/// What has to come next of a chunked body (§7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The size of a chunk, of which so many digits have come.
    Size {
        size: u64,
        digits: u8,
    },
    /// What stands after the size, which nobody reads.
    Extension {
        size: u64,
    },
    /// The LF after a size.
    SizeEnd {
        size: u64,
    },
    /// So many bytes.
    Data(u64),
    /// CR, LF after them.
    DataCr,
    DataLf,
    /// A trailer field, or the end. So many bytes of trailers have come.
    Trailer {
        bytes: usize,
    },
    /// In the name of one.
    Name {
        bytes: usize,
    },
    /// In the value of one.
    Value {
        bytes: usize,
    },
    /// The LF after it.
    ValueEnd {
        bytes: usize,
    },
    /// The last LF.
    End,
    /// Nothing.
    Over,
}

impl Body {
    /// Of a length that was told.
    #[must_use]
    pub const fn sized(length: u64) -> Self {
        Self(State::Data(length))
    }

    /// In chunks.
    #[must_use]
    pub const fn chunked() -> Self {
        Self(State::Chunked { next: Next::Size { size: 0, digits: 0 }, taken: 0 })
    }

    /// Whether nothing of it is to come any more.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self.0, State::Data(0) | State::Chunked { next: Next::Over, .. })
    }

    /// How many of the bytes are of it.
    ///
    /// # Errors
    /// When they are none of a chunked body.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        match &mut self.0 {
            State::Data(left) => {
                let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                Ok(taken)
            }
            State::Chunked { next, taken } => take_chunks(next, taken, bytes),
        }
    }
}

fn take_chunks(next: &mut Next, taken: &mut u64, bytes: &[u8]) -> Result<usize, Refusal> {
    let mut at = 0;
    while *next != Next::Over {
        let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) else { break };
        if let Next::Data(left) = *next {
            let now = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let left = left - now as u64;
            *next = if left == 0 { Next::DataCr } else { Next::Data(left) };
            at += now;
            continue;
        }
        let byte = rest.first().copied().unwrap_or_default();
        *next = after(*next, byte).ok_or(Refusal::bad("a chunk of the body is malformed"))?;
        if let Next::Data(size) = *next {
            *taken = taken.saturating_add(size);
            if *taken > BODY {
                return Err(too_large());
            }
        }
        at += 1;
    }
    Ok(at)
}

/// What comes after a byte that is not of the data; None where it may not stand.
fn after(next: Next, byte: u8) -> Option<Next> {
    /// More do not fit.
    const DIGITS: u8 = 15;
    match (next, byte) {
        (Next::Size { size, digits: 1.. } | Next::Extension { size }, b'\r') => Some(Next::SizeEnd { size }),
        (Next::Size { size, digits: 1.. }, b';' | b' ' | b'\t') => Some(Next::Extension { size }),
        (Next::Size { size, digits: 0..DIGITS }, digit) => {
            let value = char::from(digit).to_digit(16)?;
            let Next::Size { digits, .. } = next else { return None };
            Some(Next::Size { size: size << 4 | u64::from(value), digits: digits + 1 })
        }
        (Next::SizeEnd { size: 0 }, b'\n') => Some(Next::Trailer { bytes: 0 }),
        (Next::SizeEnd { size }, b'\n') => Some(Next::Data(size)),
        (Next::DataCr, b'\r') => Some(Next::DataLf),
        (Next::DataLf, b'\n') => Some(Next::Size { size: 0, digits: 0 }),
        (Next::Trailer { .. }, b'\r') => Some(Next::End),
        (Next::End, b'\n') => Some(Next::Over),
        (
            Next::Trailer { bytes: TRAILERS.. }
            | Next::Name { bytes: TRAILERS.. }
            | Next::Value { bytes: TRAILERS.. },
            _,
        ) => None,
        (Next::Name { bytes }, b':') => Some(Next::Value { bytes: bytes + 1 }),
        (Next::Trailer { bytes } | Next::Name { bytes }, byte) if is_token(byte) => {
            Some(Next::Name { bytes: bytes + 1 })
        }
        (Next::Value { bytes }, b'\r') => Some(Next::ValueEnd { bytes }),
        (Next::Value { bytes }, byte) if is_of_value(byte) => Some(Next::Value { bytes: bytes + 1 }),
        (Next::ValueEnd { bytes }, b'\n') => Some(Next::Trailer { bytes }),
        (next @ Next::Extension { .. }, byte) if is_of_value(byte) => Some(next),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many bytes are of the body, if it comes whole, and in single bytes.
    fn length(bytes: &str) -> Option<usize> {
        let mut whole = Body::chunked();
        let taken = whole.take(bytes.as_bytes()).ok();
        let mut single = Body::chunked();
        let one_by_one = bytes.bytes().try_fold(0, |sum, byte| single.take(&[byte]).map(|took| sum + took));
        assert_eq!(one_by_one.ok(), taken, "{bytes:?}");
        taken.filter(|_| whole.is_over())
    }

    #[test]
    fn a_sized_body_ends_by_its_length() {
        let mut body = Body::sized(3);
        assert_eq!((body.take(b"ab").unwrap(), body.is_over()), (2, false));
        assert_eq!((body.take(b"cde").unwrap(), body.is_over()), (1, true));
    }

    #[test]
    fn a_chunked_body_ends_by_its_last_chunk_and_its_trailers() {
        for body in [
            "0\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
            "00003;x=\"y\"\r\nabc\r\nA\r\n0123456789\r\n000\r\nSum: 1\r\nEmpty:\r\n\r\n",
            "3 ; x\r\nabc\r\n0\r\n\r\n",
        ] {
            assert_eq!(length(&format!("{body}GET / HTTP/1.1")), Some(body.len()), "{body:?}");
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for body in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "0x3\r\nabc\r\n",
            "3\nabc\n0\n\n",
            "3\r\nabcd\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "3;a\nb\r\nabc\r\n0\r\n\r\n",
            "3;a\rb\r\nabc\r\n0\r\n\r\n",
            "1000000000000000\r\n",
            "0\r\n folded\r\n\r\n",
            "0\r\nname : x\r\n\r\n",
            "0\r\nname: x\n\r\n",
            "0\r\nname\r\n\r\n",
            "0\r\n\n",
        ] {
            assert!(Body::chunked().take(body.as_bytes()).is_err(), "{body:?}");
        }
    }

    #[test]
    fn a_body_and_its_trailers_are_bounded() {
        let large = format!("{:x}\r\n", BODY + 1);
        assert_eq!(Body::chunked().take(large.as_bytes()), Err(too_large()));
        let trailers = format!("0\r\n{}", "a: b\r\n".repeat(TRAILERS / 4 + 1));
        assert!(Body::chunked().take(trailers.as_bytes()).is_err());
    }
}
