//! Cookies, where a rule names those that responses may depend on. PURE.
//!
//! The others are taken out before the request is looked up and passed on: what the application does
//! not see, its response cannot depend on. By those that are left the response varies, as if it had
//! said so (RFC 9111 §4.1).

use http::{
    HeaderMap, HeaderValue,
    header::{COOKIE, VARY},
};

use super::selection::varies_by;

/// Leaves the cookies of these names in a request, in one line and by their names, so that the order in
/// which a browser sends them makes no difference. Their names count as they are written (RFC 6265 §4.1).
pub fn keep_cookies(request: &mut HeaderMap, names: &[String]) {
    // HTTP/2 may send each in a line of its own (RFC 9113 §8.2.3).
    let mut kept: Vec<(&[u8], &[u8])> = request
        .get_all(COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .map(<[u8]>::trim_ascii)
        .filter_map(|pair| Some((&pair[..pair.iter().position(|byte| *byte == b'=')?], pair)))
        .filter(|(name, _)| names.iter().any(|wanted| wanted.as_bytes() == *name))
        .collect();
    // Of two of one name the first counts, mostly: they stay in their order.
    kept.sort_by_key(|(name, _)| *name);
    let line = kept.iter().map(|(_, pair)| *pair).collect::<Vec<_>>().join(&b"; "[..]);
    match HeaderValue::from_bytes(&line) {
        Ok(line) if !line.is_empty() => request.insert(COOKIE, line),
        _ => request.remove(COOKIE),
    };
}

/// Says in a response that it varies by the cookies that the application has seen.
pub fn vary_by_cookies(response: &mut HeaderMap) {
    if !varies_by(response).contains(&COOKIE) {
        response.append(VARY, HeaderValue::from_static("cookie"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::tests::headers;

    fn kept(lines: &[(&'static str, &'static str)], names: &[&str]) -> Option<String> {
        let mut request = headers(lines);
        keep_cookies(&mut request, &names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        assert!(request.get_all(COOKIE).iter().count() <= 1);
        request.get(COOKIE).map(|line| line.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_named_ones_stay_in_one_order() {
        let names = ["lang", "cart"];
        let expected = Some("cart=a=b; lang=de".to_owned());
        assert_eq!(kept(&[("cookie", "lang=de; _ga=1;cart=a=b")], &names), expected);
        assert_eq!(kept(&[("cookie", "cart=a=b"), ("cookie", " lang=de ;x")], &names), expected);
        assert_eq!(kept(&[("cookie", "cart=1; cart=2")], &names), Some("cart=1; cart=2".to_owned()));
    }

    #[test]
    fn where_none_is_left_there_is_no_field() {
        assert_eq!(kept(&[("cookie", "Lang=de; languid=1; lang")], &["lang"]), None);
        assert_eq!(kept(&[("cookie", "lang=de")], &[]), None);
        assert_eq!(kept(&[], &["lang"]), None);
    }

    #[test]
    fn a_response_says_once_that_it_varies_by_them() {
        for lines in [&[][..], &[("vary", "accept")], &[("vary", "accept, Cookie")]] {
            let mut response = headers(lines);
            vary_by_cookies(&mut response);
            vary_by_cookies(&mut response);
            let cookies = varies_by(&response).into_iter().filter(|name| *name == COOKIE).count();
            assert_eq!((cookies, response.contains_key(VARY)), (1, true));
            assert!(response.get_all(VARY).iter().count() <= 2);
        }
    }
}
