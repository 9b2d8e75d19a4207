//! Where replies go in the end.

use std::{
    io::{self, ErrorKind},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{io::AsyncWrite, net::tcp::OwnedWriteHalf};

/// Where replies go in the end.
#[derive(Debug)]
pub(super) enum Sink {
    /// To a client.
    Client(OwnedWriteHalf),
    /// Nowhere: the sidecar itself has asked.
    Kept,
}

impl Sink {
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Client(socket) => socket.try_write(bytes),
            Self::Kept => Err(ErrorKind::WouldBlock.into()),
        }
    }

    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Client(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Kept => Poll::Pending,
        }
    }
}
