//! What the memory of the pod answers, and what it is told of changes.

use bytes::BytesMut;

use super::{BATCH, Session};
use crate::sidecar::{
    near_cache::{
        ask::pass,
        commands::{Handling, Meaning},
        line::{Before, Part},
        near::Look,
        server::Relay,
    },
    resp::request::Command,
};

/// So much room for hits is kept from one to the next.
const KEPT: usize = 4 << 10;

impl Session {
    /// Whether a read is answered from memory, or asked where its reply is remembered. That is so only where nothing is
    /// outstanding on the line: what the client has changed is seen by its next read, and what it has read is never
    /// older than what it read before.
    pub(super) async fn remembers(&mut self, command: &Command, meaning: &Meaning) -> bool {
        let Handling::Cached(cached) = meaning.handling else { return false };
        if self.count > 0 || self.outlet.awaited().0 > 0 {
            return false;
        }
        match self.relay.near().look(&self.spot, command, meaning, &mut self.hits) {
            Look::Hit => {
                if self.hits.len() >= BATCH {
                    self.give_hits();
                }
                true
            }
            Look::Pass => false,
            Look::Miss => {
                self.give_hits();
                let number = self.outlet.expect_own(true);
                let (relay, outlet, spot) = (self.relay.clone(), self.outlet.clone(), self.spot.clone());
                let (command, meaning, place) = (command.clone(), meaning.clone(), self.place.clone());
                let read = async move {
                    if let Ok(reply) = relay.near().read(&spot, &command, &meaning, cached).await {
                        outlet.deliver_own(number, &reply, true, false);
                    } else {
                        let before = seeing(&relay, &command, &meaning);
                        let instead = relay.near().instead(&spot, &command, &meaning);
                        let part = Part { count: 1, number: Some(number), before, instead };
                        pass(&relay, (&place, &spot), &command, &outlet, part).await;
                    }
                };
                // Where more is there already, it is asked at the same time.
                if self.buffer.is_empty() {
                    read.await;
                } else {
                    tokio::spawn(read);
                }
                true
            }
        }
    }

    /// What was found goes to the client, all in one piece.
    pub(super) fn give_hits(&mut self) {
        if !self.hits.is_empty() {
            self.outlet.give(&self.hits);
            self.hits.clear();
            if self.hits.capacity() > KEPT {
                self.hits = BytesMut::new();
            }
        }
    }

    /// What is to be done when a command's reply has come: what it changes is forgotten before it is sent, and again.
    pub(super) fn before(&self, command: &Command, meaning: &Meaning) -> Before {
        match meaning.handling {
            Handling::Cached(_) => seeing(&self.relay, command, meaning),
            Handling::Change => Before::Changed(self.relay.near().changing(command, meaning)),
            Handling::ChangeUnknown => Before::Barrier(self.relay.near().changing(command, meaning)),
            Handling::ChangeAll => Before::Forgotten(self.relay.near().clone()),
            _ => Before::Nothing,
        }
    }
}

/// What is read past the memory may be newer than what is there: it is forgotten.
fn seeing(relay: &Relay, command: &Command, meaning: &Meaning) -> Before {
    let seeing = relay.near().seeing(command, meaning);
    if seeing.is_empty() { Before::Nothing } else { Before::Changed(seeing) }
}
