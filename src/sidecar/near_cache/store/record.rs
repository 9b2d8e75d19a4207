//! One stored reply: a header, its key, the rest of its command, and its bytes, in one piece of memory. PURE.
//!
//! A struct of its parts would take twice as much beside key and value as this does.

use std::hash::BuildHasher;

use crate::sidecar::{
    near_cache::coherence::{Coherence, Cover},
    resp::request::Command,
};

/// Where things stand: when it expires, uses, the two parts of its cover, its rule, tag, length of key and of command.
const USES: usize = 6;
const PLACE: usize = 7;
const GENERATION: usize = 8;
const RULE: usize = 12;
const TAG: usize = 14;
const KEY: usize = 18;
const COMMAND: usize = 22;
const HEADER: usize = 24;
/// Times have 48 bits.
const LATEST: u64 = (1 << 48) - 1;
/// Of the length of the command: it stands behind an epoch.
const HAS_EPOCH: u16 = 1 << 15;
const EPOCH: usize = 8;
/// In a command: here is the key.
const IS_KEY: u8 = 0xff;
/// In a command: an argument that is longer than one byte tells.
const IS_LONG: u8 = 0xfe;
/// More uses than that are none.
const MOST_USES: u8 = 3;

/// What is known of a reply.
pub(super) struct Header {
    pub expires: u64,
    pub cover: Cover,
    pub rule: u16,
    pub tag: u32,
    /// When its fill began, where it has several keys.
    pub epoch: Option<u64>,
}

/// One stored reply. Nearly always it is in one piece; the reply may go on in another.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    pub head: &'a [u8],
    pub tail: &'a [u8],
}

/// The bytes of a record, and where its reply begins: up to there it is not divided.
pub(super) struct Made {
    pub bytes: Vec<u8>,
    pub reply: usize,
}

impl Made {
    /// Of a command whose argument at `at` is the key; nothing where the command is too long to be kept.
    pub fn new(header: &Header, key: &[u8], command: &Command, at: usize, reply: &[u8]) -> Option<Self> {
        let Header { expires, cover, rule, tag, epoch } = *header;
        let rest = written(command, at)?;
        let length = u16::try_from(rest.len()).ok().filter(|length| length & HAS_EPOCH == 0)?;
        let key_length = u32::try_from(key.len()).ok()?;
        let epoch_length = epoch.map_or(0, |_| EPOCH);
        let mut bytes = Vec::with_capacity(HEADER + epoch_length + key.len() + rest.len() + reply.len());
        bytes.extend_from_slice(expires.min(LATEST).to_le_bytes().get(..USES)?);
        bytes.extend_from_slice(&[0, cover.place]);
        bytes.extend_from_slice(&cover.generation.to_le_bytes());
        bytes.extend_from_slice(&rule.to_le_bytes());
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&key_length.to_le_bytes());
        bytes.extend_from_slice(&(length | if epoch.is_some() { HAS_EPOCH } else { 0 }).to_le_bytes());
        bytes.extend(epoch.into_iter().flat_map(u64::to_le_bytes));
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(&rest);
        let start = bytes.len();
        bytes.extend_from_slice(reply);
        Some(Self { bytes, reply: start })
    }
}

impl<'a> Record<'a> {
    fn bytes<const LENGTH: usize>(self, at: usize) -> [u8; LENGTH] {
        self.head.get(at..).and_then(|bytes| bytes.first_chunk()).copied().unwrap_or([0; LENGTH])
    }

    fn lengths(self) -> (usize, usize, usize) {
        let command = u16::from_le_bytes(self.bytes(COMMAND));
        let start = HEADER + if command & HAS_EPOCH == 0 { 0 } else { EPOCH };
        let key = start + u32::from_le_bytes(self.bytes(KEY)) as usize;
        (start, key, key + usize::from(command & !HAS_EPOCH))
    }

    /// When it is not given any more.
    pub fn expires(self) -> u64 {
        u64::from_le_bytes(self.bytes(0)) & LATEST
    }

    /// The connection that it hangs on.
    pub fn cover(self) -> Cover {
        let [place] = self.bytes(PLACE);
        Cover { place, generation: u32::from_le_bytes(self.bytes(GENERATION)) }
    }

    /// The rule that holds for it.
    pub fn rule(self) -> u16 {
        u16::from_le_bytes(self.bytes(RULE))
    }

    /// When its fill began, where it has several keys.
    pub fn epoch(self) -> Option<u64> {
        let has_epoch = u16::from_le_bytes(self.bytes(COMMAND)) & HAS_EPOCH != 0;
        has_epoch.then(|| u64::from_le_bytes(self.bytes(HEADER)))
    }

    /// The key under which it stands.
    pub fn key(self) -> &'a [u8] {
        let (start, end, _) = self.lengths();
        self.head.get(start..end).unwrap_or_default()
    }

    /// What Redis has said, or the first part of it.
    pub fn reply(self) -> &'a [u8] {
        let (_, _, start) = self.lengths();
        self.head.get(start..).unwrap_or_default()
    }

    fn command(self) -> &'a [u8] {
        let (_, start, end) = self.lengths();
        self.head.get(start..end).unwrap_or_default()
    }

    /// Whether it answers this command, whose key is at `at` and is that of the record.
    pub fn answers(self, tag: u32, command: &Command, at: usize) -> bool {
        let mut rest = self.command();
        u32::from_le_bytes(self.bytes(TAG)) == tag
            && pieces(command, at).all(|piece| piece.is_taken_from(&mut rest).is_some())
            && rest.is_empty()
    }

    /// Whether it answers what the other answers.
    pub fn is_like(self, other: Self) -> bool {
        self.bytes::<4>(TAG) == other.bytes::<4>(TAG)
            && self.command() == other.command()
            && self.key() == other.key()
    }

    /// Whether it answers the command that is written so.
    pub fn answers_written(self, tag: u32, written: &[u8]) -> bool {
        u32::from_le_bytes(self.bytes(TAG)) == tag && self.command() == written
    }

    /// By what it is found among others of its key.
    pub fn hash(self, hashes: &impl BuildHasher) -> u64 {
        hash_of(hashes, u32::from_le_bytes(self.bytes(TAG)), self.command())
    }

    /// Whether it may be given, now or when its connection is up to date.
    pub fn is_of_use(self, coherence: &Coherence, now: u64) -> bool {
        now < self.expires() && coherence.holds(self.cover())
    }
}

/// The record that begins so was given once more.
pub(super) fn note_use(head: &mut [u8]) {
    if let Some(uses) = head.get_mut(USES) {
        *uses = (*uses + 1).min(MOST_USES);
    }
}

/// Takes one of its uses away, if there is one.
pub(super) fn forget_use(head: &mut [u8]) -> bool {
    let uses = head.get_mut(USES).filter(|uses| **uses > 0);
    uses.map(|uses| *uses -= 1).is_some()
}

/// How many bytes jemalloc takes for so many: it has 4 sizes for each power of two, and steps of 16 below 128; of a
/// power of two it has no more than fit on a page, for which it keeps 128 bytes of its own.
pub(super) fn taken(length: usize) -> u64 {
    let size = length.next_multiple_of(step(length));
    (size + if size.is_power_of_two() { size.min(4096) / 32 } else { 0 }) as u64
}

fn step(length: usize) -> usize {
    (length.next_power_of_two() / 8).max(16)
}

/// The two largest of its sizes that are no more than so many bytes.
pub(super) fn sizes_below(length: usize) -> [usize; 2] {
    let largest = |length: usize| length / step(length + 1) * step(length + 1);
    let first = largest(length);
    [first, largest(first.saturating_sub(1))]
}

/// A command without its key, as it is kept; nothing where it is too long for that.
pub(super) fn written(command: &Command, at: usize) -> Option<Vec<u8>> {
    let mut written = Vec::with_capacity(32);
    for piece in pieces(command, at) {
        match piece {
            Piece::Key => written.push(IS_KEY),
            Piece::Name(name) => {
                push_length(&mut written, name.len())?;
                written.extend(name.iter().map(u8::to_ascii_uppercase));
            }
            Piece::Argument(argument) => {
                push_length(&mut written, argument.len())?;
                written.extend_from_slice(argument);
            }
        }
    }
    Some(written)
}

/// By what a record is found among others of its key.
pub(super) fn hash_of(hashes: &impl BuildHasher, tag: u32, written: &[u8]) -> u64 {
    hashes.hash_one((tag, written))
}

/// A part of a command.
enum Piece<'a> {
    Name(&'a [u8]),
    Key,
    Argument(&'a [u8]),
}

fn pieces(command: &Command, key: usize) -> impl Iterator<Item = Piece<'_>> {
    command.args().enumerate().map(move |(at, argument)| match at {
        0 => Piece::Name(argument),
        at if at == key => Piece::Key,
        _ => Piece::Argument(argument),
    })
}

impl Piece<'_> {
    /// Takes it from what begins with it.
    fn is_taken_from(&self, rest: &mut &[u8]) -> Option<()> {
        if matches!(self, Self::Key) {
            *rest = rest.strip_prefix(&[IS_KEY])?;
            return Some(());
        }
        let (first, mut after) = rest.split_first()?;
        let mut length = usize::from(*first);
        if *first >= IS_LONG {
            let (bytes, others) = after.split_first_chunk().filter(|_| *first == IS_LONG)?;
            (length, after) = (usize::from(u16::from_le_bytes(*bytes)), others);
        }
        let (found, after) = after.split_at_checked(length)?;
        *rest = after;
        let is_same = match self {
            Self::Key => false,
            Self::Name(name) => found.eq_ignore_ascii_case(name),
            Self::Argument(argument) => found == *argument,
        };
        is_same.then_some(())
    }
}

fn push_length(out: &mut Vec<u8>, length: usize) -> Option<()> {
    match u8::try_from(length) {
        Ok(length) if length < IS_LONG => out.push(length),
        _ => {
            out.push(IS_LONG);
            out.extend_from_slice(&u16::try_from(length).ok()?.to_le_bytes());
        }
    }
    Some(())
}
