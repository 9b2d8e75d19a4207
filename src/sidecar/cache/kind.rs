//! Whether a response is what the name in its path says. PURE.
//!
//! Many frameworks take `/account/x.css` for `/account`, and a rule that has all of `*.css` kept would have one user's
//! account kept for all: an attacker who sends a user there reads it afterwards (web cache deception).

use http::{HeaderMap, header::CONTENT_TYPE};

/// Endings of files that are neither pages nor data.
const FILES: [&str; 32] = [
    "avif", "bmp", "css", "eot", "gif", "gz", "ico", "jar", "jpeg", "jpg", "js", "m4a", "mjs", "mp3", "mp4",
    "ogg", "otf", "pdf", "png", "svg", "swf", "tif", "tiff", "ttf", "wasm", "wav", "webm", "webp", "woff",
    "woff2", "xls", "zip",
];

/// Whether a path ends as that of a file and the response is a page or data: what applications make for a user.
#[must_use]
pub fn is_page_by_name_of_file(path: &str, response: &HeaderMap) -> bool {
    let ending = path.rsplit_once('.').map_or("", |(_, ending)| ending);
    if !FILES.iter().any(|file| ending.eq_ignore_ascii_case(file)) {
        return false;
    }
    let told = response.get(CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    let kind = told.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    matches!(&kind[..], b"text/html" | b"application/xhtml+xml" | b"application/json")
        || kind.ends_with(b"+json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::tests::headers;

    #[test]
    fn a_page_or_data_is_no_file() {
        for (path, kind, expected) in [
            ("/account/x.css", "text/html; charset=utf-8", true),
            ("/account/x.JS", "Text/HTML", true),
            ("/account/x.png", "application/json", true),
            ("/account/x.png", "application/problem+json;x", true),
            ("/account%0a.css", "application/xhtml+xml", true),
            ("/site.css", "text/css", false),
            ("/site.js", "text/plain", false),
            ("/account", "text/html", false),
            ("/account.html", "text/html", false),
            ("/data.json", "application/json", false),
            ("/v1.2/account", "text/html", false),
        ] {
            assert_eq!(
                is_page_by_name_of_file(path, &headers(&[("content-type", kind)])),
                expected,
                "{path} {kind}"
            );
        }
        assert!(!is_page_by_name_of_file("/site.css", &HeaderMap::new()));
    }
}
