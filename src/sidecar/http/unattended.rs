//! What is done to its end though the client has left.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{runtime::Handle, sync::Semaphore};

/// So many go on without a client at once: nobody has the sidecar gather them by leaving.
const MOST: usize = 1024;
static PLACES: Semaphore = Semaphore::const_new(MOST);

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
        drop(held);
        while done.lock().len() < MOST + 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(PLACES.available_permits(), MOST);
    }
}
