//! Judges a history: what was promised of a pod's reads, and how old across pods they were. Pure.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    fmt,
    time::Duration,
};

use super::history::{By, History, Operation, Seen, Span, Time, What};

/// How old a read across pods may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Of the reads outside of faults that could be old, 99.9 % are no older.
    pub calm: Duration,
    /// None is older, whatever happens.
    pub ever: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { calm: Duration::from_millis(100), ever: Duration::from_secs(1) }
    }
}

/// So long after a write of another pod a read counts as one that could be old.
const EXPOSED: Time = 1_000_000_000;

/// What should not have been seen.
#[derive(Clone, Debug)]
pub enum Flaw {
    /// A version that nobody wrote, or that is read before its write began.
    NeverWritten { read: Operation },
    /// Two writes came to the same version: one of them was lost.
    WrittenTwice { one: Operation, other: Operation },
    /// Older than what an earlier read in the same pod saw.
    Backwards { read: Operation, earlier: Operation, version: u64 },
    /// Older than what was written in the same pod before.
    OwnWriteMissed { read: Operation, write: Operation, version: u64 },
    /// Past the memory, and old all the same.
    NotFresh { read: Operation, by: Duration },
    /// Older than is ever allowed.
    TooOld { read: Operation, by: Duration },
    /// Too many are older than is allowed without faults.
    TooOftenOld { p999: Duration },
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverWritten { read } => write!(f, "never written: {}", Shown(read)),
            Self::WrittenTwice { one, other } => {
                write!(f, "written twice: {} and {}", Shown(one), Shown(other))
            }
            Self::Backwards { read, earlier, version } => {
                write!(f, "backwards: {} after version {version} was seen by {}", Shown(read), Shown(earlier))
            }
            Self::OwnWriteMissed { read, write, version } => {
                write!(f, "own write missed: {} after version {version} by {}", Shown(read), Shown(write))
            }
            Self::NotFresh { read, by } => write!(f, "not fresh, by {by:?}: {}", Shown(read)),
            Self::TooOld { read, by } => write!(f, "too old, by {by:?}: {}", Shown(read)),
            Self::TooOftenOld { p999 } => write!(f, "too often old: {p999:?} at 99.9 %"),
        }
    }
}

struct Shown<'a>(&'a Operation);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Operation { session, by, key, span, what, command } = self.0;
        write!(
            f,
            "{command} of key {key:x} by session {session} ({by:?}) at {:.6}-{:.6} s: {what:?}",
            span.start as f64 / 1e9,
            span.end as f64 / 1e9
        )
    }
}

/// How old the reads through pods were.
#[derive(Clone, Copy, Debug, Default)]
pub struct Staleness {
    /// Reads through pods that a memory may answer.
    pub reads: usize,
    /// Those of them soon after a write from elsewhere.
    pub exposed: usize,
    /// Those of these that were old.
    pub old: usize,
    /// Of those exposed outside of faults.
    pub p99: Duration,
    pub p999: Duration,
    /// Of all.
    pub most: Duration,
}

/// What comes of a history.
#[derive(Debug, Default)]
pub struct Verdict {
    pub operations: usize,
    pub errors: usize,
    pub staleness: Staleness,
    pub flaws: Vec<Flaw>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations, errors, staleness, flaws } = self;
        writeln!(f, "{operations} operations, {errors} errors; {staleness:?}; {} flaws", flaws.len())?;
        flaws.iter().take(10).try_for_each(|flaw| writeln!(f, "  {flaw}"))
    }
}

/// Judges a history by these bounds.
pub fn check(history: &History, bounds: Bounds) -> Verdict {
    let mut verdict =
        Verdict { operations: history.operations.len(), errors: history.errors, ..Verdict::default() };
    let mut keys: HashMap<u64, Vec<&Operation>> = HashMap::new();
    for operation in &history.operations {
        keys.entry(operation.key).or_default().push(operation);
    }
    let mut calm = Vec::new();
    for operations in keys.values_mut() {
        operations.sort_by_key(|operation| operation.span.start);
        let writes = Writes::of(operations, &mut verdict.flaws);
        floors(operations, &writes, &mut verdict.flaws);
        ages(operations, &writes, history, bounds, &mut verdict, &mut calm);
    }
    calm.sort_unstable();
    verdict.staleness.p99 = quantile(&calm, 0.99);
    verdict.staleness.p999 = quantile(&calm, 0.999);
    if verdict.staleness.p999 > bounds.calm {
        verdict.flaws.push(Flaw::TooOftenOld { p999: verdict.staleness.p999 });
    }
    verdict
}

fn quantile(sorted: &[Time], share: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    let index = ((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1).min(last);
    Duration::from_nanos(sorted.get(index).copied().unwrap_or_default())
}

/// The writes of one key.
struct Writes {
    /// When each began.
    began: BTreeMap<u64, Time>,
    /// From this version on, when the first that was confirmed ended.
    superseded: BTreeMap<u64, Time>,
    /// The versions as of which the key is absent, and when they began.
    deletions: BTreeMap<u64, Time>,
    /// Of writes whose version was never told.
    unknown: Vec<Time>,
    /// End and origin of those that were confirmed, by the end.
    ended: Vec<(Time, By)>,
}

impl Writes {
    fn of(operations: &[&Operation], flaws: &mut Vec<Flaw>) -> Self {
        let (mut began, mut superseded) = (BTreeMap::from([(0, 0)]), BTreeMap::new());
        let mut deletions = BTreeMap::from([(0, 0)]);
        let (mut unknown, mut ended) = (Vec::new(), Vec::new());
        let mut by_version: HashMap<u64, Operation> = HashMap::new();
        for &&operation in operations {
            let (version, is_deletion) = match operation.what {
                What::Read { .. } => continue,
                What::Unresolved { version: None, .. } => {
                    unknown.push(operation.span.start);
                    continue;
                }
                What::Unresolved { version: Some(version), is_deletion } => (version, is_deletion),
                What::Wrote { version, is_deletion } => {
                    superseded.insert(version, operation.span.end);
                    ended.push((operation.span.end, operation.by));
                    (version, is_deletion)
                }
            };
            if let Some(one) = by_version.insert(version, operation) {
                flaws.push(Flaw::WrittenTwice { one, other: operation });
            }
            began.insert(version, operation.span.start);
            if is_deletion {
                deletions.insert(version, operation.span.start);
            }
        }
        let mut earliest = Time::MAX;
        for end in superseded.values_mut().rev() {
            earliest = earliest.min(*end);
            *end = earliest;
        }
        ended.sort_unstable_by_key(|(end, _)| *end);
        Self { began, superseded, deletions, unknown, ended }
    }

    fn could_be(&self, version: u64, until: Time) -> bool {
        match self.began.get(&version) {
            Some(began) => *began <= until,
            None => self.unknown.iter().any(|began| *began <= until),
        }
    }

    /// The newest version that a read which ended by then may have seen.
    fn newest(&self, seen: Seen, until: Time) -> Option<u64> {
        match seen {
            Seen::Version(version) => self.could_be(version, until).then_some(version),
            Seen::Absent => {
                self.deletions.iter().rev().find(|(_, began)| **began <= until).map(|(version, _)| *version)
            }
        }
    }

    /// For how long, as a read began, something newer had been confirmed.
    fn age(&self, version: u64, start: Time) -> Time {
        self.superseded.range(version + 1..).next().map_or(0, |(_, ended)| start.saturating_sub(*ended))
    }

    /// Whether a write from elsewhere was confirmed shortly before.
    fn is_exposed(&self, by: By, start: Time) -> bool {
        let before = self.ended.partition_point(|(end, _)| *end <= start);
        self.ended[..before]
            .iter()
            .rev()
            .take_while(|(end, _)| *end + EXPOSED >= start)
            .any(|(_, of)| *of != by)
    }
}

/// Within a pod: no read is older than what was seen or written before it began.
fn floors(operations: &[&Operation], writes: &Writes, flaws: &mut Vec<Flaw>) {
    let mut pods: HashMap<By, Floor> = HashMap::new();
    for (index, operation) in operations.iter().enumerate() {
        if operation.by == By::Expiry {
            continue;
        }
        let floor = pods.entry(operation.by).or_default();
        floor.until(operation.span.start);
        let Operation { span, what, .. } = **operation;
        match what {
            What::Unresolved { .. } => {}
            What::Wrote { version, .. } => floor.pending.push(Reverse((span.end, version, index))),
            What::Read { seen, .. } => {
                let Some(newest) = writes.newest(seen, span.end) else {
                    flaws.push(Flaw::NeverWritten { read: **operation });
                    continue;
                };
                let version = floor.version;
                if newest < version {
                    let (read, earlier) = (**operation, *operations[floor.of]);
                    flaws.push(match earlier.what {
                        What::Read { .. } => Flaw::Backwards { read, earlier, version },
                        _ => Flaw::OwnWriteMissed { read, write: earlier, version },
                    });
                    continue;
                }
                // Of several deletions that it may have seen, the oldest one is taken as seen.
                let least = match seen {
                    Seen::Version(version) => version,
                    Seen::Absent => {
                        writes.deletions.range(version..).next().map_or(newest, |(least, _)| *least)
                    }
                };
                floor.pending.push(Reverse((span.end, least, index)));
            }
        }
    }
}

/// What of a key has been seen or written in a pod.
#[derive(Default)]
struct Floor {
    version: u64,
    /// By which operation.
    of: usize,
    /// What counts once it has ended: the end, the version, the operation.
    pending: BinaryHeap<Reverse<(Time, u64, usize)>>,
}

impl Floor {
    fn until(&mut self, time: Time) {
        while let Some(Reverse((end, version, of))) = self.pending.peek().copied()
            && end <= time
        {
            self.pending.pop();
            if version > self.version {
                (self.version, self.of) = (version, of);
            }
        }
    }
}

/// Across pods: how old each read was.
fn ages(
    operations: &[&Operation],
    writes: &Writes,
    history: &History,
    bounds: Bounds,
    verdict: &mut Verdict,
    calm: &mut Vec<Time>,
) {
    for &&read in operations {
        let What::Read { seen, is_fresh } = read.what else { continue };
        // What was never written is told already.
        let Some(version) = writes.newest(seen, read.span.end) else { continue };
        let age = writes.age(version, read.span.start);
        let by = Duration::from_nanos(age);
        if is_fresh {
            if age > 0 {
                verdict.flaws.push(Flaw::NotFresh { read, by });
            }
            continue;
        }
        let staleness = &mut verdict.staleness;
        staleness.reads += 1;
        staleness.most = staleness.most.max(by);
        staleness.old += usize::from(age > 0);
        if by > bounds.ever {
            verdict.flaws.push(Flaw::TooOld { read, by });
        }
        // What is old is exposed, however long ago the write was.
        if age > 0 || writes.is_exposed(read.by, read.span.start) {
            staleness.exposed += 1;
            if !history.faults.iter().any(|fault| overlaps(*fault, read.span)) {
                calm.push(age);
            }
        }
    }
}

fn overlaps(one: Span, other: Span) -> bool {
    one.start <= other.end && other.start <= one.end
}
