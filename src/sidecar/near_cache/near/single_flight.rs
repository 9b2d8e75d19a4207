//! What the memory has to do with reads of which those who miss a key wait for one another.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;

use super::{Near, Spot};
use crate::{
    settings::near_cache::SingleFlight,
    sidecar::{
        near_cache::{
            coherence::Token,
            commands::Meaning,
            connect::Protocol,
            lease::{self, Board},
            store::Question,
        },
        resp::request::Command,
    },
};

impl Spot {
    /// Of the connection that tells of what is read there.
    pub(in crate::sidecar::near_cache) fn place(&self) -> Option<u8> {
        Some(self.track.as_ref()?.lane.place)
    }
}

impl Near {
    /// Who waits for which key.
    #[must_use]
    pub fn leases(&self) -> &Arc<Board> {
        &self.memory.leases
    }

    /// What the rule for its key says of those who miss it.
    pub(in crate::sidecar::near_cache) fn single_flight(
        &self,
        command: &Command,
        meaning: &Meaning,
    ) -> Option<SingleFlight> {
        if !self.has_single_flights.load(Ordering::Relaxed) || meaning.reads().len() != 1 {
            return None;
        }
        let held = self.rules.read().held(command.arg(meaning.reads().next()?)?);
        held.single_flight.filter(|_| !held.is_off)
    }

    /// What a read is told of nothing, where that is not kept: who misses the key may have to wait.
    pub(super) fn missed(&self, command: &Command, meaning: &Meaning, protocol: Protocol) -> Option<Bytes> {
        self.single_flight(command, meaning)?;
        lease::missed(command, meaning, protocol)
    }

    /// A read begins.
    pub(in crate::sidecar::near_cache) fn begin(&self, spot: &Spot) -> Option<Token> {
        Some(self.memory.store.coherence().begin(spot.place()?))
    }

    /// Whether nothing has happened to its keys since a read began.
    pub(in crate::sidecar::near_cache) fn is_still(
        &self,
        spot: &Spot,
        command: &Command,
        meaning: &Meaning,
        token: Token,
    ) -> bool {
        let question = Question { tag: spot.tag().unwrap_or_default(), command, keys: meaning.reads() };
        self.memory.store.is_still(&question, token)
    }
}
