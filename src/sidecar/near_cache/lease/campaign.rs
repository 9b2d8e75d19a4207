//! What is done in Redis for the lease of a key, for as long as anybody in the pod leads or waits.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until, timeout};

use super::{Board, contest::Contest, given_back, name};
use crate::{
    settings::near_cache::SingleFlight,
    sidecar::{
        near_cache::{
            ask::ask,
            commands::{Handling, meaning},
            connect::Place,
            near::Spot,
            nothing::nothing,
            server::Relay,
        },
        resp::{request::Command, write},
    },
};

/// An attempt that takes longer has failed: nobody is to wait for a Redis that is slow.
const LIMIT: Duration = Duration::from_millis(500);
/// So long it is waited for that a lease is given back, before another attempt.
const LAST: Duration = Duration::from_secs(1);

/// Who asks for leases, and for what.
pub(super) struct Campaign {
    pub relay: Arc<Relay>,
    pub board: Arc<Board>,
    pub contest: Arc<Contest>,
    pub spot: Spot,
    pub place: Place,
    pub terms: SingleFlight,
}

/// What has come of an attempt.
enum Attempt {
    /// The pod has the lease, by this token, until then.
    Won(String, Instant),
    /// Another has it, until then at most.
    Lost(Instant),
    Failed,
}

impl Campaign {
    /// Until nobody leads or waits any more.
    pub async fn run(self) {
        let name = name(&self.contest.key);
        loop {
            match self.attempt(&name).await {
                Attempt::Won(token, until) => {
                    self.lead(until).await;
                    self.give_back(&name, &token, LAST).await;
                }
                Attempt::Lost(until) => {
                    self.contest.contested();
                    match self.is_there(&name).await {
                        Some(true) => self.wait(until).await,
                        Some(false) => {}
                        None => self.contest.fail(),
                    }
                }
                Attempt::Failed => self.contest.fail(),
            }
            if self.board.is_ending() {
                self.contest.fail();
            }
            if self.board.close(&self.contest) {
                return;
            }
        }
    }

    async fn attempt(&self, name: &[u8]) -> Attempt {
        let (token, began) = (self.board.token(), Instant::now());
        let time = self.terms.lease_ms.to_string();
        let mut sent = write::command(&[b"SET", name, token.as_bytes(), b"NX", b"PX", time.as_bytes()]);
        sent.unsplit(write::command(&[b"PTTL", name]));
        let Ok(Ok(replies)) = timeout(LIMIT, ask(&self.relay, &self.place, &sent, 2)).await else {
            // It may be done yet.
            self.give_back(name, &token, Duration::ZERO).await;
            return Attempt::Failed;
        };
        let all = began + self.terms.lease();
        if replies.starts_with(write::OK) {
            return Attempt::Won(token, all);
        }
        let nulls = [&b"$-1\r\n:"[..], b"_\r\n:"];
        let left = nulls.iter().find_map(|null| replies.strip_prefix(*null));
        match left.and_then(|digits| std::str::from_utf8(digits).ok()?.trim_end().parse::<i64>().ok()) {
            // Gone meanwhile: another attempt.
            Some(-2) => Attempt::Lost(began),
            // One without an end is none of a sidecar's, and is looked at again as if it were.
            Some(left) => {
                Attempt::Lost(u64::try_from(left).map_or(all, |left| began + Duration::from_millis(left)))
            }
            None => {
                self.board.refused(self.contest.place, &replies);
                Attempt::Failed
            }
        }
    }

    /// Offers the lease to those who wait, until one takes it, and waits until nobody leads any more.
    async fn lead(&self, until: Instant) {
        loop {
            let Some(taken) = self.contest.offer() else { return };
            if taken.await.is_ok() {
                break;
            }
        }
        while self.contest.is_led() {
            tokio::select! {
                () = self.contest.stirring() => {}
                () = sleep_until(until) => self.contest.depose(),
            }
        }
    }

    /// Waits until the lease of another may be gone, or nobody waits any more.
    async fn wait(&self, until: Instant) {
        tokio::select! {
            () = self.contest.stirring() => {}
            () = sleep_until(until) => {}
        }
    }

    /// Whether the lease is there; from then on Redis tells when it is not. None: it cannot be known.
    async fn is_there(&self, name: &[u8]) -> Option<bool> {
        let get = Command::of(&[b"GET", name]);
        let meaning = meaning(&get);
        let Handling::Cached(cached) = meaning.handling else { return None };
        let reply = self.relay.near().read(&self.spot, &get, &meaning, cached).await.ok()?;
        if reply.starts_with(b"-") {
            self.board.refused(self.contest.place, &reply);
            return None;
        }
        Some(nothing(&get, &meaning, self.place.protocol).is_none_or(|nothing| nothing != reply))
    }

    /// Gives the lease back, and waits so long until that is done.
    async fn give_back(&self, name: &[u8], token: &str, limit: Duration) {
        let (relay, place) = (self.relay.clone(), self.place.clone());
        let sent = given_back(name, token.as_bytes());
        // It goes on also where it is not waited for. Where the user may not, the lease ends by itself.
        let giving = tokio::spawn(async move { ask(&relay, &place, &sent, 1).await });
        let _ = timeout(limit, giving).await;
    }
}
