//! The same of techniques that live from the bytes of a request, or of an answer.

use bytes::Bytes;
use cachedservice::settings::{HeaderMatch, HttpCache, Rule};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use super::{EVIL, forced, is_hit, reflecting, shared};
use crate::{
    application::{Answer, Got, Pod, settings},
    bytes::{Record, SOON, Wired, until},
};

/// Asks in HTTP/2.
async fn ask_http2(pod: &Pod, request: Request<Full<Bytes>>) -> Answer {
    let stream = TokioIo::new(TcpStream::connect(pod.address).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let answer = timeout(SOON, sender.send_request(request)).await.expect("an answer in time").unwrap();
    let (parts, body) = answer.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

fn get_http2(uri: &str) -> http::request::Builder {
    Request::get(uri)
}

/// That these are refused, and that the application does not see them.
async fn are_refused(requests: impl IntoIterator<Item = String>) {
    let pod = reflecting("host").await;
    for request in requests {
        let answer = pod.raw(&request).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{request:?}: {answer}");
        assert!(pod.got().is_empty(), "{request:?}");
    }
    assert_eq!(pod.get("/", &[("host", "shop")]).await.body, "link to shop");
}

// Hosts.

#[tokio::test]
async fn a_host_that_may_be_read_as_another_is_refused() {
    let odd = [
        "shop@evil.example",
        "shop:80@evil.example",
        "evil.example#shop",
        "evil.example?shop",
        "shop/evil",
        "shop\\evil",
        "shop evil.example",
        "shop,evil.example",
        "shop;evil.example",
        "shop:80:90",
        "shop:evil",
        "shop:",
        "shop%00evil",
        "shop%2eevil",
        "sh\u{f6}p",
        "[::1",
        "[shop]",
        "'shop'",
        "",
    ];
    are_refused(odd.map(|host| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))).await;
}

#[tokio::test]
async fn a_second_host_wherever_it_stands_is_refused() {
    let heads = [
        "GET / HTTP/1.1\r\nHost: shop\r\nHost: evil.example",
        "GET / HTTP/1.1\r\nHost: evil.example\r\nHost: shop",
        "GET / HTTP/1.1\r\nHost: shop\r\nHost: shop",
        "GET / HTTP/1.1\r\n Host: evil.example\r\nHost: shop",
        "GET / HTTP/1.1\r\nHost: shop\r\n evil.example",
        "GET / HTTP/1.1\r\nHost : evil.example\r\nHost: shop",
        "GET / HTTP/1.1\r\nHost: shop\r\nHost\t: evil.example",
        "GET http://evil.example/ HTTP/1.1\r\nHost: shop",
        "GET http://shop@evil.example/ HTTP/1.1\r\nHost: shop",
        "GET evil.example/ HTTP/1.1\r\nHost: shop",
        "GET @evil.example/ HTTP/1.1\r\nHost: shop",
        "GET http:evil.example/ HTTP/1.1\r\nHost: shop",
    ];
    are_refused(heads.map(|head| format!("{head}\r\nConnection: close\r\n\r\n"))).await;
}

#[tokio::test]
async fn a_host_of_http_2_is_in_the_key_as_that_of_http_1_is() {
    let pod = reflecting("host").await;
    // The scheme that a client writes tells nothing of how it came.
    for uri in ["http://SHOP.example/", "http://shop.example:80/", "https://shop.example/"] {
        let request = get_http2(uri).body(Full::default()).unwrap();
        let answer = ask_http2(&pod, request).await;
        assert!(!answer.body.contains("SHOP"), "{uri}: {answer:?}");
    }
    let request = get_http2("http://evil.example/").header("host", "evil.example").body(Full::default());
    assert_eq!(ask_http2(&pod, request.unwrap()).await.body, "link to evil.example");
    assert_eq!(pod.get("/", &[("host", "shop.example")]).await.body, "link to shop.example");
    let other = get_http2("http://shop.example/").header("host", "evil.example").body(Full::default());
    assert_eq!(ask_http2(&pod, other.unwrap()).await.status, 400);
}

#[tokio::test]
async fn the_scheme_of_a_request_of_http_2_makes_no_page_for_those_who_came_by_another() {
    let pod = reflecting("x-forwarded-proto").await;
    for uri in ["https://shop/", "http://shop/"] {
        let request = get_http2(uri).body(Full::default()).unwrap();
        assert_eq!(ask_http2(&pod, request).await.body, "link to http", "{uri}");
    }
    let request = get_http2("http://shop/").header("x-forwarded-proto", "https").body(Full::default());
    assert_eq!(ask_http2(&pod, request.unwrap()).await.body, "link to https");
    assert_eq!(pod.get("/", &[("host", "shop")]).await.body, "link to http");
}

// Fields.

#[tokio::test]
async fn a_field_with_a_character_that_an_application_chokes_on_is_refused() {
    let signs = ['\0', '\x01', '\x07', '\x08', '\x0b', '\x0c', '\x0e', '\x1b', '\x7f'];
    let mut requests: Vec<String> = Vec::new();
    for sign in signs {
        requests.push(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Meta: a{sign}b\r\n\r\n"));
        requests.push(format!("GET / HTTP/1.1\r\nHost: a\r\nX-{sign}Meta: ab\r\n\r\n"));
        requests.push(format!("GET /{sign} HTTP/1.1\r\nHost: a\r\n\r\n"));
    }
    for split in ["\n", "\r", "\n\r", "\r\r\n"] {
        requests.push(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Meta: a{split}x-forwarded-host: b\r\n\r\n"));
    }
    are_refused(requests).await;
}

#[tokio::test]
async fn a_field_is_looked_after_also_where_it_is_written_as_a_variable() {
    for field in [
        "X_Forwarded_Host",
        "X-Forwarded_Host",
        "x_original-url",
        "X_HTTP_Method_Override",
        "X_Forwarded_Proto",
        "Transfer_Encoding",
    ] {
        // As CGI, WSGI and PHP read fields: the last of two counts.
        let name = field.to_ascii_uppercase().replace('-', "_");
        let pod = Pod::start(settings(), move |got| {
            let read = |known: &http::HeaderName| known.as_str().to_ascii_uppercase().replace('-', "_");
            let values = got.headers.iter().filter(|(known, _)| read(known) == name);
            let last = values.last().map_or("", |(_, value)| value.to_str().unwrap());
            shared(format!("link to {last}"))
        })
        .await;
        pod.get("/", &[(field, EVIL)]).await;
        let second = pod.get("/", &[]).await;
        assert!(is_hit(&second) && !second.body.contains(EVIL), "{field}: {second:?}");
    }
}

/// As CGI, WSGI and PHP read a field: the last of those that are one variable.
fn variable<'a>(got: &'a Got, name: &str) -> &'a str {
    let read = |known: &http::HeaderName| known.as_str().replace('_', "-") == name;
    let values = got.headers.iter().filter(|(known, _)| read(known));
    values.last().map_or("", |(_, value)| value.to_str().unwrap())
}

#[tokio::test]
async fn what_a_page_varies_by_does_not_come_by_another_name_into_the_page_of_others() {
    let answer = |got: &Got| {
        Response::builder()
            .header("cache-control", "max-age=60")
            .header("vary", "X-Region")
            .body(format!("region {}", variable(got, "x-region")).into())
            .unwrap()
    };
    let pod = Pod::start(settings(), answer).await;
    let forced = forced("*", answer).await;
    for pod in [&pod, &forced] {
        for field in ["x_region", "X_REGION"] {
            assert_eq!(pod.get("/", &[(field, EVIL)]).await.body, format!("region {EVIL}"));
        }
        assert_eq!(pod.get("/", &[]).await.body, "region ");
        assert_eq!(pod.get("/", &[("x_other", EVIL)]).await.body, "region ");
        assert!(is_hit(&pod.get("/", &[("x_other", EVIL)]).await), "it is no name of what it varies by");
    }
}

#[tokio::test]
async fn a_rule_is_for_a_field_by_whatever_name_an_application_reads_it() {
    let header = HeaderMatch { name: "X-Preview".to_owned(), value: Some("1".to_owned()) };
    let rule = Rule { headers: vec![header], bypass: true, ..Rule::default() };
    let answer = |got: &Got| shared(format!("preview {}", variable(got, "x-preview")));
    let pod = Pod::start(HttpCache { rules: vec![rule], ..settings() }, answer).await;
    assert_eq!(pod.get("/", &[("x_preview", "1")]).await.body, "preview 1");
    assert_eq!(pod.get("/", &[]).await.body, "preview ");
}

#[tokio::test]
async fn a_field_that_servers_take_for_a_part_of_the_path_does_not_reach_the_application() {
    // gunicorn takes it from whoever asks from 127.0.0.1, as the sidecar does.
    let answer = |got: &Got| {
        let script = got.field("script_name");
        shared(format!("page {}", got.target.strip_prefix(script).unwrap_or(&got.target)))
    };
    let pod = Pod::start(settings(), answer).await;
    for field in ["SCRIPT_NAME", "Script_Name", "PATH_INFO"] {
        assert_eq!(pod.get("/shop/admin", &[(field, "/shop")]).await.body, "page /shop/admin");
        let posted = pod.ask(http::Method::POST, "/shop/admin", &[(field, "/shop")], "").await;
        assert_eq!(posted.body, "page /shop/admin");
    }
    let is_clean = |got: &Got| got.field("script_name").is_empty() && got.field("path_info").is_empty();
    assert!(pod.got().iter().all(is_clean));
}

#[tokio::test]
async fn what_a_page_varies_by_cannot_be_moved_from_one_field_to_another() {
    let answer = |got: &Got| {
        let lines =
            |name: &str| got.headers.get_all(name).iter().map(|line| line.to_str().unwrap()).collect();
        let [one, two]: [Vec<&str>; 2] = ["x-one", "x-two"].map(lines);
        let page = format!("{} and {}", one.join(", "), two.join(", "));
        Response::builder()
            .header("cache-control", "max-age=60")
            .header("vary", "x-one, x-two")
            .body(page.into())
            .unwrap()
    };
    let pod = Pod::start(settings(), answer).await;
    for (one, two) in
        [("a", ""), ("", "a"), ("a, b", ""), ("a", "b"), ("a,", "b"), ("", "a, b"), ("a and b", "")]
    {
        let answer = pod.get("/", &[("x-one", one), ("x-two", two)]).await;
        assert_eq!(answer.body, format!("{one} and {two}"));
    }
    // A field that is not there is another than one that is empty.
    assert_eq!(pod.get("/", &[("x-two", "a")]).await.body, " and a");
}

// Bodies of requests that have none.

#[tokio::test]
async fn a_get_with_a_body_in_whatever_form_is_not_stored_for_those_without() {
    let answer = |got: &Got| shared(if got.body.is_empty() { "page".into() } else { got.body.clone() });
    let pod = Pod::start(settings(), answer).await;
    for fat in [
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4\r\nX-HTTP-Method-Override: POST\r\n\r\nevil",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 4\r\n\r\nevil",
    ] {
        assert!(pod.raw(fat).await.ends_with("evil"), "{fat}");
        assert_eq!(pod.get("/", &[("host", "a")]).await.body, "page", "{fat}");
    }
    let request = get_http2("http://b/").body(Full::from("evil")).unwrap();
    assert_eq!(ask_http2(&pod, request).await.body, "evil");
    assert_eq!(pod.get("/", &[("host", "b")]).await.body, "page");
}

#[tokio::test]
async fn a_get_whose_body_is_empty_is_one_without() {
    let pod = Pod::start(settings(), |_| shared("page")).await;
    let empty = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert!(pod.raw(empty).await.ends_with("page"));
    assert!(is_hit(&pod.get("/", &[("host", "a")]).await));
}

// Ranges.

#[tokio::test]
async fn ranges_without_number_bring_no_more_than_the_page() {
    let page = "x".repeat(10_000);
    let pod = Pod::start(settings(), {
        let page = page.clone();
        move |_| shared(page.clone())
    })
    .await;
    pod.get("/", &[]).await;
    let many = format!("bytes=0-{}", ",0-".repeat(500));
    for range in [many.as_str(), "bytes=0-,0-,0-", "bytes=-10000,-10000", "bytes=0-9999,0-9999"] {
        let answer = pod.get("/", &[("range", range)]).await;
        assert!(answer.body.len() <= page.len() && is_hit(&answer), "{range}: {}", answer.body.len());
    }
    assert_eq!(pod.get("/", &[]).await.body, page);
}

// Answers that are split.

/// What an application sends that puts a path, decoded, into a field.
async fn splitting() -> Wired {
    Wired::start(|mut stream: TcpStream, record: Record| async move {
        while let Some(head) = record.until(&mut stream, "\r\n\r\n").await {
            let head = String::from_utf8(head).unwrap();
            let path = head.split(' ').nth(1).unwrap().replace("%0d%0a", "\r\n").replace("%20", " ");
            let answer = format!(
                "HTTP/1.1 301 Moved\r\ncache-control: max-age=60\r\nlocation: {path}\r\ncontent-length: 4\r\n\r\npage"
            );
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await
}

#[tokio::test]
async fn what_an_application_says_beyond_its_answer_is_the_answer_to_nothing() {
    let pod = splitting().await;
    let split = "/a%0d%0acontent-length:%200%0d%0a%0d%0aHTTP/1.1%20200%20OK%0d%0acache-control:%20max-age=60%0d%0aevil:%201";
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n");
    let mut attacker = pod.connect().await;
    attacker.write_all([get(split), get("/home"), get("/home")].concat().as_bytes()).await.unwrap();
    // What comes there is the attacker's own.
    assert!(until(&mut attacker, "\r\n\r\n").await.contains("location: /a\r\n"));
    for path in ["/home", "/a", "/"] {
        let mut other = pod.connect().await;
        other.write_all(get(path).as_bytes()).await.unwrap();
        let answer = until(&mut other, "\r\n\r\n").await;
        assert!(!answer.contains("evil") && answer.contains(&format!("location: {path}\r\n")), "{answer}");
    }
}

// Pages of a user under the name of a file.

#[tokio::test]
async fn a_rule_for_files_does_not_hold_for_a_page_by_the_name_of_one() {
    // As frameworks do that take what comes behind a path they know for its parameters.
    let account = |got: &Got| {
        let kind = if got.target.contains("/account") { "text/html; charset=utf-8" } else { "text/css" };
        Response::builder()
            .header("content-type", kind)
            .body(Bytes::from(format!("the account of {}", got.field("cookie"))))
            .unwrap()
    };
    for ending in ["css", "js", "png", "svg", "woff2", "ico", "jpg"] {
        let rule =
            Rule { paths: vec![format!("*.{ending}")], ttl: Some(60), overrides: true, ..Rule::default() };
        let pod = Pod::start(HttpCache { rules: vec![rule], ..settings() }, account).await;
        for path in
            [format!("/account/x.{ending}"), format!("/account.{ending}"), format!("/account%0a.{ending}")]
        {
            pod.get(&path, &[("cookie", "user=a")]).await;
            assert_eq!(pod.get(&path, &[("cookie", "user=b")]).await.body, "the account of user=b", "{path}");
            assert_eq!(pod.get(&path, &[]).await.body, "the account of ", "{path}");
        }
        let file = format!("/static/site.{ending}");
        pod.get(&file, &[("cookie", "user=a")]).await;
        assert!(is_hit(&pod.get(&file, &[]).await), "{file}: the rule holds for what it is about");
    }
}
