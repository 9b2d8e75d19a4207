//! What is sent and what comes on a line, in one task.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use super::{Before, Ended, FULL, Inbox, LOST, Line, Ticket};
use crate::sidecar::{
    near_cache::{
        connect::Stream,
        outlet::{Outlet, spare},
    },
    resp::reply::Scanner,
};

/// Read at once.
const PIECE: usize = 64 << 10;
/// How long a line waits for a client that takes nothing of a large reply, and for one that takes it slowly.
const STUCK: Duration = Duration::from_millis(200);
const SLOW: Duration = Duration::from_secs(2);
/// How often it is looked whether it has taken something.
const LOOK: Duration = Duration::from_millis(5);

impl Drop for Carrier<'_> {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// Both directions in one task.
pub(super) struct Carrier<'a> {
    line: &'a Line,
    stream: Stream,
    out: BytesMut,
    tickets: VecDeque<Ticket>,
    scanner: Scanner,
    piece: Vec<u8>,
    /// Others that are about to run may have something to send too, which then goes in the same write.
    is_gathering: bool,
    clog: Option<Clog>,
}

/// A client that takes nothing of what is there for it.
struct Clog {
    outlet: Arc<Outlet>,
    since: Instant,
    /// When it has last taken something, and what there was then.
    moved: Instant,
    held: usize,
    look: Pin<Box<Sleep>>,
}

impl<'a> Carrier<'a> {
    pub(super) fn of(line: &'a Line, stream: Stream) -> Self {
        Self {
            line,
            stream,
            out: BytesMut::new(),
            tickets: VecDeque::new(),
            scanner: Scanner::default(),
            piece: vec![0; PIECE],
            is_gathering: false,
            clog: None,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        self.line.waker.register(cx.waker());
        if !self.is_clogged(cx)
            && let Poll::Ready(ended) = self.poll_read(cx)
        {
            return Poll::Ready(ended);
        }
        let (has_mail, is_closed) = {
            let inbox = self.line.inbox.lock();
            (!inbox.out.is_empty(), inbox.is_closed)
        };
        if is_closed {
            return Poll::Ready(Ended::Closed);
        }
        if has_mail && !self.is_gathering {
            self.is_gathering = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.is_gathering = false;
        self.poll_write(cx)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            // What waits here already is sent first: others are to notice that there is no room.
            if self.out.len() < FULL {
                self.take_mail();
            }
            if self.out.is_empty() {
                break;
            }
            match Pin::new(&mut self.stream).poll_write(cx, &self.out) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(sent)) if sent > 0 => self.out.advance(sent),
                Poll::Ready(_) => return Poll::Ready(Ended::Lost),
            }
        }
        spare(&mut self.out);
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(Ended::Lost),
            _ => Poll::Pending,
        }
    }

    fn take_mail(&mut self) {
        let mut inbox = self.line.inbox.lock();
        if self.out.is_empty() {
            std::mem::swap(&mut self.out, &mut inbox.out);
        } else {
            let Inbox { out, .. } = &mut *inbox;
            self.out.extend_from_slice(out);
            out.clear();
        }
        self.tickets.append(&mut inbox.tickets);
        for waiting in inbox.waiting.drain(..) {
            waiting.wake();
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            let mut buffer = ReadBuf::new(&mut self.piece);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(Ended::Lost),
                Poll::Ready(Ok(())) => {}
            }
            let length = buffer.filled().len();
            if length == 0 {
                return Poll::Ready(Ended::Lost);
            }
            self.line.heard.fetch_add(1, Ordering::Relaxed);
            let piece = std::mem::take(&mut self.piece);
            let is_understood = self.hand_out(piece.get(..length).unwrap_or_default());
            self.piece = piece;
            if is_understood.is_none() {
                return Poll::Ready(Ended::Lost);
            }
            if self.is_clogged(cx) {
                return Poll::Pending;
            }
        }
    }

    /// Hands each client what is its own; None if that cannot be known any more.
    fn hand_out(&mut self, piece: &[u8]) -> Option<()> {
        // From here on nothing was handed over yet: whole replies of the client whose is the first ticket.
        let (mut from, mut at, mut whole) = (0, 0, 0);
        let is_understood = loop {
            let rest = piece.get(at..).unwrap_or_default();
            if rest.is_empty() {
                break true;
            }
            // On such a line nobody has asked for news: what comes unasked is not understood.
            let is_news = !self.scanner.is_within() && rest.first() == Some(&b'>');
            let (false, Some(ticket)) = (is_news, self.tickets.front_mut()) else { break false };
            let Ok(seen) = self.scanner.scan(rest) else { break false };
            at += seen.bytes;
            whole += usize::from(seen.is_whole);
            ticket.left -= usize::from(seen.is_whole);
            if ticket.left > 0 && ticket.number.is_none() {
                continue;
            }
            let Some(new) = piece.get(from..at) else { break false };
            if ticket.left > 0 {
                // A part of a reply that comes by itself.
                let (outlet, number) = (ticket.outlet.clone(), ticket.number.unwrap_or_default());
                self.note(&outlet, outlet.deliver_own(number, new, false, false));
            } else if let Some(ticket) = self.tickets.pop_front()
                && !self.finish(ticket, new, whole)
            {
                continue;
            }
            self.line.outstanding.fetch_sub(whole, Ordering::Relaxed);
            (from, whole) = (at, 0);
        };
        if let (Some(ticket), Some(rest)) = (self.tickets.front(), piece.get(from..at))
            && !rest.is_empty()
        {
            let outlet = ticket.outlet.clone();
            self.line.outstanding.fetch_sub(whole, Ordering::Relaxed);
            self.note(&outlet, outlet.deliver(rest, whole));
        }
        is_understood.then_some(())
    }

    /// All replies of a ticket have come: what is to be done before is done, and they are handed over, if no more are
    /// to go with them; whether they were.
    fn finish(&mut self, ticket: Ticket, new: &[u8], whole: usize) -> bool {
        let Ticket { outlet, number, before, .. } = ticket;
        let barrier = match before {
            Before::Nothing => None,
            Before::Changed(changing) => {
                changing.done();
                None
            }
            Before::Forgotten(near) => {
                near.forget_all();
                None
            }
            Before::Barrier(changing) => Some(changing),
        };
        let has_room = match (number, barrier) {
            (None, _) => {
                let goes_on = |next: &Ticket| next.goes_on && Arc::ptr_eq(&next.outlet, &outlet);
                if self.tickets.front().is_some_and(goes_on) {
                    return false;
                }
                outlet.deliver(new, whole)
            }
            (Some(number), None) => outlet.deliver_own(number, new, true, false),
            (Some(number), Some(changing)) => {
                let has_room = outlet.deliver_own(number, new, true, true);
                let waiting = outlet.clone();
                tokio::spawn(async move {
                    changing.near().barrier().await;
                    changing.done();
                    waiting.release(number);
                });
                has_room
            }
        };
        self.note(&outlet, has_room);
        true
    }

    /// Whether a client has room for more.
    fn note(&mut self, outlet: &Arc<Outlet>, has_room: bool) {
        if !has_room && self.clog.is_none() {
            let now = Instant::now();
            let (outlet, look) = (outlet.clone(), Box::pin(sleep(LOOK)));
            self.clog = Some(Clog { held: outlet.held(), outlet, since: now, moved: now, look });
            self.line.is_clogged.store(true, Ordering::Relaxed);
        }
    }

    /// Whether nothing is read as a client has to take something first. That is waited for a moment; then the client
    /// is ended, as others share the line.
    fn is_clogged(&mut self, cx: &mut Context<'_>) -> bool {
        while let Some(clog) = &mut self.clog {
            let now = Instant::now();
            if clog.outlet.is_over() {
                if clog.look.as_mut().poll(cx).is_pending() {
                    return true;
                }
                let held = clog.outlet.held();
                if held < clog.held {
                    clog.moved = now;
                }
                clog.held = held;
                if now - clog.moved < STUCK && now - clog.since < SLOW {
                    clog.look.as_mut().reset(now + LOOK);
                    continue;
                }
                tracing::warn!("a client of the near-cache is ended: it takes too little of a large reply");
                clog.outlet.cut();
            }
            self.clog = None;
            self.line.is_clogged.store(false, Ordering::Relaxed);
        }
        false
    }

    /// Whoever waits for a reply is told that none comes, or what it is to be told instead.
    fn give_up(&mut self) {
        let mut inbox = self.line.inbox.lock();
        inbox.is_closed = true;
        self.tickets.append(&mut inbox.tickets);
        inbox.out = BytesMut::new();
        for waiting in inbox.waiting.drain(..) {
            waiting.wake();
        }
        drop(inbox);
        let mut has_begun = self.scanner.is_within();
        for Ticket { outlet, left, number, before, instead, .. } in self.tickets.drain(..) {
            if let Before::Forgotten(near) = &before {
                near.forget_all();
            }
            // Of a read nothing is known then, unless a part was told.
            if has_begun {
                drop(before);
            } else {
                before.unasked();
            }
            let told = instead.and_then(|instead| instead.told());
            let told = told.as_deref().unwrap_or(LOST);
            match number {
                None => outlet.fail(left, has_begun, told),
                Some(number) => outlet.fail_own(number, has_begun, told),
            }
            has_begun = false;
        }
        self.line.outstanding.store(0, Ordering::Relaxed);
    }
}
