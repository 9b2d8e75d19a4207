//! Connections of one client each: what it does on them concerns the connection, such as a transaction, or holds it
//! up, such as waiting for an element of a list.

use std::{
    collections::HashMap,
    future::poll_fn,
    pin::Pin as Pinning,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::{
    io::{AsyncRead, ReadBuf},
    time::interval,
};

use super::{
    connect::{Place, Refused, Stream},
    near::figures::Count,
    reach::Reach,
};
use crate::settings::near_cache;

/// How often it is looked which are idle.
const ROUND: Duration = Duration::from_secs(1);
/// So many wait for their next use, of all places together.
const SPARE: usize = 16;

/// All of them.
#[derive(Debug)]
pub struct Pins {
    reach: Arc<Reach>,
    limits: Arc<RwLock<near_cache::Pool>>,
    held: Mutex<Pinned>,
    /// Those that a client did not get, as there were as many as may be.
    pub refused: Count,
}

#[derive(Debug, Default)]
struct Pinned {
    used: usize,
    spare: HashMap<Place, Vec<(Stream, Instant)>>,
    spares: usize,
    /// Counts up when none of before is to be used again.
    generation: u64,
}

/// A connection of one client.
#[derive(Debug)]
pub struct Pin {
    /// None once it was given back.
    stream: Option<Stream>,
    place: Place,
    generation: u64,
    pins: Arc<Pins>,
}

/// Why there is none.
#[derive(Clone, Debug)]
pub enum Unpinned {
    /// There are as many as may be.
    TooMany(u32),
    /// Redis gives none.
    Refused(Refused),
}

impl Pins {
    /// None yet.
    #[must_use]
    pub fn by(reach: Arc<Reach>, limits: Arc<RwLock<near_cache::Pool>>) -> Arc<Self> {
        Arc::new(Self { reach, limits, held: Mutex::default(), refused: Count::default() })
    }

    /// So many are in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.held.lock().used
    }

    /// So many wait for their next use.
    #[must_use]
    pub fn spares(&self) -> usize {
        self.held.lock().spares
    }

    /// One for a client.
    ///
    /// # Errors
    /// When there are too many, or Redis gives none.
    pub async fn take(self: &Arc<Self>, place: &Place) -> Result<Pin, Unpinned> {
        let generation = {
            let most = self.limits.read().max_pinned;
            let mut held = self.held.lock();
            if held.used >= most as usize {
                self.refused.add();
                return Err(Unpinned::TooMany(most));
            }
            held.used += 1;
            held.generation
        };
        // Counted from here on, whatever becomes of it.
        let mut pin = Pin { stream: None, place: place.clone(), generation, pins: self.clone() };
        while let Some(mut stream) = self.spare(place) {
            if is_quiet(&mut stream).await {
                pin.stream = Some(stream);
                return Ok(pin);
            }
        }
        // It is the client's, and has no name unless the client gives it one.
        pin.stream = Some(self.reach.open_as(place, b"").await.map_err(Unpinned::Refused)?.stream);
        Ok(pin)
    }

    fn spare(&self, place: &Place) -> Option<Stream> {
        let mut held = self.held.lock();
        let (stream, _) = held.spare.get_mut(place)?.pop()?;
        held.spares -= 1;
        Some(stream)
    }

    /// None that there is now is used again, but by who has it.
    pub fn connect_anew(&self) {
        let mut held = self.held.lock();
        held.generation += 1;
        held.spares = 0;
        held.spare.clear();
    }

    /// Ends those that are idle, for ever.
    pub async fn keep(self: Arc<Self>) {
        let mut rounds = interval(ROUND);
        loop {
            rounds.tick().await;
            let idle = self.limits.read().idle_timeout();
            let mut held = self.held.lock();
            let Pinned { spare, spares, .. } = &mut *held;
            for streams in spare.values_mut() {
                let before = streams.len();
                streams.retain(|(_, since)| since.elapsed() < idle);
                *spares -= before - streams.len();
            }
            spare.retain(|_, streams| !streams.is_empty());
        }
    }
}

impl Pin {
    /// The connection itself.
    pub fn stream(&mut self) -> Option<&mut Stream> {
        self.stream.as_mut()
    }

    /// It is as it was when it was taken, and may be another's.
    pub fn give_back(mut self) {
        let Some(stream) = self.stream.take() else { return };
        let mut held = self.pins.held.lock();
        if held.spares < SPARE && held.generation == self.generation {
            held.spares += 1;
            held.spare.entry(self.place.clone()).or_default().push((stream, Instant::now()));
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.pins.held.lock().used -= 1;
    }
}

impl Unpinned {
    /// What the client is told.
    #[must_use]
    pub fn told(&self) -> Bytes {
        match self {
            Self::TooMany(most) => format!(
                "-ERR too many connections of this pod are pinned (transactions, blocking commands, subscriptions): {most}; raise spec.cache.application.pool.maxPinned\r\n"
            )
            .into(),
            Self::Refused(refused) => refused.told(),
        }
    }
}

/// Whether it has neither ended nor anything to say.
async fn is_quiet(stream: &mut Stream) -> bool {
    let mut byte = [0; 1];
    poll_fn(|cx| {
        let mut buffer = ReadBuf::new(&mut byte);
        Poll::Ready(Pinning::new(&mut *stream).poll_read(cx, &mut buffer).is_pending())
    })
    .await
}
