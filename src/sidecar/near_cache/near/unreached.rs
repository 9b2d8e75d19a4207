//! What reads are told while Redis is not reached, by the rules of their keys.

use std::{fmt, sync::Arc};

use bytes::{Bytes, BytesMut};

use super::{Near, Spot, keys};
use crate::{
    settings::near_cache::WhenRedisFails,
    sidecar::{
        near_cache::{
            commands::{Handling, Meaning},
            nothing::nothing,
            store::Question,
        },
        resp::request::Command,
    },
};

/// A read that may be told something else than that its connection was lost.
pub struct Instead {
    near: Arc<Near>,
    spot: Spot,
    command: Command,
    meaning: Meaning,
}

impl Instead {
    /// What it is told; None: the error.
    #[must_use]
    pub fn told(&self) -> Option<Bytes> {
        self.near.unreached(&self.spot, &self.command, &self.meaning)
    }
}

impl fmt::Debug for Instead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instead").field("command", &self.meaning.name).finish_non_exhaustive()
    }
}

impl Near {
    /// What a read is told instead if its connection is lost, where the rules of its keys have it so.
    #[must_use]
    pub fn instead(
        self: &Arc<Self>,
        spot: &Spot,
        command: &Command,
        meaning: &Meaning,
    ) -> Option<Box<Instead>> {
        let is_read = matches!(meaning.handling, Handling::Cached(_) | Handling::Read);
        if !is_read || self.when_redis_fails(command, meaning) == WhenRedisFails::Error {
            return None;
        }
        let (near, spot) = (self.clone(), spot.clone());
        Some(Box::new(Instead { near, spot, command: command.clone(), meaning: meaning.clone() }))
    }

    fn when_redis_fails(&self, command: &Command, meaning: &Meaning) -> WhenRedisFails {
        self.rules.read().held_together(keys(command, meaning)).when_redis_fails
    }

    /// What memory holds, or that there is nothing, where the rules of all its keys allow that; None: an error.
    #[must_use]
    pub fn unreached(&self, spot: &Spot, command: &Command, meaning: &Meaning) -> Option<Bytes> {
        let rule = self.when_redis_fails(command, meaning);
        let stale = || rule.gives_stale().then(|| self.stale(spot, command, meaning)).flatten();
        let nothing = || rule.says_nothing().then(|| nothing(command, meaning, spot.protocol)).flatten();
        stale().or_else(nothing)
    }

    fn stale(&self, spot: &Spot, command: &Command, meaning: &Meaning) -> Option<Bytes> {
        if !matches!(meaning.handling, Handling::Cached(_)) {
            return None;
        }
        let question = Question { tag: spot.tag()?, command, keys: meaning.reads() };
        let (store, now, mut reply) = (&self.memory.store, self.memory.now(), BytesMut::new());
        // Of a connection that is lost with that of the read it may not be known yet.
        let current = store.get(&question, now, &mut reply);
        current.or_else(|| store.get_stale(&question, now, &mut reply))?;
        self.memory.figures.stale.add();
        Some(reply.freeze())
    }
}
