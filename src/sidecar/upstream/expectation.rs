//! `Expect: 100-continue` (RFC 9110 §10.1.1): whether the body is wanted is for the application to say. As soon as
//! a body is asked for the client is told to send it, so it is not asked for before.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};

/// An application that says nothing waits for the body itself, as many do. Clients wait no longer either (curl: 1 s).
const PATIENCE: Duration = Duration::from_secs(1);

/// Holds a body back until the application wants it.
pub struct Gate(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    is_open: bool,
    waker: Option<Waker>,
    patience: Option<Pin<Box<Sleep>>>,
}

impl Gate {
    /// One that is closed.
    #[must_use]
    pub fn closed() -> Arc<Self> {
        Arc::new(Self(Mutex::default()))
    }

    /// The application has answered 100.
    pub fn open(&self) {
        let mut inner = self.0.lock();
        inner.is_open = true;
        if let Some(waker) = inner.waker.take() {
            waker.wake();
        }
    }

    /// Ready when the body may be asked for.
    pub fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.0.lock();
        if inner.is_open {
            return Poll::Ready(());
        }
        let until = Instant::now() + PATIENCE;
        let patience = inner.patience.get_or_insert_with(|| Box::pin(sleep_until(until)));
        let is_over = patience.as_mut().poll(context);
        inner.waker = Some(context.waker().clone());
        ready!(is_over);
        inner.is_open = true;
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_waits_for_the_word_of_the_application_or_for_a_while() {
        let (start, gate) = (Instant::now(), Gate::closed());
        poll_fn(|context| gate.poll(context)).await;
        assert_eq!(start.elapsed().as_secs(), PATIENCE.as_secs());
        let (start, gate) = (Instant::now(), Gate::closed());
        let waiting = gate.clone();
        let waiting = tokio::spawn(async move { poll_fn(|context| waiting.poll(context)).await });
        tokio::task::yield_now().await;
        gate.open();
        waiting.await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
