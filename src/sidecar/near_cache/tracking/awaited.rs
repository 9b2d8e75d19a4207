//! What is asked beside a read, and what the answers mean for how long its reply may be given. PURE.

use bytes::BytesMut;

use super::Fill;
use crate::sidecar::{
    near_cache::commands::Lifetime,
    resp::{
        reply::{Item, Reader},
        write,
    },
};

/// What is asked beside a read and `PTTL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    /// `HPTTL` of fields.
    Fields,
    /// `OBJECT ENCODING`: a hash in one piece has no fields that expire.
    Encoding,
}

/// How long a reply may be given, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// As long as the rule says.
    None,
    /// For so many milliseconds after it was asked for.
    Within(u64),
    /// It is not known, or not at all.
    Never,
}

/// A read that was sent.
pub(super) struct AwaitedFill {
    pub fill: Fill,
    pub sent: u64,
    pub limit: Limit,
    /// What Redis has said to `PTTL` if it was an error.
    pub is_refused: Option<Box<str>>,
    /// What is asked beside it and not answered yet: so many `PTTL`, and one more.
    keys: usize,
    more: Option<Beside>,
}

impl AwaitedFill {
    /// Writes a read with what is asked beside it.
    pub fn send(fill: Fill, sent: u64, knows_fields: bool, out: &mut BytesMut) -> Self {
        let command = &fill.asked.command;
        let mut keys = 0;
        for key in fill.asked.keys.clone().filter_map(|at| command.arg(at)) {
            out.extend_from_slice(&write::command(&[b"PTTL", key]));
            keys += 1;
        }
        let key = fill.asked.keys.clone().next().and_then(|at| command.arg(at)).unwrap_or_default();
        let more = match fill.asked.cached.lifetime {
            Lifetime::Fields(first) if knows_fields => {
                let first = usize::from(first);
                let number = command.len().saturating_sub(first);
                let number_text = number.to_string();
                let mut asked: Vec<&[u8]> = vec![b"HPTTL", key, b"FIELDS", number_text.as_bytes()];
                asked.extend((first..command.len()).filter_map(|at| command.arg(at)));
                out.extend_from_slice(&write::command(&asked));
                Some(Beside::Fields)
            }
            Lifetime::WholeHash if knows_fields => {
                out.extend_from_slice(&write::command(&[b"OBJECT", b"ENCODING", key]));
                Some(Beside::Encoding)
            }
            Lifetime::Keys | Lifetime::Fields(_) | Lifetime::WholeHash => None,
        };
        out.extend_from_slice(command.raw());
        Self { fill, sent, limit: Limit::None, is_refused: None, keys, more }
    }

    /// Takes the answer to what is asked beside it; whether it was one, and not the reply itself.
    pub fn takes(&mut self, reply: &[u8]) -> bool {
        if self.keys > 0 {
            self.keys -= 1;
            let limit = key(reply);
            if limit == Limit::Never && matches!(reply.first(), Some(b'-' | b'!')) {
                self.is_refused = Some(String::from_utf8_lossy(reply).trim_end().into());
            }
            self.limit = self.limit.and(limit);
            return true;
        }
        let limit = match self.more.take() {
            None => return false,
            Some(Beside::Encoding) => encoding(reply),
            Some(Beside::Fields) => fields(reply),
        };
        self.limit = self.limit.and(limit);
        true
    }
}

impl Limit {
    /// What two together leave.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Never, _) | (_, Self::Never) => Self::Never,
            (Self::None, limit) | (limit, Self::None) => limit,
            (Self::Within(one), Self::Within(other)) => Self::Within(one.min(other)),
        }
    }

    /// Of a key, or a field: -1 is one that does not expire, and -2 one that is not there.
    fn of(time: i64) -> Self {
        match time {
            -2 | -1 => Self::None,
            time => u64::try_from(time).map_or(Self::Never, Self::Within),
        }
    }
}

fn key(reply: &[u8]) -> Limit {
    match Reader::new(reply).next() {
        Some(Item::Integer(time)) => Limit::of(time),
        _ => Limit::Never,
    }
}

fn fields(reply: &[u8]) -> Limit {
    let mut items = Reader::new(reply);
    if !matches!(items.next(), Some(Item::Array(_))) {
        return Limit::Never;
    }
    items.fold(Limit::None, |limit, item| match item {
        Item::Integer(time) => limit.and(Limit::of(time)),
        _ => Limit::Never,
    })
}

fn encoding(reply: &[u8]) -> Limit {
    match Reader::new(reply).next() {
        Some(Item::Bulk(b"listpack" | b"ziplist") | Item::Simple(b"listpack" | b"ziplist") | Item::Null) => {
            Limit::None
        }
        _ => Limit::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_all_times_the_shortest_counts() {
        assert_eq!(key(b":-1\r\n"), Limit::None);
        assert_eq!(key(b":-2\r\n"), Limit::None);
        assert_eq!(key(b":1500\r\n"), Limit::Within(1500));
        assert_eq!(key(b"-NOPERM no\r\n"), Limit::Never);
        assert_eq!(fields(b"*3\r\n:-1\r\n:70\r\n:-2\r\n"), Limit::Within(70));
        assert_eq!(fields(b"-WRONGTYPE\r\n"), Limit::Never);
        assert_eq!(Limit::Within(3).and(Limit::None).and(Limit::Within(2)), Limit::Within(2));
        assert_eq!(Limit::Within(3).and(Limit::Never), Limit::Never);
    }

    #[test]
    fn a_hash_that_may_have_fields_that_expire_is_not_kept() {
        assert_eq!(encoding(b"$8\r\nlistpack\r\n"), Limit::None);
        assert_eq!(encoding(b"_\r\n"), Limit::None);
        assert_eq!(encoding(b"$10\r\nlistpackex\r\n"), Limit::Never);
        assert_eq!(encoding(b"$9\r\nhashtable\r\n"), Limit::Never);
    }
}
