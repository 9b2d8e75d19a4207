//! One connection on which Redis tracks what is read, for as long as it lasts.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    sync::{mpsc, oneshot, watch},
    time::{Instant, Sleep, sleep},
};

use super::{
    LOST, NOTHING, Order, QUEUE,
    awaited::{AwaitedFill, Limit},
};
use crate::sidecar::{
    near_cache::{
        connect::Protocol,
        near::{Memory, Trouble, flights::Answer},
        store::Terms,
    },
    resp::{
        older::older,
        reply::{Item, Reader, Scanner},
        write,
    },
};

/// So often it is looked whether all is well, while anything is stored or awaited, and otherwise.
const TICK: Duration = Duration::from_millis(100);
const IDLE_TICK: Duration = Duration::from_secs(5);
/// After so many milliseconds in which nothing was sent, something is.
const PING: u64 = 200;
/// A connection on which nothing was asked for so long, and of which nothing is stored, ends.
const IDLE: u64 = 60_000;
/// So many bytes that are not sent yet, and no more is taken.
const OUTPUT: usize = 1 << 20;
/// Room for what comes.
const INPUT: usize = 16 << 10;
/// A larger reply is not taken here; what asks for it has to do so elsewhere.
const REPLY: usize = 64 << 20;

/// Why a connection has ended.
pub(super) enum End {
    /// Nobody can ask any more.
    Closed,
    /// Nothing was asked for long.
    Idle,
    /// It is to be made anew.
    Anew,
    /// It broke, or was silent.
    Lost(String),
    /// The user may not ask what has to be asked.
    Refused(Box<str>),
}

enum Awaited {
    Fill(Box<AwaitedFill>),
    /// PING, and who waits for it.
    Barrier(u64, Option<oneshot::Sender<()>>),
}

impl Awaited {
    fn sent(&self) -> u64 {
        match self {
            Self::Fill(fill) => fill.sent,
            Self::Barrier(sent, _) => *sent,
        }
    }
}

/// A connection.
pub(super) struct Serving {
    memory: Arc<Memory>,
    place: u8,
    knows_fields: bool,
    awaited: VecDeque<Awaited>,
    scanner: Scanner,
    input: BytesMut,
    /// Of what has come, so much was looked at and is of a reply that is not whole.
    seen: usize,
    output: BytesMut,
    /// When something was sent the last time, and a read.
    sent: u64,
    asked: u64,
    /// Until when something that is stored may be given.
    needed: u64,
}

impl Serving {
    pub fn new(memory: Arc<Memory>, place: u8, knows_fields: bool) -> Self {
        let now = memory.now();
        Self {
            memory,
            place,
            knows_fields,
            awaited: VecDeque::new(),
            scanner: Scanner::default(),
            input: BytesMut::with_capacity(INPUT),
            seen: 0,
            output: BytesMut::new(),
            sent: now,
            asked: now,
            needed: 0,
        }
    }

    /// Serves reads on a connection until it ends. What is awaited then is not answered before `self` is dropped.
    pub async fn run(
        mut self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        orders: &mut mpsc::Receiver<Order>,
        anew: &mut watch::Receiver<u64>,
        awaited_since: &AtomicU64,
    ) -> End {
        let memory = self.memory.clone();
        let coherence = memory.store.coherence();
        // What is read here is newer than what was kept of the one before.
        coherence.lose(self.place);
        let end = self.serve(stream, orders, anew, awaited_since).await;
        // First, so that who is told asks again where nothing of this is given any more.
        match end {
            End::Lost(_) => coherence.break_off(self.place),
            End::Closed | End::Idle | End::Anew | End::Refused(_) => coherence.lose(self.place),
        }
        end
    }

    async fn serve(
        &mut self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        orders: &mut mpsc::Receiver<Order>,
        anew: &mut watch::Receiver<u64>,
        awaited_since: &AtomicU64,
    ) -> End {
        let (mut reader, mut writer) = split(stream);
        let tick = sleep(TICK);
        tokio::pin!(tick);
        loop {
            let since = self.awaited.front().map_or(NOTHING, Awaited::sent);
            awaited_since.store(since, Ordering::Relaxed);
            self.input.reserve(INPUT);
            tokio::select! {
                // What has come first: who was held up himself sees what came in time before he looks at the clock.
                biased;
                read = reader.read_buf(&mut self.input) => match read {
                    Ok(0) => return End::Lost("Redis has ended it".to_owned()),
                    Ok(_) => if let Err(end) = self.take() { return end },
                    Err(error) => return End::Lost(error.to_string()),
                },
                wrote = writer.write_buf(&mut self.output), if !self.output.is_empty() => {
                    if let Err(error) = wrote {
                        return End::Lost(error.to_string());
                    }
                }
                order = orders.recv(), if self.has_room() => {
                    let Some(order) = order else { return End::Closed };
                    self.begin(order);
                    while self.has_room() && let Ok(order) = orders.try_recv() {
                        self.begin(order);
                    }
                    if tick.deadline() > Instant::now() + TICK {
                        tick.as_mut().reset(Instant::now() + TICK);
                    }
                }
                changed = anew.changed() => return if changed.is_ok() { End::Anew } else { End::Closed },
                () = tick.as_mut() => if let Some(end) = self.look(tick.as_mut()) { return end },
            }
        }
    }

    fn has_room(&self) -> bool {
        self.output.len() < OUTPUT && self.awaited.len() < QUEUE
    }

    fn begin(&mut self, order: Order) {
        let now = self.memory.now();
        self.sent = now;
        let awaited = match order {
            Order::Fill(fill) => {
                self.asked = now;
                Awaited::Fill(Box::new(AwaitedFill::send(*fill, now, self.knows_fields, &mut self.output)))
            }
            Order::Barrier(waiter) => {
                self.output.extend_from_slice(&write::command(&[b"PING"]));
                Awaited::Barrier(now, Some(waiter))
            }
        };
        self.awaited.push_back(awaited);
    }

    /// Looks whether all is well.
    fn look(&mut self, tick: std::pin::Pin<&mut Sleep>) -> Option<End> {
        let now = self.memory.now();
        let is_needed = now < self.needed;
        match self.awaited.front().map(Awaited::sent) {
            Some(sent) if u128::from(now.saturating_sub(sent)) >= LOST.as_millis() => {
                // With a part of it here it is too much for the way, as far as anybody knows.
                if self.seen > 0 {
                    self.note_too_large();
                }
                return Some(End::Lost(format!("Redis has not answered within {LOST:?}")));
            }
            None if !is_needed && now.saturating_sub(self.asked) >= IDLE => return Some(End::Idle),
            // One question is enough to find out.
            Some(_) if !self.output.is_empty() => {}
            _ if now.saturating_sub(self.sent) >= PING => {
                self.sent = now;
                self.output.extend_from_slice(&write::command(&[b"PING"]));
                self.awaited.push_back(Awaited::Barrier(now, None));
            }
            _ => {}
        }
        let is_busy = is_needed || !self.awaited.is_empty();
        tick.reset(Instant::now() + if is_busy { TICK } else { IDLE_TICK });
        None
    }

    /// What is awaited first is not asked here for a while.
    fn note_too_large(&self) {
        if let Some(Awaited::Fill(fill)) = self.awaited.front() {
            self.memory.note_too_large(&fill.fill.asked.command);
        }
    }

    /// Takes what has come, in its order.
    fn take(&mut self) -> Result<(), End> {
        loop {
            let new = self.input.get(self.seen..).unwrap_or_default();
            if new.is_empty() {
                return Ok(());
            }
            let found = self.scanner.scan(new).map_err(|error| End::Lost(error.to_string()))?;
            let sign = self.input.first().copied();
            self.seen += found.bytes;
            if !found.is_whole {
                if self.seen > REPLY {
                    self.note_too_large();
                    return Err(End::Lost(format!("a reply of more than {REPLY} bytes came")));
                }
                return Ok(());
            }
            let reply = self.input.split_to(self.seen).freeze();
            self.seen = 0;
            if sign == Some(b'>') {
                self.push(&reply);
            } else {
                self.reply(reply)?;
            }
        }
    }

    /// Redis calls something back.
    fn push(&mut self, push: &[u8]) {
        let mut items = Reader::new(push);
        if !matches!(items.next(), Some(Item::Push(_))) || items.next() != Some(Item::Bulk(b"invalidate")) {
            return;
        }
        if let Some(Item::Array(_)) = items.next() {
            for item in items {
                if let Item::Bulk(key) = item {
                    self.memory.figures.pushes.add();
                    self.memory.store.happened(key);
                    self.memory.leases.pushed(self.place, key);
                }
            }
        } else {
            // FLUSHALL or FLUSHDB. What is not understood may be about anything.
            self.memory.figures.flushes.add();
            self.memory.store.coherence().forget_all();
            self.memory.leases.flushed(self.place);
        }
    }

    fn reply(&mut self, reply: Bytes) -> Result<(), End> {
        if let Some(Awaited::Fill(fill)) = self.awaited.front_mut()
            && fill.takes(&reply)
        {
            return Ok(());
        }
        let Some(awaited) = self.awaited.pop_front() else {
            return Err(End::Lost("Redis says more than it was asked".to_owned()));
        };
        // All pushes of before it was sent have come, and were obeyed.
        self.memory.store.coherence().confirm(self.place, awaited.sent());
        match awaited {
            Awaited::Fill(fill) => self.land(*fill, reply),
            Awaited::Barrier(_, waiter) => {
                // It may have gone.
                let _ = waiter.map(|waiter| waiter.send(()));
                Ok(())
            }
        }
    }

    /// Stores a reply, if that may be, and then gives it to who waits for it.
    fn land(&mut self, awaited: AwaitedFill, reply: Bytes) -> Result<(), End> {
        let AwaitedFill { fill, sent, limit, is_refused, .. } = awaited;
        let asked = &fill.asked;
        let is_error = matches!(reply.first(), None | Some(b'-' | b'!'));
        let answer: Answer = match asked.protocol {
            Protocol::Three => Ok(reply),
            Protocol::Two => match older(&reply, asked.cached.shape) {
                None => Err(Trouble::Unlike),
                Some(std::borrow::Cow::Borrowed(_)) => Ok(reply),
                Some(std::borrow::Cow::Owned(older)) => Ok(older.into()),
            },
        };
        let rule = u64::try_from(asked.held.ttl.as_millis()).unwrap_or(u64::MAX);
        let ttl = match limit {
            Limit::None => rule,
            Limit::Within(time) => rule.min(time),
            Limit::Never => 0,
        };
        let expires = sent.saturating_add(ttl);
        let now = self.memory.now();
        let is_stored = answer.as_ref().is_ok_and(|reply| {
            let terms = Terms { token: fill.began, expires, rule: asked.held.number };
            let is_to_be = !is_error
                && !asked.held.is_off
                && asked.missed.as_ref() != Some(reply)
                && now < expires
                && reply.len() as u64 <= asked.held.max_value;
            is_to_be && self.memory.store.put(&asked.question(), terms, reply, now)
        });
        if is_stored {
            self.memory.figures.stored.add();
            self.needed = self.needed.max(expires);
        } else {
            self.memory.figures.refused.add();
        }
        fill.landing.land(&answer);
        match is_refused {
            Some(words) if !is_error => Err(End::Refused(format!("PTTL: {words}").into())),
            _ => Ok(()),
        }
    }
}
