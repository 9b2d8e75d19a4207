//! The tags of a response, by which it can be purged: `Cache-Tag` (commas between them) and
//! `Surrogate-Key` (spaces between them), as the large delivery networks have them. PURE.

use http::{HeaderMap, HeaderName};

/// Tags with commas between them.
pub const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
/// Tags with spaces between them.
pub const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");

/// The longest tag, in bytes.
pub const LONGEST: usize = 256;
/// So many tags a response can have.
pub const MOST: usize = 100;

/// The tags are more or longer than a cache keeps account of. What could not be purged is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// The tags of a response, each once. Letters count as they are written.
///
/// # Errors
/// More than [`MOST`], or one longer than [`LONGEST`].
pub fn tags(response: &HeaderMap) -> Result<Vec<String>, TooMany> {
    let with_commas = response.get_all(CACHE_TAG).iter().map(|line| (line, ','));
    let with_spaces = response.get_all(SURROGATE_KEY).iter().map(|line| (line, ' '));
    let mut found = Vec::new();
    for (line, separator) in with_commas.chain(with_spaces) {
        // A tag that is no text cannot be named in a purge.
        let text = line.to_str().map_err(|_| TooMany)?;
        for tag in text.split(separator).map(str::trim).filter(|tag| !tag.is_empty()) {
            if tag.len() > LONGEST || found.len() == MOST {
                return Err(TooMany);
            }
            if !found.iter().any(|known| known == tag) {
                found.push(tag.to_owned());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(lines: &[(HeaderName, &str)]) -> Result<Vec<String>, TooMany> {
        let mut response = HeaderMap::new();
        for (name, value) in lines {
            response.append(name, HeaderValue::from_str(value).unwrap());
        }
        tags(&response)
    }

    #[test]
    fn both_fields_count_and_every_tag_once() {
        let lines = [(CACHE_TAG, "a, b c,,"), (CACHE_TAG, "d"), (SURROGATE_KEY, " d  e A ")];
        assert_eq!(of(&lines).unwrap(), ["a", "b c", "d", "e", "A"]);
        assert!(of(&[]).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_kept_account_of_is_refused() {
        let many: Vec<String> = (0..=MOST).map(|number| number.to_string()).collect();
        assert_eq!(of(&[(SURROGATE_KEY, &many.join(" "))]), Err(TooMany));
        assert_eq!(of(&[(SURROGATE_KEY, &many[..MOST].join(" "))]).unwrap().len(), MOST);
        assert_eq!(of(&[(CACHE_TAG, &"x".repeat(LONGEST + 1))]), Err(TooMany));
    }
}
