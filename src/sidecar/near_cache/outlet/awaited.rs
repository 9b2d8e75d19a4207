//! Which replies are awaited, and when they have come.

use std::task::{Context, Poll};

use bytes::Bytes;

use super::{
    Gone, Outlet,
    state::{Pace, Slot, Stands, State, Which},
};

impl Outlet {
    /// The reply of this number, which comes elsewhere, may take long, and what is asked meanwhile need not wait for it:
    /// only its replies do, for their turn.
    pub fn hold_up(&self, number: u64) {
        self.change(number, |pace, held_up| {
            if *pace == Pace::UnderWay {
                (*pace, *held_up) = (Pace::HeldUp, *held_up + 1);
            }
        });
    }

    /// It comes soon, whatever held it up, and what is asked from here on has to wait for it.
    pub fn hurry(&self, number: u64) {
        self.change(number, |pace, held_up| {
            *held_up = held_up.saturating_sub(usize::from(*pace == Pace::HeldUp));
            *pace = Pace::Hurried;
        });
    }

    fn change(&self, number: u64, change: impl FnOnce(&mut Pace, &mut usize)) {
        let mut state = self.state.lock();
        let State { slots, held_up, .. } = &mut *state;
        for slot in slots {
            if let Slot::Own { number: other, is_elsewhere: true, pace, stands: Stands::Coming, .. } = slot
                && *other == number
            {
                change(pace, held_up);
                break;
            }
        }
        self.wake_if_settled(&mut state);
    }

    /// So many replies are awaited on the session's line, and so many elsewhere that are not held up.
    #[must_use]
    pub fn awaited(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.awaited - state.elsewhere, state.elsewhere.saturating_sub(state.held_up))
    }

    /// All replies together, once they have come, where they are [kept](Self::kept).
    ///
    /// # Errors
    /// When they are more than is kept.
    pub fn poll_kept(&self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Gone>> {
        self.waker.register(cx.waker());
        let mut state = self.state.lock();
        if state.sink.is_none() {
            return Poll::Ready(Err(Gone));
        }
        if state.awaited > 0 {
            state.wake_at = Some((0, Which::All));
            return Poll::Pending;
        }
        let out = std::mem::take(&mut state.out);
        self.let_go(&mut state, out.len());
        Poll::Ready(Ok(out.freeze()))
    }

    /// Done when no more than so many replies are awaited; what is kept is written meanwhile.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn poll_settled(&self, cx: &mut Context<'_>, most: usize) -> Poll<Result<(), Gone>> {
        self.poll_left(cx, most, Which::All)
    }

    /// Done when no reply is awaited but those that are held up; what is kept is written meanwhile.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn poll_under_way(&self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        self.poll_left(cx, 0, Which::UnderWay)
    }

    fn poll_left(&self, cx: &mut Context<'_>, most: usize, which: Which) -> Poll<Result<(), Gone>> {
        if let Poll::Ready(Err(Gone)) = self.poll_flush(cx) {
            return Poll::Ready(Err(Gone));
        }
        let mut state = self.state.lock();
        if state.left(which) <= most {
            state.wake_at = None;
            Poll::Ready(Ok(()))
        } else {
            state.wake_at = Some((most, which));
            Poll::Pending
        }
    }

    pub(super) fn wake_if_settled(&self, state: &mut State) {
        if state.wake_at.is_some_and(|(most, which)| state.left(which) <= most) {
            state.wake_at = None;
            self.waker.wake();
        }
    }
}
