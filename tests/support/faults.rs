//! A layer between the operator and the API server that makes chosen requests fail.

use std::{
    future::pending,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use kube::client::{Body, DynBody};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use tokio::sync::watch;
use tower::{BoxError, Layer, Service};

/// Which requests fail, and how. A clone shares the state.
#[derive(Clone)]
pub struct Faults(Arc<State>);

struct State {
    writes: watch::Sender<usize>,
    last_write: Option<usize>,
    refused: Mutex<Vec<Refusal>>,
    held: Mutex<Vec<(Method, String)>>,
    chance: Option<Mutex<Chance>>,
}

/// Draws which answers are replaced.
struct Chance {
    random: StdRng,
    share: f64,
    drawn: [usize; Mishap::ALL.len()],
}

/// What comes in the place of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mishap {
    Conflict,
    TooManyRequests,
    ServerError,
    Silence,
}

impl Mishap {
    const ALL: [Self; 4] = [Self::Conflict, Self::TooManyRequests, Self::ServerError, Self::Silence];

    async fn answer(self) -> Response<Box<DynBody>> {
        match self {
            Self::Conflict => refusal(409, "injected: the object has been modified"),
            Self::TooManyRequests => refusal(429, "injected: too many requests"),
            Self::ServerError => refusal(500, "injected: an error of the server"),
            Self::Silence => pending().await,
        }
    }
}

impl Chance {
    /// Whether this answer is replaced, by what, and whether the request is carried out all the same.
    fn draw(&mut self) -> Option<(Mishap, bool)> {
        if !self.random.random_bool(self.share) {
            return None;
        }
        // In turn: drawn too, one of them might be missing among the few of a short run.
        let kind = self.drawn.iter().sum::<usize>() % Mishap::ALL.len();
        self.drawn[kind] += 1;
        Some((Mishap::ALL[kind], self.random.random_bool(0.5)))
    }
}

/// Requests of this method whose path contains this text get this answer.
struct Refusal {
    method: Method,
    path: String,
    code: u16,
    message: String,
    times: usize,
}

impl Faults {
    /// None so far.
    pub fn none() -> Self {
        Self::with(None)
    }

    /// Everything works up to the write of this number, counted from 1: the API
    /// server carries it out, but neither it nor any later request is answered.
    pub fn dead_after_write(number: usize) -> Self {
        Self::with(Some(number))
    }

    /// Replaces this share of all answers by 409, 429, 500 or none at all. Of the requests
    /// concerned every second one is carried out.
    pub fn at_random(seed: u64, share: f64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        let chance = Chance { random, share, drawn: Default::default() };
        Self::of(None, Some(Mutex::new(chance)))
    }

    fn with(last_write: Option<usize>) -> Self {
        Self::of(last_write, None)
    }

    fn of(last_write: Option<usize>, chance: Option<Mutex<Chance>>) -> Self {
        let (writes, _) = watch::channel(0);
        let (refused, held) = (Mutex::default(), Mutex::default());
        Self(Arc::new(State { writes, last_write, refused, held, chance }))
    }

    /// How many answers became a 409, a 429, a 500 and none at all.
    pub fn drawn(&self) -> [usize; 4] {
        self.0.chance.as_ref().expect("faults at random").lock().unwrap().drawn
    }

    /// Answers the next `times` requests of this method and path with an error.
    pub fn refuse(&self, times: usize, method: Method, path: &str, code: u16, message: &str) {
        let (path, message) = (path.to_owned(), message.to_owned());
        self.0.refused.lock().unwrap().push(Refusal { method, path, code, message, times });
    }

    /// From now on gives no answer to requests of this method whose path contains this text.
    pub fn hold(&self, method: Method, path: &str) {
        self.0.held.lock().unwrap().push((method, path.to_owned()));
    }

    /// How many requests are still to be refused.
    pub fn refusals_left(&self) -> usize {
        self.0.refused.lock().unwrap().iter().map(|refusal| refusal.times).sum()
    }

    /// From now on no request is refused.
    pub fn forgive(&self) {
        self.0.refused.lock().unwrap().clear();
    }

    /// How many writes the API server has carried out.
    pub fn writes(&self) -> usize {
        *self.0.writes.borrow()
    }

    /// Waits until the last write that is let through has been carried out.
    pub async fn until_dead(&self) {
        let last = self.0.last_write.expect("a write to be dead after");
        self.0.writes.subscribe().wait_for(|writes| *writes >= last).await.expect("the state lives");
    }
}

impl State {
    fn is_dead(&self) -> bool {
        self.last_write.is_some_and(|last| *self.writes.borrow() >= last)
    }

    fn is_held(&self, request: &Request<Body>) -> bool {
        let (method, path) = (request.method(), request.uri().path());
        self.held.lock().unwrap().iter().any(|held| held.0 == *method && path.contains(&held.1))
    }

    fn refusal(&self, request: &Request<Body>) -> Option<Response<Box<DynBody>>> {
        let mut refused = self.refused.lock().unwrap();
        let refusal = refused.iter_mut().find(|refusal| {
            refusal.times > 0
                && refusal.method == *request.method()
                && request.uri().path().contains(&refusal.path)
        })?;
        refusal.times -= 1;
        Some(self::refusal(refusal.code, &refusal.message))
    }

    fn mishap(&self) -> Option<(Mishap, bool)> {
        self.chance.as_ref()?.lock().unwrap().draw()
    }
}

/// The answer of an API server that does not do what it was asked for.
fn refusal(code: u16, message: &str) -> Response<Box<DynBody>> {
    let status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "code": code,
        "message": message,
    });
    let body = Full::from(status.to_string()).map_err(BoxError::from);
    let response = Response::builder().status(code).header("Content-Type", "application/json");
    response.body(Box::new(body) as Box<DynBody>).expect("a response")
}

impl<S> Layer<S> for Faults {
    type Service = Faulty<S>;

    fn layer(&self, inner: S) -> Faulty<S> {
        Faulty { inner, state: self.0.clone() }
    }
}

/// A connection with faults.
pub struct Faulty<S> {
    inner: S,
    state: Arc<State>,
}

impl<S> Service<Request<Body>> for Faulty<S>
where
    S: Service<Request<Body>, Response = Response<Box<DynBody>>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<Box<DynBody>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if self.state.is_dead() || self.state.is_held(&request) {
            return Box::pin(pending());
        }
        if let Some(refusal) = self.state.refusal(&request) {
            return Box::pin(async { Ok(refusal) });
        }
        let mishap = match self.state.mishap() {
            Some((mishap, false)) => return Box::pin(async move { Ok(mishap.answer().await) }),
            Some((mishap, true)) => Some(mishap),
            None => None,
        };
        let is_write = !matches!(*request.method(), Method::GET | Method::HEAD);
        let answer = self.inner.call(request);
        let state = self.state.clone();
        Box::pin(async move {
            let answer = answer.await;
            if is_write {
                state.writes.send_modify(|writes| *writes += 1);
            }
            if state.is_dead() {
                return pending().await;
            }
            match mishap {
                Some(mishap) => Ok(mishap.answer().await),
                None => answer,
            }
        })
    }
}
