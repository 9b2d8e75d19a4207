//! What is done to its end though the client has left.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{runtime::Handle, sync::Semaphore, time::timeout};

use super::Front;

/// So many go on without a client at once: nobody has the sidecar gather them by leaving.
const MOST: usize = 1024;
static PLACES: Semaphore = Semaphore::const_new(MOST);

/// What was not done to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// So many requests that change something and whose clients have left.
    pub unattended: usize,
    /// So many changes that the other replicas do not know.
    pub untold: usize,
}

impl Front {
    /// Waits so long at most until what requests have changed is done and told to the other replicas, where no
    /// requests come any more; what is left then, if anything is.
    pub async fn until_all_told(&self, most: Duration) -> Option<Left> {
        let told = async {
            until_over().await;
            if let Some(shared) = self.shared() {
                shared.until_all_told().await;
            }
        };
        timeout(most, told).await.err()?;
        Some(Left {
            unattended: MOST - PLACES.available_permits(),
            untold: self.shared().map_or(0, |shared| shared.untold()),
        })
    }
}

/// Waits until nothing goes on without a client. What would begin to meanwhile is done otherwise.
async fn until_over() {
    // They are those of all, and never closed.
    let _ = PLACES.acquire_many(u32::try_from(MOST).unwrap_or(u32::MAX)).await;
}

/// Goes on in a task of its own when it is dropped before its end; where too many do so, what is to be done
/// otherwise is done at once.
pub(super) struct Unattended<T: Send + 'static, O: FnOnce()> {
    rest: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    otherwise: Option<O>,
}

impl<T: Send + 'static, O: FnOnce()> Unattended<T, O> {
    pub(super) fn new(rest: impl Future<Output = T> + Send + 'static, otherwise: O) -> Self {
        Self { rest: Some(Box::pin(rest)), otherwise: Some(otherwise) }
    }
}

impl<T: Send + 'static, O: FnOnce() + Unpin> Future for Unattended<T, O> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        let Some(rest) = &mut this.rest else { return Poll::Pending };
        let output = ready!(rest.as_mut().poll(context));
        this.rest = None;
        Poll::Ready(output)
    }
}

impl<T: Send + 'static, O: FnOnce()> Drop for Unattended<T, O> {
    fn drop(&mut self) {
        let Some(rest) = self.rest.take() else { return };
        match (Handle::try_current(), PLACES.try_acquire()) {
            (Ok(runtime), Ok(place)) => {
                runtime.spawn(async move {
                    drop(rest.await);
                    drop(place);
                });
            }
            _ => {
                if let Some(otherwise) = self.otherwise.take() {
                    otherwise();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt;
    use parking_lot::Mutex;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_is_dropped_goes_on_and_what_is_too_much_is_done_otherwise() {
        let done = Arc::new(Mutex::new(Vec::new()));
        let note = |what: &'static str| {
            let done = done.clone();
            move || done.lock().push(what)
        };
        let begin = || {
            let (go, gone) = oneshot::channel::<()>();
            let end = note("end");
            let rest = async move {
                let _ = gone.await;
                end();
            };
            (go, Unattended::new(rest, note("otherwise")))
        };
        let (go, over) = begin();
        go.send(()).unwrap();
        over.await;
        assert_eq!(*done.lock(), ["end"], "once");
        let held: Vec<_> = (0..MOST).map(|_| begin().0).collect();
        drop(begin());
        assert_eq!(*done.lock(), ["end", "otherwise"]);
        assert!(until_over().now_or_never().is_none());
        drop(held);
        until_over().await;
        assert_eq!(done.lock().len(), MOST + 2);
        assert_eq!(PLACES.available_permits(), MOST);
    }
}
