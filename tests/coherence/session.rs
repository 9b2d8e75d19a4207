//! One client: one command after the other on a connection of its own.

use std::{sync::Arc, time::Duration};

use redis::{AsyncConnectionConfig, FromRedisValue, RedisResult, aio::MultiplexedConnection};

use super::{
    history::{By, Operation, Seen, Span, What},
    load::Shared,
    reads,
    slots::Key,
    writes,
};

/// For a connection, and for a reply: past what the sidecar itself waits for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Before it is tried again to connect.
const PAUSE: Duration = Duration::from_millis(20);
/// A client that only reads leaves the others time to write.
const BETWEEN: Duration = Duration::from_millis(1);
const HELD_UP: Duration = Duration::from_millis(30);

/// A client while it is connected.
pub struct Session {
    pub shared: Arc<Shared>,
    pub connection: MultiplexedConnection,
    by: By,
    number: usize,
    seen: Vec<Operation>,
}

/// What a client does.
#[derive(Clone, Copy, Debug)]
pub enum Does {
    All,
    /// Reads that memory may answer, one key at a time.
    Reads,
}

/// Runs a client until the load is over.
pub async fn run(
    shared: Arc<Shared>,
    client: redis::Client,
    by: By,
    number: usize,
    what: Does,
) -> Vec<Operation> {
    let mut seen = Vec::new();
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    while !shared.is_over() {
        let Ok(connection) = client.get_multiplexed_async_connection_with_config(&config).await else {
            shared.error();
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let mut session = Session { shared: shared.clone(), connection, by, number, seen };
        while !shared.is_over() {
            let done = match what {
                Does::Reads => {
                    tokio::time::sleep(BETWEEN).await;
                    match tokio::time::timeout(HELD_UP, reads::remembered(&mut session)).await {
                        Ok(done) => done,
                        // It was not in memory, and Redis is slow. What is asked next may be, on another connection.
                        Err(_) => break,
                    }
                }
                Does::All if rand::random_bool(0.75) => reads::any(&mut session).await,
                Does::All => writes::any(&mut session).await,
            };
            if let Err(error) = done {
                shared.error();
                // In the middle of a transaction an error leaves a state behind, too.
                if error.is_connection_dropped()
                    || error.is_timeout()
                    || error.is_io_error()
                    || rand::random_bool(0.1)
                {
                    break;
                }
            }
        }
        seen = session.seen;
    }
    seen
}

impl Session {
    /// Sends a command and waits for its reply.
    pub async fn ask<T: FromRedisValue>(&mut self, command: &redis::Cmd) -> (Span, RedisResult<T>) {
        let start = self.shared.now();
        let reply = command.query_async(&mut self.connection).await;
        (Span { start, end: self.shared.now() }, reply)
    }

    /// The same for a transaction, whose replies it gives.
    pub async fn transact<T: FromRedisValue>(
        &mut self,
        transaction: &redis::Pipeline,
    ) -> (Span, RedisResult<T>) {
        let start = self.shared.now();
        let reply = transaction.query_async(&mut self.connection).await;
        (Span { start, end: self.shared.now() }, reply)
    }

    pub fn note(&mut self, command: &'static str, key: &Key, span: Span, what: What) {
        self.note_by(self.by, command, key, span, what);
    }

    pub fn note_by(&mut self, by: By, command: &'static str, key: &Key, span: Span, what: What) {
        self.seen.push(Operation { session: self.number, by, key: key.number, span, what, command });
    }

    /// Notes what a read found; it is fresh when nothing is between, or when it passes every memory.
    pub fn note_read(
        &mut self,
        command: &'static str,
        key: &Key,
        span: Span,
        found: Option<&[u8]>,
        is_fresh: bool,
    ) {
        let seen = found.map_or(Seen::Absent, |text| Seen::Version(version(text)));
        let is_fresh = is_fresh || self.by == By::Direct;
        self.note(command, key, span, What::Read { seen, is_fresh });
    }
}

/// What is written: the version, and so many bytes.
pub fn text(version: u64, padding: usize) -> String {
    format!("{version}:{}", "x".repeat(padding))
}

/// The version in a text; one that nobody wrote if it has none.
fn version(text: &[u8]) -> u64 {
    let digits = text.split(|byte| *byte == b':').next().unwrap_or_default();
    std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).unwrap_or(u64::MAX)
}
