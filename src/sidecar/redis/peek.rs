//! What is in Redis for a request, for whoever asks why: nothing changes by it, and no lock is asked for.

use std::{sync::Arc, time::Instant};

use super::{
    Inner, codec,
    entries::{Take, Wanted},
    names::VARIES_BY_NOTHING,
    scripts::turn,
};
use crate::sidecar::cache::{Stored, purges::Force};

/// What is there.
#[derive(Clone, Debug)]
pub enum Peek {
    /// A response to such a request.
    Stored(Arc<Stored>),
    /// One that was purged since.
    Purged(Arc<Stored>),
    /// Responses of the key, and none to such a request.
    OtherVariants,
    /// Nothing of the key.
    Nothing,
    /// Something that is no response of this release.
    Unreadable,
    /// It is not looked for, as nothing came of the key for others a moment ago.
    Unshared,
    /// Redis is not reached, or not all purges are known.
    NotReached,
}

impl Inner {
    /// Looks for a response, for as long as a lookup may take.
    pub(super) async fn peek(&self, wanted: &Wanted<'_>) -> Peek {
        if self.is_unshared(wanted) {
            return Peek::Unshared;
        }
        let until = Instant::now() + self.lookup;
        let mut sets = self.sets.get(wanted.key).unwrap_or_else(|| VARIES_BY_NOTHING.into());
        for _ in 0..4 {
            let began = self.memory.begin();
            let Some(connection) = self.coherent(began) else { return Peek::NotReached };
            let left = until.saturating_duration_since(Instant::now());
            let asked = self.ask_for(wanted, Take::Nothing, began, &sets, "", &connection);
            let Ok(reply) = self.link.within(left, &connection, asked).await else { return Peek::NotReached };
            let mut reply = reply.into_iter();
            let told = reply.next().flatten().unwrap_or_default();
            let found_sets = reply.next().flatten().and_then(|sets| String::from_utf8(sets).ok());
            if told == turn::SETS.as_bytes() {
                sets = found_sets.unwrap_or_default().into();
            } else if told == turn::RECORD.as_bytes() {
                self.reload.notify_one();
                return Peek::NotReached;
            } else {
                return self.judged(wanted, reply.flatten().collect(), found_sets.is_some());
            }
        }
        Peek::NotReached
    }

    /// The newest that may be given; if there is none, what there is instead.
    fn judged(&self, wanted: &Wanted<'_>, found: Vec<Vec<u8>>, has_others: bool) -> Peek {
        let mut peek = match (found.is_empty(), has_others) {
            (false, _) => Peek::Unreadable,
            (true, true) => Peek::OtherVariants,
            (true, false) => Peek::Nothing,
        };
        for bytes in found {
            let Ok(codec::Entry { key, stamp, mut stored }) = codec::decode(bytes) else { continue };
            if key != wanted.key.as_str() || !stored.is_for(wanted.request) {
                continue;
            }
            let force = self.purged(wanted.key, stamp, &stored);
            stored.is_purged_softly = force == Some(Force::Soft);
            let is_newest = match &peek {
                Peek::Stored(other) => other.received < stored.received,
                _ => true,
            };
            if force == Some(Force::Hard) {
                if !matches!(peek, Peek::Stored(_)) {
                    peek = Peek::Purged(Arc::new(stored));
                }
            } else if is_newest {
                peek = Peek::Stored(Arc::new(stored));
            }
        }
        peek
    }
}
