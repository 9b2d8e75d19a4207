//! Short names for contents, by which a change of them is seen. PURE.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// The first 64 bits of the SHA-256 of `parts`, as 16 hexadecimal digits.
#[must_use]
pub fn digest<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let hash = parts.into_iter().fold(Sha256::new(), |hash, part| hash.chain_update(part).chain_update([0]));
    let mut text = hex(&hash.finalize());
    text.truncate(16);
    text
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_tells_the_parts_apart() {
        assert_eq!(digest(["ab", "c"]).len(), 16);
        assert_ne!(digest(["ab", "c"]), digest(["a", "bc"]));
    }
}
