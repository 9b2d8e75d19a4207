//! What is known of the replies to a client.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::sink::Sink;

/// A place in the order of replies.
#[derive(Debug)]
pub(super) enum Slot {
    /// So many are to come on a line. What has come waits here for those before.
    Line { left: usize, came: BytesMut },
    /// One that comes by itself, under its number.
    Own { number: u64, is_elsewhere: bool, pace: Pace, came: BytesMut, stands: Stands },
    /// It is there already.
    Here(Bytes),
}

/// How far a reply has come that comes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stands {
    /// What comes is given at once.
    Coming,
    /// It is whole, and what came last is not given yet.
    Withheld,
    /// All of it may be given.
    Done,
}

/// Whether what is asked later waits for a reply that comes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    UnderWay,
    /// It does not.
    HeldUp,
    /// It does, for good.
    Hurried,
}

#[derive(Debug)]
pub(super) struct State {
    /// None: the client is gone, or has to go.
    pub sink: Option<Sink>,
    pub slots: VecDeque<Slot>,
    /// What the socket has not taken.
    pub out: BytesMut,
    /// Bytes in `out` and in the slots.
    pub held: usize,
    pub awaited: usize,
    /// Of these, how many do not come on the session's line.
    pub elsewhere: usize,
    /// And of these, how many are held up.
    pub held_up: usize,
    /// Counts those that come by themselves.
    pub numbers: u64,
    /// The session wants to be woken once no more replies than these are awaited; of those that are held up as well, or
    /// of the others alone.
    pub wake_at: Option<(usize, Which)>,
    /// The beginning of the replies that come, where the session has to know it.
    pub look: Option<Vec<u8>>,
}

/// Which replies are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    All,
    /// All but those that are held up.
    UnderWay,
}

impl State {
    pub fn left(&self, which: Which) -> usize {
        match which {
            Which::All => self.awaited,
            Which::UnderWay => self.awaited.saturating_sub(self.held_up),
        }
    }
}
