//! Postgres, by a pool of connections.

use std::error::Error;
use std::time::Duration;

use bb8::{ManageConnection, Pool, RunError};
use serde::Serialize;
use tokio::time::timeout;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config, NoTls, Row};
use tokio_util::task::TaskTracker;

/// The connections that are there at most, and those that stay.
const MOST: u32 = 20;
const LEAST: u32 = 5;
/// When one that nobody uses ends.
const IDLE: Duration = Duration::from_secs(30);
/// How long to wait for one, and for an answer on it.
const TIMEOUT: Duration = Duration::from_secs(5);

/// One that waits in Postgres first, as one over larger tables would take its time.
const SELECT: &str = "SELECT id, name, email FROM pg_sleep($2), users WHERE id = $1";
const UPDATE: &str = "UPDATE users SET name = $2 WHERE id = $1 RETURNING id, name, email";

/// A row of the table `users`.
#[derive(Serialize)]
pub(crate) struct User {
    id: i64,
    name: String,
    email: String,
}

/// The connections; a clone has the same ones.
#[derive(Clone)]
pub(crate) struct Database {
    pool: Pool<Connector>,
    open: TaskTracker,
}

impl Database {
    /// Checks the URL; whether Postgres is there shows when it is asked.
    pub(crate) fn new(url: &str) -> Result<Self, tokio_postgres::Error> {
        let mut config: Config = url.parse()?;
        config.connect_timeout(TIMEOUT).application_name("demo");
        let open = TaskTracker::new();
        let pool = Pool::builder()
            .max_size(MOST)
            .min_idle(LEAST)
            .idle_timeout(IDLE)
            .connection_timeout(TIMEOUT)
            // A connection that has ended is known to be one without being asked.
            .test_on_check_out(false)
            .build_unchecked(Connector { config, open: open.clone() });
        Ok(Self { pool, open })
    }

    /// The user of a number, if there is one.
    pub(crate) async fn user(&self, id: i64, wait: Duration) -> Result<Option<User>, String> {
        self.row(async |client| {
            client.query_typed(SELECT, &[(&id, Type::INT8), (&wait.as_secs_f64(), Type::FLOAT8)]).await
        })
        .await
    }

    /// Gives a user another name; what it then is, if there is one.
    pub(crate) async fn rename(&self, id: i64, name: &str) -> Result<Option<User>, String> {
        self.row(async |client| client.query_typed(UPDATE, &[(&id, Type::INT8), (&name, Type::TEXT)]).await)
            .await
    }

    async fn row(
        &self,
        query: impl AsyncFnOnce(&Client) -> Result<Vec<Row>, tokio_postgres::Error>,
    ) -> Result<Option<User>, String> {
        let client = self.pool.get().await.map_err(|error| match error {
            RunError::User(error) => told(&error),
            RunError::TimedOut => format!("no connection to Postgres within {} s", TIMEOUT.as_secs()),
        })?;
        let rows = timeout(TIMEOUT, query(&client))
            .await
            .map_err(|_| format!("no answer from Postgres within {} s", TIMEOUT.as_secs()))?
            .map_err(|error| told(&error))?;
        rows.first().map(user).transpose().map_err(|error| told(&error))
    }

    /// Ends the pool, once nobody else has it; returns when the last connection has taken its leave.
    pub(crate) async fn end(self) {
        let Self { pool, open } = self;
        drop(pool);
        open.close();
        open.wait().await;
    }
}

fn user(row: &Row) -> Result<User, tokio_postgres::Error> {
    Ok(User { id: row.try_get(0)?, name: row.try_get(1)?, email: row.try_get(2)? })
}

/// An error of Postgres with its cause, which alone says what is wrong.
fn told(error: &tokio_postgres::Error) -> String {
    let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
    format!("Postgres: {error}{cause}")
}

/// Opens the connections of the pool.
struct Connector {
    config: Config,
    open: TaskTracker,
}

impl ManageConnection for Connector {
    type Connection = Client;
    type Error = tokio_postgres::Error;

    async fn connect(&self) -> Result<Client, Self::Error> {
        let (client, connection) = self.config.connect(NoTls).await?;
        // Ends by itself once the client is dropped. Its errors also reach the request they belong to.
        self.open.spawn(connection);
        Ok(client)
    }

    async fn is_valid(&self, client: &mut Client) -> Result<(), Self::Error> {
        client.check_connection().await
    }

    fn has_broken(&self, client: &mut Client) -> bool {
        client.is_closed()
    }
}
