//! The admin port of the sidecar's own process: purges, settings that change, the order to drain.

use std::{net::Ipv4Addr, process::Stdio, sync::Arc, time::Duration};

use bytes::Bytes;
use cachedservice::{
    settings::Balancing,
    sidecar::{
        admin::{Admin, Pod, PurgeOthers, Token, serve_apart},
        http::Front,
        redis::Orders,
        upstream::Origin,
    },
};
use http::{Method, Response};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::timeout,
};

use crate::{
    application::{Got, run_application, settings},
    bytes::{SOON, rest},
    process::{Process, TOKEN},
    replicas::balancing,
};

fn page(_: &Got) -> Response<Bytes> {
    Response::builder()
        .header("cache-control", "max-age=60")
        .header("cache-tag", "pages")
        .body(Bytes::from_static(b"page"))
        .unwrap()
}

async fn started() -> Process {
    let (port, _) = run_application(page).await;
    let process = Process::start(port, |_| {});
    process.until_readyz(200).await;
    process
}

fn record(epoch: u64, targets: &serde_json::Value) -> String {
    let purge = json!({ "epoch": epoch, "id": "u", "force": "hard", "targets": targets });
    json!({ "version": 1, "forgotten": 0, "purges": [purge] }).to_string()
}

#[tokio::test]
async fn whoever_has_not_the_token_orders_nothing() {
    let process = started().await;
    process.get("/a").await;
    let everything = record(1, &json!(["everything"]));
    for token in [None, Some("another"), Some("")] {
        for path in ["/purges", "/purge", "/drain"] {
            let answer = process.admin(Method::POST, path, token, &everything).await.unwrap();
            assert_eq!(
                (answer.status, answer.field("www-authenticate")),
                (401, "Bearer"),
                "{path} {token:?}"
            );
        }
        assert_eq!(process.admin(Method::GET, "/status", token, "").await.unwrap().status, 401);
    }
    assert!(process.get("/a").await.field("cache-status").contains("hit"));
    assert_eq!(process.until_readyz(200).await, "ready\n");

    process.put("token", "another one");
    assert_eq!(process.admin(Method::POST, "/purges", Some(TOKEN), &everything).await.unwrap().status, 401);
    let taken = process.admin(Method::POST, "/purges", Some("another one"), &everything).await.unwrap();
    assert_eq!(taken.status, 200);
}

#[tokio::test]
async fn the_operators_record_is_purged_when_it_is_acknowledged_and_once() {
    let process = started().await;
    process.get("/a").await;
    let purged = record(7, &json!([{ "tag": "pages" }]));
    let answer = process.order("/purges", &purged).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"epoch":7}"#));
    assert!(process.get("/a").await.field("cache-status").contains("uri-miss"));
    assert_eq!(process.order("/purges", &purged).await.body, r#"{"epoch":7}"#);
    assert!(process.get("/a").await.field("cache-status").contains("hit"), "once is enough");
    assert_eq!(process.status().await["epoch"], 7);

    let wrong = process.order("/purges", &purged.replace("\"forgotten\":0", "\"forgotten\":7")).await;
    assert_eq!((wrong.status, wrong.body.as_str()), (400, "the numbers of the purges do not count up\n"));
    let large = process.order("/purges", &" ".repeat((1 << 20) + 1)).await;
    assert_eq!(large.status, 413);
}

#[tokio::test]
async fn who_acknowledges_says_in_which_pod_it_is() {
    let (port, _) = run_application(page).await;
    let process = Process::in_pod(port, "shop-7d4b-x2x", "an-uid");
    process.until_readyz(200).await;
    let answer = process.order("/purges", &record(7, &json!(["everything"]))).await;
    assert_eq!(answer.body, r#"{"epoch":7,"pod":"shop-7d4b-x2x","uid":"an-uid"}"#);
    let status = process.status().await;
    assert_eq!((&status["pod"], &status["uid"]), (&json!("shop-7d4b-x2x"), &json!("an-uid")));
}

#[tokio::test]
async fn a_purge_that_the_record_does_not_know_is_told_with_the_acknowledgement() {
    let process = started().await;
    process.order("/purges", &record(7, &json!(["everything"]))).await;
    process.get("/a").await;
    let begun = record(9, &json!([{ "tag": "other" }])).replace("\"forgotten\":0", "\"forgotten\":5");
    let answer = process.order("/purges", &begun).await;
    assert_eq!(answer.body, r#"{"epoch":9,"unknown":7}"#);
    assert!(process.get("/a").await.field("cache-status").contains("uri-miss"));
}

#[tokio::test]
async fn a_url_is_purged_with_parameters_that_the_rules_leave_out() {
    let (port, _) = run_application(page).await;
    let process = Process::start(port, |settings| {
        let rules = json!([{ "paths": ["/a"], "ignoredQuery": ["utm_*"] }]);
        settings.http.as_mut().unwrap().rules = serde_json::from_value(rules).unwrap();
    });
    process.until_readyz(200).await;
    let purges = [
        ("/purges", record(7, &json!([{ "key": "/a?utm_x=1&b=2" }]))),
        ("/purge", json!({ "keys": ["/a?b=2&utm_y=1"] }).to_string()),
    ];
    for (path, body) in purges {
        process.get("/a?b=2&utm_x=3").await;
        assert!(process.get("/a?b=2").await.field("cache-status").contains("hit"));
        assert_eq!(process.order(path, &body).await.status, 200);
        assert!(process.get("/a?b=2").await.field("cache-status").contains("uri-miss"), "{path}");
    }
}

#[tokio::test]
async fn settings_of_a_later_release_hold_as_far_as_they_are_known() {
    let (port, _) = run_application(page).await;
    let mut process = Process::start(port, |_| {});
    process.until_readyz(200).await;
    let mut later: serde_json::Value = serde_json::from_str(&process.settings.to_json().unwrap()).unwrap();
    later["new"] = json!(true);
    later["http"]["rules"] = json!([{ "paths": ["/a"], "ttl": 60, "hosts": ["shop"] }]);
    process.put("settings.json", &later.to_string());
    let told = process.until_status(|status| !status["settingsUnknown"].is_null()).await;
    assert_eq!(told["settingsUnknown"], json!(["http.rules.0.hosts", "new"]));
    assert_eq!(told["settingsRefused"], serde_json::Value::Null);
    assert_eq!(process.get("/a").await.field("cache-status"), "CachedService; fwd=bypass");
    // Also where its container is started again by them.
    process.restart().await;
    assert_eq!(process.status().await["settingsUnknown"], told["settingsUnknown"]);
    assert!(process.get("/b").await.field("cache-status").contains("uri-miss"));
}

#[tokio::test]
async fn settings_that_a_sidecar_was_made_with_less_room_for_hold_as_far_as_it_has_and_it_says_so() {
    let large = |_: &Got| {
        let answer = Response::builder().header("cache-control", "max-age=60");
        answer.body(Bytes::from(vec![b'x'; 500_000])).unwrap()
    };
    let (port, _) = run_application(large).await;
    let mut process = Process::start(port, |_| {});
    process.until_readyz(200).await;
    assert_eq!(process.status().await["settingsReduced"], serde_json::Value::Null);
    process.settings.http.as_mut().unwrap().max_object = 900_000;
    process.put("settings.json", &process.settings.to_json().unwrap());
    let told = process.until_status(|status| !status["settingsReduced"].is_null()).await;
    // A part of the memory has no more room.
    assert_eq!(told["settingsReduced"], json!(["http.maxObject: 253952 of 900000"]));
    process.get("/a").await;
    assert!(process.get("/a").await.field("cache-status").contains("uri-miss"));
    process.restart().await;
    assert_eq!(process.status().await["settingsReduced"], serde_json::Value::Null);
    process.get("/a").await;
    assert!(process.get("/a").await.field("cache-status").contains("hit"));
}

#[tokio::test]
async fn a_record_that_changes_in_its_file_is_purged_by() {
    let process = started().await;
    process.get("/a").await;
    process.put("purges.json", &record(8, &json!([{ "prefix": "/a" }])));
    process.until_status(|status| status["epoch"] == 8).await;
    assert!(process.get("/a").await.field("cache-status").contains("uri-miss"));
}

#[tokio::test]
async fn what_was_acknowledged_is_known_after_a_restart_before_the_file_has_it() {
    let mut process = started().await;
    // The purge before them is forgotten in it.
    let later = |epoch| record(epoch, &json!(["everything"])).replace("\"forgotten\":0", "\"forgotten\":3");
    process.put("purges.json", &record(3, &json!(["everything"])));
    process.until_status(|status| status["epoch"] == 3).await;
    assert_eq!(process.order("/purges", &later(7)).await.status, 200);
    // A record that comes late does not take its place.
    assert_eq!(process.order("/purges", &later(5)).await.body, r#"{"epoch":7}"#);
    for _ in 0..2 {
        process.restart().await;
        assert_eq!(process.status().await["epoch"], 7);
        process.order("/purges", &later(5)).await;
    }
}

#[tokio::test]
async fn what_cannot_be_kept_for_a_restart_is_not_acknowledged() {
    let (port, _) = run_application(page).await;
    let process = Process::start(port, |settings| {
        settings.purges_copy = Some("/proc/no-such-folder/copy.json".to_owned());
    });
    process.until_readyz(200).await;
    let answer = process.order("/purges", &record(7, &json!(["everything"]))).await;
    assert_eq!(answer.status, 500);
    assert!(answer.body.starts_with("the record cannot be kept: "), "{}", answer.body);
}

#[tokio::test]
async fn without_a_readable_record_no_replica_becomes_ready() {
    let (port, _) = run_application(page).await;
    let process = Process::start(port, |settings| {
        std::fs::write(settings.purges_file.as_ref().unwrap(), "no record").unwrap();
    });
    let why = process.until_readyz(503).await;
    assert!(why.contains("the record of purges is not read"), "{why}");
    process.until_status(|status| status["purgesRefused"].is_string()).await;
    process.put("purges.json", &record(9, &json!([])));
    assert_eq!(process.until_readyz(200).await, "ready\n");
    assert_eq!(process.status().await["epoch"], 9);
}

#[tokio::test]
async fn the_application_purges_by_one_local_call() {
    let process = started().await;
    process.get("/a").await;
    let answer = process.order("/purge", r#"{"tags":["pages"]}"#).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains(r#""replicas":"this""#), "{}", answer.body);
    assert!(process.get("/a").await.field("cache-status").contains("uri-miss"));
    assert_eq!(process.order("/purge", "{}").await.status, 400);
}

#[tokio::test]
async fn other_rules_hold_without_a_restart_and_wrong_ones_change_nothing() {
    let process = started().await;
    process.get("/a").await;
    let before = process.status().await;
    let mut settings = process.settings.clone();
    let http = settings.http.as_mut().unwrap();
    http.memory = 1 << 19;
    http.rules = serde_json::from_value(json!([{ "paths": ["/a"], "bypass": true }])).unwrap();
    let text = settings.to_json().unwrap();
    process.put("settings.json", &text);
    let after = process.until_status(|status| status["settings"] != before["settings"]).await;
    assert_eq!(after["settings"], cachedservice::settings::digest(&text));
    assert!(after["memory"]["limit"].as_u64().unwrap() <= 1 << 19, "{after}");
    assert_eq!(process.get("/a").await.field("cache-status"), "CachedService; fwd=bypass");

    settings.app_port += 1;
    for (wrong, why) in [(settings.to_json().unwrap().as_str(), "appPort cannot change"), ("{", "EOF")] {
        process.put("settings.json", wrong);
        let told = process
            .until_status(|status| status["settingsRefused"].as_str().is_some_and(|told| told.contains(why)))
            .await;
        assert_eq!((&told["settings"], &told["ready"]), (&after["settings"], &json!(true)));
    }
    assert_eq!(process.get("/a").await.field("cache-status"), "CachedService; fwd=bypass");
    process.put("settings.json", &text);
    process.until_status(|status| status["settingsRefused"].is_null()).await;
}

#[tokio::test]
async fn other_replicas_are_looked_for_from_when_the_settings_say_so() {
    let process = started().await;
    let mut settings = process.settings.clone();
    settings.http = None;
    // There the sidecar is asked itself, and says that others know it at another address.
    settings.balancing = Some(Balancing { peers_host: "127.0.0.1".to_owned(), ..balancing() });
    let text = settings.to_json().unwrap();
    process.put("settings.json", &text);
    let digest = cachedservice::settings::digest(&text);
    process.until_status(|status| status["settings"] == digest).await;
    let asked = process.until_status(|status| status["upstream"]["peers"]["named"] == 1).await;
    assert_eq!(asked["upstream"]["peers"]["proven"], 0);
    let trouble = asked["upstream"]["peers"]["trouble"].as_str().unwrap();
    assert!(trouble.starts_with("127.0.0.1 does not prove to be a replica: it says 400"), "{trouble}");
    assert_eq!(process.get("/").await.status, 200);
}

#[tokio::test]
async fn draining_it_answers_on_and_sends_clients_elsewhere() {
    let process = started().await;
    let address = ("127.0.0.1", process.settings.http_port);
    let mut kept = TcpStream::connect(address).await.unwrap();
    let request = b"GET /a HTTP/1.1\r\nHost: shop\r\n\r\n";
    kept.write_all(request).await.unwrap();
    let mut first = [0; 12];
    kept.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");

    let mut drain = process.program("drain");
    let drained = tokio::task::spawn_blocking(move || drain.stderr(Stdio::piped()).output()).await;
    let drained = drained.unwrap().unwrap();
    assert!(drained.status.success(), "{}", String::from_utf8_lossy(&drained.stderr));
    assert_eq!(process.until_readyz(503).await, "draining\n");
    assert_eq!(process.status().await["draining"], true);

    // A connection from before ends with its next answer, and so does a new one.
    kept.write_all(request).await.unwrap();
    let mut rest = String::new();
    let read = kept.read_to_string(&mut rest);
    tokio::time::timeout(Duration::from_secs(10), read).await.expect("an end").unwrap();
    assert!(rest.contains("HTTP/1.1 200 OK") && rest.contains("connection: close"), "{rest}");
    let answer = process.get("/a").await;
    assert_eq!((answer.status, answer.field("connection")), (200, "close"));
}

#[tokio::test]
async fn whoever_drains_waits_as_long_as_the_settings_say() {
    let (port, _) = run_application(page).await;
    let process = Process::start(port, |settings| settings.drain_seconds = 1);
    process.until_readyz(200).await;
    let began = std::time::Instant::now();
    let mut drain = process.program("drain");
    let drained = tokio::task::spawn_blocking(move || drain.status()).await.unwrap().unwrap();
    assert!(drained.success() && began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn draining_an_http2_connection_ends_with_what_was_begun() {
    let process = started().await;
    let stream = TcpStream::connect(("127.0.0.1", process.settings.http_port)).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .unwrap();
    let connection = tokio::spawn(connection);
    let mut ask = async || {
        let request =
            http::Request::get("http://shop/a").body(http_body_util::Empty::<Bytes>::new()).unwrap();
        sender.ready().await.unwrap();
        sender.send_request(request).await.unwrap().status()
    };
    assert_eq!(ask().await, 200);
    assert_eq!(process.order("/drain", "").await.status, 200);
    assert_eq!(ask().await, 200);
    // GOAWAY, and no stream is left.
    tokio::time::timeout(Duration::from_secs(10), connection).await.expect("an end").unwrap().unwrap();
}

#[tokio::test]
async fn whoever_holds_connections_to_the_admin_port_open_keeps_no_probe_from_it() {
    const MANY: usize = 400;
    let process = started().await;
    let address = ("127.0.0.1", process.settings.admin_port);
    let mut held = Vec::new();
    for text in ["", "GET /readyz HTTP/1.1\r\nX: "].iter().cycle().take(MANY) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        held.push(stream);
    }
    assert_eq!(process.until_readyz(200).await, "ready\n");
    assert_eq!(process.until_readyz(200).await, "ready\n", "on a connection that is kept");
    // Those that were there first have made room.
    for stream in &mut held[..MANY - 256] {
        let end = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut [0; 1])).await;
        assert!(!end.expect("an end in time").is_ok_and(|count| count > 0));
    }
}

#[tokio::test]
async fn a_body_without_the_token_is_not_waited_for() {
    let process = started().await;
    for path in ["/purges", "/purge"] {
        let mut stream = TcpStream::connect(("127.0.0.1", process.settings.admin_port)).await.unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        let read = stream.read_exact(&mut status);
        tokio::time::timeout(Duration::from_secs(10), read).await.expect("an answer in time").unwrap();
        assert_eq!(&status, b"HTTP/1.1 401");
    }
}

#[tokio::test]
async fn a_purge_whose_sender_does_not_wait_reaches_the_others_all_the_same() {
    let (asked, free, told) = (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let others: PurgeOthers = {
        let (asked, free, told) = (asked.clone(), free.clone(), told.clone());
        Arc::new(move |_, _| {
            let (asked, free, told) = (asked.clone(), free.clone(), told.clone());
            Box::pin(async move {
                asked.notify_one();
                free.notified().await;
                told.notify_one();
                Ok(())
            })
        })
    };
    let token = std::env::temp_dir().join(format!("cachedservice-token-{}", std::process::id()));
    std::fs::write(&token, TOKEN).unwrap();
    let front = Front::before(settings(), Origin::at(1));
    let admin = Admin {
        front,
        near: None,
        health: Arc::default(),
        token: Token::of(Some(&token)),
        copy: None,
        others: Some(others),
        orders: Orders::http(),
        pod: Pod::default(),
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    serve_apart(listener, Arc::new(admin)).unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let body = r#"{"tags":["pages"]}"#;
    let head = format!("POST /purge HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {TOKEN}\r\n");
    let order = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(order.as_bytes()).await.unwrap();
    timeout(SOON, asked.notified()).await.expect("the others are asked");
    stream.shutdown().await.unwrap();
    // The sidecar has seen that it has left.
    assert_eq!(rest(&mut stream).await, "");
    free.notify_one();
    timeout(SOON, told.notified()).await.expect("the others are told");
    std::fs::remove_file(token).unwrap();
}
