//! Requests that chance has changed, thrown at the edge as bytes. What reaches the application is held against a
//! reader of requests that is as simple as it is strict: what is read in two ways is none to it.

use std::{
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    bytes::{Record, SOON, Wired},
    fuzz_targets::{
        REQUESTS, passes,
        strict::{Meant, first, meant},
    },
};

/// What chance puts somewhere.
const PIECES: [&str; 28] = [
    "\r\n",
    "\n",
    "\r",
    "\0",
    " ",
    "\t",
    ":",
    ",",
    "\x0b",
    "\u{e9}",
    "#",
    "0\r\n\r\n",
    "\r\n\r\n",
    "\r\n ",
    "Content-Length: 3\r\n",
    "Content-Length: 0\r\n",
    "Content-Length:\r\n",
    "content-length : 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding:\tchunked \r\n",
    "Connection: content-length\r\n",
    "Connection: close\r\n",
    "Expect: 100-continue\r\n",
    "Upgrade: h2c\r\n",
    "Host: other\r\n",
    "GET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

#[derive(Clone, Debug)]
enum Change {
    Insert(prop::sample::Index, &'static str),
    Replace(prop::sample::Index, u8),
    Remove(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize),
}

fn change() -> impl Strategy<Value = Change> {
    use prop::sample::{Index, select};
    prop_oneof![
        4 => (any::<Index>(), select(&PIECES[..])).prop_map(|(at, piece)| Change::Insert(at, piece)),
        2 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Replace(at, byte)),
        1 => (any::<Index>(), 1..4_usize).prop_map(|(at, count)| Change::Remove(at, count)),
        1 => (any::<Index>(), 1..40_usize).prop_map(|(at, count)| Change::Repeat(at, count)),
    ]
}

/// Some requests one after the other, with some changes.
fn changed() -> impl Strategy<Value = Vec<u8>> {
    let requests = prop::collection::vec(prop::sample::select(&REQUESTS[..]), 1..4);
    (requests, prop::collection::vec(change(), 0..4)).prop_map(|(requests, changes)| {
        let mut bytes = requests.concat().into_bytes();
        for change in changes {
            let length = bytes.len().max(1);
            match change {
                // Places of interest are where lines begin.
                Change::Insert(at, piece) => {
                    let starts: Vec<usize> = bytes
                        .iter()
                        .enumerate()
                        .filter(|(_, byte)| **byte == b'\n')
                        .map(|(at, _)| at + 1)
                        .collect();
                    let at = if piece.len() > 2 && !starts.is_empty() {
                        *at.get(&starts)
                    } else {
                        at.index(length)
                    };
                    bytes.splice(at..at, piece.bytes());
                }
                Change::Replace(at, byte) => bytes[at.index(length)] = byte,
                Change::Remove(at, count) => {
                    let at = at.index(length);
                    bytes.drain(at..(at + count).min(bytes.len()));
                }
                Change::Repeat(at, count) => {
                    let at = at.index(length);
                    let again = bytes[at..(at + count).min(bytes.len())].to_vec();
                    bytes.splice(at..at, again);
                }
            }
            if bytes.is_empty() {
                bytes.push(b'\r');
            }
        }
        bytes
    })
}

/// What an application got as whole requests.
type Seen = Arc<Mutex<Vec<Meant>>>;

/// Reads requests by the strict reader, and answers each.
async fn application(mut stream: TcpStream, seen: Seen) {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut piece).await {
        bytes.extend_from_slice(&piece[..count]);
        while let Some((request, rest)) = first(&bytes) {
            bytes = rest.to_vec();
            seen.lock().unwrap().push(request);
            let answer = b"HTTP/1.1 200 OK\r\ncache-control: no-store\r\ncontent-length: 0\r\n\r\n";
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    }
}

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Counts panics in the sidecar's code, in whatever task.
fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.location().is_some_and(|location| !location.file().starts_with("tests/")) {
                PANICS.fetch_add(1, Ordering::Relaxed);
            }
            before(panic);
        }));
    });
}

/// Sends the bytes in two pieces; what came back until the end.
async fn exchange(pod: &Wired, bytes: &[u8], cut: usize) -> Result<String, TestCaseError> {
    let mut stream = pod.connect().await;
    let (one, other) = bytes.split_at(cut);
    let _ = stream.write_all(one).await;
    tokio::task::yield_now().await;
    let _ = stream.write_all(other).await;
    let mut answers = Vec::new();
    let mut piece = [0; 4096];
    // When nothing more comes, no more is sent; then the connection has to end.
    while let Ok(Ok(count @ 1..)) = timeout(Duration::from_millis(20), stream.read(&mut piece)).await {
        answers.extend_from_slice(&piece[..count]);
    }
    let _ = stream.shutdown().await;
    match timeout(SOON, stream.read_to_end(&mut answers)).await {
        Ok(_) => Ok(String::from_utf8_lossy(&answers).into_owned()),
        Err(_) => Err(TestCaseError::fail("the connection does not end")),
    }
}

#[test]
fn whatever_is_sent_the_application_sees_what_was_meant_or_nothing() {
    count_panics();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config { failure_persistence: None, ..Config::default() };
    let whole = AtomicUsize::new(0);
    TestRunner::new(config)
        .run(&(changed(), any::<prop::sample::Index>()), |(bytes, cut)| {
            runtime.block_on(async {
                let seen = Seen::default();
                let recorded = seen.clone();
                let pod = Wired::start(move |stream, _: Record| application(stream, recorded.clone())).await;
                let answers = exchange(&pod, &bytes, cut.index(bytes.len())).await?;
                let meant = meant(&bytes);
                let seen = seen.lock().unwrap().clone();
                whole.fetch_add(seen.len(), Ordering::Relaxed);
                prop_assert!(seen.len() <= meant.len(), "{seen:?}\nmeant {meant:?}");
                let mut left = meant.iter();
                for (method, target, body) in &seen {
                    // Some are refused for other reasons, so the next may be missing, and then all after it are.
                    let next = left.next().unwrap();
                    let path = next.1.trim_start_matches("http://").trim_start_matches("shop");
                    prop_assert!(
                        *method == next.0 && *body == next.2 && (*target == next.1 || *target == path),
                        "{seen:?}\nmeant {meant:?}"
                    );
                }
                let answered = answers.matches("HTTP/1.1 ").count();
                let continued = answers.matches("HTTP/1.1 100 ").count();
                prop_assert!(answered - continued <= meant.len() + 1, "{answers}");
                Ok(())
            })
        })
        .unwrap();
    assert_eq!(PANICS.load(Ordering::Relaxed), 0);
    // The test is none if all is refused.
    assert!(whole.load(Ordering::Relaxed) > 100, "{whole:?}");
}

proptest! {
    #![proptest_config(Config { cases: 8 * Config::default().cases, failure_persistence: None, ..Config::default() })]

    #[test]
    fn what_passes_is_what_was_meant_in_whatever_pieces_it_comes(
        bytes in changed(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        passes(&bytes, &cuts);
    }
}
