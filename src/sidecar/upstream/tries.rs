//! One request, sent to one replica after the other until there is an answer.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use http::{HeaderMap, Method, Request, Response, StatusCode, uri::PathAndQuery};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    body::{Answer, Held, Lender, Line},
    choice::Rank,
    fault::Fault,
    origin::{Origin, Wanted},
    pulse::Silence,
    replica::{Replica, Try},
    request::Asked,
    retries::{self, MOST, Next, Past},
};

/// When the budget allows no second try, it is asked for again after so long.
const AGAIN: Duration = Duration::from_millis(250);

/// What came of a try.
type Came = Result<(Response<Incoming>, Line), Fault>;

/// A try that has not ended.
struct Running {
    replica: Arc<Replica>,
    place: Try,
    answer: Pin<Box<dyn Future<Output = Came> + Send>>,
}

impl Origin {
    /// Passes a request on.
    ///
    /// # Errors
    /// When no answer has come.
    pub async fn pass_on(&self, request: Request<Incoming>) -> Result<Response<Answer>, Fault> {
        self.answer(Asked::of(request, self.marks())).await
    }

    /// Asks by a GET of these fields.
    ///
    /// # Errors
    /// When no answer has come.
    pub async fn get(&self, target: &PathAndQuery, headers: HeaderMap) -> Result<Response<Answer>, Fault> {
        self.answer(Asked::bare(Method::GET, target.clone(), headers, self.marks())).await
    }

    /// Asks by a HEAD of these fields.
    ///
    /// # Errors
    /// When no answer has come.
    pub async fn head(&self, target: &PathAndQuery, headers: HeaderMap) -> Result<Response<Answer>, Fault> {
        self.answer(Asked::bare(Method::HEAD, target.clone(), headers, self.marks())).await
    }

    async fn answer(&self, asked: Asked) -> Result<Response<Answer>, Fault> {
        self.asked();
        let mut tries = Tries::new(self, asked);
        let wanted = tries.wanted(Rank::TriedAndDoubtful);
        let first = self.place(&wanted, tries.deadline).await?;
        tries.start(first);
        loop {
            match tries.next().await {
                Event::Came(index, came) => {
                    let Running { replica, place, .. } = tries.running.remove(index);
                    tries.before_poor -= usize::from(index < tries.before_poor);
                    match came {
                        Ok((answer, line)) => {
                            let is_poor = retries::is_poor(answer.status());
                            let answer = answered(replica, place, answer, line)?;
                            if !is_poor || tries.running.is_empty() {
                                tries.overtake(index);
                                return Ok(answer);
                            }
                            tries.settle_for(answer, index);
                        }
                        Err(fault) => {
                            if let Err(fault) = tries.failed(place, fault).await {
                                return tries.poor.ok_or(fault);
                            }
                        }
                    }
                }
                Event::TakesLong => tries.try_another(),
                Event::NoBetter => {
                    tries.overtake(tries.before_poor);
                    return tries.poor.ok_or(Fault::TimedOut);
                }
                Event::Deadline if tries.is_excused() => {}
                Event::Deadline => {
                    let fault = tries.time_out();
                    return tries.poor.ok_or(fault);
                }
            }
        }
    }
}

/// The tries of a request.
struct Tries<'a> {
    origin: &'a Origin,
    asked: Arc<Asked>,
    running: Vec<Running>,
    /// An answer that is told if no better one comes from another that still works on it.
    poor: Option<Response<Answer>>,
    /// So many of those that run were asked before the one that has given it.
    before_poor: usize,
    /// When it is told though others still work on it.
    no_better: Option<Instant>,
    tried: Vec<SocketAddr>,
    /// How often it was repeated after it had been sent.
    repeated: u32,
    /// How often it could not be sent.
    unsent: usize,
    was_denied: bool,
    /// When another is asked too.
    another: Option<Instant>,
    deadline: Instant,
    /// How much of the body had passed when the deadline was set.
    passed: u64,
}

/// What happens to a request.
// It is taken apart where it comes: a box would be one more for each request.
#[allow(clippy::large_enum_variant)]
enum Event {
    Came(usize, Came),
    TakesLong,
    NoBetter,
    Deadline,
}

impl<'a> Tries<'a> {
    fn new(origin: &'a Origin, asked: Asked) -> Self {
        Self {
            origin,
            asked: Arc::new(asked),
            running: Vec::with_capacity(1),
            poor: None,
            before_poor: 0,
            no_better: None,
            tried: Vec::new(),
            repeated: 0,
            unsent: 0,
            was_denied: false,
            another: None,
            deadline: origin.deadline(),
            passed: 0,
        }
    }

    fn wanted(&self, worst: Rank) -> Wanted<'_> {
        Wanted { tried: &self.tried, worst, own_alone: self.asked.has_hopped }
    }

    fn start(&mut self, mut place: Try) {
        let Some(replica) = place.send(!self.tried.is_empty()) else { return };
        let had_it = self.tried.contains(&replica.address());
        let pause = if had_it { retries::pause(self.tried.len()) } else { Duration::ZERO };
        self.tried.push(replica.address());
        let answer = Box::pin(send(replica.clone(), self.asked.clone(), pause));
        self.running.push(Running { replica, place, answer });
        self.wait_for_another();
    }

    /// A second try is worth its cost only where it does no harm and there is another replica.
    fn wait_for_another(&mut self) {
        let may = self.repeated < MOST
            && self.asked.only_reads()
            && self.asked.body().is_none()
            && !self.asked.has_hopped
            && self.origin.count() > 1;
        let patience = self.origin.second_try() * 2_u32.pow(self.repeated.min(MOST));
        self.another = may.then(|| Instant::now() + patience);
    }

    async fn next(&mut self) -> Event {
        let until = [self.another, self.no_better].into_iter().flatten().fold(self.deadline, Instant::min);
        let running = &mut self.running;
        let first_to_end = poll_fn(|context| {
            for (index, running) in running.iter_mut().enumerate() {
                if let Poll::Ready(came) = running.answer.as_mut().poll(context) {
                    return Poll::Ready((index, came));
                }
            }
            Poll::Pending
        });
        tokio::select! {
            biased;
            (index, came) = first_to_end => Event::Came(index, came),
            () = sleep_until(until) => {
                if self.no_better == Some(until) {
                    Event::NoBetter
                } else if self.another == Some(until) {
                    Event::TakesLong
                } else {
                    Event::Deadline
                }
            }
        }
    }

    /// Sends it to another too, if one can be expected to answer.
    fn try_another(&mut self) {
        self.another = None;
        let wanted = self.wanted(Rank::Usable(Silence::Short));
        let Some(place) = self.origin.free_place(&wanted) else {
            self.another = Some(Instant::now() + AGAIN);
            return;
        };
        if !self.origin.may_repeat() {
            self.deny();
            self.another = Some(Instant::now() + AGAIN);
            return;
        }
        self.repeated += 1;
        self.start(place);
    }

    fn deny(&mut self) {
        if !std::mem::replace(&mut self.was_denied, true) {
            self.origin.denied();
        }
    }

    /// Keeps a poor answer in case no better one comes. The first says for how long: as long as another is waited
    /// for at first, as who has one already does not wait for one that hangs until the end.
    fn settle_for(&mut self, answer: Response<Answer>, index: usize) {
        self.poor = Some(answer);
        self.before_poor = index;
        self.no_better.get_or_insert_with(|| Instant::now() + self.origin.second_try());
    }

    /// Those that were asked before are overtaken; later ones had less time.
    fn overtake(&mut self, index: usize) {
        for Running { place, .. } in self.running.drain(..index) {
            place.overtaken();
        }
    }

    /// Goes on after a failure, or tells it if nothing else is left.
    async fn failed(&mut self, place: Try, fault: Fault) -> Result<(), Fault> {
        place.failed(&fault);
        self.unsent += usize::from(!fault.was_sent());
        let past = Past {
            is_repeatable: self.asked.is_repeatable(),
            has_body_still: !self.asked.body().is_some_and(Lender::is_touched),
            repeated: self.repeated,
            unsent: self.unsent,
            replicas: self.origin.count(),
        };
        let is_sent_again = match retries::after(&fault, &past) {
            Next::Again => true,
            Next::WithinBudget if self.origin.may_repeat() => {
                self.repeated += 1;
                true
            }
            Next::WithinBudget => {
                self.deny();
                false
            }
            Next::GiveUp => false,
        };
        if is_sent_again {
            let wanted = self.wanted(Rank::TriedAndDoubtful);
            let next = if self.running.is_empty() && self.poor.is_none() {
                self.origin.place(&wanted, self.deadline).await.ok()
            } else {
                self.origin.free_place(&wanted)
            };
            if let Some(place) = next {
                self.start(place);
            }
        }
        if self.running.is_empty() { Err(fault) } else { Ok(()) }
    }

    /// Whether there is no reason yet to expect an answer, and then until when.
    fn is_excused(&mut self) -> bool {
        let passed = self.asked.body().map_or(0, Lender::passed);
        let is_excused = passed != self.passed
            || self.asked.body().is_some_and(Lender::waits_for_client)
            // Its streams may be silent for long, and its clients have deadlines of their own.
            || self.asked.is_grpc;
        if is_excused {
            self.passed = passed;
            self.deadline = self.origin.deadline();
        }
        is_excused
    }

    /// Nothing came in time.
    fn time_out(&mut self) -> Fault {
        for Running { place, .. } in self.running.drain(..) {
            place.failed(&Fault::TimedOut);
        }
        Fault::TimedOut
    }
}

/// What is told of an answer that has begun.
fn answered(
    replica: Arc<Replica>,
    place: Try,
    answer: Response<Incoming>,
    line: Line,
) -> Result<Response<Answer>, Fault> {
    let slot = place.answered(answer.status()).ok_or(Fault::Unsent)?;
    let line = if answer.status() == StatusCode::SWITCHING_PROTOCOLS { Line::Switched } else { line };
    Ok(answer.map(|body| Answer::new(body, Held { slot, replica, line })))
}

/// Sends a request to a replica.
async fn send(replica: Arc<Replica>, asked: Arc<Asked>, pause: Duration) -> Came {
    if pause > Duration::ZERO {
        sleep(pause).await;
    }
    let request = asked.request(replica.is_own());
    let connections = replica.connections();
    if asked.is_grpc {
        // Apart, so that the others do not have the room for it.
        let (answer, share) = Box::pin(connections.ask_http2(request)).await?;
        return Ok((answer, Line::Shared(share)));
    }
    let (answer, connection) = connections.ask(request, asked.is_repeatable()).await?;
    Ok((answer, Line::Alone(connection)))
}
