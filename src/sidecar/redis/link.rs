//! The connection for commands: one, on which all requests of the replica are under way at once, with a
//! hard time limit for each command and a breaker in front.
//!
//! No request waits for a connection and none tries a Redis that has failed: one task connects and
//! tries, the others do without until it has succeeded.

#[cfg(test)]
mod tests;

use std::{
    fmt::Display,
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use ::redis::{
    AsyncConnectionConfig, Client, ErrorKind, RedisError, RedisResult, ServerErrorKind,
    aio::MultiplexedConnection,
};
use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{figures::Figures, patience, scripts};
use crate::sidecar::breaker::{Breaker, Limits, Outcome, Pass, State};

/// How long a connection may take, with its greeting.
pub(super) const CONNECT: Duration = Duration::from_secs(1);
/// After a failed connection, before the breaker opens.
const PAUSE: Duration = Duration::from_millis(100);

/// Open for a short time, so that a Redis that is back is used again within a second.
const BREAKER: Limits = Limits {
    consecutive: 5,
    percent: 50,
    least: 20,
    window: Duration::from_secs(5),
    open: Duration::from_millis(250),
    longest: Duration::from_secs(1),
    patience: Duration::from_secs(3),
};

/// Why a command has brought nothing.
#[derive(Debug)]
pub enum Trouble {
    /// It was not sent: there is no connection, or the breaker is open.
    Off,
    /// Nothing came in time.
    Late,
    /// What Redis or the connection said.
    Failed(RedisError),
}

impl Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Off => f.write_str("Redis is not reached"),
            Self::Late => f.write_str("Redis has not answered in time"),
            Self::Failed(error) => write!(f, "Redis: {error}"),
        }
    }
}

/// A connection, and which of all it is.
#[derive(Clone)]
pub struct Connection {
    /// Counts up from connection to connection.
    pub number: u64,
    /// For commands.
    pub commands: MultiplexedConnection,
}

/// The way to Redis.
pub struct Link {
    url_file: PathBuf,
    /// What a trial may take: slower than that is of no use to a request.
    limit: Duration,
    started: Instant,
    breaker: Mutex<Breaker>,
    connection: RwLock<Option<Connection>>,
    /// The number of the present connection, 0 without one.
    number: watch::Sender<u64>,
    /// Whether it was tried to connect at all.
    tried: watch::Sender<bool>,
    figures: Arc<Figures>,
}

impl Link {
    /// To the Redis whose URL stands in a file; [`Self::keep`] connects.
    #[must_use]
    pub fn to(url_file: &Path, limit: Duration, figures: Arc<Figures>) -> Self {
        Self {
            url_file: url_file.to_owned(),
            limit,
            started: Instant::now(),
            breaker: Mutex::new(Breaker::new(BREAKER)),
            connection: RwLock::default(),
            number: watch::Sender::new(0),
            tried: watch::Sender::new(false),
            figures,
        }
    }

    /// The URL is read each time: the password may be another by now.
    ///
    /// # Errors
    /// What is wrong with it, without the URL.
    pub(super) fn client(&self) -> Result<Client, String> {
        let file = self.url_file.display();
        let text = std::fs::read_to_string(&self.url_file)
            .map_err(|error| format!("the file {file} with the URL of Redis cannot be read: {error}"))?;
        // The error may tell parts of the URL, and with it the password.
        Client::open(text.trim()).map_err(|_| format!("the file {file} holds no URL of a Redis"))
    }

    /// The connection, if commands may be sent.
    #[must_use]
    pub fn connection(&self) -> Option<Connection> {
        let pass = self.breaker.lock().pass_if_closed();
        pass.and_then(|_| self.connection.read().clone())
    }

    /// The number of the connection, and when it changes.
    #[must_use]
    pub fn number(&self) -> watch::Receiver<u64> {
        self.number.subscribe()
    }

    /// Whether it was tried to connect, with whatever success.
    #[must_use]
    pub fn tried(&self) -> watch::Receiver<bool> {
        self.tried.subscribe()
    }

    /// The state of the breaker.
    #[must_use]
    pub fn state(&self) -> State {
        self.breaker.lock().state(self.started.elapsed())
    }

    /// Waits so long for a reply on a connection, and counts how it went; where no time is left, nothing is
    /// asked, and that says nothing of Redis.
    ///
    /// # Errors
    /// When there is no reply, or a bad one.
    pub async fn within<T>(
        &self,
        limit: Duration,
        connection: &Connection,
        reply: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, Trouble> {
        if limit.is_zero() {
            return Err(Trouble::Late);
        }
        let pass = self.breaker.lock().pass_if_closed().ok_or(Trouble::Off)?;
        match patience::within(limit, reply).await {
            Some(Ok(reply)) => {
                self.note(pass, Outcome::Success);
                Ok(reply)
            }
            Some(Err(error)) => {
                Figures::add(&self.figures.errors);
                if is_of_connection(&error) {
                    self.note(pass, Outcome::Failure);
                    self.lose(connection.number);
                } else {
                    self.note(pass, if is_unable(&error) { Outcome::Failure } else { Outcome::Success });
                    tracing::debug!(%error, "Redis has refused a command");
                }
                Err(Trouble::Failed(error))
            }
            None => {
                Figures::add(&self.figures.timeouts);
                self.note(pass, Outcome::Failure);
                Err(Trouble::Late)
            }
        }
    }

    /// The same on the present connection.
    ///
    /// # Errors
    /// The same, and when there is none.
    pub async fn ask<T, F: Future<Output = RedisResult<T>>>(
        &self,
        limit: Duration,
        command: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<T, Trouble> {
        let connection = self.connection().ok_or(Trouble::Off)?;
        self.within(limit, &connection, command(connection.commands.clone())).await
    }

    fn note(&self, pass: Pass, outcome: Outcome) {
        let now = self.started.elapsed();
        let is_closed = {
            let mut breaker = self.breaker.lock();
            breaker.note(pass, outcome, now);
            breaker.state(now) == State::Closed
        };
        if !is_closed {
            // Its trial is made on another: this one may be of a Redis that is not there any more.
            let present = *self.number.borrow();
            self.lose(present);
        }
    }

    fn lose(&self, number: u64) {
        let mut connection = self.connection.write();
        if connection.as_ref().is_some_and(|found| found.number == number) {
            *connection = None;
            self.number.send_replace(0);
        }
    }

    /// Connects, and again whenever the connection is lost, for ever.
    pub async fn keep(&self) {
        let mut number = self.number();
        let mut count = 0;
        let mut is_told = false;
        loop {
            let pass = self.trial().await;
            match self.connect().await {
                Ok(commands) => {
                    self.note(pass, Outcome::Success);
                    count += 1;
                    *self.connection.write() = Some(Connection { number: count, commands });
                    self.number.send_replace(count);
                    self.tried.send_replace(true);
                    // Failures of the one before have opened the breaker meanwhile: only a trial closes it.
                    if self.state() != State::Closed {
                        self.lose(count);
                    }
                    tracing::info!("Redis answers");
                    is_told = false;
                    if number.wait_for(|present| *present == 0).await.is_err() {
                        return;
                    }
                    tracing::warn!("Redis does not answer; going on without it until it does");
                }
                Err(error) => {
                    self.note(pass, Outcome::Failure);
                    self.tried.send_replace(true);
                    if !is_told {
                        tracing::warn!(error, "cannot connect to Redis; going on without it, and trying");
                        is_told = true;
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Waits until the breaker lets one try.
    async fn trial(&self) -> Pass {
        loop {
            let wait = {
                let mut breaker = self.breaker.lock();
                let now = self.started.elapsed();
                match breaker.pass(now) {
                    Some(pass) => return pass,
                    None => breaker.wait(now),
                }
            };
            sleep(wait.max(Duration::from_millis(1))).await;
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, String> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(None);
        let client = self.client()?;
        let connected = timeout(CONNECT, async {
            let mut commands = client.get_multiplexed_async_connection_with_config(&config).await?;
            for script in scripts::all() {
                script.load_async(&mut commands).await?;
            }
            let asked = Instant::now();
            ::redis::cmd("PING").query_async::<()>(&mut commands).await?;
            Ok::<_, RedisError>((commands, asked.elapsed()))
        });
        let connected = connected.await.map_err(|_| format!("no answer within {CONNECT:?}"))?;
        let (commands, took) = connected.map_err(|error| error.to_string())?;
        if took > self.limit {
            return Err(format!("it has taken {took:?} to answer, and a request waits for {:?}", self.limit));
        }
        Ok(commands)
    }
}

/// Whether the connection is of no use any more.
fn is_of_connection(error: &RedisError) -> bool {
    error.is_io_error() || error.is_connection_dropped() || error.is_unrecoverable_error()
}

/// Whether Redis answers, and can do nothing.
fn is_unable(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown | ServerErrorKind::ReadOnly
        )
    )
}
