//! The lock of a key: one replica asks the application for it, and only that one may store what comes.
//!
//! It is held for seconds and renewed, so that another takes over soon from a replica that is gone. Who has
//! lost it stores nothing: the key was changed meanwhile, or another asks.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{Inner, entries::Whose, link::Connection, scripts};
use crate::sidecar::cache::key::Key;

/// How long it is held without being renewed.
pub(super) const HELD: Duration = Duration::from_secs(3);
/// How often it is renewed.
const RENEWED: Duration = Duration::from_secs(1);
/// For how long all are told that nothing comes of a key: longer than anybody pauses between two looks.
const UNCACHEABLE: Duration = Duration::from_secs(1);
/// How long a command may take that no request waits for.
const UNHURRIED: Duration = Duration::from_secs(1);
/// What stands behind a lookup that was given up is kept until Redis goes on, if that is soon.
const BEHIND: Duration = Duration::from_secs(10);

/// The lock, or the wish to have it. It is given back when this is dropped.
pub struct Lease {
    inner: Arc<Inner>,
    key: Key,
    name: String,
    pub(super) token: String,
    /// On which it was asked for: what is sent there comes after that.
    connection: Connection,
    is_wanted: bool,
    renewal: Option<JoinHandle<()>>,
}

impl Lease {
    /// About to be asked for.
    pub(super) fn wanted(inner: &Arc<Inner>, key: &Key, connection: &Connection) -> Self {
        Self {
            inner: inner.clone(),
            key: key.clone(),
            name: inner.names.lock(key),
            token: inner.token(),
            connection: connection.clone(),
            is_wanted: true,
            renewal: None,
        }
    }

    /// It was had.
    pub(super) fn held(mut self) -> Self {
        let (inner, name, token) = (self.inner.clone(), self.name.clone(), self.token.clone());
        self.renewal = Some(tokio::spawn(async move {
            loop {
                sleep(RENEWED).await;
                let mut renew = scripts::RENEW.key(&name);
                renew.arg(&token).arg(millis(HELD));
                let renewed = inner.link.ask(UNHURRIED, |mut commands| async move {
                    renew.invoke_async::<bool>(&mut commands).await
                });
                if matches!(renewed.await, Ok(false)) {
                    return;
                }
            }
        }));
        self
    }

    /// It is not there to be given back.
    pub(super) fn over(mut self) {
        self.is_wanted = false;
    }

    /// Nothing comes of the key that others could use: they ask for themselves, all at once.
    pub fn give_up(mut self) {
        self.inner.mark_unshared(&self.key, Whose::All);
        self.release(Some(UNCACHEABLE));
    }

    /// Nothing comes of it that others could use, for a request that says who asks: the others of that
    /// kind ask for themselves, here.
    pub fn give_up_for_users(self) {
        self.inner.mark_unshared(&self.key, Whose::Users);
    }

    fn release(&mut self, uncacheable: Option<Duration>) {
        if !std::mem::take(&mut self.is_wanted) {
            return;
        }
        let mut release = scripts::RELEASE.key(&self.name);
        release
            .arg(&self.token)
            .arg(uncacheable.map(millis).map(|time| time.to_string()).unwrap_or_default());
        let mut commands = self.connection.commands.clone();
        if let Ok(runtime) = Handle::try_current() {
            // Not counted: where this fails, the lock ends by itself.
            runtime.spawn(async move { timeout(BEHIND, release.invoke_async::<bool>(&mut commands)).await });
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(renewal) = self.renewal.take() {
            renewal.abort();
        }
        self.release(None);
    }
}

/// As Redis counts time.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}
