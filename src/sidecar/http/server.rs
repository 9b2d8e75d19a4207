//! Connections of clients, as they come in.

use std::{future::Future, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};

use super::{
    Front,
    connection::{self, End},
    edge::{Client, wire::Shared},
};

/// After an error of the listener, such as too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop` is over, and then until the requests that came are answered, or `grace` is over.
pub async fn serve(
    listener: TcpListener,
    front: Arc<Front>,
    stop: impl Future<Output = ()>,
    grace: Duration,
) {
    let builder = Arc::new(connection::builder());
    let places = Arc::new(Semaphore::new(front.most_connections()));
    // As many again: a connection of HTTP/1 has one request at a time, and one of HTTP/2 many.
    let streams = Arc::new(Semaphore::new(front.most_connections()));
    // Each connection holds a receiver until it ends.
    let (ending, _) = watch::channel(false);
    let crowded = Arc::new(Notify::new());
    let mut stop = pin!(stop);
    let start = |stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit| {
        let _ = stream.set_nodelay(true);
        let Ok(local) = stream.local_addr() else { return };
        let place = Some((place, front.figures().connected()));
        let shared = Arc::new(Shared::holding(place));
        let client = Client { peer, local, shared, streams: streams.clone() };
        let end = End { ending: ending.subscribe(), crowded: crowded.clone() };
        tokio::spawn(connection::serve(builder.clone(), stream, front.clone(), client, end));
    };
    loop {
        let accept = async {
            let accepted = listener.accept().await;
            if let Ok(place) = places.clone().try_acquire_owned() {
                return (Ok(place), accepted);
            }
            // The connection on which nothing has happened for longest makes room for it.
            crowded.notify_one();
            // Never closed, so there is a place at some time.
            let place = places.clone().acquire_owned().await;
            // If none was there to hear it, none is to make room for nobody later.
            let _ = crowded.notified().now_or_never();
            (place, accepted)
        };
        let accepted = tokio::select! {
            accepted = accept => accepted,
            () = &mut stop => break,
        };
        match accepted {
            (Ok(place), Ok((stream, peer))) => start(stream, peer, place),
            _ => sleep(PAUSE).await,
        }
    }
    for (stream, peer) in waiting(listener) {
        let Ok(place) = places.clone().try_acquire_owned() else { break };
        start(stream, peer, place);
    }
    ending.send_replace(true);
    let _ = timeout(grace, ending.closed()).await;
}

/// The connections that clients have made already and that nobody has taken yet; afterwards they can make none.
fn waiting(listener: TcpListener) -> impl Iterator<Item = (TcpStream, SocketAddr)> {
    let listener = listener.into_std().ok();
    std::iter::from_fn(move || {
        let (stream, peer) = listener.as_ref()?.accept().ok()?;
        stream.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(stream).ok()?, peer))
    })
}
