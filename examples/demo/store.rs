//! Redis, which may be away at any time without holding up an answer.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisError};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long to wait for a connection, and for an answer.
const TIMEOUT: Duration = Duration::from_millis(500);

/// After a failed attempt to connect, requests fail at once for this long:
/// else each would wait its turn for a time-out of its own.
const PAUSE: Duration = Duration::from_millis(500);

/// One shared connection, opened at the first use and again after any fault.
///
/// It is not redis-rs's `ConnectionManager`, because that keeps a refused
/// password, or a Redis that is still loading its data, as its last word.
pub(crate) struct Store {
    client: Client,
    link: Mutex<Link>,
}

enum Link {
    Closed,
    Open(MultiplexedConnection),
    Failed { at: Instant, error: RedisError },
}

impl Store {
    /// Checks the URL; opens no connection.
    pub(crate) fn new(url: &str) -> Result<Self, RedisError> {
        Ok(Self { client: Client::open(url)?, link: Mutex::new(Link::Closed) })
    }

    /// Sends one command, in at most twice the time-out.
    pub(crate) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let mut connection = self.connection().await?;
        let answer = command.query_async(&mut connection).await;
        if let Err(error) = &answer
            && (error.is_io_error() || error.is_unrecoverable_error())
        {
            // Another request may have put a new connection here meanwhile;
            // the price is one more connect.
            *self.link.lock().await = Link::Closed;
        }
        answer
    }

    async fn connection(&self) -> Result<MultiplexedConnection, RedisError> {
        let mut link = self.link.lock().await;
        match &*link {
            Link::Open(connection) => return Ok(connection.clone()),
            Link::Failed { at, error } if at.elapsed() < PAUSE => return Err(error.clone()),
            Link::Closed | Link::Failed { .. } => {}
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT));
        let opened = self.client.get_multiplexed_async_connection_with_config(&config).await;
        *link = match &opened {
            Ok(connection) => Link::Open(connection.clone()),
            Err(error) => Link::Failed { at: Instant::now(), error: error.clone() },
        };
        opened
    }
}
