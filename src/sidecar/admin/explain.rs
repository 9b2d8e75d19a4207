//! A request that is to be explained, as it is asked about in a query. PURE.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use crate::sidecar::http::explain::Question;

/// As many fields as a request may have.
const FIELDS: usize = 100;

/// Reads `url=…&method=…&header=NAME: VALUE`, each part escaped (RFC 3986 §2.1); the last may come again.
///
/// # Errors
/// What is wrong with it.
pub fn question(query: &str) -> Result<Question, String> {
    let (mut url, mut method, mut headers) = (None, Method::GET, HeaderMap::new());
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let value = unescaped(value).ok_or_else(|| format!("{part} is not escaped as it has to be"))?;
        match name {
            "url" => url = Some(value),
            "method" => {
                method = Method::from_bytes(value.as_bytes()).map_err(|_| format!("{value} is no method"))?;
            }
            "header" => {
                let (name, value) = field(&value)?;
                headers.append(name, value);
                if headers.len() > FIELDS {
                    return Err(format!("there are more than {FIELDS} fields"));
                }
            }
            other => return Err(format!("{other} is not known; write url=, method= and header=")),
        }
    }
    let url = url.ok_or("url= is missing")?;
    let parsed: Uri = url.parse().map_err(|_| format!("{url} is no URL"))?;
    let has_host = parsed.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    if !has_host || !matches!(parsed.scheme_str(), Some("http" | "https")) {
        return Err(format!("{url} is no URL of the service, such as http://shop.example.com/a?b=c"));
    }
    Ok(Question { method, url: parsed, headers })
}

fn field(line: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wrong = || format!("{line} is no field; write NAME: VALUE");
    let (name, value) = line.split_once(':').ok_or_else(wrong)?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
    Ok((name, HeaderValue::from_str(value.trim()).map_err(|_| wrong())?))
}

fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            // It would take a sign.
            digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(())?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = after.get(2..)?;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_with_its_parts_unescaped() {
        let asked = question(
            "url=http%3A%2F%2Fshop%2Fa%3Fb%3Dc%26d&header=Accept%3A%20text%2Fhtml&header=X:&method=HEAD",
        );
        let Question { method, url, headers } = asked.unwrap();
        assert_eq!((method, url.to_string().as_str()), (Method::HEAD, "http://shop/a?b=c&d"));
        assert_eq!([&headers["accept"], &headers["x"]], ["text/html", ""]);
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_what_to_write() {
        for (query, why) in [
            ("", "url= is missing"),
            ("url=%2Fa", "no URL of the service"),
            ("url=ftp://shop/", "no URL of the service"),
            ("url=http://me@shop/", "no URL of the service"),
            ("url=http://shop/ä b", "is no URL"),
            ("url=%4", "not escaped"),
            ("url=%+1", "not escaped"),
            ("url=%ff", "not escaped"),
            ("url=http://shop/&header=x", "write NAME: VALUE"),
            ("url=http://shop/&header=a%20b:c", "write NAME: VALUE"),
            ("url=http://shop/&header=a:b%0d%0ac", "write NAME: VALUE"),
            ("url=http://shop/&method=a%20b", "no method"),
            ("url=http://shop/&colour=red", "colour is not known"),
        ] {
            let told = question(query).unwrap_err();
            assert!(told.contains(why), "{query}: {told}");
        }
        let many = format!("url=http://shop/{}", "&header=a:b".repeat(FIELDS + 1));
        assert!(question(&many).unwrap_err().contains("more than"));
    }
}
