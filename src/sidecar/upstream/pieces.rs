//! A connection of which little is read at once: what an application sends comes in pieces of one size, however much
//! there is, and a client that is slow holds few of them.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::sidecar::http::edge::{limits::PIECE, unwritten::Unwritten};

/// A connection that is read in pieces, and that tells when what was given for it is written.
pub struct Pieces<S> {
    stream: S,
    unwritten: Arc<Unwritten>,
}

impl<S> Pieces<S> {
    /// Of a connection.
    #[must_use]
    pub fn of(stream: S, unwritten: Arc<Unwritten>) -> Self {
        Self { stream, unwritten }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Pieces<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut piece = (&mut self.get_mut().stream).take(PIECE as u64);
        Pin::new(&mut piece).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Pieces<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, unwritten } = self.get_mut();
        let flushed = Pin::new(stream).poll_flush(context);
        if flushed.is_ready() {
            unwritten.flushed();
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
