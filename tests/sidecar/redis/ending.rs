//! What a replica has changed when it ends is known to the others.

use std::sync::Arc;

use http::Method;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use super::{Stage, page, shares, until};
use crate::{bytes::Record, process::Process};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_that_has_left_has_changed_is_told_before_the_end() {
    let stage = Stage::begin();
    let (come, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = app.local_addr().unwrap().port();
    let (has_come, may_go) = (come.clone(), go.clone());
    tokio::spawn(async move {
        let (mut stream, _) = app.accept().await.unwrap();
        Record::default().until(&mut stream, "\r\n\r\n").await.unwrap();
        has_come.notify_one();
        may_go.notified().await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    });
    let mut ending = Process::start(port, |settings| settings.redis = Some(stage.settings.clone()));
    ending.until_readyz(200).await;
    ending.until_status(|status| status["redis"]["breaker"] == "closed").await;
    let other = stage.pod(|got| page("t", got.headers["x-number"].to_str().unwrap())).await;
    let ask = async |number: &str| {
        other.ask(Method::GET, "/", &[("host", "shop"), ("x-number", number)], "").await.body
    };
    assert_eq!(ask("1").await, "1");
    assert_eq!(ask("2").await, "1", "it is kept");
    let address = ("127.0.0.1", ending.settings.http_port);
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"DELETE / HTTP/1.1\r\nHost: shop\r\n\r\n").await.unwrap();
    come.notified().await;
    drop(client);
    ending.signal("-TERM");
    until("nobody listens", async || TcpStream::connect(address).await.err()).await;
    go.notify_one();
    ending.end().await;
    shares(&other).await;
    until("the other knows it", async || (ask("3").await == "3").then_some(())).await;
}
