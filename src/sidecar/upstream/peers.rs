//! The replicas that there are, by the addresses of a host name.

use std::{
    collections::BTreeSet,
    future::Future,
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Weak},
};

use tokio::time::sleep;

use super::{
    origin::{Inner, jittered},
    replica::Replica,
};
use crate::settings::Balancing;

/// The addresses of a host name, when they are known.
pub type Addresses<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;

/// What knows the addresses of a host name.
pub trait Resolve: Send + Sync {
    /// The addresses of a host name.
    fn resolve<'a>(&'a self, host: &'a str) -> Addresses<'a>;
}

/// As the system resolves it: A and AAAA records.
pub struct Dns;

impl Resolve for Dns {
    fn resolve<'a>(&'a self, host: &'a str) -> Addresses<'a> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// What it takes to know the others.
#[derive(Clone)]
pub struct Peers {
    /// Where they are, and what holds for them.
    pub settings: Balancing,
    /// The addresses of this pod: at these it asks itself.
    pub own: Vec<IpAddr>,
    /// Who knows where they are.
    pub resolver: Arc<dyn Resolve>,
}

/// The addresses of a pod as they stand in its environment; those that are none are left out.
#[must_use]
pub fn addresses(text: &str) -> Vec<IpAddr> {
    text.split(',').filter_map(|address| address.trim().parse().ok()).collect()
}

/// Looks again and again who is there.
pub(super) async fn follow(origin: Weak<Inner>, peers: Peers) {
    if peers.own.is_empty() {
        tracing::warn!("the addresses of this pod are not known: it gets the requests of two");
    }
    let mut is_missing = false;
    loop {
        let found = peers.resolver.resolve(&peers.settings.peers_host).await;
        let Some(origin) = origin.upgrade() else { return };
        match found {
            Ok(found) if !found.is_empty() => {
                is_missing = false;
                origin.found(&peers, &found);
            }
            // Better those of before than none.
            found => {
                if !is_missing {
                    let error =
                        found.err().map_or_else(|| "no addresses".to_owned(), |error| error.to_string());
                    tracing::warn!(host = %peers.settings.peers_host, error, "the other replicas are not found");
                }
                is_missing = true;
            }
        }
        let pause = jittered(origin.timing.refresh);
        drop(origin);
        sleep(pause).await;
    }
}

/// The replicas at these addresses: those that are known already, and new ones. The first is the own.
pub(super) fn merge(
    known: &[Arc<Replica>],
    found: &[IpAddr],
    peers: &Peers,
    new: impl Fn(IpAddr) -> Arc<Replica>,
) -> Vec<Arc<Replica>> {
    let others: BTreeSet<IpAddr> = found.iter().copied().filter(|found| !peers.own.contains(found)).collect();
    let known_at = |address: IpAddr| {
        let mut others = known.iter().filter(|replica| !replica.is_own());
        let port = peers.settings.peer_port;
        others.find(|replica| replica.address() == (address, port).into()).cloned()
    };
    let own = known.iter().filter(|replica| replica.is_own()).cloned();
    own.chain(others.into_iter().map(|address| known_at(address).unwrap_or_else(|| new(address)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_a_pod_may_be_several() {
        assert_eq!(
            addresses("10.0.0.1, fd00::1,x,"),
            ["10.0.0.1", "fd00::1"].map(|ip| ip.parse::<IpAddr>().unwrap())
        );
    }
}
