//! Where the keys of a command stand.

use super::{Args, options};

/// Indices of arguments, evenly spaced and within the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indices {
    next: usize,
    end: usize,
    step: usize,
}

impl Indices {
    pub(super) const NONE: Self = Self { next: 0, end: 0, step: 1 };

    pub(super) fn one(at: usize, count: usize) -> Self {
        Self::new(at, at.saturating_add(1), 1, count)
    }

    /// From `first` to before `end`, as far as there are arguments.
    pub(super) fn new(first: usize, end: usize, step: usize, count: usize) -> Self {
        let end = end.min(count);
        if first < end { Self { next: first, end, step: step.max(1) } } else { Self::NONE }
    }
}

impl Iterator for Indices {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let at = self.next;
        if at >= self.end {
            return None;
        }
        self.next = at.saturating_add(self.step);
        Some(at)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.end.saturating_sub(self.next).div_ceil(self.step);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Indices {}

/// Where a command of the table has its keys.
#[derive(Clone, Copy, Debug)]
pub(super) enum Where {
    Nowhere,
    /// At this index.
    At(u8),
    /// From the first to the last, which counts from the end where it is negative; each so many further.
    Range(u8, i8, u8),
    /// Their number is at this index, and they follow it; each so many further.
    Counted(u8, u8),
    /// Behind `STREAMS`, the first half of what follows.
    Streams,
    /// At 1, where `BITFIELD` sets something.
    Bits,
    /// Behind the last `STORE` of `SORT`.
    SortStore,
    /// Behind the last `STORE` or `STOREDIST` of `GEORADIUS`, from this index on.
    RadiusStore(u8),
    /// At 3, or where that is empty, behind `KEYS`.
    Migrated,
}

/// From this index to the last argument.
pub(super) const fn from(first: u8) -> Where {
    Where::Range(first, -1, 1)
}

impl Where {
    pub(super) fn indices<A: Args + ?Sized>(self, args: &A) -> Indices {
        let count = args.count();
        match self {
            Self::At(at) => Indices::one(at.into(), count),
            Self::Range(first, last, step) => {
                let back = usize::from(last.unsigned_abs());
                let end = if last < 0 { (count + 1).saturating_sub(back) } else { back + 1 };
                Indices::new(first.into(), end, step.into(), count)
            }
            Self::Counted(at, step) => {
                let at = usize::from(at);
                let number = args.arg(at).and_then(options::number).unwrap_or_default();
                let step = usize::from(step);
                Indices::new(at + 1, number.saturating_mul(step).saturating_add(at + 1), step, count)
            }
            Self::Streams => options::streams(args),
            Self::Bits if options::has(args, b"SET", 2) || options::has(args, b"INCRBY", 2) => {
                Indices::one(1, count)
            }
            Self::Nowhere | Self::Bits => Indices::NONE,
            Self::SortStore => options::sort_store(args),
            Self::RadiusStore(first) => options::radius_store(args, first.into()),
            Self::Migrated => options::migrated(args),
        }
    }
}
