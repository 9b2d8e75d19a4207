//! The replicas that there are: those that DNS names and that prove that they are of this service.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use futures::{StreamExt, stream};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    asking::{Reply, ask},
    identity::Key,
    keys::Keys,
    names::Resolve,
    origin::{Inner, jittered},
    replica::Replica,
};
use crate::settings::Balancing;

/// For how long those of before are named still, when DNS does not answer.
const NAMED: Duration = Duration::from_secs(30);
/// DNS does not answer if it has not by then.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many are asked at once.
const AT_ONCE: usize = 16;
/// A proof that is as old as so many rounds is one still, for a sidecar that is busy.
const ROUNDS: u32 = 3;

/// What it takes to know the others.
#[derive(Clone)]
pub struct Peers {
    /// Where they are, and what holds for them.
    pub settings: Balancing,
    /// The addresses of this pod: at these it asks itself.
    pub own: Vec<IpAddr>,
    /// Who knows where they are.
    pub resolver: Arc<dyn Resolve>,
    /// The port at which their sidecars prove that they are of this service.
    pub admin_port: u16,
    /// The file with the token of this service.
    pub token_file: Option<PathBuf>,
}

/// What came of the last look for others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// So many DNS names, this pod aside.
    pub named: usize,
    /// So many of them may be asked.
    pub proven: usize,
    /// So many are on their way out.
    pub leaving: usize,
    /// Why others are not asked, if something is wrong.
    pub trouble: Option<String>,
}

/// The addresses of a pod as they stand in its environment; those that are none are left out.
#[must_use]
pub fn addresses(text: &str) -> Vec<IpAddr> {
    text.split(',').filter_map(|address| address.trim().parse().ok()).collect()
}

/// Looks again and again who is there.
pub(super) async fn follow(origin: Weak<Inner>, generation: u64, peers: Peers) {
    if peers.own.is_empty() {
        tracing::warn!("the addresses of this pod are not known: no other asks its application");
    }
    let (told, names) = watch::channel(Named::default());
    tokio::select! {
        () = look(origin.clone(), &peers, told) => {}
        () = prove(origin, generation, &peers, names) => {}
    }
}

/// What DNS says.
#[derive(Clone, Debug, Default)]
struct Named {
    addresses: BTreeSet<IpAddr>,
    answered: Option<Instant>,
    trouble: Option<String>,
}

/// Asks DNS. It is not waited for by those that are known already.
async fn look(origin: Weak<Inner>, peers: &Peers, told: watch::Sender<Named>) {
    loop {
        let found = match timeout(PATIENCE, peers.resolver.resolve(&peers.settings.peers_host)).await {
            Ok(found) => found.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        told.send_if_modified(|named| named.note(found, &peers.own, Instant::now()));
        let Some(refresh) = origin.upgrade().map(|origin| origin.timing.refresh) else { return };
        sleep(jittered(refresh)).await;
    }
}

impl Named {
    /// DNS has answered or not; whether something has changed by it.
    fn note(&mut self, found: Result<Vec<IpAddr>, String>, own: &[IpAddr], now: Instant) -> bool {
        let before = self.clone();
        match found {
            // No address is an answer, too: nobody is ready.
            Ok(found) => {
                let others = found.iter().map(IpAddr::to_canonical).filter(|found| !own.contains(found));
                *self = Self { addresses: others.collect(), answered: Some(now), trouble: None };
            }
            Err(error) => {
                if self.answered.is_none_or(|answered| now.duration_since(answered) >= NAMED) {
                    self.addresses.clear();
                }
                self.trouble = Some(format!("the other replicas are not found: {error}"));
            }
        }
        before.answered.is_none() || self.addresses != before.addresses || self.trouble != before.trouble
    }
}

/// Asks those that are named for a proof, again and again.
async fn prove(origin: Weak<Inner>, generation: u64, peers: &Peers, mut dns: watch::Receiver<Named>) {
    let mut proven = Proven::default();
    let keys = Keys::of(peers.token_file.as_deref());
    // Those that were known before the settings changed are replicas until DNS has answered or failed.
    if dns.changed().await.is_err() {
        return;
    }
    loop {
        let named = dns.borrow_and_update().clone();
        let known = keys.look();
        let replies: Vec<(IpAddr, Reply)> = if known.keys.is_empty() {
            Vec::new()
        } else {
            let (port, keys) = (peers.admin_port, &known.keys);
            let asked = named
                .addresses
                .into_iter()
                .map(|address| async move { (address, ask(address, port, keys).await) });
            stream::iter(asked).buffer_unordered(AT_ONCE).collect().await
        };
        let Some(origin) = origin.upgrade() else { return };
        let round = origin.timing.proof;
        let mut sight = proven.note(replies, round * ROUNDS, Instant::now());
        sight.trouble = known.trouble.or(named.trouble).or(sight.trouble);
        let marks = known.keys.iter().filter_map(Key::mark).collect();
        origin.found(generation, &proven.addresses(), marks, sight);
        drop(origin);
        tokio::select! {
            () = sleep(jittered(round)) => {}
            changed = dns.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// Those that have proven that they are of this service: with which port, and when.
#[derive(Default)]
struct Proven(BTreeMap<IpAddr, (u16, Instant)>);

impl Proven {
    /// The replies of a round: who does not prove it is not asked, and who is silent soon is not.
    fn note(&mut self, replies: Vec<(IpAddr, Reply)>, patience: Duration, now: Instant) -> Sight {
        let mut sight = Sight { named: replies.len(), ..Sight::default() };
        let before = std::mem::take(&mut self.0);
        for (address, reply) in replies {
            let trouble = match reply {
                Reply::Proven { port } => {
                    self.0.insert(address, (port, now));
                    continue;
                }
                Reply::Leaving => {
                    sight.leaving += 1;
                    continue;
                }
                Reply::Silent(why) => {
                    let of_before = before.get(&address);
                    if let Some(of_before) = of_before.filter(|(_, at)| now.duration_since(*at) < patience) {
                        self.0.insert(address, *of_before);
                        continue;
                    }
                    why
                }
                Reply::Refused(why) => why,
            };
            sight
                .trouble
                .get_or_insert_with(|| format!("{address} does not prove to be a replica: {trouble}"));
        }
        sight.proven = self.0.len();
        sight
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|(address, (port, _))| (*address, *port).into()).collect()
    }
}

/// The replicas at these addresses: those that are known already, and new ones. The first is the own.
pub(super) fn merge(
    known: &[Arc<Replica>],
    found: &[SocketAddr],
    new: impl Fn(SocketAddr) -> Arc<Replica>,
) -> Vec<Arc<Replica>> {
    let known_at = |address: SocketAddr| {
        known.iter().find(|replica| !replica.is_own() && replica.address() == address).cloned()
    };
    let own = known.iter().filter(|replica| replica.is_own()).cloned();
    own.chain(found.iter().map(|address| known_at(*address).unwrap_or_else(|| new(*address)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ip(last: u8) -> IpAddr {
        IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, last))
    }

    #[test]
    fn the_addresses_of_a_pod_may_be_several() {
        assert_eq!(
            addresses("10.0.0.1, fd00::1,x,"),
            ["10.0.0.1", "fd00::1"].map(|ip| ip.parse::<IpAddr>().unwrap())
        );
    }

    #[test]
    fn no_address_is_an_answer_and_no_answer_leaves_those_of_before_for_a_while() {
        let began = Instant::now();
        let mut named = Named::default();
        let silence = || Err("it hangs".to_owned());
        assert!(named.note(Ok(vec![ip(1), ip(2)]), &[ip(1)], began));
        assert_eq!(named.addresses, BTreeSet::from([ip(2)]), "and this pod is no other");
        assert!(named.note(silence(), &[], began + NAMED / 2));
        assert!(named.addresses.contains(&ip(2)) && named.trouble.is_some());
        named.note(silence(), &[], began + NAMED);
        assert!(named.addresses.is_empty());
        assert!(named.note(Ok(vec![ip(2)]), &[], began + NAMED));
        assert!(named.note(Ok(Vec::new()), &[], began + NAMED));
        assert!(named.addresses.is_empty() && named.trouble.is_none(), "at once");
    }

    #[test]
    fn who_is_silent_is_a_replica_for_as_long_as_its_last_proof_holds() {
        let (began, patience) = (Instant::now(), Duration::from_secs(6));
        let silent = || Reply::Silent("it hangs".to_owned());
        let mut proven = Proven::default();
        proven.note(vec![(ip(1), Reply::Proven { port: 80 }), (ip(2), silent())], patience, began);
        assert_eq!(proven.addresses(), [SocketAddr::from((ip(1), 80))]);
        let sight = proven.note(vec![(ip(1), silent())], patience, began + patience / 2);
        assert_eq!((sight.proven, sight.trouble), (1, None));
        let sight = proven.note(vec![(ip(1), silent())], patience, began + patience);
        assert_eq!((sight.named, sight.proven, sight.trouble.is_some()), (1, 0, true));
    }

    #[test]
    fn who_leaves_or_proves_nothing_or_is_not_named_any_more_goes_at_once() {
        let (now, patience) = (Instant::now(), Duration::from_secs(6));
        for gone in [vec![(ip(1), Reply::Leaving)], vec![(ip(1), Reply::Refused("404".to_owned()))], vec![]] {
            let mut proven = Proven::default();
            proven.note(vec![(ip(1), Reply::Proven { port: 80 })], patience, now);
            proven.note(gone, patience, now);
            assert!(proven.addresses().is_empty());
        }
    }
}
