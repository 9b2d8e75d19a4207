//! What has been given to hyper for a connection and is not written yet. hyper would take more, up to the buffer that
//! holds a head; a body waits here instead, so that whoever is slow at the other end holds a piece of it and no more.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
};

use futures::task::AtomicWaker;

use super::limits::PIECE;

/// More than so much is not given before all of it is written: a piece alone, or some small ones.
const MOST: usize = PIECE / 2;

/// Of one connection, and of one direction of it.
#[derive(Debug, Default)]
pub struct Unwritten {
    bytes: AtomicUsize,
    waker: AtomicWaker,
}

impl Unwritten {
    /// Ready when the next piece may be given.
    pub fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        let has_room = || self.bytes.load(Ordering::Acquire) <= MOST;
        if has_room() {
            return Poll::Ready(());
        }
        self.waker.register(context.waker());
        // It may have been written meanwhile.
        if has_room() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// So much more is given.
    pub fn more(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// All that was given is written.
    pub fn flushed(&self) {
        if self.bytes.swap(0, Ordering::AcqRel) > MOST {
            self.waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_piece_waits_until_the_one_before_is_written_and_small_ones_go_together() {
        let unwritten = Unwritten::default();
        let has_room = || poll_fn(|context| unwritten.poll_room(context)).now_or_never().is_some();
        for _ in 0..MOST / 100 {
            unwritten.more(100);
            assert!(has_room());
        }
        unwritten.more(100);
        assert!(!has_room());
        unwritten.flushed();
        assert!(has_room());
        unwritten.more(PIECE);
        assert!(!has_room());
    }

    #[tokio::test]
    async fn who_waits_is_told() {
        let unwritten = std::sync::Arc::new(Unwritten::default());
        unwritten.more(PIECE);
        let waiting = unwritten.clone();
        let waiting = tokio::spawn(async move { poll_fn(|context| waiting.poll_room(context)).await });
        tokio::task::yield_now().await;
        unwritten.flushed();
        waiting.await.unwrap();
    }
}
