//! Replies of Redis: where one ends in a stream, and what is in a whole one.

use thiserror::Error;

/// Replies are nested no deeper.
const DEPTH: usize = 128;

/// It is no reply.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("what came is no reply of Redis")]
pub struct Malformed;

/// Follows a reply, however it comes in pieces.
#[derive(Debug, Default)]
pub struct Scanner {
    /// What is open: how many elements are missing, and whether it is an attribute, which is beside a reply
    /// and no part of it.
    open: Vec<(u64, bool)>,
    /// Of a string, with the end of its line.
    rest: u64,
    line: Line,
    first: Option<u8>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Line {
    /// None is begun.
    #[default]
    None,
    /// Its text says nothing of the length.
    Text,
    /// It has a number.
    Number { sign: u8, digits: u8, value: u64, is_negative: bool, has_ended: bool },
}

/// How far a reply has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// So many bytes belong to it.
    pub bytes: usize,
    /// Whether it is whole; the next bytes are of another.
    pub is_whole: bool,
}

impl Scanner {
    /// Goes on with a reply. When it is whole, the scanner is ready for the next.
    ///
    /// # Errors
    /// When it is no reply: nobody knows where the next begins.
    pub fn scan(&mut self, piece: &[u8]) -> Result<Seen, Malformed> {
        let mut at = 0;
        while let Some(rest) = piece.get(at..).filter(|rest| !rest.is_empty()) {
            if self.rest > 0 {
                let passed = self.rest.min(rest.len() as u64);
                self.rest -= passed;
                // It is no more than there is.
                at += usize::try_from(passed).unwrap_or(rest.len());
                if self.rest == 0 && self.is_whole_after_one() {
                    return Ok(self.whole(at));
                }
                continue;
            }
            let line = self.line;
            match line {
                Line::None => {
                    let sign = rest.first().copied().unwrap_or_default();
                    self.first.get_or_insert(sign);
                    at += 1;
                    self.line = match sign {
                        b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => Line::Text,
                        b'$' | b'=' | b'!' | b'*' | b'~' | b'>' | b'%' | b'|' => {
                            Line::Number { sign, digits: 0, value: 0, is_negative: false, has_ended: false }
                        }
                        _ => return Err(Malformed),
                    };
                }
                Line::Text => match rest.iter().position(|byte| *byte == b'\n') {
                    None => at = piece.len(),
                    Some(end) => {
                        at += end + 1;
                        self.line = Line::None;
                        if self.is_whole_after_one() {
                            return Ok(self.whole(at));
                        }
                    }
                },
                Line::Number { .. } => {
                    let byte = rest.first().copied().unwrap_or_default();
                    at += 1;
                    if self.number(line, byte)? && self.is_whole_after_one() {
                        return Ok(self.whole(at));
                    }
                }
            }
        }
        Ok(Seen { bytes: piece.len(), is_whole: false })
    }

    /// The sign of the reply that is on its way, once it has begun: `>` is a push, which answers nothing.
    #[must_use]
    pub fn sign(&self) -> Option<u8> {
        self.first
    }

    /// Whether a reply has begun and is not whole.
    #[must_use]
    pub fn is_within(&self) -> bool {
        self.first.is_some()
    }

    fn whole(&mut self, bytes: usize) -> Seen {
        self.first = None;
        Seen { bytes, is_whole: true }
    }

    /// One more byte of a line with a number; whether an element is whole with it.
    fn number(&mut self, line: Line, byte: u8) -> Result<bool, Malformed> {
        let Line::Number { sign, digits, value, is_negative, has_ended } = line else {
            return Err(Malformed);
        };
        match byte {
            b'0'..=b'9' if !has_ended && digits < 19 => {
                let value = value * 10 + u64::from(byte - b'0');
                self.line = Line::Number { sign, digits: digits + 1, value, is_negative, has_ended };
                Ok(false)
            }
            b'-' if digits == 0 && !is_negative && !has_ended => {
                self.line = Line::Number { sign, digits, value, is_negative: true, has_ended };
                Ok(false)
            }
            b'\r' if digits > 0 && !has_ended => {
                self.line = Line::Number { sign, digits, value, is_negative, has_ended: true };
                Ok(false)
            }
            b'\n' if has_ended => {
                self.line = Line::None;
                self.begin(sign, value, is_negative)
            }
            _ => Err(Malformed),
        }
    }

    /// A length has come; whether an element is whole with it.
    fn begin(&mut self, sign: u8, value: u64, is_negative: bool) -> Result<bool, Malformed> {
        if is_negative {
            // `$-1` and `*-1` are what RESP2 has for nothing.
            return if value == 1 && matches!(sign, b'$' | b'*') { Ok(true) } else { Err(Malformed) };
        }
        let elements = match sign {
            b'$' | b'=' | b'!' => {
                self.rest = value.checked_add(2).ok_or(Malformed)?;
                return Ok(false);
            }
            b'%' | b'|' => value.checked_mul(2).ok_or(Malformed)?,
            _ => value,
        };
        let is_attribute = sign == b'|';
        if elements == 0 {
            return Ok(!is_attribute);
        }
        if self.open.len() >= DEPTH {
            return Err(Malformed);
        }
        self.open.push((elements, is_attribute));
        Ok(false)
    }

    /// An element is whole; whether the reply is whole with it.
    fn is_whole_after_one(&mut self) -> bool {
        loop {
            let Some((missing, is_attribute)) = self.open.last_mut() else { return true };
            *missing -= 1;
            if *missing > 0 {
                return false;
            }
            let is_attribute = *is_attribute;
            self.open.pop();
            if is_attribute {
                // What it is beside comes now.
                return false;
            }
        }
    }
}

/// An element of a whole reply. What has elements of its own is followed by these.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Item<'a> {
    /// A line, such as `OK`.
    Simple(&'a [u8]),
    /// An error, its kind first.
    Error(&'a [u8]),
    /// A number.
    Integer(i64),
    /// A string of any bytes.
    Bulk(&'a [u8]),
    /// A text with its format, such as `txt:`.
    Verbatim(&'a [u8]),
    /// Nothing: `_`, or `$-1` in RESP2.
    Null,
    /// Nothing, where RESP2 has an array: `*-1`.
    NullArray,
    /// A number with a fraction, as it was written.
    Double(&'a [u8]),
    /// A number of any size, as it was written.
    BigNumber(&'a [u8]),
    /// Whether something is so.
    Boolean(bool),
    /// So many elements.
    Array(usize),
    /// So many elements without an order.
    Set(usize),
    /// So many pairs.
    Map(usize),
    /// So many elements that answer nothing.
    Push(usize),
    /// So many pairs beside the element that follows them.
    Attribute(usize),
}

/// Looks through a whole reply, element by element.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Of a reply.
    #[must_use]
    pub fn new(reply: &'a [u8]) -> Self {
        Self { rest: reply }
    }

    /// What has not been looked at.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn line(&mut self) -> Option<(u8, &'a [u8])> {
        let end = self.rest.iter().position(|byte| *byte == b'\n')?;
        let (line, rest) = (self.rest.get(..end)?, self.rest.get(end + 1..)?);
        self.rest = rest;
        let (sign, text) = line.strip_suffix(b"\r").unwrap_or(line).split_first()?;
        Some((*sign, text))
    }

    fn string(&mut self, length: usize) -> Option<&'a [u8]> {
        let text = self.rest.get(..length)?;
        self.rest = self.rest.get(length.checked_add(2)?..)?;
        Some(text)
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Item<'a>;

    /// None at the end, or where it is no reply.
    fn next(&mut self) -> Option<Item<'a>> {
        let (sign, text) = self.line()?;
        let number = || std::str::from_utf8(text).ok()?.parse::<i64>().ok();
        let length = || usize::try_from(number()?).ok();
        Some(match sign {
            b'+' => Item::Simple(text),
            b'-' => Item::Error(text),
            b':' => Item::Integer(number()?),
            b'_' => Item::Null,
            b'$' | b'*' if number()? < 0 => {
                if sign == b'$' {
                    Item::Null
                } else {
                    Item::NullArray
                }
            }
            b'$' => Item::Bulk(self.string(length()?)?),
            b'!' => Item::Error(self.string(length()?)?),
            b'=' => Item::Verbatim(self.string(length()?)?),
            b',' => Item::Double(text),
            b'(' => Item::BigNumber(text),
            b'#' => Item::Boolean(text == b"t"),
            b'*' => Item::Array(length()?),
            b'~' => Item::Set(length()?),
            b'%' => Item::Map(length()?),
            b'>' => Item::Push(length()?),
            b'|' => Item::Attribute(length()?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REPLIES: [&[u8]; 16] = [
        b"+OK\r\n",
        b"-ERR no\r\n",
        b":-12\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"_\r\n",
        b"$0\r\n\r\n",
        b"$5\r\na\r\nbc\r\n",
        b"*0\r\n",
        b"*2\r\n*1\r\n:1\r\n$1\r\na\r\n",
        b"%2\r\n+a\r\n,1.5\r\n+b\r\n#t\r\n",
        b"~1\r\n(123\r\n",
        b"|1\r\n+ttl\r\n:1\r\n*1\r\n|1\r\n+a\r\n+b\r\n+OK\r\n",
        b"=7\r\ntxt:a\nb\r\n",
        b"!5\r\nERR a\r\n",
        b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n",
    ];

    #[test]
    fn the_end_of_each_reply_is_found_in_any_pieces() {
        let stream = REPLIES.concat();
        for piece in 1..stream.len() {
            let (mut scanner, mut ends, mut passed) = (Scanner::default(), Vec::new(), 0);
            for mut bytes in stream.chunks(piece) {
                while !bytes.is_empty() {
                    let seen = scanner.scan(bytes).unwrap();
                    passed += seen.bytes;
                    bytes = &bytes[seen.bytes..];
                    if seen.is_whole {
                        ends.push(passed);
                        assert!(!scanner.is_within());
                    } else {
                        assert!(bytes.is_empty() && scanner.is_within());
                    }
                }
            }
            let expected = REPLIES.iter().scan(0, |end, reply| {
                *end += reply.len();
                Some(*end)
            });
            assert_eq!(ends, expected.collect::<Vec<_>>(), "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_reply_is_not_taken_for_one() {
        let deep = "*1\r\n".repeat(DEPTH + 1);
        let lines =
            ["GET\r\n", "$-2\r\n", "$\r\n", "*1x\r\n", "$1\n", "~-1\r\n", "$99999999999999999999\r\n", &deep];
        for line in lines {
            assert_eq!(Scanner::default().scan(line.as_bytes()), Err(Malformed), "{line:.20}");
        }
    }

    #[test]
    fn a_push_is_known_before_it_is_whole() {
        let mut scanner = Scanner::default();
        assert_eq!(scanner.scan(b">2\r\n$10\r\ninva"), Ok(Seen { bytes: 13, is_whole: false }));
        assert_eq!(scanner.sign(), Some(b'>'));
    }

    #[test]
    fn a_whole_reply_is_looked_through() {
        let reply = b"%1\r\n$1\r\na\r\n*5\r\n:-3\r\n_\r\n*-1\r\n,inf\r\n#f\r\n";
        let items: Vec<_> = Reader::new(reply).collect();
        let expected = [
            Item::Map(1),
            Item::Bulk(b"a"),
            Item::Array(5),
            Item::Integer(-3),
            Item::Null,
            Item::NullArray,
            Item::Double(b"inf"),
            Item::Boolean(false),
        ];
        assert_eq!(items, expected);
    }

    proptest! {
        #[test]
        fn nothing_that_comes_makes_it_panic_or_pass_more_than_there_is(
            stream in prop::collection::vec(prop_oneof![
                any::<u8>(), Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b'%'), Just(b'|'),
            ], 0..200),
        ) {
            let mut scanner = Scanner::default();
            if let Ok(seen) = scanner.scan(&stream) {
                prop_assert!(seen.bytes <= stream.len());
                prop_assert!(seen.is_whole || seen.bytes == stream.len());
            }
            let _ = Reader::new(&stream).count();
        }
    }
}
