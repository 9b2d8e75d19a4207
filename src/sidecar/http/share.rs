//! The second level on the way of a request, between memory and the application.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::{Front, flights::Flight, front::Asked, kept::Came};
use crate::sidecar::{
    cache::{
        NotStored, RequestDirectives, Stored,
        key::Key,
        purges::{Began, Force, Source, Target},
        reuse::{ByRule, Reuse},
    },
    memory::Memory,
    redis::{Lease, Lock, Shared, Take, Wanted},
};

/// The pause between two looks at what another replica asks for, at first and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(50)];

/// The right to ask the application for many. Whoever waits goes on when this is dropped.
#[derive(Default)]
pub(super) struct Leave {
    /// For this replica.
    pub(super) flight: Option<Flight>,
    /// For all of them; without it nothing is stored in Redis.
    pub(super) lease: Option<Lease>,
}

/// How a request comes to the second level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Only to look: it does not ask for what others could use.
    Look,
    /// To ask if there is nothing, and to wait for another replica that asks.
    Lead,
    /// The same, and to wait for nobody: it wants more than what is stored.
    Hurry,
}

/// What the second level has for a request.
pub(super) enum Share {
    /// A response that may be used, and how.
    Answer(Arc<Stored>, Reuse),
    /// The application has to be asked.
    Ask {
        /// What is stale, here or there.
        stale: Option<(Arc<Stored>, Reuse)>,
        /// The right to store what it answers.
        lease: Option<Lease>,
        /// Another replica is asking.
        is_asked_elsewhere: bool,
    },
}

impl Leave {
    /// The answer is not for others: they ask for themselves, all at once.
    pub(super) fn give_up(self, status: StatusCode, is_of_a_user: bool) {
        let Self { flight, lease } = self;
        // An error says nothing of what comes next, nor does what one request has asked for.
        let is_lasting =
            status.is_success() || (status.is_redirection() && status != StatusCode::NOT_MODIFIED);
        if let Some(flight) = flight {
            flight.release(is_lasting.then_some(is_of_a_user));
        }
        if let Some(lease) = lease.filter(|_| is_lasting) {
            // What one user gets says nothing of what those get who do not say who they are.
            if is_of_a_user { lease.give_up_for_users() } else { lease.give_up() }
        }
    }

    /// The application has failed, with this status or without an answer; who waits here need not try it too.
    pub(super) fn fail(self, answered: Option<StatusCode>) {
        if let Some(flight) = self.flight {
            flight.fail(answered);
        }
    }

    /// The body has not come to be kept: others ask for themselves, all at once.
    pub(super) fn without(self, came: &Came, status: StatusCode, is_of_a_user: bool) {
        match came {
            // So it will be the next time.
            Came::NotStored(NotStored::TooLarge) | Came::WithTrailers => self.give_up(status, is_of_a_user),
            Came::Whole(_) | Came::NotStored(_) | Came::Broken => self.let_go(),
        }
    }

    /// The same, where that says nothing of the next answers.
    pub(super) fn let_go(self) {
        if let Some(flight) = self.flight {
            flight.release(None);
        }
    }

    /// Holds nobody up for what finds no room in memory. Where it is stored for all replicas, whoever comes
    /// later finds it there.
    pub(super) fn for_room(mut self, has_room: bool) -> Self {
        if let Some(flight) = self.flight.take_if(|_| !has_room) {
            flight.release(self.lease.is_none().then_some(false));
        }
        self
    }

    /// Holds nobody up for what is stale as it comes: it has to be asked for each time.
    pub(super) fn for_others(self, stored: &Stored, rule: ByRule, now: Timestamp) -> Self {
        let is_of_use = stored.reuse(&RequestDirectives::default(), rule, now);
        if matches!(is_of_use, Reuse::Fresh | Reuse::WhileRevalidated) {
            return self;
        }
        self.give_up(stored.status, false);
        Self::default()
    }
}

/// Both levels, for what an answer brings.
#[derive(Clone)]
pub(super) struct Levels {
    pub(super) memory: Arc<Memory>,
    pub(super) shared: Option<Arc<Shared>>,
}

impl Levels {
    /// Keeps what a fill has brought, unless it was purged meanwhile.
    pub(super) fn keep(&self, key: Key, rule: ByRule, stored: Stored, began: Began, leave: Leave) {
        let leave = leave.for_room(self.memory.has_room_for(&key, stored.size()));
        let kept = self.memory.put(key.clone(), stored, began);
        let Leave { flight, lease } = leave;
        // Who waits here finds it in memory.
        drop(flight);
        if let (Some(kept), Some(shared), Some(lease)) = (kept, &self.shared, lease) {
            shared.put(lease, key, kept, began, rule);
        }
    }

    /// Gives these no more, here and at the other replicas; what is returned waits for those.
    pub(super) fn forget(&self, keys: Vec<Key>) -> impl Future<Output = ()> + use<'_> {
        let targets = keys.iter().map(|key| Target::Key(key.as_str().to_owned()));
        let targets: Vec<Target> = targets.collect();
        let telling = self.shared.as_ref().map(|shared| shared.changed(keys));
        self.memory.purge(&targets, Force::Hard, Source::Replica);
        async move {
            if let Some(telling) = telling {
                telling.await;
            }
        }
    }
}

impl Front {
    /// What the second level has, newer than what is stale here; waits `until` then at most for another replica.
    pub(super) async fn share(
        &self,
        asked: &Asked,
        stale: Option<(Arc<Stored>, Reuse)>,
        way: Way,
        until: Instant,
    ) -> Share {
        // Without a cache nothing is there.
        let Some(shared) = self.levels.shared.as_ref().filter(|_| self.settings().max_object > 0) else {
            return Share::Ask { stale, lease: None, is_asked_elsewhere: false };
        };
        let mut pause = PAUSES[0];
        let mut stale = stale;
        let mut has_waited = false;
        loop {
            let take = match (way, &stale) {
                (Way::Look, _) => Take::Nothing,
                (_, None) => Take::IfMissing,
                // What is to be renewed is no reason not to ask.
                (_, Some(_)) => Take::Always,
            };
            let known = stale.as_ref().map(|(stored, _)| stored.received);
            let wanted = Wanted {
                key: &asked.key,
                request: &asked.parts.headers,
                is_of_a_user: asked.is_of_a_user(),
                newer_than: known,
            };
            let looked = shared.look(&wanted, take).await;
            if let Some(stored) = looked.stored {
                match asked.reuse(&stored, Timestamp::now()) {
                    reuse @ (Reuse::Fresh | Reuse::WhileRevalidated) => return Share::Answer(stored, reuse),
                    reuse => stale = Some((stored, reuse)),
                }
                if take == Take::IfMissing {
                    continue;
                }
            }
            let is_busy = matches!(looked.lock, Lock::Busy);
            if !is_busy || way != Way::Lead || Instant::now() >= until {
                let lease = if let Lock::Held(lease) = looked.lock { Some(lease) } else { None };
                return Share::Ask { stale, lease, is_asked_elsewhere: is_busy };
            }
            if !std::mem::replace(&mut has_waited, true) {
                shared.waits();
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES[1]);
        }
    }
}
