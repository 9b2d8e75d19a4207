//! Telling the others what has happened here: what requests have changed, and purges of the application.

use std::{sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use super::{
    Inner,
    lease::millis,
    link::Trouble,
    outbox::{Next, Pending},
    record::{self, Purge},
    scripts,
};
use crate::{
    settings::deletions::{Deletion, State},
    sidecar::cache::{
        key::Key,
        purges::{Force, Source, Stamp, Target},
    },
};

/// How long Redis may take to record something.
const RECORDING: Duration = Duration::from_secs(1);
/// How long the news of what was recorded may take to come back.
const NEWS: Duration = Duration::from_secs(1);
/// After something could not be told.
const PAUSE: Duration = Duration::from_millis(250);
/// The record is kept for so long after it was last read: longer than any response.
pub(super) const KEPT: Duration = Duration::from_hours(8 * 24);

/// Where a purge is in the record.
struct Added {
    generation: u64,
    number: u64,
    /// Nobody had recorded it before.
    is_first: bool,
}

impl Inner {
    /// Tells what there is, in order, and until it is told; for ever.
    pub(super) async fn tell(self: Arc<Self>) {
        loop {
            let told = match self.outbox.next().await {
                Next::Changes(last, keys) => self.tell_changes(last, &keys).await,
                Next::Purge(pending) => self.tell_purge(&pending).await,
            };
            if let Err(trouble) = told {
                tracing::debug!(%trouble, "the other replicas cannot be told; trying again");
                sleep(PAUSE).await;
                let mut number = self.link.number();
                let _ = number.wait_for(|number| *number != 0).await;
            }
        }
    }

    async fn tell_changes(&self, last: u64, keys: &[Key]) -> Result<(), Trouble> {
        let mut change = scripts::CHANGE.key(&self.names.purges);
        for key in keys {
            change.key(self.names.responses(key)).key(self.names.lock(key));
        }
        let texts: Vec<&str> = keys.iter().map(Key::as_str).collect();
        // Texts can be written as JSON.
        change.arg(self.replica).arg(serde_json::to_string(&texts).unwrap_or_default());
        let is_record = self
            .link
            .ask(RECORDING, |mut commands| async move { change.invoke_async::<bool>(&mut commands).await })
            .await?;
        if !is_record {
            // Another begins in its place.
            self.reload.notify_one();
        }
        // Once more: a lookup that began before Redis knew of it may have found what was there.
        let targets = keys.iter().map(|key| Target::Key(key.as_str().to_owned())).collect();
        self.purge_here(targets, Force::Hard, Source::Replica).await;
        self.outbox.changes_told(last);
        Ok(())
    }

    async fn tell_purge(self: &Arc<Self>, pending: &Pending) -> Result<(), Trouble> {
        let added = self.add(&pending.purge, pending.known).await.inspect_err(|_| {
            self.outbox.unsure(pending.id);
        })?;
        self.outbox.purge_recorded(pending.id, added.generation, added.number);
        self.outbox.settle(self.memory.begin().stamp);
        // Of all replicas that were told of it one deletes, or two where the reply was lost, and not none.
        if pending.purge.delete && (added.is_first || pending.is_unsure) {
            self.delete(&pending.purge);
        }
        Ok(())
    }

    /// Deletes in Redis what a purge of the channel names. What was made anew of it meanwhile is purged once more.
    fn delete(self: &Arc<Self>, purge: &Purge) {
        let Some(deletions) = self.orders.deletions.clone() else { return };
        let order = Deletion::of(&self.token(), &purge.targets);
        let of_responses = purge.targets.iter().filter(|target| !target.is_of_redis()).cloned();
        let again = Purge { force: purge.force, targets: of_responses.collect(), delete: false };
        let inner = self.clone();
        tokio::spawn(async move {
            let is_done = deletions.run(order).await.state == State::Done;
            if is_done && !again.targets.is_empty() {
                inner.outbox.purged(again.clone(), None);
                inner.purge_here(again.targets, again.force, Source::Replica).await;
            }
        });
    }

    /// Records a purge: in which generation, and as which number. Where it was about an earlier generation, or
    /// another replica has recorded it since, that is as good.
    async fn add(&self, purge: &Purge, known: Option<Stamp>) -> Result<Added, Trouble> {
        let mut add = scripts::ADD.key(&self.names.purges);
        // What is made of texts can be written as JSON.
        add.arg(fresh()).arg(millis(KEPT)).arg(serde_json::to_string(purge).unwrap_or_default());
        add.arg(record::MOST);
        match known {
            Some(stamp) => add.arg(stamp.generation).arg(stamp.sequence),
            None => add.arg("").arg(""),
        };
        self.link
            .ask(RECORDING, |mut commands| async move {
                add.invoke_async::<(String, u64, bool)>(&mut commands).await
            })
            .await
            .map(|(generation, number, is_first)| Added {
                generation: generation.parse().unwrap_or_default(),
                number,
                is_first,
            })
    }

    /// Records a purge that was carried out here, and waits until this replica has seen it come back: then the
    /// others have it, too.
    pub(super) async fn record(&self, targets: Vec<Target>, force: Force) -> Result<(), String> {
        let known = self.memory.begin().stamp;
        let purge = Purge { force, targets, delete: false };
        let added = self.add(&purge, None).await;
        if added.is_err() {
            // It is tried again, and until then nothing that it is about is taken from Redis.
            self.outbox.purged(purge.clone(), known);
        }
        // Once more: a lookup that began before Redis knew of it may have found what was there.
        self.purge_here(purge.targets, force, Source::Replica).await;
        let Added { generation, number, .. } =
            added.map_err(|trouble| format!("it is not recorded yet: {trouble}"))?;
        let is_seen = async {
            loop {
                let known = self.memory.begin().stamp;
                if known.generation == generation && known.sequence >= number {
                    return;
                }
                sleep(Duration::from_millis(1)).await;
            }
        };
        // Until then nothing is taken from Redis: this replica knows less than the record.
        let seen = timeout(NEWS, is_seen).await;
        seen.map_err(|_| "it is recorded, and the news of it have not come back in time".to_owned())
    }
}

/// The generation of another record: what no other has.
pub(super) fn fresh() -> u64 {
    rand::random::<u64>().max(1)
}
