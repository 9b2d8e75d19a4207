use http::Request;

use super::*;

type Lines<'a> = &'a [(&'a str, &'a str)];

fn request(version: Version, method: &str, target: &str, lines: Lines<'_>) -> Parts {
    let mut request = Request::builder().version(version).method(method).uri(target);
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn settled(version: Version, target: &str, lines: Lines<'_>) -> Result<HeaderMap, Refusal> {
    let mut parts = request(version, "GET", target, lines);
    settle(&mut parts, "192.0.2.1:8080".parse().unwrap()).map(|()| parts.headers)
}

/// Of a request with a host.
fn fields(version: Version, lines: Lines<'_>) -> HeaderMap {
    settled(version, "/", &[lines, &[("host", "shop")]].concat()).unwrap()
}

#[test]
fn the_host_is_told_once_whichever_way() {
    let host = |version, target, lines| settled(version, target, lines).map(|headers| headers[HOST].clone());
    for (version, target, lines, expected) in [
        (Version::HTTP_11, "/", &[("host", "shop")][..], "shop"),
        (Version::HTTP_11, "http://shop:80/", &[("host", "Shop:80")], "shop:80"),
        (Version::HTTP_2, "http://shop/", &[], "shop"),
        (Version::HTTP_2, "/", &[("host", "shop")], "shop"),
        (Version::HTTP_10, "/", &[], "192.0.2.1:8080"),
        (Version::HTTP_11, "/", &[("host", "[::1]:80")], "[::1]:80"),
        (Version::HTTP_11, "/", &[("host", "[::1]")], "[::1]"),
        (Version::HTTP_11, "/", &[("host", "a_b.example.")], "a_b.example."),
    ] {
        assert_eq!(host(version, target, lines).unwrap(), expected, "{target} {lines:?}");
    }
    for (version, target, lines) in [
        (Version::HTTP_11, "/", &[][..]),
        (Version::HTTP_2, "/", &[]),
        (Version::HTTP_11, "/", &[("host", "a"), ("host", "a")]),
        (Version::HTTP_11, "http://shop/", &[("host", "other")]),
        (Version::HTTP_2, "http://shop/", &[("host", "shop:80")]),
        (Version::HTTP_11, "ftp://shop/", &[("host", "shop")]),
    ] {
        assert_eq!(host(version, target, lines).unwrap_err().status, 400, "{target} {lines:?}");
    }
}

#[test]
fn what_is_no_host_is_refused() {
    for host in [
        "", "a b", "a@b", "a/b", "a?b", "a#b", "a,b", "a\\b", "a%00b", "a:b", "a:", "a:80:80", "a:123456",
        "[::1", "::1", "[a]", "a\u{e9}", "\"a\"", "a;b", "<a>", "a'b",
    ] {
        assert!(settled(Version::HTTP_11, "/", &[("host", host)]).is_err(), "{host:?}");
    }
}

#[test]
fn methods_that_go_past_all_rules_are_not_spoken() {
    let local = "127.0.0.1:80".parse().unwrap();
    for (method, target) in [("CONNECT", "shop:80"), ("TRACE", "/")] {
        let mut parts = request(Version::HTTP_11, method, target, &[("host", "shop")]);
        assert_eq!(settle(&mut parts, local).unwrap_err().status, 501, "{method}");
    }
    for (method, target, is_fine) in
        [("OPTIONS", "*", true), ("GET", "*", false), ("GET", "shop:80", false), ("GET", "/\u{e9}", false)]
    {
        let mut parts = request(Version::HTTP_11, method, target, &[("host", "shop")]);
        assert_eq!(settle(&mut parts, local).is_ok(), is_fine, "{method} {target}");
    }
}

#[test]
fn another_protocol_is_asked_for_in_all_form_and_is_not_http() {
    let protocol = |version, connection, upgrade| {
        let headers =
            fields(version, &[("connection", connection), ("upgrade", upgrade), ("http2-settings", "x")]);
        assert!(!headers.contains_key("http2-settings"));
        headers.get(UPGRADE).cloned()
    };
    assert_eq!(protocol(Version::HTTP_11, "keep-alive, Upgrade", "websocket").unwrap(), "websocket");
    for (version, connection, upgrade) in [
        (Version::HTTP_11, "keep-alive", "websocket"),
        (Version::HTTP_10, "upgrade", "websocket"),
        (Version::HTTP_2, "upgrade", "websocket"),
        (Version::HTTP_11, "upgrade, http2-settings", "h2c"),
        (Version::HTTP_11, "upgrade", "websocket, H2C"),
        (Version::HTTP_11, "upgrade", "HTTP/2.0"),
        (Version::HTTP_11, "upgrade", "TLS/1.0"),
        (Version::HTTP_11, "upgrade", ""),
    ] {
        assert_eq!(protocol(version, connection, upgrade), None, "{connection} {upgrade}");
    }
}

#[test]
fn only_the_expectation_that_there_is_passes() {
    let expecting = |version, expected| {
        settled(version, "/", &[("host", "a"), ("expect", expected)])
            .map(|headers| headers.contains_key(EXPECT))
    };
    assert_eq!(expecting(Version::HTTP_11, "100-Continue"), Ok(true));
    assert_eq!(expecting(Version::HTTP_10, "100-continue"), Ok(false));
    assert_eq!(expecting(Version::HTTP_11, "200-ok").unwrap_err().status, 417);
}

#[test]
fn fields_that_some_applications_take_for_others_are_gone() {
    let left = fields(
        Version::HTTP_11,
        &[
            ("x_forwarded_host", "evil"),
            ("X-Forwarded_Host", "evil"),
            ("content_length", "7"),
            ("transfer_encoding", "chunked"),
            ("x_original_url", "/"),
            ("SCRIPT_NAME", "/shop"),
            ("Path_Info", "/admin"),
            ("my_own", "1"),
        ],
    );
    let mut names: Vec<&str> = left.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["host", "my_own"]);
}

#[test]
fn cookies_in_several_lines_are_one() {
    let headers = fields(Version::HTTP_2, &[("cookie", "a=1"), ("cookie", "b=2")]);
    assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
}

#[test]
fn trailers_are_asked_for_and_nothing_else_of_te() {
    let te = |value| fields(Version::HTTP_11, &[("te", value), ("connection", "te")]).get(TE).cloned();
    assert_eq!(te("gzip, Trailers").unwrap(), "trailers");
    assert_eq!(te("gzip"), None);
}

#[test]
fn a_body_has_one_length_that_is_not_too_large() {
    let length = |lines: Lines<'_>| {
        settled(Version::HTTP_2, "http://shop/", lines).map_err(|refusal| refusal.status.as_u16()).map(|_| ())
    };
    assert_eq!(length(&[("content-length", "1")]), Ok(()));
    assert_eq!(length(&[("content-length", "1"), ("content-length", "1")]), Err(400));
    for wrong in ["1x", "+1", "-1", "", "1, 1"] {
        assert_eq!(length(&[("content-length", wrong)]), Err(400), "{wrong}");
    }
    assert_eq!(length(&[("content-length", "9999999999")]), Err(413));
    let many: Vec<(String, &str)> = (0..FIELDS).map(|number| (format!("x-{number}"), "")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(length(&many), Ok(()));
    assert_eq!(length(&[&many[..], &[("x", "")]].concat()), Err(431));
}
