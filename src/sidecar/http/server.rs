//! Connections of clients, as they come in.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};

use super::{
    Front, connection,
    edge::{Client, limits::CONNECTIONS, wire::Shared},
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
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // Each connection holds a receiver until it ends.
    let (ending, _) = watch::channel(false);
    let mut stop = pin!(stop);
    loop {
        let accept = async {
            // Never closed, so there is a place at some time.
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accept => accepted,
            () = &mut stop => break,
        };
        let Ok((stream, peer)) = accepted else {
            sleep(PAUSE).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let Ok(local) = stream.local_addr() else { continue };
        let place = place.ok().map(|place| (place, front.figures().connected()));
        let client = Client { peer, local, shared: Arc::new(Shared::holding(place)) };
        tokio::spawn(connection::serve(builder.clone(), stream, front.clone(), client, ending.subscribe()));
    }
    drop(listener);
    ending.send_replace(true);
    let _ = timeout(grace, ending.closed()).await;
}
