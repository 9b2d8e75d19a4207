//! A connection to Redis that many clients share: what they ask is sent in one pipeline, and each reply is handed to
//! whose it is.

mod carrier;

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::BytesMut;
use futures::task::AtomicWaker;
use parking_lot::Mutex;

use self::carrier::Carrier;
use super::{
    connect::Stream,
    near::{Changing, Near, unreached::Instead},
    outlet::Outlet,
};

/// When so many bytes wait to be sent, clients wait until there is room.
const FULL: usize = 1 << 20;
/// With so many replies outstanding, another line is better.
const BUSY: usize = 64;

/// What is said for a reply that does not come any more.
pub const LOST: &[u8] = b"-ERR the connection to Redis was lost before the reply came; whether the command was done is not known\r\n";

/// A connection that clients share.
#[derive(Debug, Default)]
pub struct Line {
    inbox: Mutex<Inbox>,
    /// Its task.
    waker: AtomicWaker,
    outstanding: AtomicUsize,
    /// Counts what comes: where replies are outstanding and nothing does, Redis is stuck.
    heard: AtomicU64,
    /// A client holds it up.
    is_clogged: AtomicBool,
    /// Redis says nothing on it, for long.
    is_stuck: AtomicBool,
    /// Another is to take its place.
    is_retired: AtomicBool,
}

#[derive(Debug, Default)]
struct Inbox {
    out: BytesMut,
    tickets: VecDeque<Ticket>,
    is_closed: bool,
    /// Counts what was asked.
    asked: u64,
    /// Clients that wait for room.
    waiting: Vec<Waker>,
}

/// Some of the commands that are sent, and what their replies are to the memory of the pod.
#[derive(Debug)]
pub struct Part {
    /// So many replies are awaited.
    pub count: usize,
    /// The reply is the one of this number; without one it is the next of the session's.
    pub number: Option<u64>,
    /// What is to be done before they are given.
    pub before: Before,
    /// What is told if the connection is lost before, where that is no error.
    pub instead: Option<Box<Instead>>,
}

/// What is to be done when a reply is whole, before it is given.
#[derive(Debug, Default)]
pub enum Before {
    /// Nothing.
    #[default]
    Nothing,
    /// What was changed is dropped once more.
    Changed(Changing),
    /// All is forgotten, whether or not a reply comes.
    Forgotten(Arc<Near>),
    /// All is waited for that Redis tells of changes, and what is known to be changed is dropped once more.
    Barrier(Changing),
}

impl Before {
    /// Redis was not asked.
    pub fn unasked(self) {
        if let Self::Changed(changing) = self {
            changing.unasked();
        }
    }
}

/// Whose the next replies are.
#[derive(Debug)]
struct Ticket {
    outlet: Arc<Outlet>,
    left: usize,
    number: Option<u64>,
    /// It may be handed over together with those of the ticket before, if that is its client's.
    goes_on: bool,
    before: Before,
    instead: Option<Box<Instead>>,
}

/// Why something was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untaken {
    /// So much is to be sent already that it has to wait.
    Full,
    /// The connection has ended.
    Lost,
}

/// Why a line has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As it was not needed.
    Closed,
    /// By Redis, or on the way.
    Lost,
}

impl Line {
    /// Sends commands for a client, which awaits the replies of these parts; they are taken with it.
    ///
    /// # Errors
    /// When they were not taken, and nothing has changed.
    pub fn submit(
        &self,
        commands: &[u8],
        outlet: &Arc<Outlet>,
        parts: &mut Vec<Part>,
    ) -> Result<(), Untaken> {
        let mut inbox = self.inbox.lock();
        if inbox.is_closed {
            return Err(Untaken::Lost);
        }
        if inbox.out.len() >= FULL {
            return Err(Untaken::Full);
        }
        inbox.asked += 1;
        inbox.out.extend_from_slice(commands);
        for Part { count, number, before, instead } in parts.drain(..) {
            self.outstanding.fetch_add(count, Ordering::Relaxed);
            // A reply that may have to wait has a place of its own.
            let (number, goes_on) = match (number, &before) {
                (None, Before::Barrier(_)) => (Some(outlet.expect_own(false)), false),
                (None, _) => (None, outlet.expect(count)),
                (number, _) => (number, false),
            };
            match inbox.tickets.back_mut() {
                Some(last)
                    if goes_on
                        && matches!((&last.before, &before), (Before::Nothing, Before::Nothing))
                        && last.instead.is_none()
                        && instead.is_none()
                        && last.number.is_none()
                        && Arc::ptr_eq(&last.outlet, outlet) =>
                {
                    last.left += count;
                }
                _ => inbox.tickets.push_back(Ticket {
                    outlet: outlet.clone(),
                    left: count,
                    number,
                    goes_on,
                    before,
                    instead,
                }),
            }
        }
        drop(inbox);
        self.waker.wake();
        Ok(())
    }

    /// Done when there is room, or none ever.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inbox = self.inbox.lock();
        if inbox.is_closed || inbox.out.len() < FULL {
            return Poll::Ready(());
        }
        inbox.waiting.push(cx.waker().clone());
        Poll::Pending
    }

    /// So many replies are outstanding.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }

    /// Whether another is better.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.outstanding() >= BUSY || self.is_clogged.load(Ordering::Relaxed) || self.is_retired()
    }

    /// Whether another is to take its place; it is used as long as there is none.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Relaxed)
    }

    /// Another is to take its place; whether that is news.
    pub fn retire(&self) -> bool {
        !self.is_retired.swap(true, Ordering::Relaxed)
    }

    /// Whether it has ended, or is about to.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inbox.lock().is_closed
    }

    /// Whether nothing has come on it for long, though something was asked.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.is_stuck.load(Ordering::Relaxed)
    }

    /// Notes whether it is so.
    pub fn set_stuck(&self, is_stuck: bool) {
        self.is_stuck.store(is_stuck, Ordering::Relaxed);
    }

    /// What was asked and heard on it so far; what stays the same is idle, or stuck.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.inbox.lock().asked, self.heard.load(Ordering::Relaxed))
    }

    /// Ends it if nothing is under way; whether that is so.
    pub fn close_if_idle(&self) -> bool {
        let mut inbox = self.inbox.lock();
        if self.outstanding() > 0 || !inbox.tickets.is_empty() {
            return false;
        }
        inbox.is_closed = true;
        drop(inbox);
        self.waker.wake();
        true
    }

    /// Carries it on until it ends; then each reply that is outstanding is an error.
    pub async fn carry(&self, stream: Stream) -> Ended {
        let mut carrier = Carrier::of(self, stream);
        poll_fn(|cx| carrier.poll(cx)).await
    }
}
