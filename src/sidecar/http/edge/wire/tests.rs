use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use tokio::time::Instant;

use super::{
    super::limits::{PARK_TIME, STALL_BYTES},
    *,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A client, and the wire from it, with room for so many bytes in each direction.
fn wire(room: usize) -> (DuplexStream, Wire<DuplexStream>, Arc<Shared>) {
    let (client, server) = duplex(room);
    let shared = Arc::new(Shared::holding(None));
    (client, Wire::new(Parked::new(server), shared.clone(), Parking::default()), shared)
}

/// What hyper gets by one read.
async fn read(wire: &mut Wire<DuplexStream>) -> io::Result<String> {
    let mut bytes = [0; 1024];
    let count = wire.read(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes[..count]).into_owned())
}

/// Whether hyper gets nothing, not even an end.
async fn is_silent(wire: &mut Wire<DuplexStream>) -> bool {
    tokio::time::timeout(Duration::from_millis(1), read(wire)).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn a_head_goes_on_when_it_is_whole_in_whatever_pieces_it_comes() {
    let (mut client, mut wire, _) = wire(1024);
    for piece in GET.as_bytes().chunks(3) {
        assert!(is_silent(&mut wire).await);
        client.write_all(piece).await.unwrap();
    }
    assert_eq!(read(&mut wire).await.unwrap(), GET);
    client.write_all(format!("{GET}{GET}GET").as_bytes()).await.unwrap();
    assert_eq!(read(&mut wire).await.unwrap(), GET.repeat(2));
    client.write_all(&GET.as_bytes()[3..]).await.unwrap();
    assert_eq!(read(&mut wire).await.unwrap(), GET);
    assert_eq!(wire.held.capacity(), 0, "an idle connection holds nothing");
}

#[tokio::test(start_paused = true)]
async fn whoever_sends_nothing_is_let_go_and_whoever_is_slow_with_a_head_is_told() {
    let (_client, mut silent, _) = wire(1024);
    let start = Instant::now();
    assert_eq!(read(&mut silent).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(start.elapsed().as_secs(), HEAD_TIME.as_secs());
    let (mut client, mut wire, shared) = wire(1024);
    let slow = tokio::spawn(async move {
        for byte in GET.as_bytes() {
            client.write_all(&[*byte]).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let start = Instant::now();
    assert!(read(&mut wire).await.unwrap().starts_with(REFUSED));
    assert_eq!(start.elapsed().as_secs(), HEAD_TIME.as_secs(), "each byte more buys no time");
    assert_eq!(shared.refusal().status, 408);
    assert!(is_silent(&mut wire).await, "and nothing more is read");
    slow.abort();
}

/// A little less than a client may be waited for.
const LONG: Duration = STALL_TIME.saturating_sub(Duration::from_secs(1));

/// Has a head of such a body passed on.
async fn post(client: &mut DuplexStream, wire: &mut Wire<DuplexStream>, length: usize) {
    let head = format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(read(wire).await.unwrap(), head);
}

/// A client that sends `piece` whenever `pause` is over, as long as it is listened to.
fn sending(mut client: DuplexStream, piece: &'static [u8], pause: Duration) {
    tokio::spawn(async move {
        while client.write_all(piece).await.is_ok() {
            tokio::time::sleep(pause).await;
        }
    });
}

/// A client that takes so many bytes whenever `pause` is over, as long as there are any.
fn taking(mut client: DuplexStream, count: usize, pause: Duration) {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(pause).await;
            let mut left = count;
            while left > 0 {
                let mut bytes = vec![0; left];
                match client.read(&mut bytes).await {
                    Ok(1..) if left == 1 => break,
                    Ok(read @ 1..) => left -= read,
                    _ => return,
                }
            }
        }
    });
}

/// Reads until that fails: how much of a body came, and after how many seconds nobody waits for more.
async fn until_late(wire: &mut Wire<DuplexStream>) -> (usize, u64) {
    let (start, mut come) = (Instant::now(), 0);
    loop {
        assert!(start.elapsed() < STALL_TIME * 5, "it is waited for after {come} bytes");
        match read(wire).await {
            Ok(bytes) => come += bytes.len(),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                return (come, start.elapsed().as_secs());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_may_come_slowly_but_a_byte_alone_buys_no_time() {
    let (mut client, mut wire, _) = wire(STALL_BYTES);
    post(&mut client, &mut wire, STALL_BYTES * 3).await;
    sending(client, &[b'x'; STALL_BYTES], LONG);
    let start = Instant::now();
    let mut come = 0;
    while come < STALL_BYTES * 3 {
        come += read(&mut wire).await.unwrap().len();
    }
    assert_eq!(start.elapsed(), LONG * 2);
    let (mut client, mut wire, _) = self::wire(STALL_BYTES);
    post(&mut client, &mut wire, STALL_BYTES * 3).await;
    sending(client, b"x", STALL_TIME / 4 + Duration::from_secs(1));
    assert_eq!(until_late(&mut wire).await, (4, STALL_TIME.as_secs()));
}

#[tokio::test(start_paused = true)]
async fn a_chunked_body_of_small_chunks_buys_no_time_either() {
    let (mut client, mut wire, _) = wire(STALL_BYTES);
    client.write_all(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    read(&mut wire).await.unwrap();
    sending(client, b"1\r\nx\r\n", STALL_TIME / 4 + Duration::from_secs(1));
    assert_eq!(until_late(&mut wire).await, (4 * 6, STALL_TIME.as_secs()));
}

#[tokio::test(start_paused = true)]
async fn the_time_in_which_nobody_asks_for_a_body_is_not_the_clients() {
    let (mut client, mut wire, _) = wire(1024);
    post(&mut client, &mut wire, 100).await;
    for _ in 0..10 {
        client.write_all(b"x").await.unwrap();
        tokio::time::advance(STALL_TIME * 2).await;
        assert_eq!(read(&mut wire).await.unwrap(), "x");
    }
    assert_eq!(until_late(&mut wire).await, (0, STALL_TIME.as_secs()));
}

#[tokio::test(start_paused = true)]
async fn the_next_body_has_all_the_time_again() {
    let (mut client, mut wire, _) = wire(1024);
    for _ in 0..5 {
        post(&mut client, &mut wire, 1).await;
        let late = tokio::spawn(async move {
            tokio::time::sleep(LONG).await;
            client.write_all(b"x").await.unwrap();
            client
        });
        assert_eq!(read(&mut wire).await.unwrap(), "x");
        client = late.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_may_take_slowly_but_a_byte_alone_buys_no_time() {
    let (client, mut wire, _) = wire(10);
    taking(client, STALL_BYTES, LONG);
    let start = Instant::now();
    wire.write_all(&[0; STALL_BYTES * 3 + 10]).await.unwrap();
    assert_eq!(start.elapsed(), LONG * 3);
    let (client, mut wire, _) = self::wire(10);
    taking(client, 1, STALL_TIME / 4 + Duration::from_secs(1));
    let start = Instant::now();
    assert_eq!(wire.write_all(&[0; 60]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(start.elapsed().as_secs(), STALL_TIME.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_taken_all_there_was_has_all_the_time_for_the_next() {
    let (client, mut wire, _) = wire(1);
    wire.write_all(b"x").await.unwrap();
    taking(client, 1, LONG);
    for _ in 0..5 {
        wire.write_all(b"x").await.unwrap();
        wire.flush().await.unwrap();
        // The application may be silent.
        tokio::time::advance(STALL_TIME * 2).await;
        wire.write_all(b"x").await.unwrap();
        wire.flush().await.unwrap();
    }
    assert_eq!(wire.write_all(b"xxxx").await.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn another_protocol_may_be_taken_byte_by_byte() {
    let (mut client, mut wire, shared) = wire(100);
    client.write_all(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n").await.unwrap();
    read(&mut wire).await.unwrap();
    shared.decide(true);
    assert!(is_silent(&mut wire).await);
    taking(client, 1, STALL_TIME / 2);
    wire.write_all(&[0; 110]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn time_between_requests_and_in_another_protocol_is_not_the_wires_matter() {
    let (mut client, mut wire, shared) = wire(1024);
    let upgrade = "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n";
    client.write_all(GET.as_bytes()).await.unwrap();
    assert_eq!(read(&mut wire).await.unwrap(), GET);
    let long = STALL_TIME * 100;
    assert!(tokio::time::timeout(long, read(&mut wire)).await.is_err());
    client.write_all(upgrade.as_bytes()).await.unwrap();
    read(&mut wire).await.unwrap();
    shared.decide(true);
    assert!(tokio::time::timeout(long, read(&mut wire)).await.is_err());
    client.write_all(b"\x81\x01x").await.unwrap();
    assert_eq!(read(&mut wire).await.unwrap(), "\u{fffd}\u{1}x");
}

#[tokio::test(start_paused = true)]
async fn what_comes_after_an_upgrade_goes_on_when_it_is_decided() {
    let upgrade = "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n";
    for is_granted in [true, false] {
        let (mut client, mut wire, shared) = wire(1024);
        client.write_all(format!("{upgrade}{GET}").as_bytes()).await.unwrap();
        assert_eq!(read(&mut wire).await.unwrap(), upgrade);
        assert!(is_silent(&mut wire).await);
        shared.decide(is_granted);
        assert_eq!(read(&mut wire).await.unwrap(), GET);
        client.write_all(b"no request\r\n\r\n").await.unwrap();
        let next = read(&mut wire).await.unwrap();
        assert_eq!(next.starts_with("no request"), is_granted, "{next}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_body_is_told_when_it_is_the_turn_of_its_request() {
    let (mut client, mut wire, shared) = wire(1024);
    let post = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.write_all(format!("{GET}{post}none").as_bytes()).await.unwrap();
    assert_eq!(read(&mut wire).await.unwrap(), format!("{GET}{post}"));
    shared.begin();
    assert!(is_silent(&mut wire).await, "the first request is under way");
    assert_eq!(shared.refusal_of_body(), None);
    shared.begin();
    assert_eq!(read(&mut wire).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(shared.refusal_of_body().unwrap().status, 400);
}

#[tokio::test(start_paused = true)]
async fn after_the_last_answer_what_still_comes_is_dropped_for_a_while() {
    let refused = "GET / HTTP/1.1\r\n folded\r\n\r\n";
    // The client ends; the client goes on sending; the client does neither.
    for (is_ending, is_sending) in [(true, false), (false, true), (false, false)] {
        let (mut client, mut wire, _) = wire(1024);
        client.write_all(refused.as_bytes()).await.unwrap();
        read(&mut wire).await.unwrap();
        let client = tokio::spawn(async move {
            if is_ending {
                client.shutdown().await.unwrap();
            }
            while is_sending && client.write_all(&[0; 1024]).await.is_ok() {}
            client
        });
        let start = Instant::now();
        wire.shutdown().await.unwrap();
        let time = if is_ending || is_sending { Duration::ZERO } else { LINGER_TIME };
        assert_eq!(start.elapsed().as_secs(), time.as_secs(), "{is_ending} {is_sending}");
        drop(wire);
        client.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_quiet_connection_is_parked_in_place_of_ended_and_goes_on_from_there() {
    let (mut client, mut wire, shared) = wire(1024);
    client.write_all(GET.as_bytes()).await.unwrap();
    read(&mut wire).await.unwrap();
    assert!(!shared.is_quiet(Duration::ZERO), "the service has not got it yet");
    shared.begin();
    assert!(!shared.is_quiet(Duration::ZERO), "it is not answered yet");
    shared.end();
    assert!(!shared.is_quiet(PARK_TIME), "not for long");
    tokio::time::advance(PARK_TIME).await;
    assert!(shared.is_quiet(PARK_TIME));
    wire.parking.want();
    let parking = wire.parking.clone();
    wire.shutdown().await.unwrap();
    let mut again = Wire::new(parking.take().expect("it is parked"), shared.clone(), Parking::default());
    assert!(!shared.is_quiet(Duration::ZERO), "it is not parked before something has come");
    client.write_all(GET.as_bytes()).await.unwrap();
    assert_eq!(read(&mut again).await.unwrap(), GET);
    // And no HTTP/2 in the middle of a connection.
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    assert!(read(&mut again).await.unwrap().starts_with(REFUSED));
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_something_has_come_is_not_parked() {
    for more in
        ["G", "\r\n", "GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\na"]
    {
        let (mut client, mut wire, shared) = wire(1024);
        client.write_all(format!("{GET}{more}").as_bytes()).await.unwrap();
        read(&mut wire).await.unwrap();
        for _ in 0..wire.scan.heads() {
            shared.begin();
            shared.end();
        }
        tokio::time::advance(PARK_TIME).await;
        assert!(!shared.is_quiet(PARK_TIME), "{more:?}");
    }
}
