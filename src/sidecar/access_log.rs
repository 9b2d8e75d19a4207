//! One line of JSON on stdout for each request, where the settings ask for it.
//!
//! No request waits for whoever reads stdout: lines are put into a buffer, which a thread of its own
//! writes, and what does not fit is dropped and counted. The query of a target is left out, as tokens and
//! what people search for stand in it; so are all fields but the trace's.

use std::{
    io::{Write, stdout},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use http::{HeaderMap, Method, Request, StatusCode};
use jiff::Timestamp;
use parking_lot::{Condvar, Mutex};
use serde::Serialize;

use super::{figures::made::Made, http::edge::wire::REFUSED};

/// So many bytes of lines wait at most; twice as much is taken while they are written.
const MOST: usize = 512 << 10;
/// A longer path is cut.
const PATH: usize = 2048;

/// The log of requests.
pub struct AccessLog {
    is_on: AtomicBool,
    lines: Arc<Lines>,
    /// Where the lines go, until the thread that writes them has it.
    out: Mutex<Option<Box<dyn Write + Send>>>,
}

/// Lines on their way.
#[derive(Default)]
struct Lines {
    state: Mutex<State>,
    /// There is something to write.
    filled: Condvar,
    /// All is written.
    emptied: Condvar,
    dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    is_writing: bool,
    is_over: bool,
}

/// What is noted of a request when it comes.
#[derive(Debug)]
pub struct Line {
    time: Timestamp,
    method: Method,
    path: String,
    peer: IpAddr,
    trace: Option<String>,
    /// Of the answer, when it has begun.
    pub status: Option<StatusCode>,
}

/// What is known when it is over.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// How its answer came about.
    pub made: Made,
    /// How much of the answer's body was handed over.
    pub bytes: u64,
    /// How long it took, to the end of the answer.
    pub took: Duration,
}

/// A line as it is written.
#[derive(Serialize)]
struct Written<'a> {
    time: &'a str,
    method: &'a str,
    path: &'a str,
    status: Option<u16>,
    bytes: u64,
    duration: f64,
    cache: &'static str,
    detail: &'static str,
    peer: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<&'a str>,
}

impl Line {
    /// Of a request as it came.
    #[must_use]
    pub fn of<B>(request: &Request<B>, peer: IpAddr) -> Self {
        // What the wire has refused has neither a method nor a path.
        let is_refused = request.method().as_str() == REFUSED;
        let path = if is_refused { "" } else { request.uri().path() };
        Self {
            time: Timestamp::now(),
            method: if is_refused { Method::default() } else { request.method().clone() },
            path: path.get(..PATH.min(path.len())).unwrap_or_default().to_owned(),
            peer,
            trace: trace(request.headers()),
            status: None,
        }
    }

    fn json(&self, end: &End) -> serde_json::Result<Vec<u8>> {
        let mut json = serde_json::to_vec(&Written {
            time: &self.time.to_string(),
            // No path, no method: nothing of it was in order.
            method: if self.path.is_empty() { "" } else { self.method.as_str() },
            path: &self.path,
            status: self.status.map(|status| status.as_u16()),
            bytes: end.bytes,
            // Microseconds are enough.
            duration: (end.took.as_secs_f64() * 1e6).round() / 1e6,
            cache: end.made.result(),
            detail: end.made.detail(),
            peer: self.peer.to_canonical(),
            trace: self.trace.as_deref(),
        })?;
        json.push(b'\n');
        Ok(json)
    }
}

/// The trace of a request, if it is of one (W3C Trace Context §3.2.2).
fn trace(fields: &HeaderMap) -> Option<String> {
    let value = fields.get("traceparent")?.to_str().ok()?;
    let mut parts = value.split('-');
    let (version, id) = (parts.next()?, parts.next()?);
    let is_hexadecimal = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_one = version.len() == 2 && is_hexadecimal(version) && version != "ff";
    (is_one && id.len() == 32 && is_hexadecimal(id) && id.bytes().any(|byte| byte != b'0'))
        .then(|| id.to_owned())
}

impl Default for AccessLog {
    fn default() -> Self {
        Self::to(stdout())
    }
}

impl AccessLog {
    /// Off, and to be written there.
    #[must_use]
    pub fn to(out: impl Write + Send + 'static) -> Self {
        Self { is_on: AtomicBool::new(false), lines: Arc::default(), out: Mutex::new(Some(Box::new(out))) }
    }

    /// Switches it on or off.
    pub fn switch(&self, on: bool) {
        if on && let Some(out) = self.out.lock().take() {
            let lines = self.lines.clone();
            let writer = thread::Builder::new().name("access-log".to_owned());
            if let Err(error) = writer.spawn(move || lines.write_to(out)) {
                tracing::error!(%error, "no thread for the access log: there is none");
                return;
            }
        }
        self.is_on.store(on, Ordering::Relaxed);
    }

    /// Whether requests are written down.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Writes a request down, if there is room.
    pub fn write(&self, line: &Line, end: &End) {
        let Ok(json) = line.json(end) else { return };
        let mut state = self.lines.state.lock();
        if state.waiting.len() + json.len() > MOST {
            self.lines.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.waiting.extend_from_slice(&json);
        drop(state);
        self.lines.filled.notify_one();
    }

    /// So many lines found no room, or nobody who took them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.lines.dropped.load(Ordering::Relaxed)
    }

    /// Waits until all is written, but not for longer than `limit`.
    pub fn flush(&self, limit: Duration) {
        if self.out.lock().is_none() {
            let mut state = self.lines.state.lock();
            let is_unwritten = |state: &mut State| state.is_writing || !state.waiting.is_empty();
            self.lines.emptied.wait_while_for(&mut state, is_unwritten, limit);
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.lines.state.lock().is_over = true;
        self.lines.filled.notify_one();
    }
}

impl Lines {
    fn write_to(&self, mut out: Box<dyn Write + Send>) {
        let mut taken = Vec::new();
        loop {
            let mut state = self.state.lock();
            state.is_writing = false;
            self.emptied.notify_all();
            self.filled.wait_while(&mut state, |state| state.waiting.is_empty() && !state.is_over);
            if state.waiting.is_empty() {
                return;
            }
            std::mem::swap(&mut state.waiting, &mut taken);
            state.is_writing = true;
            drop(state);
            if out.write_all(&taken).and_then(|()| out.flush()).is_err() {
                let lines = taken.split_inclusive(|byte| *byte == b'\n').count() as u64;
                self.dropped.fetch_add(lines, Ordering::Relaxed);
            }
            taken.clear();
        }
    }
}

#[cfg(test)]
mod tests;
