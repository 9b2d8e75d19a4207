//! A reply in RESP3 as Redis would have sent it to a client that speaks RESP2.
//!
//! For replies of the commands that L1 answers, whose differences are those of `addReply…` in Redis: what has no type
//! in RESP2 is a string or an array there. Where the types do not say all, the table of commands does, by [`Shape`].

#[cfg(test)]
mod tests;

use std::borrow::Cow;

/// How a reply in RESP3 becomes what Redis would have sent in RESP2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Its types say all; a null is `$-1`.
    ByType,
    /// Pairs of a member and its score, each an array of its own in RESP3, all in one array in RESP2.
    Pairs,
    /// By its types, but a null is `*-1`.
    NullArrays,
}

/// The deepest reply that L1 keeps is that of `LCS … IDX`, with 4 arrays one in another.
const DEPTH: usize = 16;

/// This one whole reply in RESP2; nothing where it is not one whole reply, or of a kind that no read has: a push, or
/// parts of a length that is not known beforehand.
#[must_use]
pub fn older(reply: &[u8], shape: Shape) -> Option<Cow<'_, [u8]>> {
    let mut reading = Reading { rest: reply, written: Vec::new(), shape };
    if matches!(reply.first()?, b'$' | b':' | b'+' | b'-') {
        let line = reading.line()?;
        if let Some(text) = line.strip_prefix(b"$") {
            reading.take(length(text)?)?;
        }
        return reading.rest.is_empty().then_some(Cow::Borrowed(reply));
    }
    // Longer by no more than a few bytes for each double or null.
    reading.written.reserve(reply.len() + reply.len() / 4);
    reading.whole()?;
    reading.rest.is_empty().then_some(Cow::Owned(reading.written))
}

struct Reading<'a> {
    rest: &'a [u8],
    written: Vec<u8>,
    shape: Shape,
}

impl<'a> Reading<'a> {
    fn whole(&mut self) -> Option<()> {
        // Where there is no score, the elements are no arrays.
        if self.shape != Shape::Pairs || !self.rest.starts_with(b"*") {
            return self.value(0);
        }
        let count = length(self.line()?.get(1..)?)?;
        self.header(b'*', count.checked_mul(2)?);
        for _ in 0..count {
            if self.line()? != b"*2" {
                return None;
            }
            self.value(2)?;
            self.value(2)?;
        }
        Some(())
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        if depth > DEPTH {
            return None;
        }
        let line = self.line()?;
        let (kind, text) = line.split_first()?;
        match kind {
            b'+' | b'-' | b':' => {
                self.written.extend_from_slice(line);
                self.written.extend_from_slice(b"\r\n");
            }
            b'$' => {
                let string = self.take(length(text)?)?;
                self.string(string);
            }
            b',' | b'(' => self.string(text),
            b'#' => self.written.extend_from_slice(if text == b"t" { b":1\r\n" } else { b":0\r\n" }),
            b'_' if self.shape == Shape::NullArrays => self.written.extend_from_slice(b"*-1\r\n"),
            b'_' => self.written.extend_from_slice(b"$-1\r\n"),
            b'=' => {
                // Behind its format, as `txt:`.
                let string = self.take(length(text)?)?.get(4..)?;
                self.string(string);
            }
            b'!' => {
                let text = self.take(length(text)?)?;
                self.written.push(b'-');
                self.written.extend(text.iter().map(|&byte| if byte < b' ' { b' ' } else { byte }));
                self.written.extend_from_slice(b"\r\n");
            }
            b'*' | b'~' => {
                let count = length(text)?;
                self.header(b'*', count);
                self.values(count, depth)?;
            }
            b'%' => {
                let count = length(text)?.checked_mul(2)?;
                self.header(b'*', count);
                self.values(count, depth)?;
            }
            b'|' => {
                // What is told beside a value has no place in RESP2.
                let before = self.written.len();
                self.values(length(text)?.checked_mul(2)?, depth)?;
                self.written.truncate(before);
                self.value(depth + 1)?;
            }
            _ => return None,
        }
        Some(())
    }

    fn values(&mut self, count: usize, depth: usize) -> Option<()> {
        for _ in 0..count {
            self.value(depth + 1)?;
        }
        Some(())
    }

    /// Up to the end of the line, without it.
    fn line(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|&byte| byte == b'\r')?;
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest.strip_prefix(b"\r\n")?;
        Some(line)
    }

    /// So many bytes, and the end of a line.
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest.strip_prefix(b"\r\n")?;
        Some(taken)
    }

    fn header(&mut self, kind: u8, number: usize) {
        self.written.push(kind);
        self.written.extend_from_slice(number.to_string().as_bytes());
        self.written.extend_from_slice(b"\r\n");
    }

    fn string(&mut self, text: &[u8]) {
        self.header(b'$', text.len());
        self.written.extend_from_slice(text);
        self.written.extend_from_slice(b"\r\n");
    }
}

/// Digits alone: neither a sign nor the `?` of a length that is not known beforehand.
fn length(text: &[u8]) -> Option<usize> {
    if !text.first()?.is_ascii_digit() {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}
