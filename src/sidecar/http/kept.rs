//! The body of a response that is kept: it comes as fast as the application sends it and goes as fast as its client
//! takes it. A client that is slow, or goes away, holds up nobody who waits for the same.

use std::{
    mem::take,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::{Mutex, MutexGuard};
use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, sleep_until},
};

use super::flights::PATIENCE;
use crate::sidecar::{
    cache::NotStored,
    room::{Room, Taken},
    upstream::body::Answer,
};

/// A body without a client comes to its end within this, or is given up.
const ALONE: Duration = Duration::from_mins(1);
/// And something of it has to come in such a time. No request waits longer for it either.
const STILL: Duration = PATIENCE;
/// So many are taken without a client at once: nobody has the sidecar gather them by leaving.
const MOST: usize = 128;
static PLACES: Semaphore = Semaphore::const_new(MOST);
/// What a client that is behind gets at once.
const PIECE: usize = 16 * 1024;

/// What became of a body.
pub enum Came {
    /// It is all there.
    Whole(Bytes),
    /// It is not kept, and goes on.
    NotStored(NotStored),
    /// It has trailers. They are not stored, and without them it is not whole.
    WithTrailers,
    /// The application has broken off.
    Broken,
}

/// What is done then. Dropped without a call when the body is given up without a client.
type Done = Box<dyn FnOnce(Came) + Send>;

/// A body as its client takes it.
pub struct Kept {
    fill: Arc<Fill>,
    /// How much of it the client has.
    at: usize,
    /// What was known of its size at its beginning.
    told: SizeHint,
    /// What is not kept any more: it comes as the client takes it.
    rest: Option<Answer>,
    _is_there: oneshot::Sender<()>,
}

/// What the application's side and the client's share.
struct Fill(Mutex<Inner>);

struct Inner {
    /// All that came.
    copy: BytesMut,
    /// What came last, as it came: a client that is not behind gets this. It begins at this place.
    last: Option<(usize, Bytes)>,
    state: State,
    /// Of the client's side.
    waker: Option<Waker>,
    room: Taken,
}

enum State {
    Coming,
    /// All is there.
    Over(Bytes, Option<Frame<Bytes>>),
    /// It is not kept any more.
    Rest(Answer),
    Broken(hyper::Error),
    /// The client has got what was the end of it.
    Told,
}

/// The application's side.
struct Filler {
    inner: Option<Answer>,
    fill: Arc<Fill>,
    most: usize,
    done: Option<Done>,
    /// When something came the last time.
    came: Instant,
}

impl Kept {
    /// Begins to take a body, of which no more than `most` bytes are kept and which finds `room`.
    pub fn new(inner: Answer, most: usize, room: &Room, done: impl FnOnce(Came) + Send + 'static) -> Self {
        let told = inner.size_hint();
        let length = told.exact().and_then(|length| usize::try_from(length).ok());
        let inner_state = Inner {
            // Not touched before something comes.
            copy: BytesMut::with_capacity(length.filter(|length| *length <= most).unwrap_or_default()),
            last: None,
            state: State::Coming,
            waker: None,
            room: room.nothing(),
        };
        let fill = Arc::new(Fill(Mutex::new(inner_state)));
        let (is_there, gone) = oneshot::channel();
        let mut filler = Filler {
            inner: Some(inner),
            fill: fill.clone(),
            most,
            done: Some(Box::new(done)),
            came: Instant::now(),
        };
        // Much is there with its head, and needs no task.
        if filler.poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            tokio::spawn(filler.run(gone));
        }
        Self { fill, at: 0, told, rest: None, _is_there: is_there }
    }

    /// Whether it is kept still, as far as the client has taken it.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.rest.is_none()
    }

    /// The next piece of what has come, if the client does not have it.
    fn come(&mut self, inner: &mut Inner) -> Option<Bytes> {
        if let Some((_, data)) = inner.last.take_if(|(from, _)| *from == self.at) {
            return Some(data);
        }
        let whole = if let State::Over(whole, _) = &inner.state { Some(whole) } else { None };
        if let Some(whole) = whole.filter(|whole| self.at < whole.len()) {
            return Some(whole.slice(self.at..));
        }
        let behind = inner.copy.get(self.at..).filter(|behind| !behind.is_empty())?;
        Some(Bytes::copy_from_slice(behind.get(..PIECE).unwrap_or(behind)))
    }
}

impl HttpBody for Kept {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        if let Some(rest) = &mut this.rest {
            return Pin::new(rest).poll_frame(context);
        }
        let fill = this.fill.clone();
        let mut inner = fill.0.lock();
        if let Some(data) = this.come(&mut inner) {
            this.at += data.len();
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match std::mem::replace(&mut inner.state, State::Told) {
            State::Coming => {
                inner.state = State::Coming;
                inner.waker = Some(context.waker().clone());
                Poll::Pending
            }
            State::Over(whole, trailers) => {
                inner.state = State::Over(whole, None);
                Poll::Ready(trailers.map(Ok))
            }
            State::Rest(rest) => {
                (inner.copy, inner.last) = (BytesMut::new(), None);
                inner.room.give_back();
                Pin::new(this.rest.insert(rest)).poll_frame(context)
            }
            State::Broken(error) => Poll::Ready(Some(Err(error))),
            State::Told => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match (&self.rest, &self.fill.0.lock().state) {
            (Some(rest), _) => rest.is_end_stream(),
            (None, State::Over(whole, None)) => self.at >= whole.len(),
            (None, _) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let at = self.at as u64;
        match (&self.rest, &self.fill.0.lock().state) {
            (Some(rest), _) => rest.size_hint(),
            (None, State::Over(whole, None)) => SizeHint::with_exact((whole.len() as u64).saturating_sub(at)),
            (None, _) => self
                .told
                .exact()
                .map_or_else(SizeHint::default, |length| SizeHint::with_exact(length.saturating_sub(at))),
        }
    }
}

impl Filler {
    /// Takes what comes to its end, with a client or, for a while, without.
    async fn run(mut self, gone: oneshot::Receiver<()>) {
        tokio::select! {
            () = std::future::poll_fn(|context| self.poll(context)) => return,
            _ = gone => {}
        }
        let Ok(_place) = PLACES.try_acquire() else { return };
        let end = Instant::now() + ALONE;
        loop {
            let until = end.min(self.came + STILL);
            tokio::select! {
                () = std::future::poll_fn(|context| self.poll(context)) => return,
                () = sleep_until(until) => {}
            }
            // Something may have come meanwhile.
            if until == end || until == self.came + STILL {
                return;
            }
        }
    }

    /// Takes what there is; ready when nothing more is to be taken.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(inner) = &mut self.inner else { return Poll::Ready(()) };
            let frame = ready!(Pin::new(&mut *inner).poll_frame(context));
            let is_last = inner.is_end_stream();
            self.came = Instant::now();
            let state = match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.take(data, is_last),
                    Err(trailers) => {
                        self.done(Came::WithTrailers);
                        let fill = self.fill.clone();
                        Some(self.over(fill.0.lock(), Some(trailers)))
                    }
                },
                Some(Err(error)) => {
                    self.done(Came::Broken);
                    Some(State::Broken(error))
                }
                None => {
                    let fill = self.fill.clone();
                    Some(self.over(fill.0.lock(), None))
                }
            };
            let is_over = state.is_some();
            let mut shared = self.fill.0.lock();
            if let Some(state) = state {
                shared.state = state;
            }
            let waker = shared.waker.take();
            drop(shared);
            if is_over {
                (self.inner, self.done) = (None, None);
            }
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Adds a piece; what becomes of the body if it is the last, or is not kept.
    fn take(&mut self, data: Bytes, is_last: bool) -> Option<State> {
        let fill = self.fill.clone();
        let mut shared = fill.0.lock();
        let at = shared.copy.len();
        let why = if at + data.len() > self.most {
            Some(NotStored::TooLarge)
        } else {
            (!shared.room.more(data.len())).then_some(NotStored::NoRoom)
        };
        if why.is_none() {
            shared.copy.extend_from_slice(&data);
            if is_last {
                // The client gets the end when it is stored: it may ask for the same at once.
                return Some(self.over(shared, None));
            }
        }
        shared.last = Some((at, data));
        drop(shared);
        let why = why?;
        // Others that wait for it go on.
        self.done(Came::NotStored(why));
        self.inner.take().map(State::Rest)
    }

    /// All has come.
    fn over(&mut self, mut shared: MutexGuard<'_, Inner>, trailers: Option<Frame<Bytes>>) -> State {
        let copy = take(&mut shared.copy);
        shared.last = None;
        // What is kept for long takes no more than it is.
        let body =
            if copy.capacity() - copy.len() > copy.len() / 8 { BytesMut::from(&copy[..]) } else { copy };
        let whole = shared.room.hold(body);
        drop(shared);
        self.done(Came::Whole(whole.clone()));
        State::Over(whole, trailers)
    }

    /// Tells what became of it, once.
    fn done(&mut self, came: Came) {
        if let Some(done) = self.done.take() {
            done(came);
        }
    }
}
