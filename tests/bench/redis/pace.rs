//! GETs at a fixed rate, and how long each took from the time at which it was due: a server that stalls is not
//! spared the requests of that time. It waits by spinning, on a core of its own, for no timer is as exact.
//!
//! `pace --address HOST:PORT --rate N --seconds N` prints «p50 p99 p99.9» in microseconds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use clap::Parser;
use hdrhistogram::Histogram;

#[derive(Parser)]
struct Flags {
    #[arg(long)]
    address: String,
    /// Requests in a second, of all connections
    #[arg(long)]
    rate: u32,
    #[arg(long)]
    seconds: u32,
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Keys are key:000000000000 and so on, as those of redis-benchmark
    #[arg(long, default_value_t = 1000)]
    keys: usize,
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// When the request without a reply was due.
    due: Option<Instant>,
}

/// Past this the server is taken as one that does not answer.
const LIMIT: Duration = Duration::from_secs(5);

fn main() {
    let flags = Flags::parse();
    let mut connections: Vec<Connection> = (0..flags.connections).map(|_| connect(&flags.address)).collect();
    // Each key once before: in a cache they are there then, and each connection is known.
    for key in 0..flags.keys {
        let connection = &mut connections[key % flags.connections];
        connection.ask(key, Instant::now());
        while connection.reply().is_none() {}
    }
    let mut taken = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).expect("bounds");
    let pause = Duration::from_secs(1) / flags.rate;
    let total = (flags.rate * flags.seconds) as usize;
    let (began, mut sent, mut received) = (Instant::now(), 0, 0);
    while received < total {
        let due = began + pause * u32::try_from(sent).expect("not so many");
        if sent < total && Instant::now() >= due {
            // One that waits for a reply cannot send: the request is late, and that counts.
            if let Some(free) = (0..flags.connections)
                .map(|n| (n + sent) % flags.connections)
                .find(|n| connections[*n].due.is_none())
            {
                connections[free].ask(sent * 7919 % flags.keys, due);
                sent += 1;
            }
        }
        for connection in connections.iter_mut().filter(|connection| connection.due.is_some()) {
            if let Some(time) = connection.reply() {
                taken
                    .record(u64::try_from(time.as_nanos()).expect("not so long"))
                    .expect("within the bounds");
                received += 1;
            }
        }
    }
    let at = |quantile| taken.value_at_quantile(quantile) as f64 / 1000.0;
    println!("{:.1} {:.1} {:.1}", at(0.5), at(0.99), at(0.999));
}

fn connect(address: &str) -> Connection {
    let stream = TcpStream::connect(address).expect("a server that listens");
    stream.set_nodelay(true).expect("a socket");
    stream.set_nonblocking(true).expect("a socket");
    Connection { stream, buffer: Vec::new(), due: None }
}

impl Connection {
    fn ask(&mut self, key: usize, due: Instant) {
        let request = format!("*2\r\n$3\r\nGET\r\n$16\r\nkey:{key:012}\r\n");
        self.stream.write_all(request.as_bytes()).expect("a request that fits");
        self.due = Some(due);
    }

    /// How long the request took, if its reply is there.
    fn reply(&mut self) -> Option<Duration> {
        let due = self.due?;
        let mut piece = [0; 16 << 10];
        match self.stream.read(&mut piece) {
            Ok(0) => panic!("the server has closed the connection"),
            Ok(length) => self.buffer.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                assert!(due.elapsed() < LIMIT, "no reply within {LIMIT:?}");
                return None;
            }
            Err(error) => panic!("no reply: {error}"),
        }
        let line = self.buffer.iter().position(|byte| *byte == b'\n')?;
        let text = std::str::from_utf8(&self.buffer[..line]).expect("a header").trim_end();
        let length: usize = text
            .strip_prefix('$')
            .and_then(|digits| digits.parse().ok())
            .unwrap_or_else(|| panic!("no value: {text}"));
        (self.buffer.len() >= line + 1 + length + 2).then(|| {
            self.buffer.clear();
            self.due = None;
            due.elapsed()
        })
    }
}
