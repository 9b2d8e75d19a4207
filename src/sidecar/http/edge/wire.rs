//! The connection of a client: of what it sends only what is read in one way goes on, and neither side
//! may stand still.

use std::{
    io,
    mem::take,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::{
    limits::{HEAD_TIME, IDLE_TIME, LINGER_BYTES, LINGER_TIME, PIECE, STALL_TIME},
    parking::{Parked, Parking},
    patience::Patience,
    refusal::Refusal,
    scan::{Scan, State},
    shared::Shared,
};

/// The method of the request that hyper gets in place of one that is refused: so the answer comes in its
/// turn, after those to earlier requests. A client may send it as well, and is refused too.
pub const REFUSED: &str = "!";

/// A client's connection.
pub struct Wire<S> {
    /// None when it has been parked.
    inner: Option<S>,
    scan: Scan,
    /// How many heads had passed when this began.
    before: usize,
    parking: Parking<S>,
    /// What came and may not go on yet.
    held: Vec<u8>,
    /// So much of it may.
    cleared: usize,
    shared: Arc<Shared>,
    reading: Patience,
    writing: Patience,
    /// What was refused has been told to hyper.
    has_refused: bool,
    /// Nothing is sent any more.
    has_ended: bool,
    lingered: usize,
}

impl<S> Wire<S> {
    /// Around a connection, as it is new or was parked.
    pub fn new(parked: Parked<S>, shared: Arc<Shared>, parking: Parking<S>) -> Self {
        // What holds of the one before does not of this: hyper has seen nothing of it yet.
        shared.heads_between.store(0, Ordering::Relaxed);
        Self {
            before: parked.scan.heads(),
            inner: Some(parked.stream),
            scan: parked.scan,
            parking,
            held: Vec::new(),
            cleared: 0,
            shared,
            reading: Patience::default(),
            writing: Patience::default(),
            has_refused: false,
            has_ended: false,
            lingered: 0,
        }
    }

    /// Looks at what is held, and clears what may go on.
    fn clear(&mut self) {
        self.cleared = self.scan.pass(&self.held);
        self.note();
    }

    /// Tells what has been read of the connection.
    fn note(&self) {
        let heads = self.scan.heads();
        // What begins with the other protocol is HTTP/2.
        let is_http2 = heads == 0 && matches!(self.scan.state(), State::Opaque);
        if is_http2 {
            self.shared.is_http2.store(true, Ordering::Relaxed);
        }
        let is_between = heads > self.before && self.held.is_empty() && self.scan.is_between();
        self.shared.heads_between.store(if is_between { heads } else { 0 }, Ordering::Relaxed);
        self.shared.is_in_head.store(self.is_in_head(), Ordering::Relaxed);
    }

    fn is_in_head(&self) -> bool {
        matches!(self.scan.state(), State::Head) && !self.held.is_empty()
    }

    /// Of which request the rest of a body is to come.
    fn in_body(&self) -> Option<usize> {
        matches!(self.scan.state(), State::Body { .. }).then(|| self.scan.heads())
    }

    /// The stream; none once it is parked.
    fn stream(&mut self) -> io::Result<&mut S> {
        self.inner.as_mut().ok_or(io::ErrorKind::NotConnected.into())
    }

    /// Gives of what is cleared as much as there is room for.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let now = self.cleared.min(buffer.remaining());
        buffer.put_slice(self.held.get(..now).unwrap_or_default());
        self.held.drain(..now);
        self.cleared -= now;
        if self.held.is_empty() {
            // An idle connection holds nothing.
            self.held = Vec::new();
            self.note();
        }
    }
}

impl<S: AsyncRead + Unpin> Wire<S> {
    /// How long what comes next may take; None where it may take any time, or hyper sees to it.
    fn patience(&self) -> Option<Duration> {
        match self.scan.state() {
            State::Head if self.scan.heads() == 0 || !self.held.is_empty() => Some(HEAD_TIME),
            // hyper counts from when it has seen the first byte.
            State::Head if self.scan.heads() == self.before => Some(IDLE_TIME),
            State::Body { .. } => Some(STALL_TIME),
            _ => None,
        }
    }

    /// Ready when what is waited for has taken too long; then it is refused, or the connection ends.
    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(time) = self.patience() else { return Poll::Pending };
        ready!(self.reading.poll_over(context, time));
        self.reading.clear();
        if self.held.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.scan
            .refuse(Refusal::with(StatusCode::REQUEST_TIMEOUT, "the head of the request came too slowly"));
        Poll::Ready(Ok(()))
    }

    /// Hyper gets a request that it passes to the service, which refuses it, and nothing more.
    fn refuse(
        &mut self,
        refusal: Refusal,
        is_in_body: bool,
        context: &Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.has_refused {
            // No end: hyper would take it for a client that has gone, and give no answer.
            return Poll::Pending;
        }
        if is_in_body {
            // Not before it is the turn of its request: those before it are answered.
            let heads = self.scan.heads();
            ready!(self.shared.poll(context, |told| (told.begun >= heads).then_some(())));
        }
        self.has_refused = true;
        self.shared.tell(|told| (told.refusal, told.is_in_body) = (Some(refusal), is_in_body));
        if is_in_body {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, refusal.reason)));
        }
        self.held = format!("{REFUSED} / HTTP/1.1\r\nconnection: close\r\n\r\n").into_bytes();
        self.cleared = self.held.len();
        self.give(buffer);
        Poll::Ready(Ok(()))
    }

    /// Reads to where hyper wants it, and takes back what may not go on.
    fn poll_through(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let before = buffer.filled().len();
        if matches!(self.scan.state(), State::Opaque) {
            ready!(Pin::new(self.stream()?).poll_read(context, buffer))?;
        } else {
            ready!(Pin::new(&mut self.stream()?.take(PIECE as u64)).poll_read(context, buffer))?;
        }
        let come = buffer.filled().get(before..).unwrap_or_default();
        let passed = self.scan.pass(come);
        let is_end = come.is_empty();
        self.held.extend_from_slice(come.get(passed..).unwrap_or_default());
        buffer.set_filled(before + passed);
        self.note();
        Poll::Ready(Ok(is_end || passed > 0))
    }

    /// Reads more of what is held already.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut bytes = [0; 4096];
        let mut buffer = ReadBuf::new(&mut bytes);
        ready!(Pin::new(self.stream()?).poll_read(context, &mut buffer))?;
        self.held.extend_from_slice(buffer.filled());
        self.clear();
        Poll::Ready(Ok(buffer.filled().is_empty()))
    }

    /// After the last answer: what still comes is dropped, until the client has seen the end.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let mut bytes = [0; 4096];
            let mut buffer = ReadBuf::new(&mut bytes);
            let Ok(stream) = self.stream() else { return Poll::Ready(()) };
            match Pin::new(stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.lingered += buffer.filled().len();
                    if self.lingered > LINGER_BYTES {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.reading.poll_over(context, LINGER_TIME),
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.cleared > 0 {
                this.give(buffer);
                return Poll::Ready(Ok(()));
            }
            match *this.scan.state() {
                State::Refused { refusal, is_in_body } => {
                    return this.refuse(refusal, is_in_body, context, buffer);
                }
                State::Undecided => {
                    let is_granted = ready!(this.shared.poll(context, |told| told.is_granted.take()));
                    this.scan.decide(is_granted);
                    this.clear();
                    continue;
                }
                _ => {}
            }
            let (was_in_head, body, before) = (this.is_in_head(), this.in_body(), buffer.filled().len());
            let read = if this.held.is_empty() {
                this.poll_through(context, buffer)
            } else {
                this.poll_more(context)
            };
            match read {
                Poll::Ready(is_done) => {
                    if body.is_some() && this.in_body() == body {
                        this.reading.went_on(buffer.filled().len() - before);
                    } else if !(was_in_head && this.is_in_head()) {
                        this.reading.clear();
                    }
                    if is_done? {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Pending => ready!(this.poll_late(context))?,
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// A client that takes nothing, or next to nothing, is given up.
    fn poll_taken<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.shared.is_writing.store(written.is_pending(), Ordering::Relaxed);
        if written.is_pending() {
            ready!(self.writing.poll_over(context, STALL_TIME));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        written
    }

    /// The same of a part of what there is to be taken.
    fn poll_part(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let written = ready!(self.poll_taken(context, written))?;
        if matches!(self.scan.state(), State::Opaque) {
            // Both sides of another protocol know what is slow there; HTTP/2 has its streams watched.
            self.writing.clear();
        } else {
            self.writing.went_on(written);
        }
        Poll::Ready(Ok(written))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(this.stream()?).poll_write(context, bytes);
        this.poll_part(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(this.stream()?).poll_write_vectored(context, slices);
        this.poll_part(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(this.stream()?).poll_flush(context);
        if flushed.is_ready() {
            // hyper asks for it when it has written all that it had.
            this.shared.unwritten.flushed();
            this.writing.clear();
        }
        this.poll_taken(context, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.parking.is_wanted() && this.shared.is_quiet(Duration::ZERO) {
            let parked = this.inner.take().map(|stream| Parked { stream, scan: take(&mut this.scan) });
            this.parking.put(parked);
            return Poll::Ready(Ok(()));
        }
        if !this.has_ended {
            let ended = Pin::new(this.stream()?).poll_shutdown(context);
            ready!(this.poll_taken(context, ended))?;
            this.has_ended = true;
            this.reading.clear();
        }
        let is_unread = matches!(this.scan.state(), State::Body { .. } | State::Refused { .. });
        if is_unread {
            ready!(this.poll_linger(context));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
