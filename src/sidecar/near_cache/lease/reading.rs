//! One read of a key of which those who miss it wait for one another.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    Board, Ends,
    board::Joined,
    campaign::Campaign,
    contest::{Event, Holder, Member},
};
use crate::{
    settings::near_cache::SingleFlight,
    sidecar::{
        near_cache::{
            ask::pass,
            coherence::Token,
            commands::{Cached, Meaning},
            connect::Place,
            line::{Before, Part},
            near::{Look, Spot, Trouble, figures::Count},
            outlet::Outlet,
            server::Relay,
        },
        resp::request::Command,
    },
};

/// How far a read is, for those of the same connection that come after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::sidecar::near_cache) struct Stage {
    /// It is not to wait any more: something comes after it that must not be done before.
    pub is_hurried: bool,
    /// It has its reply.
    pub is_done: bool,
}

/// The place of a read among those of its connection. Of one key they are answered one after the other, so that a later
/// one never tells what is older.
#[derive(Debug)]
pub(in crate::sidecar::near_cache) struct Waiter {
    pub key: Bytes,
    /// Under which its reply is awaited.
    pub number: u64,
    stage: watch::Sender<Stage>,
}

/// A read.
pub(in crate::sidecar::near_cache) struct Reading {
    pub relay: Arc<Relay>,
    pub outlet: Arc<Outlet>,
    pub holder: Arc<Holder>,
    pub spot: Spot,
    pub place: Place,
    pub command: Command,
    pub meaning: Meaning,
    pub cached: Cached,
    /// What a miss is told.
    pub missed: Bytes,
    pub terms: SingleFlight,
    pub began: Instant,
    pub waiter: Done,
    /// The one before it of the same key.
    pub before: Option<Arc<Waiter>>,
}

/// Tells that a read has its reply, or never will, when it is dropped.
pub(in crate::sidecar::near_cache) struct Done(pub Arc<Waiter>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.stage.send_modify(|stage| stage.is_done = true);
    }
}

impl Waiter {
    pub fn of(key: Bytes, number: u64) -> Arc<Self> {
        Arc::new(Self { key, number, stage: watch::Sender::default() })
    }

    pub fn is_done(&self) -> bool {
        self.stage.borrow().is_done
    }

    fn is_hurried(&self) -> bool {
        self.stage.borrow().is_hurried
    }

    /// It is not to wait any more.
    pub fn hurry(&self) {
        self.stage.send_modify(|stage| stage.is_hurried = true);
    }

    async fn reached(&self, is_reached: impl FnMut(&Stage) -> bool) {
        // Its sender is here.
        let _ = self.stage.subscribe().wait_for(is_reached).await;
    }
}

/// What it goes on with.
enum Next {
    Event(Event),
    /// It is not to wait any more.
    Hurry,
    /// The time is over.
    Time,
}

/// A read that has found nothing.
pub(in crate::sidecar::near_cache) struct Missed {
    reading: Reading,
    /// When it was asked for.
    token: Token,
}

impl Reading {
    /// Asks Redis, and gives what there is. Where that is nothing, what is left is to [wait](Missed::wait).
    pub async fn read(self) -> Option<Missed> {
        let asked = self.ask().await;
        self.given(asked)
    }

    /// Reads once the one before has its reply, and waits.
    pub async fn read_and_wait(self) {
        let missed = if let Some(before) = &self.before {
            self.outlet.hold_up(self.waiter.0.number);
            before.reached(|stage| stage.is_done).await;
            let looked = self.look_or_ask().await;
            self.given(looked)
        } else {
            self.read().await
        };
        if let Some(missed) = missed {
            missed.wait().await;
        }
    }

    fn given(self, asked: Result<(Bytes, Token), Trouble>) -> Option<Missed> {
        match asked {
            Ok((reply, token)) if reply == self.missed => {
                self.outlet.hold_up(self.waiter.0.number);
                return Some(Missed { reading: self, token });
            }
            Ok((reply, _)) => self.give(&reply),
            // The session goes on meanwhile.
            Err(_) => drop(tokio::spawn(async move { self.pass().await })),
        }
        None
    }

    fn give(&self, reply: &[u8]) {
        self.outlet.deliver_own(self.waiter.0.number, reply, true, false);
    }

    /// Asks where nothing is remembered; done when the reply has come.
    async fn pass(&self) {
        let (seeing, seen) = self.relay.near().seeing(&self.command, &self.meaning).told();
        let instead = self.relay.near().instead(&self.spot, &self.command, &self.meaning);
        let (number, before) = (Some(self.waiter.0.number), Before::Changed(seeing));
        let part = Part { count: 1, number, before, instead };
        pass(&self.relay, (&self.place, &self.spot), &self.command, &self.outlet, part).await;
        // What is dropped has told as well.
        let _ = seen.await;
    }

    /// The reply of Redis, and when it was asked for.
    async fn ask(&self) -> Result<(Bytes, Token), Trouble> {
        let near = self.relay.near();
        let token = near.begin(&self.spot).ok_or(Trouble::Off)?;
        let reply = near.read(&self.spot, &self.command, &self.meaning, self.cached).await?;
        Ok((reply, token))
    }

    /// The same, where memory may have it already.
    async fn look_or_ask(&self) -> Result<(Bytes, Token), Trouble> {
        let near = self.relay.near();
        let token = near.begin(&self.spot).ok_or(Trouble::Off)?;
        let mut found = BytesMut::new();
        match near.look(&self.spot, &self.command, &self.meaning, &mut found) {
            Look::Hit => Ok((found.freeze(), token)),
            Look::Miss | Look::Pass => self.ask().await,
        }
    }

    fn is_still(&self, token: Token) -> bool {
        self.relay.near().is_still(&self.spot, &self.command, &self.meaning, token)
    }

    /// Takes part in the contest for the key.
    fn join(&self) -> Joined {
        let near = self.relay.near();
        let Some(place) = self.spot.place() else { return Joined::Full };
        let board = near.leases();
        board.join((place, &self.waiter.0.key), &self.holder, |contest| {
            let campaign = Campaign {
                relay: self.relay.clone(),
                board: board.clone(),
                contest,
                spot: self.spot.clone(),
                place: self.place.clone(),
                terms: self.terms,
            };
            tokio::spawn(campaign.run());
        })
    }
}

impl Missed {
    /// Waits until it leads, or for what another writes, and gives what there is then.
    pub async fn wait(mut self) {
        let board = self.reading.relay.near().leases().clone();
        if self.reading.waiter.0.is_hurried() {
            return self.reading.give(&self.reading.missed);
        }
        let reply = match self.reading.join() {
            Joined::Member(member) => self.waited_for(&board, member).await,
            Joined::Own => self.reading.missed.clone(),
            Joined::Full => {
                board.ends.given_up.add();
                self.reading.missed.clone()
            }
        };
        self.reading.give(&reply);
    }

    async fn waited_for(&mut self, board: &Board, mut member: Member) -> Bytes {
        let (ends, missed) = (&board.ends, self.reading.missed.clone());
        loop {
            match self.next(&mut member).await {
                Next::Event(Event::Written) => match self.look().await {
                    Ok(None) => {}
                    Ok(Some(reply)) => {
                        ends.written.add();
                        return reply;
                    }
                    Err(_) => {
                        ends.given_up.add();
                        return missed;
                    }
                },
                Next::Event(Event::Leads(grant)) => {
                    let has_waited = member.has_waited();
                    // What was written before the lease began is there.
                    match self.look().await {
                        Ok(None) => {
                            if grant.take(&self.reading.holder) {
                                board.led.add();
                            } else {
                                ends.given_up.add();
                            }
                            if has_waited {
                                ends.led.add();
                            }
                            return missed;
                        }
                        Ok(Some(reply)) => {
                            grant.found();
                            if has_waited {
                                ends.written.add();
                            }
                            return reply;
                        }
                        Err(_) => {
                            ends.given_up.add();
                            return missed;
                        }
                    }
                }
                Next::Event(Event::Failed) | Next::Hurry => return self.last(ends, &ends.given_up).await,
                Next::Time => return self.last(ends, &ends.time).await,
            }
        }
    }

    async fn next(&self, member: &mut Member) -> Next {
        let deadline = self.reading.began + self.reading.terms.wait();
        if deadline <= Instant::now() {
            return Next::Time;
        }
        if !self.reading.is_still(self.token) {
            return Next::Event(Event::Written);
        }
        tokio::select! {
            biased;
            event = member.event() => Next::Event(event),
            () = self.reading.waiter.0.reached(|stage| stage.is_hurried) => Next::Hurry,
            () = sleep_until(deadline) => Next::Time,
        }
    }

    /// Reads again; None: there is nothing still.
    async fn look(&mut self) -> Result<Option<Bytes>, Trouble> {
        let (reply, token) = self.reading.look_or_ask().await?;
        self.token = token;
        Ok((reply != self.reading.missed).then_some(reply))
    }

    /// It is over: what was found, unless something has happened since.
    async fn last(&mut self, ends: &Ends, end: &Count) -> Bytes {
        if !self.reading.is_still(self.token)
            && let Ok(Some(reply)) = self.look().await
        {
            ends.written.add();
            return reply;
        }
        end.add();
        self.reading.missed.clone()
    }
}
