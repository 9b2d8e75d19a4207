//! A relay that delays what it passes on by a fixed time in each direction, and limits nothing else: the way to
//! another node, where the kernel has no netem.
//!
//! `delay LISTEN TARGET MICROSECONDS`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    env, fs,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

/// So many pieces are on their way at most.
const ON_THE_WAY: usize = 4096;

type Piece = (Instant, Vec<u8>);

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [listen, target, delay] = arguments.as_slice() else {
        panic!("usage: delay LISTEN TARGET MICROSECONDS")
    };
    let delay = Duration::from_micros(delay.parse().expect("microseconds"));
    // Threads inherit it: a sleep ends within a microsecond, and not within fifty.
    let _ = fs::write("/proc/self/timerslack_ns", "1");
    for client in TcpListener::bind(listen).expect("listen").incoming() {
        let Ok(client) = client else { continue };
        let Ok(server) = TcpStream::connect(target) else { continue };
        client.set_nodelay(true).expect("a socket");
        server.set_nodelay(true).expect("a socket");
        one_way(client.try_clone().expect("a socket"), server.try_clone().expect("a socket"), delay);
        one_way(server, client, delay);
    }
}

/// Reads and writes on threads of their own: what is on its way does not hold up what follows.
fn one_way(from: TcpStream, to: TcpStream, delay: Duration) {
    let (sender, receiver) = sync_channel(ON_THE_WAY);
    thread::spawn(move || read(from, &sender, delay));
    thread::spawn(move || write(to, &receiver));
}

fn read(mut from: TcpStream, sender: &SyncSender<Piece>, delay: Duration) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if sender.send((Instant::now() + delay, buffer[..length].to_vec())).is_err() {
            break;
        }
    }
}

fn write(mut to: TcpStream, receiver: &Receiver<Piece>) {
    while let Ok((due, piece)) = receiver.recv() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&piece).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
