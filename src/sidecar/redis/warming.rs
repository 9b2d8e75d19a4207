//! A replica that begins takes into its memory what the replicas use most, before requests come to it.
//!
//! Each replica tells now and then which responses it has used how often. The one list of all is a sorted set,
//! bounded, of names of responses in Redis: each response has its own key with it, and with that its stamp, so
//! that one which was purged is refused as in any lookup.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::time::{sleep, timeout};

use super::{
    Inner, codec,
    figures::Figures,
    lease::millis,
    names,
    scripts::{self, turn},
};
use crate::sidecar::cache::{Stored, key::Key, purges::Began};

/// How often it is told what is used, on average. Each time is by chance, so that replicas come one by one.
const PERIOD: Duration = Duration::from_secs(30);
/// So many responses are in the list.
const MOST: usize = 1024;
/// What is left of earlier uses each time that a replica tells of others.
const LEFT: f64 = 0.8;
/// The list is kept for as long as any response.
const KEPT: Duration = Duration::from_hours(7 * 24);

/// A replica takes no longer to begin for it.
const LIMIT: Duration = Duration::from_secs(5);
/// How long it may take until purges are known, once there is a connection.
const COHERENT: Duration = Duration::from_secs(1);
/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(1);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);
/// No more than this part of the memory is filled so: a half.
const PART: u64 = 2;
/// So many responses are asked for at once, of so many bytes.
const BATCH: (usize, u64) = (64, 1 << 20);

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warmed {
    /// So many responses were taken.
    pub entries: u64,
    /// So many bytes they take in memory.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
    /// Why it took no more.
    pub ended: Ended,
}

/// Why no more was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// That was all.
    Complete,
    /// The part of the memory is full, or there is no room for more bodies.
    Full,
    /// The time is over.
    Late,
    /// Redis is not reached.
    Away,
}

impl Ended {
    /// As it is told to people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Full => "full",
            Self::Late => "late",
            Self::Away => "Redis is not reached",
        }
    }
}

/// What was read so far, the most used first.
#[derive(Default)]
struct Read {
    responses: Vec<(Key, Stored, Began)>,
    bytes: u64,
}

impl Inner {
    /// Tells what is used, for ever.
    pub(super) async fn tell_uses_now_and_then(&self) {
        loop {
            sleep(PERIOD.mul_f64(0.5 + rand::random::<f64>())).await;
            self.tell_uses().await;
        }
    }

    /// Tells what was used since the last time, if anything was. What cannot be told is forgotten.
    pub(super) async fn tell_uses(&self) {
        let used = self.uses.take();
        if used.is_empty() {
            return;
        }
        let mut tell = scripts::USED.key(&self.names.used);
        tell.arg(millis(KEPT)).arg(MOST).arg(LEFT);
        for (key, secondary, count) in used {
            tell.arg(names::used_response(&key, &secondary)).arg(count);
        }
        let told = self
            .link
            .ask(COMMAND, |mut commands| async move { tell.invoke_async::<()>(&mut commands).await });
        if let Err(trouble) = told.await {
            tracing::debug!(%trouble, "it is not told what is used");
        }
    }

    /// Takes what the replicas use most; in a bounded time, whatever becomes of Redis.
    pub(super) async fn warm(&self) -> Warmed {
        let began = Instant::now();
        let mut read = Read::default();
        let ended = timeout(LIMIT, self.read_most_used(&mut read)).await.unwrap_or(Ended::Late);
        let (entries, bytes) = self.keep(read.responses);
        Warmed { entries, bytes, took: began.elapsed(), ended }
    }

    /// Takes into memory what was read; how many are there then, and how large they are. The least used first: where
    /// more of them come into one part of the memory than it has room for, those go that came first.
    fn keep(&self, responses: Vec<(Key, Stored, Began)>) -> (u64, u64) {
        let mut kept = Vec::with_capacity(responses.len());
        for (key, stored, began) in responses.into_iter().rev() {
            if self.memory.has(&key, &stored) {
                continue;
            }
            kept.extend(self.memory.put(key.clone(), stored, began).map(|stored| (key, stored)));
        }
        let there = kept.iter().filter(|(key, stored)| self.memory.has(key, stored));
        there.fold((0, 0), |(entries, bytes), (_, stored)| (entries + 1, bytes + stored.size() as u64))
    }

    async fn read_most_used(&self, read: &mut Read) -> Ended {
        let room = self.memory.limit() / PART;
        if room == 0 {
            return Ended::Full;
        }
        if !self.is_reached().await {
            return Ended::Away;
        }
        let list = self.names.used.clone();
        let most = isize::try_from(MOST).unwrap_or(isize::MAX) - 1;
        let listed = self.link.ask(COMMAND, |mut commands| async move {
            ::redis::cmd("ZREVRANGE").arg(list).arg(0).arg(most).query_async(&mut commands).await
        });
        let Ok(listed): Result<Vec<String>, _> = listed.await else { return Ended::Away };
        // What is none of ours is passed over.
        let listed: Vec<(String, &str)> =
            listed.iter().filter_map(|member| self.names.listed(member)).collect();
        let mut left = &listed[..];
        while !left.is_empty() {
            let began = self.memory.begin();
            let Ok(reply) = self.ask_for_listed(left, began, room - read.bytes).await else {
                return Ended::Away;
            };
            let Some((looked_at, found)) = reply else {
                self.reload.notify_one();
                sleep(PAUSE).await;
                continue;
            };
            for bytes in found {
                let Some((key, stored)) = self.fresh(bytes) else { continue };
                let size = stored.size() as u64;
                if read.bytes + size > room {
                    return Ended::Full;
                }
                if self.memory.has(&key, &stored) {
                    continue;
                }
                let Some(body) = self.room.copy(&stored.body) else { return Ended::Full };
                read.responses.push((key, Stored { body, ..stored }, began));
                read.bytes += size;
            }
            left = left.get(looked_at..).unwrap_or_default();
        }
        Ended::Complete
    }

    /// Whether Redis is there, and purges are known. It is waited for what comes anyway, and for no other attempt.
    async fn is_reached(&self) -> bool {
        let mut tried = self.link.tried();
        if tried.wait_for(|tried| *tried).await.is_err() {
            return false;
        }
        let began = Instant::now();
        while began.elapsed() < COHERENT {
            if self.link.connection().is_none() {
                return false;
            }
            if self.coherent(self.memory.begin()).is_some() {
                return true;
            }
            sleep(PAUSE).await;
        }
        false
    }

    /// How many of the first were looked at, at least one, and what was there. None where this replica and the
    /// record of purges differ.
    async fn ask_for_listed(
        &self,
        listed: &[(String, &str)],
        began: Began,
        room: u64,
    ) -> Result<Option<(usize, Vec<Vec<u8>>)>, ()> {
        let (count, bytes) = BATCH;
        let mut warm = scripts::WARM.key(&self.names.purges);
        warm.arg(began.stamp.generation).arg(began.stamp.sequence).arg(bytes.min(room));
        for (responses, field) in listed.iter().take(count) {
            warm.key(responses).arg(*field);
        }
        let asked = self.link.ask(COMMAND, |mut commands| async move {
            warm.invoke_async::<Vec<Vec<u8>>>(&mut commands).await
        });
        let mut reply = asked.await.map_err(drop)?.into_iter();
        let told = reply.next().unwrap_or_default();
        if told == turn::RECORD.as_bytes() {
            return Ok(None);
        }
        let looked_at = std::str::from_utf8(&told).ok().and_then(|told| told.parse::<usize>().ok());
        Ok(Some((looked_at.filter(|looked_at| *looked_at > 0).ok_or(())?, reply.collect())))
    }

    /// A response that answers requests as it is.
    fn fresh(&self, bytes: Vec<u8>) -> Option<(Key, Stored)> {
        let codec::Entry { key, stamp, stored } = self.read(bytes)?;
        let key = Key::told(key);
        if self.purged(&key, stamp, &stored).is_some() {
            Figures::add(&self.figures.refused);
            return None;
        }
        (stored.age(Timestamp::now()) < stored.lifetime).then_some((key, stored))
    }
}
