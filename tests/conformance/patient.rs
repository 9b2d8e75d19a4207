//! The sidecar as it is, but for how long it waits for Redis: where many tests run at once on a machine that does
//! much else, the few milliseconds of the real one would make misses of what is there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{path::Path, sync::Arc, time::Duration};

use cachedservice::{
    settings::Settings,
    sidecar::{
        admin::{self, Admin, Token},
        follow::cache_of,
        health::Health,
        http::{Front, server::serve},
        redis::Orders,
        upstream::Origin,
    },
};
use tokio::net::TcpListener;

const LOOKUP: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() {
    let [_, flag, file] = &std::env::args().collect::<Vec<_>>()[..] else { panic!("--settings FILE") };
    assert_eq!(flag, "--settings");
    let settings = Settings::parse(&std::fs::read_to_string(Path::new(file)).unwrap()).unwrap();
    let redis = settings.redis.as_ref().expect("a Redis");
    let front =
        Front::sharing(cache_of(&settings), Origin::at(settings.app_port), redis, LOOKUP, Orders::http());
    let listen = async |port: u16| TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let (requests, orders) = (listen(settings.http_port).await, listen(settings.admin_port).await);
    let health = Arc::new(Health::new());
    let _ = health.settings_loaded("patient".to_owned(), Vec::new());
    health.purges_read();
    health.serving();
    let (shared, warming) = (front.shared().unwrap().clone(), health.clone());
    tokio::spawn(async move {
        shared.warm().await;
        warming.warmed();
    });
    let pod = admin::Pod::default();
    let admin = Admin {
        front: front.clone(),
        near: None,
        health,
        token: Token::of(None),
        copy: None,
        others: None,
        orders: Orders::http(),
        pod,
    };
    admin::serve_apart(orders, Arc::new(admin)).unwrap();
    serve(requests, front, std::future::pending(), Duration::ZERO).await;
}
