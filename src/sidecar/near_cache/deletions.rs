//! Keys that a purge deletes in Redis: by the user and in the database of the URL, in pieces, on a connection of its
//! own, so that nobody waits behind them. What memory has of them Redis takes back itself, by the pushes for each.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind,
    aio::MultiplexedConnection,
};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, watch},
};

use crate::settings::deletions::{Deletion, Progress, State};

/// So many keys are looked at, or deleted, at a time: a fraction of a millisecond of Redis.
const PIECE: usize = 1000;
/// How long a connection may take, and the reply to one piece.
const CONNECT: Duration = Duration::from_secs(5);
const REPLY: Duration = Duration::from_secs(5);
/// Of so many orders it is known how far they are, and of all that have not ended. The oldest go.
const KNOWN: usize = 256;
/// So many are carried out at a time: each has a connection of its own, and keeps Redis busy. The others wait.
const AT_A_TIME: usize = 2;

/// The deletions of a sidecar.
pub struct Deletions {
    url_file: PathBuf,
    /// That of the requests: the one of the admin port has the probes to answer.
    runtime: Handle,
    known: Mutex<VecDeque<Known>>,
    turns: Arc<Semaphore>,
}

struct Known {
    id: String,
    progress: watch::Receiver<Progress>,
}

/// Why a deletion has ended before its end.
enum Failure {
    Url(String),
    Redis(RedisError),
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl Deletions {
    /// In the Redis whose URL stands in a file. To be made within the runtime that is to run them.
    #[must_use]
    pub fn to(url_file: &Path) -> Arc<Self> {
        let (url_file, runtime) = (url_file.to_owned(), Handle::current());
        let turns = Arc::new(Semaphore::new(AT_A_TIME));
        Arc::new(Self { url_file, runtime, known: Mutex::default(), turns })
    }

    /// How far an order is. One that is not known begins; one that has failed is told of once, and then begins anew.
    #[must_use]
    pub fn order(&self, order: Deletion) -> Progress {
        self.look(order).borrow().clone()
    }

    /// Deletes; what became of it.
    pub async fn run(&self, order: Deletion) -> Progress {
        let mut progress = self.look(order);
        let ended = progress.wait_for(|progress| progress.state != State::Running).await;
        ended.map(|progress| progress.clone()).unwrap_or_default()
    }

    fn look(&self, order: Deletion) -> watch::Receiver<Progress> {
        let mut known = self.known.lock();
        if let Some(at) = known.iter().position(|known| known.id == order.id)
            && let Some(found) = known.get(at).map(|known| known.progress.clone())
        {
            let state = found.borrow().state;
            if matches!(state, State::Unreachable | State::Refused) {
                known.remove(at);
            }
            return found;
        }
        let (told, progress) = watch::channel(Progress::default());
        let has_ended = |known: &Known| known.progress.borrow().state != State::Running;
        if known.len() >= KNOWN
            && let Some(at) = known.iter().position(has_ended)
        {
            known.remove(at);
        }
        known.push_back(Known { id: order.id.clone(), progress: progress.clone() });
        let (url_file, turns) = (self.url_file.clone(), self.turns.clone());
        self.runtime.spawn(async move {
            // It is never closed.
            let _turn = turns.acquire().await;
            carry_out(&url_file, &order, &told).await;
        });
        progress
    }
}

async fn carry_out(url_file: &Path, order: &Deletion, told: &watch::Sender<Progress>) {
    let ended = delete(url_file, order, told).await;
    let id = &order.id;
    let state = match &ended {
        Ok(()) => State::Done,
        Err(Failure::Redis(error)) if is_refusal(error) => {
            tracing::warn!(id, %error, "Redis refuses to delete what a purge names");
            State::Refused
        }
        Err(Failure::Redis(error)) => {
            tracing::warn!(id, %error, "what a purge names is not all deleted in Redis");
            State::Unreachable
        }
        Err(Failure::Url(why)) => {
            tracing::warn!(id, why, "what a purge names is not deleted in Redis");
            State::Unreachable
        }
    };
    told.send_modify(|progress| progress.state = state);
    let Progress { searched, deleted, .. } = *told.borrow();
    tracing::info!(id, searched, deleted, "deleted in Redis for a purge");
}

async fn delete(url_file: &Path, order: &Deletion, told: &watch::Sender<Progress>) -> Result<(), Failure> {
    let mut redis = connect(url_file).await?;
    for keys in order.keys.chunks(PIECE) {
        unlink(&mut redis, keys, told).await?;
    }
    let Some(pattern) = order.pattern() else { return Ok(()) };
    let mut cursor = 0;
    loop {
        let mut scan = ::redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(PIECE);
        let (next, found): (u64, Vec<Vec<u8>>) = ask(&mut redis, &scan).await?;
        told.send_modify(|progress| progress.searched += PIECE as u64);
        let keys: Vec<_> = found.into_iter().filter(|key| order.is_about(key)).collect();
        if !keys.is_empty() {
            unlink(&mut redis, &keys, told).await?;
        }
        if next == 0 {
            return Ok(());
        }
        cursor = next;
    }
}

async fn unlink<K: AsRef<[u8]>>(
    redis: &mut MultiplexedConnection,
    keys: &[K],
    told: &watch::Sender<Progress>,
) -> Result<(), Failure> {
    let mut unlink = ::redis::cmd("UNLINK");
    for key in keys {
        unlink.arg(key.as_ref());
    }
    let deleted: u64 = ask(redis, &unlink).await?;
    told.send_modify(|progress| progress.deleted += deleted);
    Ok(())
}

async fn ask<T: FromRedisValue>(redis: &mut MultiplexedConnection, command: &Cmd) -> Result<T, Failure> {
    Ok(command.query_async(redis).await?)
}

/// The URL is read each time: the password may be another by now.
async fn connect(url_file: &Path) -> Result<MultiplexedConnection, Failure> {
    let file = url_file.display();
    let text = std::fs::read_to_string(url_file).map_err(|error| {
        Failure::Url(format!("the file {file} with the URL of Redis cannot be read: {error}"))
    })?;
    // The error may tell parts of the URL, and with it the password.
    let client = Client::open(text.trim())
        .map_err(|_| Failure::Url(format!("the file {file} holds no URL of a Redis")))?;
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(REPLY));
    Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
}

/// Whether Redis itself has said no, and says so again until somebody has changed something.
fn is_refusal(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::AuthenticationFailed => true,
        ErrorKind::Server(kind) => !matches!(
            kind,
            ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::TryAgain
        ),
        _ => false,
    }
}
