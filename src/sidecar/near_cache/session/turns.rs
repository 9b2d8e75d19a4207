//! Reads of keys of which those who miss them wait for one another, among the other commands of the client.
//!
//! While a read waits the client's other commands are done, and their replies wait behind its own: the client may have
//! all of its requests on this connection, among them the write that another one waits for. What must not be done
//! before the read, as it concerns the same key, ends the wait.

use std::{future::poll_fn, sync::Arc};

use bytes::Bytes;
use tokio::time::Instant;

use super::{BATCH, Over, Session, Step, passes};
use crate::{
    settings::near_cache::SingleFlight,
    sidecar::{
        near_cache::{
            commands::{Cached, Handling, Meaning, Transaction},
            lease::{self, Done, Holder, Reading, Waiter},
            near::Look,
        },
        resp::request::Command,
    },
};

/// What the client leads: given up with its connection.
#[derive(Default)]
pub(super) struct Leading(Arc<Holder>);

impl Drop for Leading {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// A read in turn.
struct Asked {
    key: Bytes,
    cached: Cached,
    missed: Bytes,
    terms: SingleFlight,
}

impl Session {
    /// Whether it is a read in turn, and so answered.
    pub(super) async fn takes_turns(&mut self, command: &Command, meaning: &Meaning) -> Step<bool> {
        let Some(asked) = self.asked(command, meaning) else {
            if self.hurries(command, meaning) {
                self.submit().await?;
                self.read_before().await?;
            }
            return Ok(false);
        };
        if self.count > 0 || self.outlet.awaited().0 > 0 {
            // It cannot be asked where Redis tells of its key before these have their replies.
            self.submit().await?;
            self.read_before().await?;
        }
        self.turns.retain(|turn| !turn.is_done());
        let before = self.turns.iter().rfind(|turn| turn.key == asked.key).cloned();
        if before.is_none() {
            match self.relay.near().look(&self.spot, command, meaning, &mut self.hits) {
                Look::Hit => {
                    if self.hits.len() >= BATCH {
                        self.give_hits();
                    }
                    return Ok(true);
                }
                Look::Pass => return Ok(false),
                Look::Miss => {}
            }
        }
        self.give_hits();
        self.begin(command, meaning, asked, before).await;
        Ok(true)
    }

    async fn begin(
        &mut self,
        command: &Command,
        meaning: &Meaning,
        asked: Asked,
        before: Option<Arc<Waiter>>,
    ) {
        let Asked { key, cached, missed, terms } = asked;
        let turn = Waiter::of(key, self.outlet.expect_own(true));
        self.turns.push(turn.clone());
        let is_alone = before.is_none() && self.buffer.is_empty();
        let reading = Reading {
            relay: self.relay.clone(),
            outlet: self.outlet.clone(),
            holder: self.leading.0.clone(),
            spot: self.spot.clone(),
            place: self.place.clone(),
            command: command.clone(),
            meaning: meaning.clone(),
            cached,
            missed,
            terms,
            began: Instant::now(),
            waiter: Done(turn),
            before,
        };
        if !is_alone {
            tokio::spawn(reading.read_and_wait());
        } else if let Some(missed) = reading.read().await {
            tokio::spawn(missed.wait());
        }
    }

    /// Has those that wait hurry which must be answered before this is done; whether there are any.
    fn hurries(&mut self, command: &Command, meaning: &Meaning) -> bool {
        if self.turns.is_empty() {
            return false;
        }
        let keys: Vec<_> =
            meaning.reads().chain(meaning.changes()).filter_map(|at| command.arg(at)).collect();
        let concerns = |turn: &Waiter| match meaning.handling {
            // Without a key it is about all of them.
            Handling::Cached(_) | Handling::Read | Handling::Change => {
                keys.is_empty() || keys.contains(&&turn.key[..])
            }
            Handling::Passed
            | Handling::Transaction(Transaction::Exec | Transaction::Discard | Transaction::Unwatch) => false,
            Handling::Connection(connection) => !passes(connection),
            _ => true,
        };
        self.hurry(concerns)
    }

    /// Has those that wait hurry which are such; whether there are any.
    pub(super) fn hurry(&mut self, is_such: impl Fn(&Waiter) -> bool) -> bool {
        self.turns.retain(|turn| !turn.is_done());
        let mut are_any = false;
        for turn in self.turns.iter().filter(|turn| is_such(turn.as_ref())) {
            are_any = true;
            turn.hurry();
            self.outlet.hurry(turn.number);
        }
        are_any
    }

    /// Waits until no reply is awaited but of reads that wait for others.
    pub(super) async fn read_before(&self) -> Step {
        poll_fn(|cx| self.outlet.poll_under_way(cx)).await.map_err(|_| Over)
    }

    fn asked(&self, command: &Command, meaning: &Meaning) -> Option<Asked> {
        let Handling::Cached(cached) = meaning.handling else { return None };
        let terms = self.relay.near().single_flight(command, meaning)?;
        let missed = lease::missed(command, meaning, self.place.protocol)?;
        Some(Asked { key: lease::key_of(command, meaning)?, cached, missed, terms })
    }
}
