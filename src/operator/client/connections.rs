//! Connections that do not outlive the term in which they could carry a write.

use std::{future::poll_fn, pin::pin, task::Poll};

use hyper::rt::Executor;

use crate::operator::lease::Leadership;

tokio::task_local! {
    /// How many terms were over when the request at work passed the fence.
    static TERMS_OVER: u64;
}

/// A request that passed the fence when this many terms were over.
pub(super) fn passed<F: Future>(terms_over: u64, request: F) -> impl Future<Output = F::Output> {
    TERMS_OVER.scope(terms_over, request)
}

/// Runs the tasks of hyper's connections.
///
/// A request that has passed the fence lies in the queue of a connection until
/// the task of that connection writes it. A process that is frozen in between
/// would send it when it wakes, however late. So each step of such a task asks
/// the clock first, and the connection breaks when a term has ended since it
/// was made, or since the request passed for which it was made. What it
/// carried is given up; a new connection is made for the rest.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    leadership: Leadership,
}

impl Connections {
    pub(super) fn new(leadership: Leadership) -> Self {
        Self { leadership }
    }
}

impl<F> Executor<F> for Connections
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, connection: F) {
        let leadership = self.leadership.clone();
        let over = TERMS_OVER.try_with(|over| *over).unwrap_or_else(|_| leadership.terms_over());
        // A task that makes a connection runs here too, and passes the number on.
        tokio::spawn(TERMS_OVER.scope(over, async move {
            let mut connection = pin!(connection);
            poll_fn(|context| {
                if leadership.terms_over() == over {
                    connection.as_mut().poll(context)
                } else {
                    Poll::Ready(())
                }
            })
            .await;
        }));
    }
}
