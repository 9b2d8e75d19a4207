//! A connection to Redis that is this client's alone: until a transaction or a wait is over, or for good.
//!
//! As long as it is to be given back, the replies are counted, and what alters the connection makes it the client's for
//! good. Then all is passed on in both directions, and Redis alone knows how it stands with it.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin as Pinned,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes, BytesMut};
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Over, Session, Step, Turn, passes};
use crate::sidecar::{
    near_cache::{
        commands::{Connection, Handling, Meaning, Transaction, meaning},
        line::LOST,
        near::Changing,
        pins::Pin,
    },
    resp::{reply::Scanner, request::Command, write},
};

/// Read from Redis at once.
const PIECE: usize = 16 << 10;
/// While so much waits to be sent to Redis, nothing more is read from the client.
const FULL: usize = 256 << 10;
/// Of a reply, so much says what it is.
const HEAD: usize = 24;

/// What a reply is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaited {
    /// The client has not asked for it.
    Own,
    /// It is passed on.
    Plain,
    /// Of EXEC and DISCARD: with it the transaction is over.
    End,
    /// Of UNWATCH.
    Unwatch,
}

/// How it goes on.
enum Next {
    /// As before: the connection is given back.
    Released,
    /// All is as at the beginning.
    Reset,
    /// The client has said that it goes.
    Quit,
}

struct Held<'a> {
    session: &'a mut Session,
    pin: Pin,
    out: BytesMut,
    scanner: Scanner,
    piece: Vec<u8>,
    awaited: VecDeque<Awaited>,
    /// What the present reply begins with.
    head: Vec<u8>,
    why: Why,
    /// Nothing more is looked at until all replies have come.
    is_stopped: bool,
    /// What follows once they have.
    next: Option<Next>,
    input: Input,
    changed: Changed,
    /// The keys of these, as far as they are known.
    changing: Vec<Changing>,
    /// So much of `piece` has come, and waits for the memory of the pod to know of what was changed.
    withheld: Option<(usize, BoxFuture<'static, ()>)>,
}

/// What has been changed on the connection, of which no reply was given yet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Changed {
    Nothing,
    /// What Redis tells of.
    Some,
    /// What it tells nobody of.
    All,
}

/// Why the client still has the connection, beside replies that are awaited.
#[derive(Clone, Copy)]
struct Why {
    is_transaction: bool,
    is_watching: bool,
    is_for_good: bool,
}

/// What the client still sends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    Open,
    /// Nothing.
    Ended,
    /// Nothing, and Redis knows.
    Shut,
}

impl Session {
    /// Has a connection for this command and those that follow it.
    pub(super) async fn hold(&mut self, command: Command, is_for_good: bool) -> Step {
        let pin = match self.relay.pins().take(&self.place).await {
            Ok(pin) => pin,
            Err(unpinned) => {
                // As where it was sent: it is not read as if nothing had been tried.
                self.relay.near().changing(&command, &meaning(&command)).done();
                self.outlet.ready(unpinned.told());
                return Ok(());
            }
        };
        self.line = None;
        let is_named = !self.name.is_empty();
        let mut held = Held {
            out: BytesMut::new(),
            scanner: Scanner::default(),
            piece: vec![0; PIECE],
            awaited: VecDeque::new(),
            head: Vec::new(),
            why: Why { is_transaction: false, is_watching: false, is_for_good },
            is_stopped: false,
            next: None,
            input: Input::Open,
            changed: Changed::Nothing,
            changing: Vec::new(),
            withheld: None,
            session: self,
            pin,
        };
        if is_named {
            held.out.unsplit(write::command(&[b"CLIENT", b"SETNAME", &held.session.name]));
            held.awaited.push_back(Awaited::Own);
        }
        held.take(&command);
        drop(command);
        let next = poll_fn(|cx| held.poll(cx)).await;
        let Held { pin, input, changed, .. } = held;
        if changed == Changed::All {
            // Whether it was done is not known.
            self.relay.near().forget_all();
        }
        match next? {
            Next::Released if is_named || input != Input::Open => drop(pin),
            Next::Released => pin.give_back(),
            Next::Reset => {
                drop(pin);
                self.reset();
            }
            Next::Quit => {
                self.outlet.ready(Bytes::from_static(write::OK));
                return Err(Over);
            }
        }
        Ok(())
    }
}

impl Held<'_> {
    /// Passes a command on, and notes what its reply is for.
    fn take(&mut self, command: &Command) {
        let meaning = meaning(command);
        let handling = meaning.handling;
        let is_alone = command.len() == 1;
        let mut awaited = Awaited::Plain;
        match handling {
            // Redis forgets all that it knows of the connection, also the user.
            Handling::Connection(Connection::Reset) if is_alone => {
                self.is_stopped = true;
                self.next = Some(Next::Reset);
                if !self.why.is_for_good {
                    return;
                }
            }
            _ if self.why.is_for_good => {}
            Handling::Connection(Connection::Quit) => {
                (self.is_stopped, self.next) = (true, Some(Next::Quit));
                return;
            }
            Handling::Connection(connection) if passes(connection) => {}
            Handling::Connection(_) | Handling::PubSub(_) | Handling::TakesOver => {
                self.why.is_for_good = true;
            }
            Handling::Transaction(Transaction::Multi) => self.why.is_transaction |= is_alone,
            Handling::Transaction(Transaction::Watch) => self.why.is_watching = true,
            Handling::Transaction(Transaction::Exec | Transaction::Discard) if is_alone => {
                (awaited, self.is_stopped) = (Awaited::End, true);
            }
            Handling::Transaction(Transaction::Unwatch) if !self.why.is_transaction => {
                (awaited, self.is_stopped) = (Awaited::Unwatch, true);
            }
            Handling::Blocking | Handling::Wait if !self.why.is_transaction && !self.why.is_watching => {
                self.is_stopped = true;
            }
            _ => {}
        }
        self.changed = self.changed.max(match handling {
            // Within a transaction, or after what was not understood as one, it counts from now on.
            Handling::ChangeAll => Changed::All,
            // What is read past the memory may be newer than what is there.
            Handling::Transaction(Transaction::Exec)
            | Handling::Cached(_)
            | Handling::Change
            | Handling::ChangeUnknown
            | Handling::Blocking => Changed::Some,
            _ => Changed::Nothing,
        });
        self.change(command, &meaning);
        if !self.why.is_for_good {
            self.awaited.push_back(awaited);
        }
    }

    /// Sends it; what it changes is dropped before, and once more where its reply does not come.
    fn change(&mut self, command: &Command, meaning: &Meaning) {
        let near = self.session.relay.near();
        self.out.extend_from_slice(near.lasting(command.clone(), meaning).raw());
        let keys = meaning.changes().filter_map(|at| command.arg(at)).map(Bytes::copy_from_slice);
        let changing = near.changing_keys(keys.collect());
        if !self.why.is_for_good && !changing.is_empty() {
            self.changing.push(changing);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step<Next>> {
        loop {
            if let Poll::Ready(Err(_)) = self.session.outlet.poll_flush(cx) {
                return Poll::Ready(Err(Over));
            }
            // There is no reply to wait for first.
            if self.awaited.is_empty()
                && !self.why.is_for_good
                && let Some(next) = self.next.take()
            {
                return Poll::Ready(Ok(next));
            }
            if let Poll::Ready(next) = self.poll_write(cx) {
                return Poll::Ready(next);
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(None)) => continue,
                Poll::Ready(Ok(Some(next))) => return Poll::Ready(Ok(next)),
                Poll::Ready(Err(over)) => return Poll::Ready(Err(over)),
                Poll::Pending => {}
            }
            if self.session.relay.is_ending() && self.why.is_for_good {
                return Poll::Ready(Err(Over));
            }
            match self.poll_client(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(over)) => return Poll::Ready(Err(over)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Step<Next>> {
        let Some(stream) = self.pin.stream() else { return Poll::Ready(Err(Over)) };
        let mut stream = Pinned::new(stream);
        while !self.out.is_empty() {
            match stream.as_mut().poll_write(cx, &self.out) {
                Poll::Ready(Ok(sent)) if sent > 0 => self.out.advance(sent),
                Poll::Ready(_) => return Poll::Ready(self.lost()),
                Poll::Pending => return Poll::Pending,
            }
        }
        super::spare(&mut self.out);
        let flushed = if self.input == Input::Ended {
            // As the client has only said that it sends no more; Redis answers what it was asked, and ends.
            let shut = stream.as_mut().poll_shutdown(cx);
            if shut.is_ready() {
                self.input = Input::Shut;
            }
            shut
        } else {
            stream.as_mut().poll_flush(cx)
        };
        match flushed {
            Poll::Ready(Err(_)) => Poll::Ready(self.lost()),
            _ => Poll::Pending,
        }
    }

    /// Reads what Redis says; done when something has come, and with what follows when all is over.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Step<Option<Next>>> {
        if let Some((length, barrier)) = &mut self.withheld {
            let length = *length;
            std::task::ready!(barrier.as_mut().poll(cx));
            self.withheld = None;
            return Poll::Ready(self.hand_out_first(length));
        }
        if self.session.outlet.is_full() {
            return Poll::Pending;
        }
        let Some(stream) = self.pin.stream() else { return Poll::Ready(Err(Over)) };
        let mut buffer = ReadBuf::new(&mut self.piece);
        match Pinned::new(stream).poll_read(cx, &mut buffer) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
            Poll::Ready(_) => return Poll::Ready(self.lost().map(Some)),
        }
        let length = buffer.filled().len();
        if self.changed == Changed::Nothing || self.is_queueing() {
            return Poll::Ready(self.hand_out_first(length));
        }
        let (near, changed) = (self.session.relay.near().clone(), self.changed);
        let barrier = Box::pin(async move {
            if changed == Changed::All {
                near.forget_all();
            }
            near.barrier().await;
        });
        self.withheld = Some((length, barrier));
        // It is looked at again at once.
        Poll::Ready(Ok(None))
    }

    /// Whether what was sent is only queued yet: a transaction, of which the end was not sent.
    fn is_queueing(&self) -> bool {
        self.why.is_transaction && !self.awaited.contains(&Awaited::End) && !self.why.is_for_good
    }

    fn hand_out_first(&mut self, length: usize) -> Step<Option<Next>> {
        let piece = std::mem::take(&mut self.piece);
        let handed = self.hand_out(piece.get(..length).unwrap_or_default());
        self.piece = piece;
        handed
    }

    fn hand_out(&mut self, mut piece: &[u8]) -> Step<Option<Next>> {
        while !piece.is_empty() {
            let is_reset = self.why.is_for_good && matches!(self.next, Some(Next::Reset));
            if self.awaited.is_empty() && self.why.is_for_good && !is_reset {
                self.session.outlet.pass(piece);
                return Ok(None);
            }
            let Ok(seen) = self.scanner.scan(piece) else {
                // Nobody knows any more what is answered.
                self.session.outlet.cut();
                return Err(Over);
            };
            let (part, rest) = piece.split_at_checked(seen.bytes).unwrap_or((piece, &[]));
            piece = rest;
            let missing = HEAD.saturating_sub(self.head.len()).min(part.len());
            self.head.extend_from_slice(part.get(..missing).unwrap_or_default());
            let is_news = self.head.first() == Some(&b'>');
            let awaited = if is_news { None } else { self.awaited.front().copied() };
            let is_last = is_reset && awaited.is_none() && b"+RESET\r\n".starts_with(&self.head);
            if awaited != Some(Awaited::Own) && !is_last {
                self.session.outlet.pass(part);
            }
            if !seen.is_whole {
                continue;
            }
            let head = std::mem::take(&mut self.head);
            if is_last {
                return Ok(Some(Next::Reset));
            }
            if !is_news {
                self.awaited.pop_front();
            }
            match awaited {
                Some(Awaited::End) if is_end(&head) => {
                    (self.why.is_transaction, self.why.is_watching) = (false, false);
                }
                Some(Awaited::Unwatch) if head.first() == Some(&b'+') => self.why.is_watching = false,
                _ => {}
            }
        }
        if !self.awaited.is_empty() || self.why.is_for_good {
            return Ok(None);
        }
        self.is_stopped = self.next.is_some();
        if !self.why.is_transaction {
            self.changed = Changed::Nothing;
            self.changing = Vec::new();
        }
        if let Some(next) = self.next.take() {
            return Ok(Some(next));
        }
        let is_free = !self.why.is_transaction && !self.why.is_watching && self.out.is_empty();
        Ok(is_free.then_some(Next::Released))
    }

    /// Takes the next command of the client.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        let was_empty = self.out.is_empty();
        while !self.is_stopped && self.out.len() < FULL {
            let session = &mut *self.session;
            match session.parser.take(&mut session.buffer, session.relay.bounds().command) {
                Ok(Some(command)) => {
                    self.take(&command);
                    continue;
                }
                Ok(None) => {}
                Err(malformed) => {
                    session.refuse(&malformed)?;
                }
            }
            break;
        }
        if (was_empty && !self.out.is_empty())
            || (self.next.is_some() && self.awaited.is_empty() && !self.why.is_for_good)
        {
            return Poll::Ready(Ok(()));
        }
        if self.out.len() >= FULL {
            return Poll::Pending;
        }
        // Whether the client is still there is to be known also while it waits; what it sends meanwhile is bounded.
        if self.input != Input::Open || self.session.buffer.len() > self.session.relay.bounds().command {
            return Poll::Pending;
        }
        match self.session.poll_input(cx) {
            Poll::Ready(Ok(Turn::Input)) => Poll::Ready(Ok(())),
            Poll::Ready(Ok(Turn::End)) => {
                self.input = Input::Ended;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(over)) => Poll::Ready(Err(over)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// The connection has ended. Whoever waits alone is told so; in a transaction the client has to know that there is
    /// none any more, and so its connection ends too.
    fn lost(&mut self) -> Step<Next> {
        let is_within = self.scanner.is_within();
        let is_alone = !self.why.is_transaction && !self.why.is_watching && !self.why.is_for_good;
        if is_alone && self.input == Input::Open && !is_within {
            for awaited in self.awaited.drain(..) {
                if awaited != Awaited::Own {
                    self.session.outlet.pass(LOST);
                }
            }
            // It is not given back: a stream that has ended is found out.
            return Ok(self.next.take().unwrap_or(Next::Released));
        }
        Err(Over)
    }
}

/// Whether a transaction is over with this reply: it was done, was not, or there was none. It goes on where EXEC
/// itself was refused, as for want of rights.
fn is_end(head: &[u8]) -> bool {
    const ENDS: [&[u8]; 6] =
        [b"*", b"_", b"+OK", b"-EXECABORT", b"-ERR EXEC without", b"-ERR DISCARD without"];
    ENDS.iter().any(|end| head.starts_with(end))
}
