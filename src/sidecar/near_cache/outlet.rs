//! What is on its way to a client: replies in the order of its commands, from wherever they come.
//!
//! Whoever has a reply writes it to the client at once, if the client takes it; so the task of the session is not
//! woken for what is passed on. What the client does not take yet is kept, within bounds.

mod awaited;
mod sink;
mod state;

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::net::tcp::OwnedWriteHalf;

use self::{
    sink::Sink,
    state::{Pace, Slot, Stands, State},
};

/// Of a reply that is looked at, so much is enough.
const LOOK: usize = 256;
/// An empty buffer that is larger is given back.
const SPARE: usize = 64 << 10;

/// How much is kept for clients that are slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// When so many bytes wait for a client, no more of its commands are looked at.
    pub pause: usize,
    /// When so many bytes wait for a client, the connection to Redis is not read any further for a while.
    pub most: usize,
    /// So many bytes wait for all clients together; whose next would be more is ended.
    pub all: usize,
    /// So many replies are awaited for a client, until no more of its commands are looked at.
    pub awaited: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { pause: 256 << 10, most: 8 << 20, all: 64 << 20, awaited: 4096 }
    }
}

/// What waits for all clients together.
#[derive(Debug, Default)]
pub struct Held {
    bytes: AtomicUsize,
}

/// The way to a client.
#[derive(Debug)]
pub struct Outlet {
    state: Mutex<State>,
    /// The task of the session.
    waker: AtomicWaker,
    bounds: Bounds,
    all: Arc<Held>,
}

/// The client is gone, or was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl Outlet {
    /// To a client.
    #[must_use]
    pub fn to(socket: OwnedWriteHalf, bounds: Bounds, all: Arc<Held>) -> Arc<Self> {
        Self::with(Sink::Client(socket), bounds, all)
    }

    /// To nobody: for what the sidecar itself asks, which is [taken](Self::poll_kept) from here.
    #[must_use]
    pub fn kept(bounds: Bounds, all: Arc<Held>) -> Arc<Self> {
        Self::with(Sink::Kept, bounds, all)
    }

    fn with(sink: Sink, bounds: Bounds, all: Arc<Held>) -> Arc<Self> {
        let state = State {
            sink: Some(sink),
            slots: VecDeque::new(),
            out: BytesMut::new(),
            held: 0,
            awaited: 0,
            elsewhere: 0,
            held_up: 0,
            numbers: 0,
            wake_at: None,
            look: None,
        };
        Arc::new(Self { state: Mutex::new(state), waker: AtomicWaker::new(), bounds, all })
    }

    /// So many replies will come on a line; whether nothing is to come between them and those before.
    pub fn expect(&self, count: usize) -> bool {
        let mut state = self.state.lock();
        if state.sink.is_none() {
            return false;
        }
        state.awaited += count;
        // A slot whose replies have all come is not added to: what comes next is behind what was put after it.
        if let Some(Slot::Line { left, .. }) = state.slots.back_mut()
            && *left > 0
        {
            *left += count;
            true
        } else {
            state.slots.push_back(Slot::Line { left: count, came: BytesMut::new() });
            false
        }
    }

    /// A reply will come by itself, for the number that is returned: elsewhere than on the session's line, or there.
    pub fn expect_own(&self, is_elsewhere: bool) -> u64 {
        let mut state = self.state.lock();
        state.numbers += 1;
        let number = state.numbers;
        if state.sink.is_some() {
            state.awaited += 1;
            state.elsewhere += usize::from(is_elsewhere);
            state.slots.push_back(Slot::Own {
                number,
                is_elsewhere,
                pace: Pace::UnderWay,
                came: BytesMut::new(),
                stands: Stands::Coming,
            });
        }
        number
    }

    /// A part of the reply that comes by itself, and whether it is the last; whether there is room for more. Where the
    /// last is withheld, it waits for [`Self::release`].
    pub fn deliver_own(&self, number: u64, piece: &[u8], is_last: bool, is_withheld: bool) -> bool {
        let mut state = self.state.lock();
        let is_it = |slot: &Slot| matches!(slot, Slot::Own { number: other, .. } if *other == number);
        let Some(place) = state.slots.iter().position(is_it) else { return true };
        let is_kept = place > 0 || (is_last && is_withheld);
        if !is_kept {
            self.write(&mut state, piece);
        } else if !self.keep(&mut state, piece.len()) {
            return true;
        }
        let State { slots, awaited, elsewhere, held_up, .. } = &mut *state;
        let Some(Slot::Own { came, stands, is_elsewhere, pace, .. }) = slots.get_mut(place) else {
            return true;
        };
        if is_kept {
            came.extend_from_slice(piece);
        }
        if is_last {
            *stands = if is_withheld { Stands::Withheld } else { Stands::Done };
            if *stands == Stands::Done {
                // It may have to wait for its turn yet.
                *awaited = awaited.saturating_sub(1);
                *elsewhere = elsewhere.saturating_sub(usize::from(*is_elsewhere));
                *held_up = held_up.saturating_sub(usize::from(*pace == Pace::HeldUp));
            }
        }
        self.move_up(&mut state);
        self.wake_if_settled(&mut state);
        state.held <= self.bounds.most
    }

    /// The reply of this number may be given.
    pub fn release(&self, number: u64) {
        self.deliver_own(number, b"", true, false);
    }

    /// The reply of this number comes elsewhere than on the line; it does not any more. As [`Self::fail`].
    pub fn fail_own(&self, number: u64, has_begun: bool, error: &[u8]) {
        if has_begun {
            self.cut();
        } else {
            self.deliver_own(number, error, true, false);
        }
    }

    /// A part of the replies that are awaited, with which so many are whole; whether there is room for more.
    pub fn deliver(&self, piece: &[u8], whole: usize) -> bool {
        let mut state = self.state.lock();
        let is_awaited = |slot: &Slot| matches!(slot, Slot::Line { left, .. } if *left > 0);
        let Some(place) = state.slots.iter().position(is_awaited) else { return true };
        if let Some(look) = &mut state.look {
            let rest = LOOK.saturating_sub(look.len()).min(piece.len());
            look.extend_from_slice(piece.get(..rest).unwrap_or_default());
        }
        if place == 0 {
            self.write(&mut state, piece);
        } else if self.keep(&mut state, piece.len())
            && let Some(Slot::Line { came, .. }) = state.slots.get_mut(place)
        {
            came.extend_from_slice(piece);
        }
        if whole > 0 {
            if let Some(Slot::Line { left, .. }) = state.slots.get_mut(place) {
                *left = left.saturating_sub(whole);
            }
            state.awaited = state.awaited.saturating_sub(whole);
            self.move_up(&mut state);
            self.wake_if_settled(&mut state);
        }
        state.held <= self.bounds.most
    }

    /// So many replies will not come, and are an error. Where one has begun, nobody can say any more what the client
    /// is told: it is ended.
    pub fn fail(&self, count: usize, has_begun: bool, error: &[u8]) {
        if has_begun {
            self.cut();
            return;
        }
        for _ in 0..count {
            self.deliver(error, 1);
        }
    }

    /// A reply that is there already; it comes after those that are awaited.
    pub fn ready(&self, reply: Bytes) {
        let mut state = self.state.lock();
        if state.slots.is_empty() {
            self.write(&mut state, &reply);
        } else if self.keep(&mut state, reply.len()) {
            state.slots.push_back(Slot::Here(reply));
        }
    }

    /// The same of what is not the caller's to give away.
    pub fn give(&self, replies: &[u8]) {
        let mut state = self.state.lock();
        if state.slots.is_empty() {
            self.write(&mut state, replies);
        } else if self.keep(&mut state, replies.len()) {
            state.slots.push_back(Slot::Here(Bytes::copy_from_slice(replies)));
        }
    }

    /// A part of what Redis says on the client's own connection, where nothing else is awaited.
    pub fn pass(&self, piece: &[u8]) {
        self.write(&mut self.state.lock(), piece);
    }

    /// Whether the client is slow, or asks much at once: nothing more is to be done for it now.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let state = self.state.lock();
        state.held > self.bounds.pause || state.awaited > self.bounds.awaited
    }

    /// Whether there is more for it than is kept.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state.lock().held > self.bounds.most
    }

    /// So many bytes wait for it.
    #[must_use]
    pub fn held(&self) -> usize {
        self.state.lock().held
    }

    /// The client has its connection ended, and what comes for it is thrown away.
    pub fn cut(&self) {
        self.cut_off(&mut self.state.lock());
    }

    /// Wakes the session.
    pub fn wake(&self) {
        self.waker.wake();
    }

    /// From now on it is remembered what replies begin with.
    pub fn look(&self) {
        self.state.lock().look = Some(Vec::new());
    }

    /// What they have begun with.
    #[must_use]
    pub fn seen(&self) -> Vec<u8> {
        self.state.lock().look.take().unwrap_or_default()
    }

    /// Writes what is kept; done when nothing is. The session is woken for all that happens here.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        self.waker.register(cx.waker());
        let mut state = self.state.lock();
        loop {
            let State { sink, out, .. } = &mut *state;
            let Some(sink) = sink else { return Poll::Ready(Err(Gone)) };
            if out.is_empty() {
                return Poll::Ready(Ok(()));
            }
            match sink.poll_write(cx, out) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(taken)) if taken > 0 => {
                    let _ = out.split_to(taken);
                    if out.is_empty() {
                        *out = BytesMut::new();
                    }
                    self.let_go(&mut state, taken);
                }
                Poll::Ready(_) => {
                    self.cut_off(&mut state);
                    return Poll::Ready(Err(Gone));
                }
            }
        }
    }

    /// Gives it to the socket, as far as this takes it, and keeps the rest.
    fn write(&self, state: &mut State, bytes: &[u8]) {
        let Some(sink) = &state.sink else { return };
        let taken = if state.out.is_empty() {
            match sink.try_write(bytes) {
                Ok(taken) => taken,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
                Err(_) => return self.cut_off(state),
            }
        } else {
            0
        };
        let rest = bytes.get(taken..).unwrap_or_default();
        if !rest.is_empty() && self.keep(state, rest.len()) {
            if state.out.is_empty() {
                // It is the session that waits until the client takes more.
                self.waker.wake();
            }
            state.out.extend_from_slice(rest);
        }
    }

    /// Room for so many bytes; if there is none for all clients together, it is this one that goes.
    fn keep(&self, state: &mut State, bytes: usize) -> bool {
        if state.sink.is_none() {
            return false;
        }
        let before = self.all.bytes.fetch_add(bytes, Ordering::Relaxed);
        state.held += bytes;
        if before + bytes > self.bounds.all {
            tracing::warn!(
                "a client of the near-cache is ended: too much waits for clients that take nothing"
            );
            self.cut_off(state);
            return false;
        }
        true
    }

    fn let_go(&self, state: &mut State, bytes: usize) {
        state.held -= bytes;
        self.all.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Writes what has waited for those before it.
    fn move_up(&self, state: &mut State) {
        loop {
            match state.slots.front_mut() {
                Some(Slot::Here(reply)) => {
                    let reply = std::mem::take(reply);
                    state.slots.pop_front();
                    self.let_go(state, reply.len());
                    self.write(state, &reply);
                }
                Some(Slot::Line { left, came }) => {
                    let (is_whole, came) = (*left == 0, std::mem::take(came));
                    if is_whole {
                        state.slots.pop_front();
                    }
                    if !came.is_empty() {
                        self.let_go(state, came.len());
                        self.write(state, &came);
                    }
                    if !is_whole {
                        return;
                    }
                }
                Some(Slot::Own { came, stands, .. }) => {
                    let stands = *stands;
                    if stands == Stands::Withheld {
                        return;
                    }
                    let came = std::mem::take(came);
                    if stands == Stands::Done {
                        state.slots.pop_front();
                    }
                    if !came.is_empty() {
                        self.let_go(state, came.len());
                        self.write(state, &came);
                    }
                    if stands == Stands::Coming {
                        return;
                    }
                }
                None => {
                    if state.slots.capacity() > 64 {
                        state.slots = VecDeque::new();
                    }
                    return;
                }
            }
        }
    }

    fn cut_off(&self, state: &mut State) {
        state.sink = None;
        state.slots = VecDeque::new();
        state.out = BytesMut::new();
        (state.awaited, state.elsewhere, state.held_up) = (0, 0, 0);
        self.let_go(state, state.held);
        self.waker.wake();
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.cut();
    }
}

/// An empty buffer that was large once is given back.
pub(super) fn spare(buffer: &mut BytesMut) {
    if buffer.is_empty() && buffer.capacity() > SPARE {
        *buffer = BytesMut::new();
    }
}
