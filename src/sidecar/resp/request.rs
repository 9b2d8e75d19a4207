//! Commands as clients send them: arrays of strings, or lines (the inline form, for people with telnet).
//!
//! What Redis takes is taken, and what it refuses is refused in its words (`networking.c`,
//! `processMultibulkBuffer` and `processInlineBuffer`), as clients know these.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

use super::write;

/// A line is no longer (Redis: `PROTO_INLINE_MAX_SIZE`).
const LINE: usize = 64 << 10;
/// More arguments are none that anybody sends (Redis: 2³¹−1; before a client has authenticated: 10).
const ARGUMENTS: i64 = 1 << 20;

/// A command that has come whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    raw: Bytes,
    /// Where its arguments are, the name first.
    args: Vec<(u32, u32)>,
}

/// Why what comes cannot be understood. The connection ends with it, as nobody knows where the next
/// command begins.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    /// In the words of Redis.
    #[error("ERR Protocol error: {0}")]
    Protocol(String),
    /// It is larger than there is room for.
    #[error("ERR a command of more than {0} bytes does not fit into the sidecar; send it in parts")]
    TooLarge(usize),
}

/// Takes commands out of what comes, without looking at anything twice.
#[derive(Debug, Default)]
pub struct Parser {
    /// Of the command that is not whole yet: what was looked at, which arguments are whole, how many are missing.
    at: usize,
    args: Vec<(u32, u32)>,
    missing: usize,
    /// The length of the argument that comes next, where it is known.
    length: Option<usize>,
}

impl Command {
    /// Of arguments, the name first.
    #[must_use]
    pub fn of(args: &[&[u8]]) -> Self {
        let raw = write::command(args).freeze();
        let mut parser = Parser::default();
        let mut buffer = BytesMut::from(&raw[..]);
        // What is written is read again; and if not, it is a command without a name.
        parser.take(&mut buffer, usize::MAX).ok().flatten().unwrap_or(Self { raw, args: Vec::new() })
    }

    /// All of it, as it was sent.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// How many arguments it has, the name counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.args.len()
    }

    /// Never: each has a name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.args.is_empty()
    }

    /// The argument at a place; the name is at 0.
    #[must_use]
    pub fn arg(&self, at: usize) -> Option<&[u8]> {
        let (from, to) = *self.args.get(at)?;
        self.raw.get(from as usize..to as usize)
    }

    /// The name, as it was written.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.arg(0).unwrap_or_default()
    }

    /// All arguments, the name first.
    pub fn args(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|at| self.arg(at))
    }
}

impl Parser {
    /// The next command, if it is whole; it is of `most` bytes at most.
    ///
    /// # Errors
    /// When no command can be what comes.
    pub fn take(&mut self, buffer: &mut BytesMut, most: usize) -> Result<Option<Command>, Malformed> {
        loop {
            if self.at == 0 {
                match buffer.first() {
                    None => return Ok(None),
                    Some(b'*') => {
                        let Some(count) = self.number(buffer, "too big mbulk count string")? else {
                            return Ok(None);
                        };
                        let count = count.filter(|count| *count <= ARGUMENTS);
                        let count = count.ok_or_else(|| protocol("invalid multibulk length"))?;
                        if count <= 0 {
                            buffer.advance(self.at);
                            *self = Self::default();
                            continue;
                        }
                        self.missing = usize::try_from(count).unwrap_or_default();
                        // Only what has come is believed.
                        self.args = Vec::with_capacity(self.missing.min(16));
                    }
                    Some(_) => match take_line(buffer)? {
                        None => return Ok(None),
                        Some(command) if command.is_empty() => continue,
                        Some(command) => return Ok(Some(command)),
                    },
                }
            }
            while self.missing > 0 {
                if !self.take_argument(buffer, most)? {
                    return Ok(None);
                }
            }
            let Self { at, args, .. } = std::mem::take(self);
            return Ok(Some(Command { raw: buffer.split_to(at).freeze(), args }));
        }
    }

    /// So many more bytes have to come at least before a command can be whole, as far as it is known.
    #[must_use]
    pub fn missing(&self, buffer: &BytesMut) -> usize {
        let end = self.length.map_or(0, |length| self.at.saturating_add(length).saturating_add(2));
        end.saturating_sub(buffer.len())
    }

    fn take_argument(&mut self, buffer: &BytesMut, most: usize) -> Result<bool, Malformed> {
        let Some(length) = self.length(buffer, most)? else { return Ok(false) };
        let end = self.at + length;
        // The two bytes after it are an end of line, which Redis does not look at either.
        if buffer.len() < end + 2 {
            return Ok(false);
        }
        // Both are within 32 bits, which was seen above.
        #[allow(clippy::cast_possible_truncation)]
        self.args.push((self.at as u32, end as u32));
        self.at = end + 2;
        self.length = None;
        self.missing -= 1;
        Ok(true)
    }

    /// The length of the argument that begins at `at`, or has begun, once it is known.
    fn length(&mut self, buffer: &BytesMut, most: usize) -> Result<Option<usize>, Malformed> {
        if self.length.is_some() {
            return Ok(self.length);
        }
        match buffer.get(self.at) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(other) => {
                return Err(protocol(&format!("expected '$', got '{}'", char::from(*other))));
            }
        }
        let Some(length) = self.number(buffer, "too big bulk count string")? else { return Ok(None) };
        let length = length.and_then(|length| usize::try_from(length).ok());
        let length = length.ok_or_else(|| protocol("invalid bulk length"))?;
        let is_much = |end: usize| end > most || u32::try_from(end).is_err();
        if self.at.checked_add(length).and_then(|end| end.checked_add(2)).is_none_or(is_much) {
            return Err(Malformed::TooLarge(most));
        }
        self.length = Some(length);
        Ok(self.length)
    }

    /// The number of the line that begins with the sign at `at`, and goes on behind the line; None inside where
    /// it is none.
    #[allow(clippy::option_option)]
    fn number(&mut self, buffer: &BytesMut, too_long: &str) -> Result<Option<Option<i64>>, Malformed> {
        let rest = buffer.get(self.at..).unwrap_or_default();
        // Redis looks for the first of the two, and takes any byte for the second.
        let Some(end) = rest.iter().take(LINE).position(|byte| *byte == b'\r') else {
            return if rest.len() >= LINE { Err(protocol(too_long)) } else { Ok(None) };
        };
        if rest.len() < end + 2 {
            return Ok(None);
        }
        let digits = rest.get(1..end).and_then(|digits| std::str::from_utf8(digits).ok());
        // No plus, no zeros in front and no spaces (`string2ll`).
        let number = digits.and_then(|digits| {
            let number: i64 = digits.parse().ok()?;
            (number.to_string() == digits).then_some(number)
        });
        self.at += end + 2;
        Ok(Some(number))
    }
}

fn protocol(problem: &str) -> Malformed {
    Malformed::Protocol(problem.to_owned())
}

/// A command on a line; an empty one if there is nothing on it.
fn take_line(buffer: &mut BytesMut) -> Result<Option<Command>, Malformed> {
    let Some(end) = buffer.iter().take(LINE).position(|byte| *byte == b'\n') else {
        return if buffer.len() >= LINE { Err(protocol("too big inline request")) } else { Ok(None) };
    };
    let line = buffer.split_to(end + 1);
    let line = line.strip_suffix(b"\n").unwrap_or(&line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let words = words(line).ok_or_else(|| protocol("unbalanced quotes in request"))?;
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    Ok(Some(if words.is_empty() {
        Command { raw: Bytes::new(), args: Vec::new() }
    } else {
        Command::of(&words)
    }))
}

/// The words of a line, which may be in quotes (`sdssplitargs`); None if these do not end.
fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        while let Some((first, after)) = rest.split_first()
            && is_space(*first)
        {
            rest = after;
        }
        if rest.first().is_none_or(|first| *first == 0) {
            return Some(words);
        }
        let mut word = Vec::new();
        while let Some((first, after)) = rest.split_first() {
            match first {
                b'"' => rest = double_quoted(after, &mut word)?,
                b'\'' => rest = single_quoted(after, &mut word)?,
                0 => break,
                space if is_space(*space) => break,
                other => {
                    word.push(*other);
                    rest = after;
                    continue;
                }
            }
            // After the quotes the word has to end.
            if rest.first().is_some_and(|next| !is_space(*next) && *next != 0) {
                return None;
            }
            break;
        }
        words.push(word);
    }
}

/// As C has it.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [b'"', after @ ..] => return Some(after),
            [b'\\', b'x', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digits = [*high, *low];
                word.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
                rest = after;
            }
            [b'\\', escaped, after @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                rest = after;
            }
            [0, ..] | [] => return None,
            [other, after @ ..] => {
                word.push(*other);
                rest = after;
            }
        }
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [b'\'', after @ ..] => return Some(after),
            [b'\\', b'\'', after @ ..] => {
                word.push(b'\'');
                rest = after;
            }
            [0, ..] | [] => return None,
            [other, after @ ..] => {
                word.push(*other);
                rest = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(sent: &[u8], piece: usize) -> Result<Vec<Vec<Vec<u8>>>, String> {
        let (mut parser, mut buffer, mut taken) = (Parser::default(), BytesMut::new(), Vec::new());
        for piece in sent.chunks(piece) {
            buffer.extend_from_slice(piece);
            while let Some(command) = parser.take(&mut buffer, 1 << 20).map_err(|error| error.to_string())? {
                taken.push(command.args().map(<[u8]>::to_vec).collect());
            }
        }
        Ok(taken)
    }

    fn words_of(sent: &str) -> Vec<String> {
        let taken = all(sent.as_bytes(), usize::MAX).unwrap();
        taken.concat().into_iter().map(|word| String::from_utf8(word).unwrap()).collect()
    }

    #[test]
    fn arrays_and_lines_are_commands() {
        let sent = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\nPING\r\n\r\n*0\r\n*-1\r\nget  b\n*1\r\n$0\r\n\r\n";
        for piece in [1, 2, 7, 1000] {
            let taken = all(sent, piece).unwrap();
            let expected: [Vec<&[u8]>; 4] =
                [vec![b"GET", b"a"], vec![b"PING"], vec![b"get", b"b"], vec![b""]];
            assert_eq!(taken, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn words_of_a_line_may_be_in_quotes() {
        assert_eq!(words_of("set \"a b\\x41\\n\\\"\" 'c \\' d' \"\"\r\n"), ["set", "a bA\n\"", "c ' d", ""]);
        assert_eq!(words_of("a\"b c\" d\n"), ["ab c", "d"]);
    }

    #[test]
    fn what_redis_refuses_is_refused_in_its_words() {
        let long = "x".repeat(70_000);
        for (sent, expected) in [
            ("*x\r\n", "invalid multibulk length"),
            ("*01\r\n", "invalid multibulk length"),
            ("*2147483648\r\n", "invalid multibulk length"),
            ("*1\r\n+OK\r\n", "expected '$', got '+'"),
            ("*1\r\n$-1\r\n", "invalid bulk length"),
            ("*1\r\n$a\r\n", "invalid bulk length"),
            ("get \"a\n", "unbalanced quotes in request"),
            ("get \"a\"b\n", "unbalanced quotes in request"),
            ("get 'a\n", "unbalanced quotes in request"),
            (&long, "too big inline request"),
            (&format!("*{long}"), "too big mbulk count string"),
            (&format!("*1\r\n${long}"), "too big bulk count string"),
        ] {
            let refused = all(sent.as_bytes(), usize::MAX).unwrap_err();
            assert_eq!(refused, format!("ERR Protocol error: {expected}"), "{sent:.20}");
        }
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_has_come() {
        let (mut parser, mut buffer) =
            (Parser::default(), BytesMut::from(&b"*3\r\n$3\r\nSET\r\n$90\r\n"[..]));
        assert_eq!(parser.take(&mut buffer, 100), Err(Malformed::TooLarge(100)));
        let mut buffer = BytesMut::from(&b"*2\r\n$3\r\nSET\r\n$90\r\nab"[..]);
        let mut parser = Parser::default();
        assert_eq!(parser.take(&mut buffer, 120), Ok(None));
        assert_eq!(parser.missing(&buffer), 90);
        let mut buffer = BytesMut::from(format!("*1\r\n${}\r\n", u64::MAX >> 1).as_bytes());
        assert_eq!(Parser::default().take(&mut buffer, usize::MAX), Err(Malformed::TooLarge(usize::MAX)));
    }

    #[test]
    fn a_command_is_passed_on_as_it_was_sent() {
        let sent = b"*2\r\n$3\r\nGeT\r\n$1\r\na??*1\r\n$4\r\nPING\r\n";
        let mut buffer = BytesMut::from(&sent[..]);
        let mut parser = Parser::default();
        let get = parser.take(&mut buffer, 1000).unwrap().unwrap();
        assert_eq!((&get.raw()[..], get.name(), get.len()), (&sent[..20], &b"GeT"[..], 2));
        assert_eq!(parser.take(&mut buffer, 1000).unwrap().unwrap().name(), b"PING");
        assert!(buffer.is_empty());
    }

    proptest! {
        #[test]
        fn what_is_written_is_taken_in_any_pieces(
            commands in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6), 0..6),
            piece in 1_usize..50,
        ) {
            let mut sent = Vec::new();
            for command in &commands {
                let args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
                sent.extend_from_slice(&write::command(&args));
            }
            prop_assert_eq!(all(&sent, piece), Ok(commands));
        }

        #[test]
        fn nothing_that_comes_makes_it_panic_or_differ_by_pieces(
            sent in prop::collection::vec(prop_oneof![
                any::<u8>(), Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b'"'), Just(b'\\'),
            ], 0..200),
            piece in 1_usize..20,
        ) {
            let (whole, pieces) = (all(&sent, usize::MAX), all(&sent, piece));
            prop_assert_eq!(whole, pieces);
        }
    }
}
