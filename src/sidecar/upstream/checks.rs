//! Asks the replicas whether they are well.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use http::{
    Request,
    header::{CONNECTION, HOST, USER_AGENT},
};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{
    fault::Fault,
    health::Patience,
    origin::{Inner, jittered},
    replica::Replica,
};
use crate::settings::balancing::HealthCheck;

/// However many replicas there are, two checks are so far apart.
const APART: Duration = Duration::from_millis(20);

/// Checks all, one after the other, so that each has its turn once in an interval. `own` is where others
/// ask the application of this pod.
pub(super) async fn check_all(
    origin: Weak<Inner>,
    generation: u64,
    settings: HealthCheck,
    own: Vec<SocketAddr>,
) {
    let patience =
        Patience { unhealthy_after: settings.unhealthy_after, healthy_after: settings.healthy_after };
    let (settings, own) = (Arc::new(settings), Arc::<[SocketAddr]>::from(own));
    let mut turn = 0_usize;
    loop {
        let Some(strong) = origin.upgrade() else { return };
        let replicas = strong.replicas();
        drop(strong);
        let count = replicas.len().max(1);
        if let Some(replica) = replicas.get(turn % count).cloned() {
            let (settings, origin, own) = (settings.clone(), origin.clone(), own.clone());
            tokio::spawn(async move {
                let outcome = check(&replica, &settings).await;
                replica.checked(outcome.as_ref().copied(), patience);
                if replica.is_own() && outcome.is_ok() {
                    connect_as_others_do(&origin, generation, &own, settings.timeout()).await;
                }
            });
        }
        turn = turn.wrapping_add(1);
        let spread = settings.interval() / u32::try_from(count).unwrap_or(u32::MAX);
        sleep(jittered(spread).max(APART)).await;
    }
}

/// What is well at localhost may listen there alone, and then no other pod reaches it. Once it is known to
/// be reached it is not looked at again: it is the same program.
async fn connect_as_others_do(origin: &Weak<Inner>, generation: u64, own: &[SocketAddr], patience: Duration) {
    let is_known = || origin.upgrade().is_none_or(|origin| origin.is_reached() == Some(true));
    if own.is_empty() || is_known() {
        return;
    }
    let mut refusing = 0;
    for address in own {
        match timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(_)) => {
                if let Some(origin) = origin.upgrade() {
                    origin.reached(generation, true);
                }
                return;
            }
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => refusing += 1,
            // It says nothing of the application.
            _ => {}
        }
    }
    if refusing == own.len()
        && let Some(origin) = origin.upgrade()
    {
        origin.reached(generation, false);
    }
}

/// On a connection of its own: that one can be made is part of being well.
async fn check(replica: &Replica, settings: &HealthCheck) -> Result<(), Fault> {
    let address = replica.address();
    let request = Request::get(settings.path.as_str())
        // As the kubelet names it.
        .header(HOST, address.to_string())
        .header(USER_AGENT, "cachedservice-sidecar")
        .header(CONNECTION, "close")
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|_| Fault::Unsent)?;
    let asked = async {
        let stream = TcpStream::connect(address).await.map_err(Fault::of_connecting)?;
        let (mut connection, driver) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|_| Fault::Unsent)?;
        let answer = async {
            let answer = connection.send_request(request).await;
            answer.map_err(|error| Fault::of_sending(error, false))
        };
        tokio::pin!(answer);
        let answer = tokio::select! {
            answer = &mut answer => answer,
            // It ends with the connection, and is there then.
            _ = driver => answer.await,
        }?;
        let status = answer.status();
        if status.is_success() || status.is_redirection() { Ok(()) } else { Err(Fault::Unwell(status)) }
    };
    timeout(settings.timeout(), asked).await.unwrap_or(Err(Fault::TimedOut))
}
