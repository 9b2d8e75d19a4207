//! Connections of clients, as they come in.

use std::{
    collections::VecDeque,
    future::Future,
    io::{self, ErrorKind},
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};

use super::{
    Front,
    connection::{self, End},
    edge::{Client, limits::ALIVE_TIME, shared::Shared},
    places::Places,
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
    let Places { all: places, doors, .. } = front.places();
    // Each connection holds a receiver until it ends.
    let (ending, _) = watch::channel(false);
    let crowded = Arc::new(Notify::new());
    let mut stop = pin!(stop);
    let start = |stream: TcpStream, peer: SocketAddr, place: [OwnedSemaphorePermit; 2]| {
        let _ = stream.set_nodelay(true);
        let alive = TcpKeepalive::new().with_time(ALIVE_TIME).with_interval(ALIVE_TIME / 3).with_retries(3);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&alive);
        let Ok(local) = stream.local_addr() else { return };
        let place = Some((place, front.figures().connected()));
        let shared = Arc::new(Shared::holding(place));
        let client = Client { peer, local, shared, places: places.clone() };
        let end = End { ending: ending.subscribe(), crowded: crowded.clone() };
        tokio::spawn(connection::serve(builder.clone(), stream, front.clone(), client, end));
    };
    // What was taken and has no place yet.
    let mut waiting = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let Ok((stream, peer)) = accepted else {
            sleep(PAUSE).await;
            continue;
        };
        if let Some(place) = free(doors, places) {
            start(stream, peer, place);
            continue;
        }
        // The connection on which nothing has happened for longest makes room for it.
        crowded.notify_one();
        tokio::select! {
            place = place(doors, places) => if let Some(place) = place {
                start(stream, peer, place);
            },
            () = &mut stop => {
                waiting.push_back((stream, peer));
                break;
            }
        }
        // If none was there to hear it, none is to make room for nobody later.
        let _ = crowded.notified().now_or_never();
    }
    // Those that have a place end with their next answer, and make room for those that wait.
    ending.send_replace(true);
    let last = async {
        let mut listener = listener.into_std().ok();
        loop {
            // All at once: afterwards clients can make none, and go elsewhere.
            if listener.as_ref().is_none_or(|listener| takes_all(|| taken(listener), &mut waiting)) {
                listener = None;
            }
            if let Some((stream, peer)) = waiting.pop_front() {
                let Some(place) = place(doors, places).await else { return };
                start(stream, peer, place);
            } else if listener.is_none() {
                return ending.closed().await;
            } else {
                sleep(PAUSE).await;
            }
        }
    };
    let _ = timeout(grace, last).await;
}

/// A place for a connection, if there is one now. It is not asked as one that could be waited for: that would be told to
/// wait when the task has done much, and connections would end for nothing.
fn free(doors: &Arc<Semaphore>, places: &Arc<Semaphore>) -> Option<[OwnedSemaphorePermit; 2]> {
    let door = doors.clone().try_acquire_owned().ok()?;
    Some([door, places.clone().try_acquire_owned().ok()?])
}

/// A place for a connection, when there is one. Neither is ever closed.
async fn place(doors: &Arc<Semaphore>, places: &Arc<Semaphore>) -> Option<[OwnedSemaphorePermit; 2]> {
    let door = doors.clone().acquire_owned().await.ok()?;
    Some([door, places.clone().acquire_owned().await.ok()?])
}

/// A connection that a client has made already and that nobody has taken yet.
fn taken(listener: &std::net::TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = listener.accept()?;
    stream.set_nonblocking(true)?;
    Ok((TcpStream::from_std(stream)?, peer))
}

/// Puts all that has come with the others that wait; false if there may be more, for which there is no file now.
fn takes_all<T>(mut accept: impl FnMut() -> io::Result<T>, waiting: &mut VecDeque<T>) -> bool {
    loop {
        match accept() {
            Ok(taken) => waiting.push_back(taken),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => return true,
                // This one has left before it was taken; that says nothing of the next.
                ErrorKind::ConnectionAborted | ErrorKind::Interrupted => {}
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_leaves_in_the_queue_takes_no_other_along_and_what_finds_no_file_is_not_given_up() {
        let mut queue = VecDeque::from([
            Err(ErrorKind::ConnectionAborted.into()),
            Ok(1),
            Err(io::Error::from_raw_os_error(24)), // EMFILE
            Ok(2),
            Err(ErrorKind::Interrupted.into()),
            Ok(3),
            Err(ErrorKind::WouldBlock.into()),
        ]);
        let mut waiting = VecDeque::new();
        let mut accept = || queue.pop_front().unwrap_or_else(|| Err(ErrorKind::WouldBlock.into()));
        assert!(!takes_all(&mut accept, &mut waiting));
        assert_eq!(waiting, [1]);
        assert!(takes_all(&mut accept, &mut waiting));
        assert_eq!(waiting, [1, 2, 3]);
    }
}
