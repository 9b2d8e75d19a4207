//! Following the record of purges: its news, and the application's channel, on a connection of their own.
//!
//! First the news are subscribed to, then the record is read; so nothing is missed in between. While they do not
//! come, nothing is taken from Redis.

use std::{sync::atomic::Ordering, time::Duration};

use ::redis::aio::{PubSubSink, PubSubStream};
use futures::StreamExt;
use tokio::{
    task::JoinHandle,
    time::{Instant, interval_at, sleep, timeout},
};

use super::{
    Inner,
    figures::Figures,
    lease::millis,
    link::CONNECT,
    record::{News, Purge, Record},
    scripts,
    telling::{KEPT, fresh},
};
use crate::sidecar::{
    cache::purges::{Force, Source, Target},
    memory::Memory,
    purge_order::{self, Order},
};

/// A connection on which nothing comes is asked whether it is there.
const PING: Duration = Duration::from_secs(1);
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(1);
/// After the news have ended.
const PAUSE: Duration = Duration::from_millis(100);
/// How long Redis may take to tell the record.
const LOADING: Duration = Duration::from_secs(1);
/// The record is read again now and then, so that it is kept.
const AGAIN: Duration = Duration::from_hours(1);
/// So often it is told that messages of the application are not understood.
const COMPLAINT: Duration = Duration::from_mins(1);

/// What is known of the record, beside what the memory knows.
struct Known {
    /// How often keys were changed.
    changes: Option<u64>,
    complained: Option<Instant>,
}

/// What has to be done about the record.
#[derive(PartialEq, Eq)]
enum After {
    Nothing,
    Reload,
}

impl Inner {
    /// Follows the record, for ever.
    pub(super) async fn follow(&self) {
        let mut known = Known { changes: None, complained: None };
        loop {
            if let Err(error) = self.follow_once(&mut known).await {
                tracing::debug!(error, "the news of purges have ended; beginning again");
            }
            self.followed.store(0, Ordering::Release);
            sleep(PAUSE).await;
        }
    }

    async fn follow_once(&self, known: &mut Known) -> Result<(), String> {
        // The connection for commands tells how Redis is, and logs it.
        let mut number = self.link.number();
        number.wait_for(|number| *number != 0).await.map_err(|error| error.to_string())?;
        let (pings, mut news) = self.subscribe().await?;
        let mut pings = Pings(tokio::spawn(ping(pings)));
        let mut again = interval_at(Instant::now() + AGAIN, AGAIN);
        self.load(known).await?;
        loop {
            tokio::select! {
                // Lost first: what is read after the connection was lost says nothing of its news.
                biased;
                _ = &mut pings.0 => return Err("the connection does not answer".to_owned()),
                message = news.next() => {
                    let message = message.ok_or("the connection has ended")?;
                    let after = if message.get_channel_name() == self.names.purges {
                        self.take(known, message.get_payload_bytes()).await
                    } else {
                        self.obey(known, message.get_payload_bytes()).await;
                        After::Nothing
                    };
                    if after == After::Reload {
                        self.load(known).await?;
                    }
                }
                changed = number.changed() => {
                    changed.map_err(|error| error.to_string())?;
                    if *number.borrow_and_update() != 0 {
                        self.load(known).await?;
                    }
                }
                () = self.reload.notified() => self.load(known).await?,
                _ = again.tick() => self.load(known).await?,
            }
        }
    }

    async fn subscribe(&self) -> Result<(PubSubSink, PubSubStream), String> {
        let client = self.link.client()?;
        let subscribed = timeout(CONNECT, async {
            let (mut sink, stream) = client.get_async_pubsub().await?.split();
            sink.subscribe(&[&self.names.purges, &self.names.channel]).await?;
            Ok::<_, ::redis::RedisError>((sink, stream))
        });
        let subscribed = subscribed.await.map_err(|_| "no answer in time".to_owned())?;
        subscribed.map_err(|error| error.to_string())
    }

    /// Reads the record, and takes what is new of it.
    async fn load(&self, known: &mut Known) -> Result<(), String> {
        // From here on until it is read, what is read from Redis may be older than a purge that is not known.
        self.followed.store(0, Ordering::Release);
        let Some(connection) = self.link.connection() else { return Ok(()) };
        let mut record = self.read_record(&connection, None).await?;
        let stamp = self.memory.begin().stamp;
        if record.generation == stamp.generation && record.sequence < stamp.sequence {
            // It was restored from before some purges, and its numbers will stand for others.
            record = self.read_record(&connection, Some(record.generation)).await?;
        }
        self.take_record(known, &record).await;
        self.followed.store(connection.number, Ordering::Release);
        Ok(())
    }

    async fn read_record(
        &self,
        connection: &super::link::Connection,
        lost: Option<u64>,
    ) -> Result<Record, String> {
        let mut load = scripts::LOAD.key(&self.names.purges);
        let lost = lost.map(|generation| generation.to_string()).unwrap_or_default();
        let fresh = fresh();
        load.arg(fresh).arg(lost).arg(millis(KEPT));
        let mut commands = connection.commands.clone();
        let loaded = async move { load.invoke_async::<Vec<(Vec<u8>, Vec<u8>)>>(&mut commands).await };
        let fields =
            self.link.within(LOADING, connection, loaded).await.map_err(|error| error.to_string())?;
        let record = Record::of(&fields)?;
        // Told by the replica that has found it, and by those that went by what was there before.
        let known = self.memory.begin().stamp.generation;
        if record.replaces_garbage && known != record.generation && (known != 0 || record.generation == fresh)
        {
            let key = &self.names.purges;
            tracing::warn!(key, "what stood in Redis is no record of purges; another has begun in its place");
        }
        Ok(record)
    }

    async fn take_record(&self, known: &mut Known, record: &Record) {
        let stamp = self.memory.begin().stamp;
        let is_continued = record.generation == stamp.generation
            && (record.forgotten..=record.sequence).contains(&stamp.sequence);
        if !is_continued {
            tracing::info!("another record of purges begins: nothing of before is given any more");
            let Record { generation, forgotten, .. } = *record;
            let is_long = self.memory.takes_long(&[Target::Everything], Force::Hard);
            self.in_memory(is_long, move |memory| memory.begin_generation(generation, forgotten)).await;
        } else if known.changes != Some(record.changes) {
            // Which keys they were is told once, and nobody has heard it here.
            let is_long = self.memory.takes_long(&[Target::Everything], Force::Hard);
            self.in_memory(is_long, Memory::lose_track).await;
        }
        known.changes = Some(record.changes);
        let after = if is_continued { stamp.sequence } else { record.forgotten };
        for (number, purge) in record.after(after) {
            self.purge_here(purge.targets.clone(), purge.force, Source::Shared(number)).await;
        }
        self.outbox.settle(self.memory.begin().stamp);
    }

    /// Takes news of the record.
    async fn take(&self, known: &mut Known, news: &[u8]) -> After {
        let stamp = self.memory.begin().stamp;
        match serde_json::from_slice(news) {
            Ok(News::Begun { generation }) if generation == stamp.generation => After::Nothing,
            Ok(News::Purged { generation, sequence, purge }) if generation == stamp.generation => {
                if sequence <= stamp.sequence {
                    return After::Nothing;
                }
                if sequence != stamp.sequence + 1 {
                    return After::Reload;
                }
                let Purge { force, targets, .. } = purge;
                tracing::debug!(sequence, ?targets, "purged by the record");
                self.purge_here(targets, force, Source::Shared(sequence)).await;
                self.outbox.settle(self.memory.begin().stamp);
                After::Nothing
            }
            Ok(News::Changed { generation, changes, from, keys }) => {
                if from != self.replica {
                    let targets: Vec<Target> = keys.into_iter().map(Target::Key).collect();
                    self.purge_here(targets, Force::Hard, Source::Replica).await;
                }
                let before = if generation == stamp.generation { known.changes } else { None };
                match before {
                    Some(before) if changes == before + 1 => known.changes = Some(changes),
                    Some(before) if changes <= before => {}
                    _ if generation == 0 => {}
                    _ => return After::Reload,
                }
                After::Nothing
            }
            // Of another record, or of a later release.
            Ok(_) | Err(_) => After::Reload,
        }
    }

    /// Carries out what the application has published, and has it recorded.
    async fn obey(&self, known: &mut Known, message: &[u8]) {
        match purge_order::purge(message, self.orders.tiers()) {
            Ok(Order { targets, force, delete }) => {
                let targets = self.memory.about(targets);
                // What was known when it came: each replica asks for it to be recorded, and the first is enough.
                let stamp = self.memory.begin().stamp;
                self.outbox.purged(Purge { force, targets: targets.clone(), delete }, stamp);
                self.purge_here(targets, force, Source::Replica).await;
            }
            Err(error) => {
                Figures::add(&self.figures.misunderstood);
                let is_due = known.complained.is_none_or(|last| last.elapsed() >= COMPLAINT);
                if is_due {
                    let channel = &self.names.channel;
                    tracing::warn!(channel, error, "a message of the application is no purge; it is ignored");
                    known.complained = Some(Instant::now());
                }
            }
        }
    }
}

/// Ends with what it is for.
struct Pings(JoinHandle<()>);

impl Drop for Pings {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Asks now and then whether the connection is there; ends when it is not.
async fn ping(mut connection: PubSubSink) {
    loop {
        sleep(PING).await;
        // What it answers does not matter.
        let answer = timeout(ANSWER, connection.ping::<::redis::Value>()).await;
        if !matches!(answer, Ok(Ok(_))) {
            return;
        }
    }
}
