//! How an application may read a path, other than as it is written. PURE.
//!
//! A rule that gives a time to `/static/*` must not hold for `/static/..%2faccount`, which many frameworks
//! take for `/account`: an attacker who sends a user there would have that user's page stored for
//! all (web cache deception). What is stored by a response's own word is not touched by this: the key has
//! the path as it was sent, and so has the application.

use std::borrow::Cow;

/// The path as the most lenient application reads it: percent-encoding resolved until nothing is left of
/// it, backslashes as slashes, parameters of segments dropped, what comes after a zero byte cut off,
/// slashes merged and dots resolved (RFC 3986 §5.2.4, §6.2.2).
#[must_use]
pub fn lenient(path: &str) -> Cow<'_, str> {
    if is_plain(path.as_bytes()) {
        return Cow::Borrowed(path);
    }
    let bytes = decoded(path.as_bytes());
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut is_folder = true;
    for segment in bytes.get(..end).unwrap_or_default().split(|byte| matches!(byte, b'/' | b'\\')) {
        let segment = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        is_folder = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" | b"." => {}
            b".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let mut read = String::new();
    for segment in &kept {
        read.push('/');
        read.push_str(&String::from_utf8_lossy(segment));
    }
    if is_folder {
        read.push('/');
    }
    Cow::Owned(read)
}

/// Whether nobody reads it in another way.
fn is_plain(path: &[u8]) -> bool {
    let is_odd = |byte: &u8| matches!(byte, b'%' | b'\\' | b';');
    let is_empty_or_dots = |pair: &[u8]| matches!(pair, b"//" | b"/.");
    !path.iter().any(is_odd) && !path.windows(2).any(is_empty_or_dots)
}

/// Decoded until nothing is encoded: some do it twice, a proxy and then the application. Once around is enough, as what a
/// sequence stands for is looked at like what comes after it; a client may have encoded a path a thousand times.
fn decoded(path: &[u8]) -> Vec<u8> {
    let mut found = Vec::with_capacity(path.len());
    for byte in path {
        found.push(*byte);
        while let [.., b'%', high, low] = found[..]
            && let Some((high, low)) = hexadecimal(high).zip(hexadecimal(low))
        {
            found.truncate(found.len() - 3);
            found.push(high << 4 | low);
        }
    }
    found
}

fn hexadecimal(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_path_is_read_as_it_is_written() {
        for path in ["/", "/a", "/a/b.css", "/a/", "/a..b/c.", "/~x/@y"] {
            assert!(matches!(lenient(path), Cow::Borrowed(read) if read == path), "{path}");
        }
    }

    #[test]
    fn tricks_are_read_as_the_most_lenient_application_does() {
        for (path, read) in [
            ("/static/../account", "/account"),
            ("/static/..%2faccount", "/account"),
            ("/static/%2e%2e/account", "/account"),
            ("/static/%252e%252e%252faccount", "/account"),
            ("/static/..%5caccount", "/account"),
            ("/static/..;/account", "/account"),
            ("/static//..//account", "/account"),
            ("/account;x.css", "/account"),
            ("/account%3bx.css", "/account"),
            ("/account%00x.css", "/account"),
            ("/account%2Fx", "/account/x"),
            ("/%61ccount", "/account"),
            ("/%%36%31ccount", "/account"),
            ("/a/./b/", "/a/b/"),
            ("/a/b/..", "/a/"),
            ("/../..", "/"),
            ("//", "/"),
            ("/100%", "/100%"),
        ] {
            assert_eq!(lenient(path), read, "{path}");
        }
    }

    #[test]
    fn what_is_encoded_as_often_as_it_can_be_is_read_as_fast_as_anything() {
        let path = format!("/a/%{}2e./account", "25".repeat(4_000));
        let began = std::time::Instant::now();
        for _ in 0..200 {
            assert_eq!(lenient(&path), "/account");
        }
        // Once around for each time that it is encoded would take minutes.
        assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
    }
}
