//! What stands before a Redis and takes its time with what that says.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::sleep,
};

/// A way to a Redis.
pub struct Slow {
    pub port: u16,
    way: Arc<Way>,
}

#[derive(Default)]
struct Way {
    delay: AtomicU64,
    holds_news: AtomicBool,
}

impl Slow {
    pub async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let slow = Self { port: listener.local_addr().unwrap().port(), way: Arc::default() };
        let way = slow.way.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
                let (client, server, is_of_news) =
                    (client.into_split(), server.into_split(), Arc::<AtomicBool>::default());
                tokio::spawn(ask(client.0, server.1, is_of_news.clone()));
                tokio::spawn(answer(server.0, client.1, is_of_news, way.clone()));
            }
        });
        slow
    }

    pub fn each_takes(&self, delay: Duration) {
        self.way.delay.store(u64::try_from(delay.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// Passes on nothing on connections for news, or all that came meanwhile.
    pub fn hold_news(&self, is_held: bool) {
        self.way.holds_news.store(is_held, Ordering::SeqCst);
    }
}

async fn ask(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_of_news: Arc<AtomicBool>) {
    let mut bytes = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        if bytes[..length].windows(9).any(|word| word == b"SUBSCRIBE") {
            is_of_news.store(true, Ordering::SeqCst);
        }
        if to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}

async fn answer(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_of_news: Arc<AtomicBool>, way: Arc<Way>) {
    let mut bytes = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        sleep(Duration::from_millis(way.delay.load(Ordering::SeqCst))).await;
        while is_of_news.load(Ordering::SeqCst) && way.holds_news.load(Ordering::SeqCst) {
            sleep(Duration::from_millis(5)).await;
        }
        if to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}
