//! The published ways to have a cache give one user's answer, or an attacker's, to another: one test for
//! each. In all of them the first to ask is the attacker, or the one to whom the page belongs, and the
//! second is another user; what the second gets must not be of the first.

mod wire;

use bytes::Bytes;
use cachedservice::settings::{HttpCache, Rule};
use http::{Method, Response};

use crate::application::{Answer, Got, Pod, settings};

const EVIL: &str = "evil.example";

/// A page that may be kept by all.
fn shared(body: impl Into<Bytes>) -> Response<Bytes> {
    Response::builder().header("cache-control", "max-age=60").body(body.into()).unwrap()
}

/// A page of whoever has the cookie.
fn account(got: &Got) -> Bytes {
    format!("the account of {}", got.field("cookie")).into()
}

/// An application that puts what a field holds into a page for all.
async fn reflecting(field: &'static str) -> Pod {
    Pod::start(settings(), move |got| shared(format!("link to {}", got.field(field)))).await
}

/// A pod with one rule, which has whatever its paths match kept.
async fn forced(path: &str, answer: impl Fn(&Got) -> Response<Bytes> + Send + Sync + 'static) -> Pod {
    let rule = Rule { paths: vec![path.to_owned()], ttl: Some(60), overrides: true, ..Rule::default() };
    Pod::start(HttpCache { rules: vec![rule], ..settings() }, answer).await
}

fn is_hit(answer: &Answer) -> bool {
    answer.field("cache-status").contains("; hit")
}

// What an application takes from fields that are not in the key.

#[tokio::test]
async fn a_field_that_names_another_host_or_path_does_not_reach_a_page_for_all() {
    for field in [
        "x-forwarded-host",
        "x-forwarded-scheme",
        "x-forwarded-port",
        "x-forwarded-server",
        "x-forwarded-prefix",
        "x-original-url",
        "x-rewrite-url",
        "x-original-host",
        "x-http-host-override",
        "x-host",
        "forwarded",
        "x-forwarded-path",
        "x-proxy-url",
        "x-script-name",
        // Of the frameworks themselves, from one of their parts to the next.
        "x-middleware-prefetch",
        "x-middleware-subrequest",
        "x-invoke-path",
        "x-invoke-query",
        "x-invoke-status",
        "x-matched-path",
        "x-now-route-matches",
        "x-react-router-prerender-data",
        "x-react-router-spa-mode",
    ] {
        let pod = reflecting(field).await;
        pod.get("/", &[(field, EVIL)]).await;
        let second = pod.get("/", &[]).await;
        assert!(is_hit(&second), "{field}: the technique is about what is stored");
        assert!(!second.body.contains(EVIL), "{field}: {second:?}");
    }
}

#[tokio::test]
async fn a_field_that_names_another_method_does_not_make_an_error_page_for_all() {
    for field in ["x-http-method-override", "x-http-method", "x-method-override"] {
        let answer = move |got: &Got| match got.field(field) {
            "" => shared("page"),
            _ => Response::builder()
                .status(404)
                .header("cache-control", "max-age=60")
                .body(Bytes::new())
                .unwrap(),
        };
        let pod = Pod::start(settings(), answer).await;
        pod.get("/", &[(field, "POST")]).await;
        assert_eq!(pod.get("/", &[]).await.body, "page", "{field}");
    }
}

#[tokio::test]
async fn a_scheme_that_was_made_up_gives_no_redirect_loop_to_all() {
    let answer = |got: &Got| match got.field("x-forwarded-proto") {
        "https" => shared("page"),
        _ => Response::builder()
            .status(301)
            .header("cache-control", "max-age=60")
            .header("location", "https://shop/")
            .body(Bytes::new())
            .unwrap(),
    };
    let pod = Pod::start(settings(), answer).await;
    for made_up in ["http", "HTTPS", "https, http", "nothttps", ""] {
        pod.get("/", &[("x-forwarded-proto", made_up)]).await;
    }
    assert_eq!(pod.get("/", &[("x-forwarded-proto", "https")]).await.body, "page");
}

#[tokio::test]
async fn the_case_and_the_port_of_a_host_are_not_another_users_page() {
    let pod = reflecting("host").await;
    for odd in ["SHOP.example", "shop.example:80", "Shop.Example:80"] {
        let first = pod.get("/", &[("host", odd)]).await;
        assert_eq!(first.body, "link to shop.example", "{odd}");
    }
    for other in ["shop.example:8080", "shop.example.", "shop.example:0080"] {
        let second = pod.get("/", &[("host", other)]).await;
        assert_eq!(second.body, format!("link to {other}"), "which is another key");
    }
    assert_eq!(pod.got().len(), 4);
}

#[tokio::test]
async fn a_target_with_a_host_of_its_own_does_not_count_for_the_field() {
    let pod = reflecting("host").await;
    let absolute = format!("GET http://{EVIL}/ HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n");
    pod.raw(&absolute).await;
    assert_eq!(pod.get("/", &[("host", "shop")]).await.body, "link to shop");
}

#[tokio::test]
async fn a_field_that_is_named_in_connection_is_gone_for_the_key_as_well() {
    let answer = |got: &Got| {
        Response::builder()
            .header("cache-control", "max-age=60")
            .header("vary", "x-region")
            .body(format!("region {}", got.field("x-region")).into())
            .unwrap()
    };
    let pod = Pod::start(settings(), answer).await;
    pod.get("/", &[("x-region", "north"), ("connection", "x-region")]).await;
    assert_eq!(pod.get("/", &[("x-region", "north")]).await.body, "region north");
}

#[tokio::test]
async fn what_is_trusted_is_not_taken_away_by_naming_it_in_connection() {
    let pod = Pod::start(settings(), |_| shared("page")).await;
    let trusted = [
        ("host", "shop"),
        ("authorization", "Basic eA=="),
        ("cookie", "session=1"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-proto", "https"),
        ("cache-control", "no-store"),
        ("accept-language", "de"),
        ("x-request-id", "7"),
    ];
    let names: Vec<&str> = trusted.iter().map(|(name, _)| *name).collect();
    let named = names.join(", ");
    let connection = ("connection", named.as_str());
    pod.get("/", &[&trusted[..], &[connection]].concat()).await;
    for (name, value) in trusted {
        let got = pod.got()[0].field(name).to_owned();
        assert!(got.starts_with(value), "{name}: {got:?}");
    }
}

// What is not part of a key, and yet of the page.

#[tokio::test]
async fn a_get_with_a_body_is_not_stored_for_those_without() {
    let answer = |got: &Got| shared(if got.body.is_empty() { "page".into() } else { got.body.clone() });
    let pod = Pod::start(settings(), answer).await;
    assert_eq!(pod.ask(Method::GET, "/", &[], EVIL).await.body, EVIL, "it goes past the cache");
    assert_eq!(pod.get("/", &[]).await.body, "page");
}

#[tokio::test]
async fn a_parameter_that_is_left_out_of_the_key_does_not_reach_the_application() {
    let rule = Rule { ignored_query: vec!["utm_*".to_owned()], ..Rule::default() };
    let pod = Pod::start(HttpCache { rules: vec![rule], ..settings() }, |got| {
        shared(format!("canonical {}", got.target))
    })
    .await;
    pod.get(&format!("/?a=1&utm_content={EVIL}"), &[]).await;
    let second = pod.get("/?a=1&utm_content=spring", &[]).await;
    assert!(is_hit(&second));
    assert_eq!(second.body, "canonical /?a=1");
}

#[tokio::test]
async fn a_parameter_that_hides_in_one_that_is_ignored_is_in_the_key() {
    // As applications do that take `;` for `&`; the last of two counts for them.
    let answer = |got: &Got| {
        let query = got.target.split_once('?').map_or("", |(_, query)| query);
        let last = query.split(['&', ';']).filter_map(|pair| pair.strip_prefix("q=")).next_back();
        shared(format!("results for {}", last.unwrap_or_default()))
    };
    let rule = Rule { ignored_query: vec!["utm_*".to_owned()], ..Rule::default() };
    let pod = Pod::start(HttpCache { rules: vec![rule], ..settings() }, answer).await;
    pod.get(&format!("/?q=shoes&utm_content=1;q={EVIL}"), &[]).await;
    pod.get(&format!("/?q=shoes&q={EVIL}&utm_content=1"), &[]).await;
    assert_eq!(pod.get("/?q=shoes", &[]).await.body, "results for shoes");
    assert_eq!(pod.get("/?q=shoes&utm_content=1", &[]).await.body, "results for shoes");
}

#[tokio::test]
async fn paths_that_an_application_takes_for_the_same_are_not_the_same_to_the_cache() {
    let answer = |got: &Got| shared(format!("page {}", got.target));
    let pod = Pod::start(settings(), answer).await;
    for path in [
        "/a", "/a/", "//a", "/./a", "/x/../a", "/x/..;/a", "/%61", "/a%00", "/a%2f", "/a%2F", "/A", "/a;b",
        "/a?",
    ] {
        let answer =
            pod.raw(&format!("GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.ends_with(&format!("page {path}")), "{path}: {answer}");
    }
}

#[tokio::test]
async fn what_varies_is_only_for_those_of_whom_it_is_true() {
    let answer = |got: &Got| {
        Response::builder()
            .header("cache-control", "public, max-age=60")
            .header("vary", "Cookie")
            .body(account(got))
            .unwrap()
    };
    let pod = Pod::start(settings(), answer).await;
    pod.get("/", &[("cookie", "user=a")]).await;
    assert_eq!(pod.get("/", &[("cookie", "user=b")]).await.body, "the account of user=b");
    assert_eq!(pod.get("/", &[]).await.body, "the account of ");
    assert!(is_hit(&pod.get("/", &[("cookie", "user=a")]).await));
}

// Pages of a user that a cache takes for everybody's.

#[tokio::test]
async fn nothing_is_stored_by_the_looks_of_its_path() {
    let pod = Pod::start(settings(), |got| Response::new(account(got))).await;
    for path in [
        "/account/x.css",
        "/account/x.js?a.png",
        "/account;x.css",
        "/account%3Bx.css",
        "/account%00.css",
        "/account%0A.css",
        "/account%23.css",
        "/account%3f.css",
        "/static/..%2faccount",
        "/static/%2e%2e/account",
        "/static/../account",
        "/account/favicon.ico",
        "/account/robots.txt",
    ] {
        pod.get(path, &[("cookie", "user=a")]).await;
        let second = pod.get(path, &[("cookie", "user=b")]).await;
        assert_eq!(second.body, "the account of user=b", "{path}");
        assert_eq!(pod.get(path, &[]).await.body, "the account of ", "{path}");
    }
}

#[tokio::test]
async fn a_rule_for_static_files_does_not_hold_for_a_path_that_may_be_read_as_another() {
    for (rule, paths) in [
        (
            "/static/*",
            &[
                "/static/../account",
                "/static/..%2faccount",
                "/static/..%5caccount",
                "/static/%2e%2e/account",
                "/static/%252e%252e%252faccount",
                "/static/..;/account",
                "/static//..//account",
            ][..],
        ),
        ("*.css", &["/account;x.css", "/account%3bx.css", "/account%00.css"]),
    ] {
        let pod = forced(rule, |got| Response::new(account(got))).await;
        for path in paths {
            let request = |user: &str| {
                format!("GET {path} HTTP/1.1\r\nHost: a\r\nCookie: {user}\r\nConnection: close\r\n\r\n")
            };
            pod.raw(&request("user=a")).await;
            let second = pod.raw(&request("user=b")).await;
            assert!(second.ends_with("the account of user=b"), "{path}: {second}");
        }
    }
    let pod = forced("/static/*", |_| Response::new(Bytes::from_static(b"style"))).await;
    pod.get("/static/a.css", &[]).await;
    assert!(is_hit(&pod.get("/static/a.css", &[]).await), "the rule holds for what it is about");
}

#[tokio::test]
async fn a_path_that_a_rule_keeps_out_of_the_cache_is_kept_out_in_all_its_readings() {
    let rule = Rule { paths: vec!["/admin/*".to_owned()], bypass: true, ..Rule::default() };
    let pod = Pod::start(HttpCache { rules: vec![rule], ..settings() }, |got| shared(account(got))).await;
    for path in ["/admin/a", "/x/..%2fadmin/a", "/%61dmin/a", "/admin%2fa"] {
        pod.get(path, &[("cookie", "user=a")]).await;
        assert_eq!(pod.get(path, &[("cookie", "user=b")]).await.body, "the account of user=b", "{path}");
    }
}

#[tokio::test]
async fn what_says_nothing_and_was_made_for_a_cookie_is_not_stored() {
    let answer = |got: &Got| {
        // Heuristics would take this for fresh for days.
        Response::builder()
            .header("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")
            .body(account(got))
            .unwrap()
    };
    let pod = Pod::start(settings(), answer).await;
    pod.get("/", &[("cookie", "user=a")]).await;
    assert_eq!(pod.get("/", &[]).await.body, "the account of ", "which may be kept, as no user asked");
    assert_eq!(pod.get("/", &[("cookie", "user=b")]).await.body, "the account of user=b");
    assert_eq!(pod.get("/", &[("authorization", "Basic eA==")]).await.body, "the account of ");
    assert_eq!(pod.got().len(), 4, "of whom it is known who asks, nobody gets what is guessed");
}

#[tokio::test]
async fn what_has_to_be_validated_is_not_given_to_another_without_the_applications_word() {
    let answer = |got: &Got| {
        let tag = format!("\"{}\"", got.field("cookie"));
        let answer = Response::builder().header("cache-control", "no-cache").header("etag", &tag);
        if got.field("if-none-match") == tag {
            return answer.status(304).body(Bytes::new()).unwrap();
        }
        answer.body(account(got)).unwrap()
    };
    let pod = Pod::start(settings(), answer).await;
    for user in ["user=a", "user=b", "user=a"] {
        assert_eq!(pod.get("/", &[("cookie", user)]).await.body, format!("the account of {user}"));
    }
    assert!(pod.got().iter().all(|got| got.field("if-none-match").is_empty()), "nothing was stored");
    pod.get("/", &[]).await;
    let second = pod.get("/", &[("cookie", "user=b")]).await;
    assert_eq!(second.body, "the account of user=b");
}

#[tokio::test]
async fn a_cookie_that_comes_with_a_validation_is_for_the_one_who_asked() {
    let answer = |got: &Got| {
        let answer = Response::builder().header("cache-control", "max-age=0").header("etag", "\"1\"");
        if got.field("if-none-match").is_empty() {
            return answer.body(Bytes::from_static(b"page")).unwrap();
        }
        let answer = match got.field("cookie") {
            "" => answer,
            user => answer.header("set-cookie", format!("renewed-{user}")).header("x-user", user),
        };
        answer.status(304).body(Bytes::new()).unwrap()
    };
    let pod = Pod::start(settings(), answer).await;
    pod.get("/", &[]).await;
    let first = pod.get("/", &[("cookie", "user=a")]).await;
    assert_eq!((first.body.as_str(), first.field("set-cookie")), ("page", "renewed-user=a"));
    let second = pod.get("/", &[]).await;
    assert_eq!((second.body.as_str(), second.status), ("page", 200));
    assert_eq!((second.field("set-cookie"), second.field("x-user")), ("", ""));
}

#[tokio::test]
async fn what_was_for_all_and_is_private_now_is_not_given_any_more() {
    let answer = |got: &Got| {
        let answer = Response::builder().header("etag", "\"1\"");
        if got.field("if-none-match").is_empty() {
            return answer.header("cache-control", "max-age=0").body(account(got)).unwrap();
        }
        let answer = answer.header("cache-control", "private, max-age=60");
        answer.status(304).body(Bytes::new()).unwrap()
    };
    let pod = Pod::start(settings(), answer).await;
    pod.get("/", &[("cookie", "user=a")]).await;
    pod.get("/", &[("cookie", "user=a")]).await;
    assert_eq!(pod.get("/", &[("cookie", "user=b")]).await.body, "the account of user=b");
}

#[tokio::test]
async fn a_response_that_sets_a_cookie_is_not_stored_and_where_a_rule_forces_it_the_cookie_is_not() {
    let answer = |got: &Got| {
        let session = format!("session-of-{}", got.field("x-user"));
        Response::builder()
            .header("cache-control", "max-age=60")
            .header("set-cookie", session)
            .body(Bytes::new())
            .unwrap()
    };
    let plain = Pod::start(settings(), answer).await;
    let forced = forced("*", answer).await;
    for pod in [&plain, &forced] {
        assert_eq!(pod.get("/", &[("x-user", "a")]).await.field("set-cookie"), "session-of-a");
        let second = pod.get("/", &[("x-user", "b")]).await;
        assert!(!second.field("set-cookie").contains("-a"), "{second:?}");
    }
    assert_eq!((plain.got().len(), forced.got().len()), (2, 1));
}

#[tokio::test]
async fn what_credentials_were_needed_for_is_not_stored_not_even_by_a_rule() {
    let answer = |got: &Got| shared(format!("the account of {}", got.field("authorization")));
    let forced = forced("*", answer).await;
    let plain = Pod::start(settings(), answer).await;
    for pod in [&plain, &forced] {
        pod.get("/", &[("authorization", "Basic YQ==")]).await;
        let second = pod.get("/", &[("authorization", "Basic Yg==")]).await;
        assert_eq!(second.body, "the account of Basic Yg==");
        assert_eq!(pod.get("/", &[]).await.body, "the account of ");
    }
}

// Errors and parts that are to take the place of a page.

#[tokio::test]
async fn an_error_that_one_clients_field_has_made_is_not_stored_for_all() {
    // Oversized fields, meta characters, expectations, conditions, ranges and rates.
    for status in [400, 406, 408, 412, 413, 416, 417, 421, 426, 429, 431, 500, 501] {
        let answer = move |got: &Got| match got.field("x-oversized") {
            "" => shared("page"),
            // The worst that an application can say of it, except where others do not go by it either.
            _ if status >= 500 => Response::builder().status(status).body(Bytes::new()).unwrap(),
            _ => Response::builder()
                .status(status)
                .header("cache-control", "public, max-age=60")
                .body(Bytes::new())
                .unwrap(),
        };
        let pod = Pod::start(settings(), answer).await;
        let oversized = "x".repeat(8_000);
        assert_eq!(pod.get("/", &[("x-oversized", &oversized)]).await.status, status);
        assert_eq!(pod.get("/", &[]).await.body, "page", "{status}");
    }
}

#[tokio::test]
async fn a_part_is_not_given_for_the_whole_nor_an_error_about_one() {
    let answer = |got: &Got| match got.field("range") {
        "" => shared("the whole page"),
        "bytes=0-2" => Response::builder()
            .status(206)
            .header("cache-control", "max-age=60")
            .header("content-range", "bytes 0-2/14")
            .body(Bytes::from_static(b"the"))
            .unwrap(),
        _ => {
            Response::builder().status(416).header("cache-control", "max-age=60").body(Bytes::new()).unwrap()
        }
    };
    let pod = Pod::start(settings(), answer).await;
    for range in ["bytes=0-2", "bytes=cow", "bytes=999999-", "bytes=0-0,1-1,2-2,3-3"] {
        pod.get("/", &[("range", range)]).await;
        let second = pod.get("/", &[]).await;
        assert_eq!((second.status, second.body.as_str()), (200, "the whole page"), "{range}");
    }
}

#[tokio::test]
async fn the_empty_answer_to_a_head_is_not_given_to_a_get() {
    let answer = |got: &Got| match got.method {
        Method::HEAD => Response::builder()
            .header("cache-control", "max-age=60")
            .header("content-length", "4")
            .body(Bytes::new())
            .unwrap(),
        _ => shared("page"),
    };
    let pod = Pod::start(settings(), answer).await;
    pod.ask(Method::HEAD, "/", &[], "").await;
    assert_eq!(pod.get("/", &[]).await.body, "page");
}

#[tokio::test]
async fn a_condition_of_one_client_gives_no_empty_page_to_another() {
    let answer = |got: &Got| match got.field("if-none-match") {
        "" => shared("page"),
        _ => {
            Response::builder().status(304).header("cache-control", "max-age=60").body(Bytes::new()).unwrap()
        }
    };
    let pod = Pod::start(settings(), answer).await;
    pod.get("/", &[("if-none-match", "\"x\"")]).await;
    let second = pod.get("/", &[]).await;
    assert_eq!((second.status, second.body.as_str()), (200, "page"));
}

#[tokio::test]
async fn an_unknown_method_is_not_answered_with_what_a_get_has_stored_nor_stored_for_it() {
    let pod = Pod::start(settings(), |got| shared(format!("by {}", got.method))).await;
    let purge = Method::from_bytes(b"PURGE").unwrap();
    assert_eq!(pod.ask(purge.clone(), "/", &[], "").await.body, "by PURGE");
    assert_eq!(pod.get("/", &[]).await.body, "by GET");
    assert_eq!(pod.ask(purge, "/", &[], "").await.body, "by PURGE");
}
