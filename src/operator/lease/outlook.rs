//! What a candidate knows of the Lease while it does not lead.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

/// What a candidate knows of the Lease while it does not lead. Of a leader,
/// [`Leadership`](super::Leadership) tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Outlook {
    /// No answer so far.
    #[default]
    Unknown,
    /// Another holds the Lease, and this candidate has read so.
    StandingBy,
    /// The Lease cannot be read or written: who leads is not known, and nobody
    /// may be able to.
    OutOfReach {
        /// Namespace and name of the Lease.
        lease: String,
        /// The server's words, or that it is silent.
        cause: String,
    },
}

/// The one that says how it looks: held by the election.
#[derive(Debug)]
pub(super) struct Lookout {
    tell: watch::Sender<Outlook>,
    lease: String,
    /// A Lease that is out of reach for as long may have lost its holder.
    patience: Duration,
    heard: Option<Instant>,
}

impl Lookout {
    pub(super) fn new(lease: String, patience: Duration) -> Self {
        Self { tell: watch::Sender::default(), lease, patience, heard: None }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Outlook> {
        self.tell.subscribe()
    }

    /// The API server answered as it should.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = Some(now);
    }

    /// Another was read to hold the Lease.
    pub(super) fn stands_by(&mut self, now: Instant) {
        self.heard(now);
        self.say(Outlook::StandingBy);
    }

    /// An attempt failed. One that stood by goes on to for its patience.
    pub(super) fn out_of_reach(&mut self, cause: String, now: Instant) {
        let in_reach = self.heard.is_some_and(|heard| now.duration_since(heard) <= self.patience);
        if !(in_reach && *self.tell.borrow() == Outlook::StandingBy) {
            self.say(Outlook::OutOfReach { lease: self.lease.clone(), cause });
        }
    }

    fn say(&self, outlook: Outlook) {
        self.tell.send_if_modified(|present| {
            let news = *present != outlook;
            if news {
                *present = outlook;
            }
            news
        });
    }
}
