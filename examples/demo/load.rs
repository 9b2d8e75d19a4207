//! Bounded HTTP load, and a summary of what came back.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at, sleep, sleep_until, timeout};

use crate::serve::POD_HEADER;
use crate::target::Target;
use crate::termination;

/// A connection is replaced after this long. A Service picks a replica once
/// for each connection, so one that lived on would never reach a new replica.
const CONNECTION_AGE: Duration = Duration::from_millis(500);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client waits after a failure, so that a server that is away is
/// not asked in a tight loop.
const FAILURE_PAUSE: Duration = Duration::from_millis(50);
const PROGRESS: Duration = Duration::from_secs(5);
/// Outcomes that may wait to be counted; the clients wait when it is full.
const QUEUE: usize = 1024;
/// The longest time the histogram tells apart, in microseconds: the time of a
/// request, its one repetition, and lateness against the wanted rate.
const LONGEST_US: u64 = 600_000_000;

/// What `demo load` can be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// What to GET, as `http://HOST[:PORT]/PATH`. Given several times, with the same host, each
    /// has its turn.
    #[arg(long, required = true)]
    url: Vec<Uri>,
    /// How long to send at most, in seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// How many clients send at the same time, each waiting for its answer.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=256))]
    connections: u32,
    /// Requests a second in all; as fast as the answers come if not given.
    /// Times then count from when a request was due, so that a slow server
    /// cannot hide requests that it held back.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: Option<u32>,
    /// How many requests to send at most; any number if not given.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    requests: Option<u32>,
    /// Where the application tells, as a plain number, how many requests have reached it; what
    /// that grows by is in the summary as `reached`.
    #[arg(long)]
    counter: Option<Uri>,
}

/// Sends the load and prints a line every five seconds, and the summary last.
/// Fails if not one request was answered with success.
pub(crate) async fn run(options: Options) -> Result<(), String> {
    let targets = Arc::new(targets(options.url)?);
    let counter = options.counter.map(Target::from_url).transpose()?;
    let before = count(counter.as_ref()).await?;
    let stop = termination().map_err(|e| format!("cannot listen for signals: {e}"))?;
    let start = Instant::now();
    let schedule = Arc::new(Schedule {
        start,
        end: start + Duration::from_secs(options.seconds.into()),
        rate: options.rate,
        requests: options.requests.unwrap_or(u32::MAX),
        taken: AtomicU32::new(0),
    });

    let (sender, mut outcomes) = mpsc::channel(QUEUE);
    let mut clients = JoinSet::new();
    for _ in 0..options.connections {
        clients.spawn(client(targets.clone(), schedule.clone(), sender.clone()));
    }
    drop(sender);

    let mut total = Tally::new()?;
    let mut recent = Tally::new()?;
    let mut ticks = interval_at(start + PROGRESS, PROGRESS);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            outcome = outcomes.recv() => match outcome {
                Some(outcome) => {
                    recent.add(&outcome);
                    total.add(&outcome);
                }
                None => break,
            },
            now = ticks.tick() => {
                println!("{:>4} s  {}", (now - start).as_secs(), recent.line(PROGRESS));
                recent = Tally::new()?;
            }
            () = &mut stop => break,
        }
    }
    let span = start.elapsed();
    let after = count(counter.as_ref()).await?;
    println!(
        "{}",
        total.summary(span, after.zip(before).map(|(after, before)| after.saturating_sub(before)))
    );
    if total.requests == total.failed {
        return Err(format!(
            "no request to {} succeeded; last: {}",
            targets[0].uri,
            total.last_failure.as_deref().unwrap_or("none was sent"),
        ));
    }
    Ok(())
}

/// At least one, all of one address: a client keeps one connection.
fn targets(urls: Vec<Uri>) -> Result<Vec<Target>, String> {
    let targets: Vec<_> = urls.into_iter().map(Target::from_url).collect::<Result<_, _>>()?;
    match targets.iter().find(|target| target.address != targets[0].address) {
        None => Ok(targets),
        Some(other) => Err(format!("{} and {} are not of one host and port", targets[0].uri, other.uri)),
    }
}

/// What the application has counted so far; a count that is not there yet is none.
async fn count(counter: Option<&Target>) -> Result<Option<u64>, String> {
    let Some(counter) = counter else { return Ok(None) };
    let (head, body) = counter.exchange(counter.request()?, REQUEST_TIMEOUT).await?;
    let told = String::from_utf8_lossy(&body);
    match (head.status, told.trim().parse()) {
        (StatusCode::NOT_FOUND, _) => Ok(Some(0)),
        (StatusCode::OK, Ok(count)) => Ok(Some(count)),
        (status, _) => Err(format!("{} tells no count, but {status}: {}", counter.uri, told.trim())),
    }
}

/// When the next request is due, and when to stop.
struct Schedule {
    start: Instant,
    end: Instant,
    rate: Option<u32>,
    requests: u32,
    taken: AtomicU32,
}

impl Schedule {
    /// Waits until a request is due; `None` once all are sent, or the time is over. Returns its
    /// number, too.
    async fn next(&self) -> Option<(Instant, u32)> {
        let now = Instant::now();
        let taken = self.taken.fetch_add(1, Ordering::Relaxed);
        let due = self
            .rate
            .map_or(now, |rate| self.start + Duration::from_secs_f64(f64::from(taken) / f64::from(rate)));
        if taken >= self.requests || due.max(now) >= self.end {
            return None;
        }
        sleep_until(due).await;
        Some((due, taken))
    }
}

struct Outcome {
    time: Duration,
    result: Result<Answer, String>,
}

/// What a good answer tells of itself.
struct Answer {
    pod: Option<HeaderValue>,
    /// Whether it came from a cache (RFC 9211, section 2.1).
    is_hit: bool,
}

struct Link {
    requests: SendRequest<Full<Bytes>>,
    opened: Instant,
}

/// One client: sends, waits for the whole answer, sends again.
async fn client(targets: Arc<Vec<Target>>, schedule: Arc<Schedule>, outcomes: mpsc::Sender<Outcome>) {
    let mut link = None;
    while let Some((due, number)) = schedule.next().await {
        let target = &targets[number as usize % targets.len()];
        let result = timeout(REQUEST_TIMEOUT, exchange(target, &mut link))
            .await
            .unwrap_or_else(|_| Err("request: timed out".to_owned()));
        let failed = result.is_err();
        let time = due.elapsed();
        if outcomes.send(Outcome { time, result }).await.is_err() {
            return;
        }
        if failed {
            link = None;
            sleep(FAILURE_PAUSE).await;
        }
    }
}

/// Sends one request, on the open connection if it is still young.
///
/// A server may close an idle connection at the very moment a request is sent
/// on it, so a request that gets no answer there is repeated once on a new
/// connection, as every HTTP client does with a GET (RFC 9112, section 9.3.1).
async fn exchange(target: &Target, link: &mut Option<Link>) -> Result<Answer, String> {
    if let Some(mut open) = link.take_if(|open| open.opened.elapsed() < CONNECTION_AGE)
        && open.requests.ready().await.is_ok()
        && let Ok(response) = open.requests.send_request(target.request()?).await
    {
        return finish(open, link, response).await;
    }
    let mut open = Link { requests: target.connect().await?, opened: Instant::now() };
    let response =
        open.requests.send_request(target.request()?).await.map_err(|e| format!("request: {e}"))?;
    finish(open, link, response).await
}

/// Reads the answer to its end and keeps the connection.
async fn finish(
    open: Link,
    link: &mut Option<Link>,
    response: axum::http::Response<hyper::body::Incoming>,
) -> Result<Answer, String> {
    let (head, body) = response.into_parts();
    body.collect().await.map_err(|e| format!("answer: {e}"))?;
    *link = Some(open);
    if head.status == StatusCode::OK {
        Ok(Answer { pod: head.headers.get(POD_HEADER).cloned(), is_hit: is_hit(&head.headers) })
    } else {
        Err(format!("answer: {}", head.status))
    }
}

/// Whether one of the caches on the way had the answer.
fn is_hit(fields: &HeaderMap) -> bool {
    fields.get_all("cache-status").iter().filter_map(|line| line.to_str().ok()).any(|line| {
        line.split(',').any(|cache| cache.split(';').skip(1).any(|parameter| parameter.trim() == "hit"))
    })
}

/// What came back in some span of time.
struct Tally {
    requests: u64,
    failed: u64,
    hits: u64,
    times_us: Histogram<u64>,
    pods: HashSet<HeaderValue>,
    last_failure: Option<String>,
}

impl Tally {
    fn new() -> Result<Self, String> {
        Ok(Self {
            requests: 0,
            failed: 0,
            hits: 0,
            times_us: Histogram::new_with_max(LONGEST_US, 2)
                .map_err(|e| format!("cannot make a histogram: {e}"))?,
            pods: HashSet::new(),
            last_failure: None,
        })
    }

    fn add(&mut self, outcome: &Outcome) {
        self.requests += 1;
        match &outcome.result {
            Ok(Answer { pod, is_hit }) => {
                self.hits += u64::from(*is_hit);
                let us = u64::try_from(outcome.time.as_micros()).unwrap_or(LONGEST_US);
                self.times_us.saturating_record(us.max(1));
                self.pods.extend(pod.iter().cloned());
            }
            Err(failure) => {
                self.failed += 1;
                self.last_failure = Some(failure.clone());
            }
        }
    }

    fn rps(&self, span: Duration) -> f64 {
        let requests = u32::try_from(self.requests).unwrap_or(u32::MAX);
        (f64::from(requests) / span.as_secs_f64() * 10.0).round() / 10.0
    }

    /// The time that the given part of the good answers stayed within, in ms.
    fn quantile_ms(&self, part: f64) -> f64 {
        let us = u32::try_from(self.times_us.value_at_quantile(part)).unwrap_or(u32::MAX);
        (f64::from(us) / 100.0).round() / 10.0
    }

    fn line(&self, span: Duration) -> String {
        let failure = self
            .last_failure
            .as_deref()
            .map_or_else(String::new, |failure| format!("  (last failure: {failure})"));
        format!(
            "{} requests, {} failed, {} a second, p50 {} ms, p99 {} ms, pods {}{failure}",
            self.requests,
            self.failed,
            self.rps(span),
            self.quantile_ms(0.5),
            self.quantile_ms(0.99),
            self.pods.len(),
        )
    }

    /// As JSON; `reached` is how many requests reached the application, if that was counted.
    fn summary(&self, span: Duration, reached: Option<u64>) -> String {
        json!({
            "requests": self.requests,
            "failed": self.failed,
            "hits": self.hits,
            "reached": reached,
            "rps": self.rps(span),
            "p50_ms": self.quantile_ms(0.5),
            "p99_ms": self.quantile_ms(0.99),
            "pods": self.pods.len(),
        })
        .to_string()
    }
}
